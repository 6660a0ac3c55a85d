"""What each batch of rows must hold to before it becomes part of a dataset: columns, kinds, nulls, ranges, levels.

It is read off the rows that are there already, or off `NAME.contract.toml` beside stead.toml, which people edit. A batch that
breaks it is put aside whole (`quarantine`): nothing learns from it.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import msgspec

from stead.datasets.operations import get_version
from stead.datasets.types import DatasetVersion
from stead.errors import InvalidInput, did_you_mean
from stead.runtime import typed
from stead.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

OUTSIDE = 0.01
LEAST_ROWS = 500
"""From fewer rows neither range nor levels are read off: they would be too narrow."""
MOST_LEVELS = 20
KINDS = ("number", "text", "time", "truth", "")


@dataclass(frozen=True)
class ColumnRule:
    """What a column must hold to; what is None or empty is not asked."""

    type: str = ""
    """`number`, `text`, `time` or `truth`."""
    null: float = 1.0
    """Largest share of rows without a value."""
    min: float | None = None
    max: float | None = None
    levels: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Contract:
    columns: dict[str, ColumnRule] = field(default_factory=dict)
    outside: float = OUTSIDE
    """Share of a batch's rows that may lie outside a column's range or levels."""


def infer_contract(store: Store, ref: str) -> Contract:
    """What the rows of a version hold to, with room: as wide again on each side, twice the share of nulls.

    Raises NotFound, InvalidInput (`ref-invalid`).
    """
    return inferred(get_version(store, ref))


def inferred(version: DatasetVersion) -> Contract:
    """The same of a version that is at hand."""
    return Contract(
        {
            column.name: _rule(_kind(column.type), version.profile.get(column.name) or {}, version.rows or 0)
            for column in version.schema
        }
    )


def _rule(kind: str, profile: dict[str, Any], rows: int) -> ColumnRule:
    null = min(1.0, round(2 * profile.get("null", 0) / max(profile.get("n", 0), 1) + 0.01, 3))
    if rows < LEAST_ROWS:
        return ColumnRule(kind, null)
    if kind == "number" and "min" in profile:
        low, high = float(profile["min"]), float(profile["max"])
        room = (high - low) or abs(high) or 1.0
        return ColumnRule(kind, null, low - room, high + room)  # wide: a winter that the rows lack is no fault
    if kind == "text" and 0 < len(profile.get("top", [])) <= MOST_LEVELS and not profile.get("other"):
        return ColumnRule(kind, null, levels=tuple(str(level) for level, _ in profile["top"]))
    return ColumnRule(kind, null)


def violations(contract: Contract, table: pa.Table) -> list[str]:
    """What a batch breaks, a sentence for each column with the contract's line; empty where it holds to the contract."""
    found = []
    for name, rule in contract.columns.items():
        if name not in table.column_names:
            found.append(f"the column {name!r} is missing{_line(name)}")
        elif (said := _broken(name, rule, table[name], contract.outside)) is not None:
            found.append(said)
    return found


def _broken(name: str, rule: ColumnRule, column: Any, outside: float) -> str | None:
    import pyarrow as pa
    import pyarrow.compute

    pc: Any = pyarrow.compute
    rows = len(column)
    kind = _kind(str(column.type))
    if rule.type and kind != rule.type and column.null_count < rows:
        return f"the column {name!r} is {kind or column.type}, not {rule.type}{_line(name, 'type')}"
    missing = pc.is_null(column, nan_is_null=pa.types.is_floating(column.type))
    nulls = pc.sum(missing).as_py() or 0
    if nulls > rule.null * rows:
        return f"the column {name!r} is empty in {nulls} of {rows} rows, {rule.null:.3g} of them may be{_line(name, 'null')}"
    values = column.filter(pc.invert(missing))
    if rule.levels is not None:
        strange = values.filter(pc.invert(pc.is_in(values.cast(pa.string()), pa.array(rule.levels, pa.string()))))
        if len(strange) > outside * rows:
            said = f"the column {name!r} has {strange[0].as_py()!r} and the like in {len(strange)} of {rows} rows"
            return said + _line(name, "levels")
    if kind == "number" and (rule.min is not None or rule.max is not None):
        numbers = values.cast(pa.float64(), safe=False)
        beyond = numbers.filter(
            pc.or_(
                pc.less(numbers, pa.scalar(rule.min if rule.min is not None else float("-inf"))),
                pc.greater(numbers, pa.scalar(rule.max if rule.max is not None else float("inf"))),
            )
        )
        if len(beyond) > outside * rows:
            low, high = ("any" if end is None else f"{end:.6g}" for end in (rule.min, rule.max))
            said = f"the column {name!r} is {beyond[0].as_py():.6g} and the like in {len(beyond)} of {rows} rows, {low} to {high} is usual"
            end = "min" if rule.min is not None and beyond[0].as_py() < rule.min else "max"
            return said + _line(name, end)
    return None


