"""The table of operations: what can be called by name, over HTTP and embedded, and which role it takes.

A route, the remote client, OpenAPI and embedded calls follow from the function's signature.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from types import ModuleType
from typing import Any

from stead.api.tokens import Role
from stead.errors import NotFound, did_you_mean


@dataclass(frozen=True)
class Operation:
    """One function of a part: `name` is `part.function`."""

    name: str
    function: Callable[..., Any]
    role: Role

    @property
    def reads(self) -> bool:
        return self.role == "read"

    @cached_property
    def hints(self) -> dict[str, Any]:
        return typing.get_type_hints(self.function)

    @cached_property
    def parameters(self) -> dict[str, inspect.Parameter]:
        """All but the store."""
        return {n: p for n, p in inspect.signature(self.function).parameters.items() if n != "store"}


@lru_cache(maxsize=1)
def operations() -> dict[str, Operation]:
    """All operations by name."""
    from stead import (
        datasets,
        deployments,
        environments,
        gates,
        jobs,
        ledger,
        models,
        pipelines,
        predictions,
        runs,
        serving,
    )
    from stead.api import tokens, undoing

    table: dict[str, Operation] = {}

    def part(name: str, module: ModuleType, role: Role, *functions: str) -> None:
        for function in functions:
            operation = Operation(f"{name}.{function}", getattr(module, function), role)
            table[operation.name] = operation

    part("ledger", ledger, "read", "list_entries", "get_entry", "verify")
    part("ledger", undoing, "approve", "undo")
    part("jobs", jobs, "read", "get_job", "list_jobs", "job_log", "open_jobs", "agent_alive", "held_at", "model_now")
    part("jobs", jobs, "write", "cancel_job", "hold_clock", "release_clock")
    part("tokens", tokens, "admin", "create_token", "list_tokens", "revoke_token")
    for module in (datasets, environments, runs, models, pipelines, predictions, serving, gates, deployments):
        name = module.__name__.rpartition(".")[2]
        for role, functions in getattr(module, "OPERATIONS", {}).items():
            part(name, module, role, *functions)
    return table


def operation(name: str) -> Operation:
    """One operation. Raises NotFound (`operation-unknown`)."""
    table = operations()
    if name not in table:
        raise NotFound("operation-unknown", f"there is no operation {name!r}", hint=did_you_mean(name, table))
    return table[name]
