"""An answer at a glance is the one that the store gives, and where it cannot be given so the store is asked."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stead import datasets, glance
from stead.config import load_settings
from stead.errors import InvalidInput
from stead.store import Store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files that were last written a while ago."""
    made = tmp_path / "files"
    for name in ("a.txt", "b.txt", "deep/er/c.bin"):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(name)
        os.utime(made / name, (1_000_000, 1_000_000))
    return made


def asked(store: Store, ref: str, folder: Path, **environ: str) -> tuple[str, int] | None:
    found = glance.untouched(load_settings(environ={"STEAD_STORE": str(store.root), **environ}), ref, folder)
    assert found is None or found == (found.ref, [], [], [], found.same, 0)
    return found and (found.ref, found.same)


def test_a_folder_that_was_added_is_known_at_a_glance(store: Store, folder: Path) -> None:
    assert asked(store, "f", folder) is None
    datasets.add(store, "f", folder)
    assert asked(store, "f", folder) == asked(store, "f@1", folder) == ("f@1", 3)
    assert datasets.status(store, "f", folder).same == 3
    for other in ("f@2", "f@x", "g", "", "@"):
        assert asked(store, other, folder) is None
    assert asked(store, "f", folder / "deep") is None and asked(store, "f", folder / "gone") is None
    assert asked(store, "f", folder, STEAD_DATABASE="postgresql://nowhere/x") is None
    assert asked(store, "f", folder, STEAD_URL="http://127.0.0.1:1") is None


TOUCHES: dict[str, Callable[[Path], object]] = {
    "touched": lambda f: os.utime(f / "a.txt", (1_000_001, 1_000_001)),
    "changed": lambda f: (f / "a.txt").write_text("other"),
    "new": lambda f: (f / "d.txt").write_text("d"),
    "gone": lambda f: (f / "b.txt").unlink(),
    "moved": lambda f: (f / "b.txt").rename(f / "deep" / "b.txt"),
    "replaced": lambda f: ((f / "n").write_text("a.txt"), os.utime(f / "n", (1_000_000, 1_000_000)), (f / "n").rename(f / "a.txt")),
    "new folder": lambda f: ((f / "new" / "er").mkdir(parents=True), (f / "new" / "er" / "d.txt").write_text("d")),
    "folder gone": lambda f: shutil.rmtree(f / "deep"),
}  # fmt: skip


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("touch", TOUCHES)
def test_whatever_happens_to_a_file_the_store_is_asked(
    store: Store, folder: Path, touch: str, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(glance, "MANY", 0 if processes == 2 else 100)
    datasets.add(store, "f", folder)
    (folder / "empty").mkdir()
    assert asked(store, "f", folder) == ("f@1", 3)
    TOUCHES[touch](folder)
    assert asked(store, "f", folder) is None
    found = datasets.status(store, "f", folder)
    equal = not (found.new or found.changed or found.gone)
    assert equal == (touch in ("touched", "replaced"))
    assert asked(store, "f", folder) == (("f@1", 3) if equal else None), "what was found out is remembered"


def test_another_version_is_another_answer(store: Store, folder: Path, tmp_path: Path) -> None:
    datasets.add(store, "f", folder)
    (folder / "b.txt").unlink()
    datasets.add(store, "f", folder)
    assert asked(store, "f@1", folder) is None
    datasets.status(store, "f", folder)
    assert asked(store, "f", folder) == ("f@2", 2)
    (tmp_path / "other").write_text("x")
    datasets.add(store, "f", tmp_path / "other")
    assert asked(store, "f", folder) is None
    assert datasets.status(store, "f", folder).ref == "f@3"


def test_a_file_written_just_now_is_read(store: Store, folder: Path) -> None:
    """It may be written again within one tick of its file system's clock."""
    (folder / "a.txt").write_text("just now")
    datasets.add(store, "f", folder)
    assert asked(store, "f", folder) is None
    time.sleep(0.1)
    assert datasets.status(store, "f", folder).same == 3
    assert asked(store, "f", folder) == ("f@1", 3)


def test_links_out_are_refused_as_ever(store: Store, folder: Path) -> None:
    datasets.add(store, "f", folder)
    (folder / "out").symlink_to("/etc/passwd")
    assert asked(store, "f", folder) is None, "who looks closer says why"
    with pytest.raises(InvalidInput) as raised:
        datasets.status(store, "f", folder)
    assert raised.value.code == "path-escapes"


def test_the_command_loads_no_database_for_it(store: Store, folder: Path) -> None:
    datasets.add(store, "f", folder)
    code = (
        "import sys; from stead.cli import cli; cli.main(['data', 'status', 'f', 'files'], standalone_mode=False)\n"
        "print({'sqlalchemy', 'numpy', 'pyarrow', 'httpx'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder.parent, env={**os.environ, "STEAD_STORE": str(store.root)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "f@1: 3 the same, 0 new, 0 changed, 0 gone\nset()\n"
