"""What is said of a model besides its code: whose it is, how much it matters, and what its loss costs."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from stead.errors import InvalidInput, did_you_mean

IMPORTANCES = ("low", "normal", "high")
FACTS = ("owner", "importance", "loss_value", "currency")
LONGEST_OWNER = 100


def fact_problem(name: str, value: Any) -> tuple[str, str] | None:
    """What is wrong with one of the facts, and what would be right; None where nothing is.

    >>> fact_problem("importance", "hihg"), fact_problem("loss_value", 0.02)
    (("is 'hihg'", "did you mean 'high'?"), None)
    """
    shown = repr(value)[:LONGEST_OWNER]
    if name == "owner":
        right = isinstance(value, str) and value.isprintable() and 0 < len(value.strip()) <= LONGEST_OWNER
        hint = f'who answers for it, 1 to {LONGEST_OWNER} characters: owner = "ada"'
    elif name == "importance":
        right = value in IMPORTANCES
        hint = did_you_mean(str(value), IMPORTANCES) or f"one of {', '.join(IMPORTANCES)}"
    elif name == "loss_value":
        number = isinstance(value, int | float) and not isinstance(value, bool)
        right = number and math.isfinite(value) and 0 < value < 1e12
        hint = "what one unit of the loss costs, above 0: loss_value = 0.02"
    else:
        right = isinstance(value, str) and re.fullmatch(r"[A-Z]{3}", value) is not None
        hint = 'the three letters of ISO 4217: currency = "EUR"'
    return None if right else (f"is {shown}", hint)


def checked_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts of a model as they are kept. Raises InvalidInput (`facts-invalid`).

    >>> checked_facts({"owner": " ada ", "loss_value": 2})
    {'owner': 'ada', 'loss_value': 2.0}
    """
    out: dict[str, Any] = {}
    for name, value in facts.items():
        if problem := fact_problem(name, value):
            raise InvalidInput("facts-invalid", f"{name} {problem[0]}", hint=problem[1])
        out[name] = float(value) if name == "loss_value" else value.strip()
    return out
