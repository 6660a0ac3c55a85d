"""Locks from every source, and what cannot be locked."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from local_package import make_package, pretend_installed

from stead import environments
from stead.environments.lockfile import parse_lock
from stead.environments.requirements import Requirements, read_requirements
from stead.environments.running import local_source, without_platform
from stead.errors import InvalidInput, NotFound, Refused, Unreachable
from stead.store import Store


def test_lock_pins_with_hashes_and_names_no_index(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    made = environments.lock(store, ["cloudpickle>=2"], extra=["colorama"])
    text = store.blobs.get(made.lock).decode()
    assert set(made.packages) == {"cloudpickle", "colorama", "msgspec"}
    assert text.count("--hash=sha256:") >= 3
    assert "://" not in text
    assert made.source == {"kind": "lines", "requirements": ["cloudpickle>=2", "colorama"]}
    assert environments.get(store, made.digest) == made == environments.get(store, made.digest[:12])
    # The same input is the same environment ever after, without asking the index.
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    assert environments.lock(store, ["cloudpickle>=2"], extra=["colorama"]) == made


SCRIPT = """# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "colorama==0.4.6",
# ]
# ///
print("hello")
"""


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("requirements.txt", "# comment\n-r base.txt  # more\n"),
        ("requirements.txt", "colorama==0.4.6 \\\n  --hash=sha256:" + "0" * 64 + "\n"),
        ("pyproject.toml", '[project]\nname = "x"\nversion = "1"\ndependencies = ["colorama==0.4.6"]\n'),
        ("train.py", SCRIPT),
    ],
)
def test_lock_reads_files(store: Store, tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "base.txt").write_text("colorama==0.4.6\n")
    (tmp_path / name).write_text(text)
    made = environments.lock(store, tmp_path / name)
    assert made.packages["colorama"] == "0.4.6"
    assert "msgspec" in made.packages


@pytest.mark.parametrize(
    ("name", "text", "code", "says"),
    [
        ("requirements.txt", "colorama\nthis is none\n", "requirement-invalid", "requirements.txt, line 2"),
        ("requirements.txt", "--weird\n", "requirement-invalid", "--weird"),
        ("requirements.txt", "x @ git+https://example.org/x\n", "requirement-unhashable", "x comes from a repository"),
        ("requirements.txt", "-r gone.txt\n", "requirements-missing", "gone.txt"),
        ("requirements.txt", "-e ./gone\n", "requirements-missing", "gone"),
        ("pyproject.toml", "[project\n", "requirement-invalid", "pyproject.toml"),
        ("train.py", "print(1)\n", "requirements-missing", "train.py has no header"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, text: str, code: str, says: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises((InvalidInput, NotFound)) as raised:
        read_requirements(tmp_path / name)
    assert raised.value.code == code
    assert says in raised.value.message


def test_unsatisfiable_and_missing(store: Store, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as raised:
        environments.lock(store, ["colorama==99.1"])
    assert raised.value.code == "requirements-unsatisfiable"
    assert "colorama==99.1" in raised.value.message
    with pytest.raises(NotFound):
        environments.lock(store, tmp_path / "requirements.txt")
    with pytest.raises(NotFound):
        environments.get(store, "0" * 64)
    assert environments.list_environments(store) == []


@pytest.mark.usefixtures("offline")
def test_no_network_is_one_clear_error(store: Store) -> None:
    with pytest.raises(Unreachable) as raised:
        environments.lock(store, ["colorama"])
    assert raised.value.code == "index-unreachable"
    assert raised.value.hint
    assert "secret" not in raised.value.message
    assert environments.list_environments(store) == []


def test_a_path_becomes_a_stored_wheel_that_nothing_from_an_index_can_replace(store: Store, tmp_path: Path) -> None:
    package = make_package(tmp_path / "package", "stead_test_local")
    made = environments.lock(store, [str(package), "colorama"])
    assert [(w.name, w.version) for w in made.wheels] == [("stead-test-local", "1.0")]
    text = store.blobs.get(made.lock).decode()
    assert parse_lock(text)["stead-test-local"] == "1.0"
    assert text.partition("stead-test-local==1.0")[2].partition("==")[0].count("--hash") == 1
    assert str(tmp_path) not in text
    assert environments.lock(store, [str(package), "colorama"]).digest == made.digest
    make_package(package, "stead_test_local", source="VALUE = 2_000\n")
    assert environments.lock(store, [str(package), "colorama"]).digest != made.digest


def test_running_interpreter(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = make_package(tmp_path / "package", "stead_test_editable")
    pretend_installed(
        tmp_path / "site", "stead_test_editable", {"url": package.as_uri(), "dir_info": {"editable": True}}
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    made = environments.lock_running(store, extra=["stead_test_editable", "msgspec"])
    import msgspec

    assert made.packages["msgspec"] == msgspec.__version__
    assert made.packages["stead-test-editable"] == "1.0"
    assert "stead" not in made.packages
    assert "obstore" not in made.packages  # only stead needs it here
    assert [wheel.name for wheel in made.wheels] == ["stead-test-editable"]
    assert environments.lock_running(store, extra=["stead_test_editable", "msgspec"]).digest == made.digest
    rows = {row.name: row.values for row in environments.compare(store, [made.digest], here=True)}
    assert rows["obstore"][0] is None
    assert "msgspec" not in rows


def test_running_refuses_by_name(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_installed(tmp_path, "stead_test_gone", {"url": (tmp_path / "gone").as_uri(), "dir_info": {}})
    pretend_installed(tmp_path, "stead_test_nowhere", None)
    pretend_installed(
        tmp_path,
        "stead_test_git",
        {"url": "https://u:secret@example.org/x", "vcs_info": {"vcs": "git", "commit_id": "1"}},
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(Refused) as raised:
        environments.lock_running(store)
    assert raised.value.code == "package-unlockable"
    for said in ("stead-test-gone", "is gone", "stead-test-git", "repository"):
        assert said in raised.value.message
    assert "secret" not in raised.value.message
    with pytest.raises(Refused) as raised:
        environments.lock_running(store, extra=["msgspec", "stead-test-nowhere"])
    assert "stead-test-nowhere" in raised.value.message
    # What the model does not need is left out, and noted.
    made = environments.lock_running(store, extra=["msgspec"])
    assert set(made.source["left_out"]) >= {"stead-test-gone", "stead-test-git", "stead-test-nowhere"}


def test_conda_build_paths_mean_the_index(tmp_path: Path) -> None:
    from importlib.metadata import distributions

    pretend_installed(tmp_path, "x", {"url": "file:///croot/x_1/work", "dir_info": {}})
    (tmp_path / "x-1.0.dist-info" / "INSTALLER").write_text("conda\n")
    (found,) = distributions(path=[str(tmp_path)])
    assert local_source(found) is None


def test_what_belongs_to_stead() -> None:
    graph = {
        "stead": ["numpy", "duckdb", "uv"],
        "user": ["numpy"],
        "numpy": [],
        "duckdb": [],
        "uv": [],
        "loop": ["loop"],
    }
    assert without_platform(graph, []) == {"user", "numpy", "loop"}
    assert without_platform(graph, ["duckdb"]) == {"user", "numpy", "loop", "duckdb"}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("colorama\n", "requirement-unhashable"),
        ("--index-url https://example.org\n", "lock-invalid"),
        ("colorama>=1 --hash=sha256:" + "0" * 64, "lock-invalid"),
    ],
)
def test_add_takes_only_locks(store: Store, text: str, code: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        environments.add(store, lock=store.blobs.put(text.encode()), python="3.11", platform="linux-x86_64")
    assert raised.value.code == code
    wheel = environments.Wheel("x", "1", "x-1-py3-none-any.whl", store.blobs.put(b"other bytes"))
    lock = store.blobs.put(f"x==1 --hash=sha256:{'0' * 64}\n".encode())
    with pytest.raises(InvalidInput):
        environments.add(store, lock=lock, python="3.11", platform="linux-x86_64", wheels=[wheel])


@pytest.mark.parametrize("header", [True, False])
def test_the_python_that_is_asked_for(tmp_path: Path, header: bool) -> None:
    """A PEP 723 header and a pyproject.toml say which Python; the running one is taken where it will do."""
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    file = tmp_path / ("script.py" if header else "pyproject.toml")
    start, mark, end = ("# /// script\n", "# ", "# ///\n") if header else ("[project]\n", "", "")

    def found(asked: str) -> Requirements:
        file.write_text(f"{start}{mark}requires-python = '{asked}'\n{mark}dependencies = ['six']\n{end}")
        return read_requirements(file)

    for asked, python in ((f">={here}", None), ("==3.13.*", None if here == "3.13" else "3.13"), ("", None)):
        assert (found(asked).python, found(asked).lines) == (python, ["six"])
    for wrong in ("<2", "three"):
        with pytest.raises(InvalidInput, match="Python"):
            found(wrong)
