"""The examples of README and docs run as they stand, each page in an empty folder, from top to bottom.

A block marked `bash` or `python` runs; a `text` block right after it says what it prints, with … for anything. Comments in
the pages steer: `<!-- not run: why -->` and `<!-- file: name -->` before a block (write it to a file), `<!-- run: command -->`
anywhere (what a reader has no need to see). Ports are replaced by free ones.
"""

from __future__ import annotations

import doctest
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import free_ports, needs

ROOT = Path(__file__).parent.parent.parent
PAGES = tuple(p for p in ("README.md", "docs/tutorial.md", "docs/how-to.md") if (ROOT / p).exists())
PART = re.compile(
    r"<!--\s*(?P<verb>not run|file|run):\s*(?P<what>.*?)\s*-->|^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.M | re.S
)

pytestmark = pytest.mark.timeout(900)


@dataclass
class Block:
    """What a page says should run, and what it should print."""

    script: str
    prints: str | None = None


def blocks(text: str) -> list[Block]:
    """
    >>> [b.script for b in blocks("```bash\\nls\\n```\\n<!-- run: pwd -->\\n")]
    ['ls\\n', 'pwd\\n']
    """
    found: list[Block] = []
    steer: tuple[str, str] | None = None
    after = -1
    for part in PART.finditer(text):
        if part["verb"]:
            steer = (part["verb"], part["what"])
            if part["verb"] == "run":
                found.append(Block(part["what"] + "\n"))
                steer = None
            continue
        kind, body = part["kind"], part["text"]
        if steer and steer[0] == "file":
            found.append(Block(f"cat > {shlex.quote(steer[1])} <<'END-OF-BLOCK'\n{body}END-OF-BLOCK\n"))
        elif steer:
            pass
        elif kind == "bash":
            found.append(Block(body))
            after = part.end()
        elif kind == "python":
            found.append(Block(f"python - <<'END-OF-BLOCK'\n{body}END-OF-BLOCK\n"))
            after = part.end()
        elif kind == "text" and not text[after : part.start()].strip() and after > 0:
            found[-1].prints = body
        steer = None
    return found


def matches(wanted: str, printed: str) -> bool:
    """
    >>> matches("a … c", "a b   c\\n"), matches("a", "b")
    (True, False)
    """
    pieces = (re.escape(" ".join(piece.split())) for piece in wanted.split("…"))
    return re.fullmatch(r"\s*.*?".join(pieces).replace(r"\ ", r"\s+"), " ".join(printed.split()), re.S) is not None


def test_examples_of_this_file_run() -> None:
    assert doctest.testmod(sys.modules[__name__]).failed == 0


@pytest.fixture(scope="module")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages log models of one environment, this one: it has 28,000 files and is made once."""
    made = tmp_path_factory.mktemp("made") / "environments"
    made.mkdir()
    return made


@pytest.mark.parametrize("page", PAGES)
def test_examples_run(page: str, tmp_path: Path, environments: Path) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    server, gateway = free_ports(2)
    script = "set -euo pipefail\n"
    wanted = blocks(text)
    assert wanted
    needs("curl", "curl " not in text or shutil.which("curl") is not None, "apt-get install curl")
    for number, block in enumerate(wanted):
        script += f"echo '{mark(number)}'\n{block.script}"
    script = script.replace("7700", str(server)).replace("7701", str(gateway))
    mine = {k: v for k, v in os.environ.items() if not k.startswith("STEAD_")}
    environ = mine | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "STEAD_STORE": str(tmp_path / "store"),
        "STEAD_PORT": str(server),
        "STEAD_GATEWAY_PORT": str(gateway),
    }
    folder = tmp_path / "here"
    folder.mkdir()
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "environments").symlink_to(environments)
    try:
        done = subprocess.run(["bash", "-c", script], cwd=folder, env=environ, capture_output=True, text=True)
    finally:
        for place in [folder, *(p.parent for p in folder.rglob("stead.toml"))]:
            for environment in (environ, {k: v for k, v in environ.items() if k != "STEAD_STORE"}):
                if place != folder or "STEAD_STORE" in environment:
                    subprocess.run(["stead", "down"], cwd=place, env=environment, capture_output=True)
    printed = re.split(r"^=== block \d+ ===\n", done.stdout, flags=re.M)[1:]
    last = wanted[len(printed) - 1].script
    assert done.returncode == 0, f"{page}, in\n{last}\n{printed[-1]}\n{done.stderr[-3000:]}"
    for block, out in zip(wanted, printed, strict=True):
        if block.prints is not None:
            told = block.prints.replace("7700", str(server)).replace("7701", str(gateway))
            assert matches(told, out), f"{page}: after\n{block.script}\nit says\n{told}\nbut it prints\n{out}"


def mark(number: int) -> str:
    return f"=== block {number} ==="
