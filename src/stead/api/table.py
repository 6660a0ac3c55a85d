"""The table of operations: what can be called by name, over HTTP and embedded, and which role it takes.

A route, the remote client, OpenAPI and embedded calls follow from the function's signature.
"""

from __future__ import annotations

import importlib
import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

from stead.api.tokens import ROLES, Role
from stead.errors import NotFound, did_you_mean


@dataclass(frozen=True)
class Operation:
    """One function of a part: `name` is `part.function`."""

    name: str
    function: Callable[..., Any]
    role: Role
    guarded: Mapping[str, Role] = field(default_factory=dict)
    """Arguments that take a higher role where they are given."""

    @property
    def reads(self) -> bool:
        return self.role == "read"

    def needed(self, arguments: Mapping[str, Any]) -> Role:
        """The role that a call with these arguments takes."""
        more = [role for name, role in self.guarded.items() if arguments.get(name)]
        return max([self.role, *more], key=ROLES.index)

    @cached_property
    def hints(self) -> dict[str, Any]:
        return typing.get_type_hints(self.function)

    @cached_property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """All but the store."""
        return {n: p for n, p in inspect.signature(self.function).parameters.items() if n != "store"}


PARTS = (
    "ledger",
    "jobs",
    "datasets",
    "environments",
    "runs",
    "models",
    "pipelines",
    "predictions",
    "serving",
    "monitors",
    "gates",
    "deployments",
    "policies",
    "maturity",
    "fleet",
    "care",
    "lineage",
)
"""Parts with operations; each names them in its `OPERATIONS`, by role, and in `GUARDED` arguments that take a higher one."""

OWN: dict[str, dict[Role, tuple[str, ...]]] = {
    "stead.api.undoing": {"approve": ("undo",)},
    "stead.api.tokens": {"admin": ("create_token", "list_tokens", "revoke_token"), "write": ("report_link",)},
}


def operations() -> dict[str, Operation]:
    """All operations by name."""
    table: dict[str, Operation] = {}
    for part in ("tokens", *PARTS):
        table |= _of_part(part)
    return table


def operation(name: str) -> Operation:
    """One operation; only its part is imported. Raises NotFound (`operation-unknown`)."""
    part = name.partition(".")[0]
    found = _of_part(part).get(name) if part in (*PARTS, "tokens") else None
    if found is None:
        hint = did_you_mean(name, operations()) or "/api/docs"
        raise NotFound("operation-unknown", f"there is no operation {name[:100]!r}", hint=hint)
    return found


@lru_cache
def _of_part(part: str) -> dict[str, Operation]:
    table: dict[str, Operation] = {}
    homes: list[tuple[str, dict[Role, tuple[str, ...]]]] = []
    if part != "tokens":
        homes.append((f"stead.{part}", getattr(importlib.import_module(f"stead.{part}"), "OPERATIONS", {})))
    if part in ("tokens", "ledger"):
        own = "stead.api.tokens" if part == "tokens" else "stead.api.undoing"
        homes.append((own, OWN[own]))
    guarded = getattr(importlib.import_module(f"stead.{part}"), "GUARDED", {}) if part != "tokens" else {}
    for home, by_role in homes:
        for role, functions in by_role.items():
            for function in functions:
                name = f"{part}.{function}"
                found = getattr(importlib.import_module(home), function)
                table[name] = Operation(name, found, role, guarded.get(function, {}))
    return table