def _line(column: str, rule: str = "") -> str:
    """Where the contract says so."""
    return f" (contract: [columns.{_quoted(column)}]{' ' * bool(rule)}{rule})"


def _kind(kind: str) -> str:
    """
    >>> _kind("int64"), _kind("timestamp[us]"), _kind("large_string"), _kind("bool"), _kind("list<item: int8>")
    ('number', 'time', 'text', 'truth', '')
    """
    if kind.startswith(("int", "uint", "float", "double", "half", "decimal")):
        return "number"
    if kind.startswith(("timestamp", "date", "time")):
        return "time"
    return {"string": "text", "large_string": "text", "bool": "truth"}.get(kind, "")


def contract_text(contract: Contract, source: str) -> str:
    """A contract as TOML, for people to edit.

    >>> print(contract_text(Contract({"x": ColumnRule("number", 0.01, 0.0, 9.5)}), "demand@1"))
    # What each batch of rows must hold to before it is added; read off demand@1. Edit it: it is yours now.
    # A batch that breaks it is put aside, and nothing learns from it: stead data quarantine
    outside = 0.01  # share of a batch's rows that may lie outside a column's range or levels
    <BLANKLINE>
    [columns."x"]
    type = "number"
    null = 0.01
    min = 0.0
    max = 9.5
    <BLANKLINE>
    """
    lines = [
        f"# What each batch of rows must hold to before it is added; read off {source}. Edit it: it is yours now.",
        "# A batch that breaks it is put aside, and nothing learns from it: stead data quarantine",
        f"outside = {contract.outside}  # share of a batch's rows that may lie outside a column's range or levels",
        "",
    ]
    for name, rule in contract.columns.items():
        lines.append(f"[columns.{_quoted(name)}]")
        for each in fields(rule):
            value = getattr(rule, each.name)
            if value is not None and value != "":
                shown = (
                    f"[{', '.join(_quoted(level) for level in value)}]"
                    if isinstance(value, tuple)
                    else _quoted(value)
                    if isinstance(value, str)
                    else f"{value}"
                )
                lines.append(f"{each.name} = {shown}")
        lines.append("")
    return "\n".join(lines)


def read_contract(text: str, where: str) -> Contract:
    """A contract from its TOML. Raises InvalidInput (`contract-invalid`) with the file and what is wrong."""
    try:
        data = tomllib.loads(text)
        _known(data, Contract, where, "")
        for name, rule in dict(data.get("columns", {})).items():
            _known(rule, ColumnRule, where, f"columns.{name}.")
        contract = typed.convert(data, Contract)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, ValueError, TypeError) as error:
        raise InvalidInput("contract-invalid", f"{where}: {error}", hint="stead data contract MODEL --force") from None
    for name, rule in contract.columns.items():
        if rule.type not in KINDS:
            hint = did_you_mean(rule.type, KINDS) or f"one of {', '.join(KINDS[:-1])}"
            raise InvalidInput("contract-invalid", f"{where}: columns.{name}.type is {rule.type!r}", hint=hint)
    return contract


def _known(table: Any, kind: type, where: str, prefix: str) -> None:
    names = [each.name for each in fields(kind)]
    for key in dict(table):
        if key not in names:
            hint = did_you_mean(key, names) or f"known here: {', '.join(names)}"
            raise InvalidInput("contract-invalid", f"{where}: {prefix}{key} is not known", hint=hint)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
