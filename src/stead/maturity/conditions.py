"""The four conditions under which MLOps pays and the four under which it is overhead, as far as records or answers tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from stead.maturity.inputs import figure, said_of
from stead.maturity.types import Condition, Known

Speaks = Literal["for", "against"]
OFTEN = 1
"""Deployments of a model a year above which it is retrained; up to it, it is static."""


def conditions_of(known: Mapping[str, Known]) -> list[Condition]:
    """The four for and the four against; `holds` is None where nothing says."""
    retrains, people = figure(known, "retrains"), figure(known, "people")
    often = None if retrains is None else retrains > OFTEN
    alone = None if people is None else people < 2
    return [
        _word(known, "depends", "for", "Production models that a business process depends on"),
        _word(known, "late", "for", "Decay noticed late"),
        _figure(known, "retrains", "for", "Retraining more than once a year", often),
        _figure(known, "people", "for", "Several people on the same models", _not(alone)),
        _word(known, "poc", "against", "Proof of concept"),
        _word(known, "static", "against", "Static models")
        if often is None
        else _figure(known, "retrains", "against", "Static models", not often, name="static"),
        _figure(known, "people", "against", "One person alone", alone, name="alone"),
        _word(known, "low_impact", "against", "Low impact"),
    ]


def _not(holds: bool | None) -> bool | None:
    return None if holds is None else not holds


def _word(known: Mapping[str, Known], name: str, speaks: Speaks, text: str) -> Condition:
    """A condition that a yes or a no answers."""
    found = known.get(name)
    if found is None:
        return _unknown(name, speaks, text)
    return Condition(name, speaks, text, found.value is True, found.source, found.said)


def _figure(
    known: Mapping[str, Known], of: str, speaks: Speaks, text: str, holds: bool | None, *, name: str = ""
) -> Condition:
    """A condition that follows from a figure."""
    if holds is None:
        return _unknown(name or of, speaks, text)
    return Condition(name or of, speaks, text, holds, known[of].source, f"{said_of(known, of)}: {known[of].said}")


def _unknown(name: str, speaks: Speaks, text: str) -> Condition:
    return Condition(name, speaks, text, None, None, "neither records nor answers say")
