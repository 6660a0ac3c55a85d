"""Holding new rows against the columns that a dataset has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from stead.datasets.types import Column
from stead.errors import InvalidInput, did_you_mean

if TYPE_CHECKING:
    import pyarrow as pa


def columns_of(schema: pa.Schema) -> list[Column]:
    return [Column(field.name, str(field.type), field.nullable) for field in schema]


def fitted(table: pa.Table, wanted: pa.Schema, where: str, whose: str) -> pa.Table:
    """The table with the wanted columns, in their order and with their types, where nothing is lost by it.

    Raises InvalidInput (`schema-column`, `schema-type`) and names the column and both types.
    """
    import pyarrow as pa

    names, known = table.column_names, set(table.column_names)  # pyarrow makes the list anew each time it is asked
    for name in wanted.names:
        if name not in known:
            raise InvalidInput(
                "schema-column",
                f"{where} has no column {name!r}, which {whose} has",
                hint=did_you_mean(name, names),
                column=name,
            )
    meant = set(wanted.names)
    for name in names:
        if name not in meant:
            raise InvalidInput(
                "schema-column",
                f"{where} has a column {name!r}, which {whose} has not",
                hint="leave it out, or add the whole as a new version without --append",
                column=name,
            )
    columns = []
    wanted = pa.schema(
        [table.schema.field(f.name) if pa.types.is_null(f.type) else pa.field(f.name, f.type) for f in wanted]
    )
    for field in wanted:
        try:
            columns.append(_cast(table[field.name], field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise InvalidInput(
                "schema-type",
                f"column {field.name!r} is {table.schema.field(field.name).type} in {where} and {field.type} in {whose}",
                hint="convert it, or add the whole as a new version without --append",
                column=field.name,
                given=str(table.schema.field(field.name).type),
                expected=str(field.type),
            ) from None
    return pa.table(columns, schema=wanted)


def _cast(column: Any, kind: pa.DataType) -> Any:
    """A column as another type of its family: a number stays a number, a text a text, a time a time."""
    import pyarrow as pa

    if column.type == kind:
        return column
    if column.null_count == len(column) or _family(column.type) == _family(kind) != "":
        return column.cast(kind)
    raise pa.ArrowInvalid("of another family")


def _family(kind: pa.DataType) -> str:
    import pyarrow as pa

    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "number"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "text"
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return "zoned time" if getattr(kind, "tz", None) else "time"
    return ""


def common(schemas: Sequence[tuple[str, pa.Schema]]) -> pa.Schema:
    """The types that hold all tables of one addition: integers and floats together are floats, nulls are anything.

    Raises InvalidInput (`schema-type`) where two of them do not go together.
    """
    import pyarrow as pa

    first_name, found = schemas[0]
    for name, schema in schemas[1:]:
        names = set(found.names)
        for field in schema:
            if field.name not in names:
                continue
            known = found.field(field.name).type
            try:
                pa.unify_schemas(
                    [pa.schema([(field.name, known)]), pa.schema([(field.name, field.type)])],
                    promote_options="permissive",
                )
            except (pa.ArrowTypeError, pa.ArrowInvalid):
                raise InvalidInput(
                    "schema-type",
                    f"column {field.name!r} is {field.type} in {name} and {known} in {first_name}",
                    column=field.name,
                ) from None
        known_part = pa.schema([field for field in schema if field.name in names])
        found = pa.unify_schemas([found, known_part], promote_options="permissive")
    return found
