"""The registry on each database."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from stead import environments, ledger, models
from stead.api.undoing import undo
from stead.errors import Conflict, Failed, InvalidInput, NotFound, SteadError
from stead.models import ModelFile
from stead.store import Store

MLMODEL = "flavors:\n  sklearn:\n    pickled_model: model.pkl\n    serialization_format: pickle\n"


def environment(store: Store, name: str = "x") -> str:
    lock = store.blobs.put(f"{name}==1 --hash=sha256:{'0' * 64}\n".encode())
    return environments.add(store, lock=lock, python="3.11", platform="linux-x86_64").digest


def folder(tmp_path: Path, content: bytes = b"model") -> Path:
    made = tmp_path / "folder"
    (made / "code").mkdir(parents=True, exist_ok=True)
    (made / "MLmodel").write_text(MLMODEL)
    (made / "model.pkl").write_bytes(content)
    (made / "code" / "bikes.py").write_text("x = 1\n")
    return made


def logged(store: Store, tmp_path: Path, content: bytes = b"model", **further: Any) -> models.LoggedModel:
    return models.log_model(store, folder(tmp_path, content), name="bikes", environment=environment(store), **further)


def test_a_folder_goes_in_and_comes_out(any_store: Store, tmp_path: Path) -> None:
    store = any_store
    made = logged(
        store, tmp_path, run_id="0" * 32, metrics={"holdout_time": 2.5, "nan": float("nan")}, info={"rows": 3}
    )
    assert made.flavor == "sklearn"
    assert made.info == {"pickle": True, "rows": 3}
    assert made.metrics == {"holdout_time": 2.5}
    assert list(made.files) == ["MLmodel", "code/bikes.py", "model.pkl"]
    assert models.get_logged_model(store, made.id) == made
    assert models.list_logged_models(store, run_id="0" * 32) == [made]
    place = models.materialise(store, made.id)
    assert (place / "model.pkl").read_bytes() == b"model"
    assert (place / "code" / "bikes.py").read_text() == "x = 1\n"
    assert models.materialise(store, made.id) == place
    assert [path.name for path in place.parent.iterdir()] == [made.id]
    again = models.log_files(store, made.files, name="bikes", environment=made.environment, model_id=f"m-{'1' * 32}")
    assert again == models.log_files(
        store, made.files, name="bikes", environment=made.environment, model_id=f"m-{'1' * 32}"
    )


@pytest.mark.parametrize(
    "path", ["../x", "/etc/passwd", "a/../../x", "a//b", "", ".", "a\\b", "a\0b", "C:/x", "a/./b", "x" * 2000]
)
def test_no_path_leaves_the_folder(store: Store, path: str) -> None:
    file = ModelFile(store.blobs.put(MLMODEL.encode()), 0)
    with pytest.raises(InvalidInput) as raised:
        models.log_files(store, {"MLmodel": file, path: file}, name="bikes", environment=environment(store))
    assert raised.value.code == "path-invalid"
    assert models.list_logged_models(store) == []


def test_links_are_refused(store: Store, tmp_path: Path) -> None:
    (folder(tmp_path) / "link").symlink_to("/etc/passwd")
    with pytest.raises(InvalidInput) as raised:
        logged(store, tmp_path)
    assert raised.value.code == "path-invalid"


def test_what_is_no_model_is_refused(store: Store, tmp_path: Path) -> None:
    good = ModelFile(store.blobs.put(MLMODEL.encode()), 0)
    bad = ModelFile(store.blobs.put(b"{"), 0)
    here = environment(store)
    for files, name, env, code in (
        ({"model.pkl": good}, "bikes", here, "model-missing"),
        ({"MLmodel": bad}, "bikes", here, "model-invalid"),
        ({"MLmodel": good, "stead/model.json": bad}, "bikes", here, "model-invalid"),
        *(
            ({"MLmodel": ModelFile(store.blobs.put(text), 0)}, "bikes", here, "model-invalid")
            for text in (
                b"flavors: 3\n",
                b"- 1\n",
                b"flavors:\n  sklearn: 3\n",
                b"\xff\xfe",
                b"a: [" * 5000,
                b"flavors:\n  x: 1\n",
            )
        ),
        *(
            ({"MLmodel": good, "stead/model.json": ModelFile(store.blobs.put(text), 0)}, "bikes", here, "model-invalid")
            for text in (b"[]", b"3", b'{"flavor": 3}', b'{"flavor": "x", "signature": 3}', b"[" * 100_000)
        ),
        ({"MLmodel": good}, "../bikes", here, "name-invalid"),
        ({"MLmodel": good}, "bikes", "f" * 64, "environment-unknown"),
        ({"MLmodel": ModelFile("f" * 64, 1)}, "bikes", here, "blob-missing"),
    ):
        with pytest.raises(SteadError) as raised:
            models.log_files(store, files, name=name, environment=env)
        assert raised.value.code in (code, "model-unsupported"), files
    assert models.list_logged_models(store) == []
    with pytest.raises(NotFound):
        models.materialise(store, "../../etc")


def test_corrupt_bytes_are_not_served(store: Store, tmp_path: Path) -> None:
    made = logged(store, tmp_path)
    path = store.blobs.path(made.files["model.pkl"].digest)
    path.chmod(0o644)
    path.write_bytes(b"other")
    with pytest.raises(Failed) as raised:
        models.materialise(store, made.id)
    assert raised.value.code == "blob-corrupt"
    assert not (store.root / "cache" / "models" / made.id).exists()


def test_register_and_find(any_store: Store, tmp_path: Path) -> None:
    store = any_store
    first = logged(store, tmp_path, run_id="a" * 32)
    serving = environment(store, "serving")
    one = models.register(
        store, "bikes", first.id, loss="wape", settings={"target": "n"}, serving_environment=serving,
        serving_env={"TZ": "UTC"}, event_time=5, inputs=["dataset:bikes@1"],
    )  # fmt: skip
    assert one == models.get_version(store, "bikes@1") == models.get_version(store, "bikes")
    assert (one.ref, one.run_id, one.serving_env, one.event_time) == ("bikes@1", "a" * 32, {"TZ": "UTC"}, 5)
    again = models.register(store, "bikes", first.id, serving_environment=serving, serving_env={"TZ": "UTC"})
    assert again == one  # a job that is tried again doubles nothing
    two = models.register(store, "bikes", logged(store, tmp_path, b"second").id)
    assert two.version == 2
    assert two.serving_environment == first.environment
    model = models.get_model(store, "bikes")
    assert (model.loss, model.level, model.settings, model.versions) == ("wape", "record", {"target": "n"}, 2)
    assert [version.version for version in models.list_versions(store, "bikes")] == [2, 1]
    assert models.list_models(store) == [model]
    entries = ledger.list_entries(store, model="bikes")
    assert [entry.subject for entry in entries] == ["bikes@2", "bikes@1"]
    assert entries[1].event_time == 5


def test_unknown_names_have_hints(store: Store, tmp_path: Path) -> None:
    models.register(store, "bikes", logged(store, tmp_path).id)
    models.set_alias(store, "bikes", "champion", 1)
    for ref, code, hint in (
        ("bikez", "model-unknown", "did you mean 'bikes'?"),
        ("bikes@7", "version-unknown", "stead models show bikes"),
        ("bikes@99999999999", "version-unknown", "stead models show bikes"),
        ("bikes@champian", "alias-unknown", "did you mean 'champion'?"),
    ):
        with pytest.raises(NotFound) as raised:
            models.get_version(store, ref)
        assert (raised.value.code, raised.value.hint) == (code, hint)
    for problem in ({"loss": "mea"},):
        with pytest.raises(InvalidInput):
            models.register(store, "bikes", models.get_version(store, "bikes").logged_model, **problem)
    with pytest.raises(NotFound):
        models.register(store, "bikes", "m-" + "0" * 32)
    assert len(ledger.list_entries(store)) == 2


def test_aliases_and_their_undo(any_store: Store, tmp_path: Path) -> None:
    store = any_store
    for content in (b"1", b"2"):
        models.register(store, "bikes", logged(store, tmp_path, content).id)
    models.set_alias(store, "bikes", "champion", 1, reason="it is good")
    assert models.get_version(store, "bikes").version == 1
    assert models.get_version(store, "bikes@champion").aliases == ["champion"]
    assert models.get_version(store, "bikes@latest").version == 2
    models.set_alias(store, "bikes", "champion", 2)
    models.set_alias(store, "bikes", "champion", 2)  # no change, no entry
    number = ledger.list_entries(store)[0].id
    undo(store, number)
    assert models.get_model(store, "bikes").aliases == {"champion": 1}
    with pytest.raises(Conflict):
        undo(store, number)
    undo(store, ledger.list_entries(store)[-3].id)  # the first setting: takes it away
    assert models.get_model(store, "bikes").aliases == {}
    models.set_alias(store, "bikes", "challenger", 2)
    models.delete_alias(store, "bikes", "challenger")
    undo(store, ledger.list_entries(store)[0].id)
    assert models.get_model(store, "bikes").aliases == {"challenger": 2}
    for alias in ("latest", "Latest", "v1", "V12", "3", "", "a/b", "a@b"):
        with pytest.raises(InvalidInput) as raised:
            models.set_alias(store, "bikes", alias, 1)
        assert raised.value.code == "alias-invalid"
    with pytest.raises(NotFound):
        models.set_alias(store, "bikes", "champion", 3)
    with pytest.raises(NotFound):
        models.delete_alias(store, "bikes", "champion")


def test_a_registration_is_undone_by_taking_the_version_out_of_use(any_store: Store, tmp_path: Path) -> None:
    store = any_store
    for content in (b"1", b"2"):
        models.register(store, "bikes", logged(store, tmp_path, content).id)
    entry = undo(store, ledger.list_entries(store)[0].id)
    assert entry.action == "version.archived"
    assert models.get_version(store, "bikes").version == 1
    assert models.get_version(store, "bikes@2").tags == {"stead.archived": "true"}
    undo(store, entry.id)
    assert models.get_version(store, "bikes").version == 2
    models.set_alias(store, "bikes", "champion", 2)
    with pytest.raises(Conflict) as raised:
        models.archive_version(store, "bikes", 2)
    assert raised.value.code == "version-named"
    assert models.register(store, "bikes", logged(store, tmp_path, b"3").id).version == 3


def test_tags_and_descriptions(any_store: Store, tmp_path: Path) -> None:
    store = any_store
    models.register(store, "bikes", logged(store, tmp_path).id)
    models.set_tag(store, "bikes", "team", "blue")
    models.set_tag(store, "bikes", "team", "red", version=1)
    assert models.get_model(store, "bikes").tags == {"team": "blue"}
    assert models.list_versions(store, "bikes")[0].tags == {"team": "red"}
    undo(store, ledger.list_entries(store)[0].id)
    assert models.get_version(store, "bikes").tags == {}
    models.describe(store, "bikes", "hourly rentals")
    models.describe(store, "bikes", "the first", version=1)
    assert models.get_model(store, "bikes").description == "hourly rentals"
    assert models.get_version(store, "bikes").description == "the first"
    undo(store, ledger.list_entries(store)[0].id)
    assert models.get_version(store, "bikes").description == ""


def test_an_arrow_stands_once(any_store: Store, tmp_path: Path) -> None:
    store = any_store
    one = logged(store, tmp_path, b"1", run_id="a" * 32)
    models.register(store, "bikes", one.id, inputs=["bikes@1"])
    with store.db.write("models.tag") as tx:
        models.link(tx, "dataset:bikes@1", f"run:{'a' * 32}", "read by")
    assert {(e.source, e.target, e.relation) for e in models.arrows_of(store, ["version:bikes@1"])} == {
        (f"environment:{one.environment}", "version:bikes@1", "trained in"),
        (f"run:{'a' * 32}", "version:bikes@1", "made"),
    }
    assert [edge.target for edge in models.arrows_of(store, ["dataset:bikes@1"])] == [f"run:{'a' * 32}"]
    assert models.arrows_of(store, ["dataset:none@1"]) == []


def test_numbers_have_neither_gaps_nor_doubles(any_store: Store, tmp_path: Path) -> None:
    store = any_store
    ids = [logged(store, tmp_path, str(number).encode()).id for number in range(12)]
    with ThreadPoolExecutor(6) as pool:
        made = list(pool.map(lambda one: models.register(store, "bikes", one).version, ids))
    assert sorted(made) == list(range(1, 13))
    assert len(ledger.list_entries(store)) == 12


KILLED = """
import sys
from pathlib import Path
from stead import environments, models
from stead.config import load_settings
from stead.store import open_store
store = open_store(load_settings(environ={"STEAD_STORE": sys.argv[1], "STEAD_DATABASE": sys.argv[2]}))
made = models.log_model(store, Path(sys.argv[3]), name="bikes", environment=sys.argv[4], model_id="m-" + "5" * 32)
models.register(store, "bikes", made.id)
models.materialise(store, made.id)
"""


POINTS = [
    "blobs.put:before", "models.log:before", "models.log:after", "models.register:before", "models.register:after",
    "models.materialise:before", "models.materialise:after",
]  # fmt: skip


@pytest.mark.parametrize("point", POINTS)
def test_killed_and_tried_again(store: Store, tmp_path: Path, point: str) -> None:
    _kill_and_try_again(store, tmp_path, point)


def test_killed_on_another_database(any_store: Store, tmp_path: Path) -> None:
    _kill_and_try_again(any_store, tmp_path, "models.register:before")


def _kill_and_try_again(store: Store, tmp_path: Path, point: str) -> None:
    arguments = [str(store.root), store.db.url, str(folder(tmp_path)), environment(store)]
    command = [sys.executable, "-c", KILLED, *arguments]
    died = subprocess.run(command, env={**os.environ, "STEAD_FAILPOINT": point}, capture_output=True)
    assert died.returncode == -signal.SIGKILL, died.stderr
    if point.startswith(("models.register", "models.materialise")):
        assert len(ledger.list_entries(store)) == int(point != "models.register:before")
    subprocess.run(command, check=True)
    (made,) = models.list_logged_models(store)
    assert models.get_version(store, "bikes").version == 1
    assert len(models.list_versions(store, "bikes")) == len(ledger.list_entries(store)) == 1
    assert (models.materialise(store, made.id) / "model.pkl").read_bytes() == b"model"
