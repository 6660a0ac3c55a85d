"""What commands print: tables and bars for people, JSON for programs. Data to stdout, all else to stderr."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
import msgspec

F = TypeVar("F", bound=Callable[..., Any])


def json_option(function: F) -> F:
    """`--json`: the result as one JSON document; the function returns it, and prints nothing itself when asked for JSON."""

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
    @functools.wraps(function)
    def wrapped(*args: Any, as_json: bool, **kwargs: Any) -> Any:
        result = function(*args, as_json=as_json, **kwargs)
        if as_json:
            print_json(result)

    return wrapped  # type: ignore[return-value]


def print_json(value: Any) -> None:
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n")


def table(
    heads: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Sequence[int] = (), empty: str = "nothing yet"
) -> None:
    """Print a table; columns in `right` are numbers. Plain text where stdout is no terminal."""
    rows = [[_cell(value) for value in row] for row in rows]
    if not rows:
        note(empty)
        return
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        drawn = Table(box=None, pad_edge=False, header_style="dim")
        for number, head in enumerate(heads):
            drawn.add_column(head, justify="right" if number in right else "left")
        for row in rows:
            drawn.add_row(*map(Text, row))  # what stands in brackets is text, no markup
        Console(highlight=False).print(drawn)
        return
    widths = [max(len(head), *(len(row[i]) for row in rows)) for i, head in enumerate(heads)]
    for row in [list(heads), *rows]:
        cells = [
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


def note(text: str) -> None:
    """A line for the person, not for a pipe."""
    print(text, file=sys.stderr)


def facts(pairs: Iterable[tuple[str, Any]]) -> None:
    """Name and value, a line each."""
    pairs = [(name, _cell(value)) for name, value in pairs]
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        print(f"{name.ljust(width)}  {value}")


def when(ms: int | None) -> str:
    """A moment, to the second, UTC."""
    return "–" if ms is None else datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")


def number(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else f"{value:,.0f}" if 1e6 <= abs(value) < 1e15 else f"{value:.{digits}g}"


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return number(value)
    return "".join(letter if letter.isprintable() else " " for letter in str(value))


class Bar:
    """A progress line on stderr: a bar on a terminal, elsewhere a line for each new thing done, unless `only_bar`."""

    def __init__(self, *, only_bar: bool = False) -> None:
        self._only_bar = only_bar
        self._live: Any = None
        self._task: Any = None
        self._said = ""

    def __enter__(self) -> Bar:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            self._live = Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[shown]}", markup=False),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._live.start()
            self._task = self._live.add_task("", total=None, shown="")
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, doing: str, done: float, total: float | None, shown: str = "") -> None:
        if self._live is not None:
            self._live.update(self._task, description=doing, completed=done, total=total, shown=shown)
        elif doing != self._said and not self._only_bar:
            note(f"  {doing}")
        self._said = doing

    def line(self, text: str) -> None:
        """A line above the bar."""
        if self._live is not None:
            self._live.console.print(text, highlight=False, markup=False)
        else:
            note(text)
