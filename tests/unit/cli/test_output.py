"""What stands in names and reasons is text: no markup, no control characters, on a terminal and in a pipe."""

from __future__ import annotations

import os
import pty
import sys

import pytest

from stead.cli import output

NASTY = "[/red] [bold]x \x1b[2Jy\nz"


def test_a_table_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("name", "n"), [(NASTY, 1e308)], right=(1,))
    assert capsys.readouterr().out.splitlines()[1] == "[/red] [bold]x  [2Jy z  1e+308"


def test_a_table_and_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setenv("COLUMNS", "100")
        output.table(("name",), [(NASTY,)])
        with output.Bar() as bar:
            bar.show("[/red]", 1, 2, "[/b]")
            bar.line("[/i]")
    shown = b"".join(iter(lambda: _read(ours), b"")).decode()  # a terminal hands over what it has, not all of it
    os.close(ours)
    assert "[/red] [bold]x  [2Jy z" in shown and "[/i]" in shown


def _read(terminal: int) -> bytes:
    """What the terminal has to give; nothing once its other side is closed, which Linux tells as an error."""
    try:
        return os.read(terminal, 100_000)
    except OSError:
        return b""
