"""What is recorded so that a version can be made again: on what it was computed, from which seed, in which environment."""

from __future__ import annotations

import json
import os
import platform
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import sqlalchemy as sa

from stead import datasets, environments, fleet, jobs, ledger, models, pipelines, runs
from stead.config import load_project
from stead.deployments.tables import deployments as deployment_table
from stead.environments.tables import environments as environment_table
from stead.errors import InvalidInput, NotFound
from stead.jobs.tables import jobs as job_table
from stead.models.tables import logged_models
from stead.runtime.clock import now_ms
from stead.store import Store
from tests.conftest import new_store
from tests.support import commands
from tests.support.working import work

TOML = """[project]
name = "tiny"
requirements = ["pandas>=2.2", "pyarrow", "scikit-learn>=1.5"]

[models.tiny]
code = "tiny.py"
target = "y"
time = "t"

[models.tiny.train]
threads = 2
seed = 3
"""
QUICK = TOML.replace("threads = 2", "threads = 1")
"""With more than one each step loads its libraries anew, since a process with threads is not forked."""

CODE = """import os
import random

import numpy as np
import pandas as pd
from sklearn.ensemble import RandomForestRegressor


def ingest(since, until):
    t = pd.date_range(since, until, freq="h", inclusive="left", unit="us")
    i = np.arange(len(t))
    return pd.DataFrame({"t": t, "x": np.sin(i * 0.7), "y": np.sin(i * 1.3) + i % 7})


def train(X, y):
    assert os.environ["OMP_NUM_THREADS"] == os.environ["OPENBLAS_NUM_THREADS"]
    print("drawn", random.random(), np.random.random())
    return RandomForestRegressor(5, max_depth=4).fit(X, y)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Path]]:
    """A project and the store that its version is in, and one of a model that is quick to make again."""
    folder = tmp_path_factory.mktemp("made")
    root = folder / "tiny"
    root.mkdir()
    (root / "tiny.py").write_text(CODE)
    store = new_store(folder / "store")
    for model, toml in (("quick", QUICK.replace("models.tiny", "models.quick")), ("tiny", TOML)):
        (root / "stead.toml").write_text(toml)
        train(store, root, model)
    yield store, root
    store.close()


@pytest.fixture
def store(store: Store, share: Callable[[Store], Store]) -> Store:
    return share(store)


def train(store: Store, root: Path, model: str = "tiny") -> jobs.Job:
    spec = pipelines.pack(load_project(root), model, store.blobs.put)
    job = pipelines.train(store, model, spec=spec, since=0, until=200 * 3_600_000)
    done = work(store, job.id)
    assert done is not None and done.state == "succeeded", done
    return done


def stead(store: Store, root: Path, *arguments: str, code: int = 0, **variables: str) -> str:
    done = commands.stead(arguments, cwd=root, environ={**os.environ, "STEAD_STORE": str(store.root), **variables})
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def other_kernel(kernel: str) -> str:
    """One of OpenBLAS' kernels that this processor has, too."""
    known = ["Haswell", "Nehalem"] if platform.machine() == "x86_64" else ["ARMV8", "CORTEXA57"]
    return next(each for each in known if each != kernel)


def test_a_training_records_what_it_was_computed_on(made: tuple[Store, Path]) -> None:
    store, _ = made
    version = models.get_version(store, "tiny@1")
    facts = models.get_logged_model(store, version.logged_model).info["facts"]
    assert facts["seed"] == "3" and facts["blas threads"] == facts["OMP_NUM_THREADS"] == "2"
    assert facts.keys() >= {"rows", "row order", "cpu", "os", "interpreter", "blas", "blas kernel", "openmp threads"}
    assert runs.get_run(store, str(version.run_id)).source["facts"] == facts


def test_seed_and_threads_are_part_of_the_recipe(made: tuple[Store, Path], store: Store) -> None:
    first, root = made
    spec = pipelines.pack(load_project(root), "tiny", store.blobs.put)
    (root / "stead.toml").write_text(TOML.replace("seed = 3", "seed = 4"))
    other = pipelines.pack(load_project(root), "tiny", store.blobs.put)
    (root / "stead.toml").write_text(QUICK)
    assert (spec.seed, spec.threads, other.seed) == (3, 2, 4) and spec.recipe != other.recipe
    run_ids = {first: str(models.get_version(first, "tiny@1").run_id), store: train(store, root).id}
    (root / "stead.toml").write_text(TOML)
    drawn = [line for shelf, run_id in run_ids.items() for line in runs.console(shelf, run_id).text.splitlines()]
    first_drawn, second_drawn = [line for line in drawn if line.startswith("drawn")]
    assert first_drawn == second_drawn


@pytest.mark.parametrize("line", ["threads = 0", "threads = true", "seed = -1", 'seed = "x"', "seed = 1.5"])
def test_numbers_that_are_none_are_refused_by_line(tmp_path: Path, line: str) -> None:
    key = line.partition(" ")[0]
    (tmp_path / "tiny.py").write_text(CODE)
    (tmp_path / "stead.toml").write_text(TOML.replace(f"{key} = {2 if key == 'threads' else 3}", line))
    with pytest.raises(InvalidInput, match=rf"models.tiny.train.{key} must be a whole number from"):
        load_project(tmp_path)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('order = "shufled"', "order is 'shufled'"),
        ("order = 3", "order is 3"),
        ('order = ["time"]', r"order is \['time'\]"),
        ('order = "time"', "order is 'time', and no column is named as it"),
    ],
)
def test_an_order_that_is_none_is_refused_by_line(tmp_path: Path, line: str, said: str) -> None:
    (tmp_path / "tiny.py").write_text(CODE)
    (tmp_path / "stead.toml").write_text(TOML.replace('time = "t"\n', "").replace("seed = 3", line))
    with pytest.raises(InvalidInput, match=rf"stead.toml, line 11: models.tiny.train.{said}") as refused:
        load_project(tmp_path)
    assert refused.value.hint


ORDERED = """from sklearn.linear_model import Ridge


def features(raw):
    print("features", raw["x"].tolist())
    return raw[["x"]]


def train(X, y):
    assert (X["x"] * 2 == y).all()
    print("order", X["x"].tolist())
    return Ridge().fit(X, y)
"""


def test_rows_come_in_the_order_that_is_asked_for(tmp_path: Path, made: tuple[Store, Path]) -> None:
    """Forty days in the order of their time, as they were stored, and shuffled; what learns from a window of them, too."""
    store, _ = made
    toml = TOML.replace("tiny", "ordered").replace("threads = 2", 'env = {}\norder = "ORDER"')
    (tmp_path / "ordered.py").write_text(ORDERED)
    stored = np.random.default_rng(0).permutation(40)
    rows = {"t": stored * 86_400_000, "x": stored.astype(float), "y": stored * 2.0}
    table = pa.table(rows).set_column(0, "t", pa.array(rows["t"], pa.timestamp("ms")))
    data = datasets.add(store, "ordered", table, time_column="t").ref
    seen, specs, facts = {}, {}, {}
    for order, window in (("time", ""), ("stored", ""), ("shuffled", ""), ("stored", "30d")):
        (tmp_path / "stead.toml").write_text(
            toml.replace("ORDER", order).replace(
                "[models.ordered.train]", f'window = "{window}"\n\n[models.ordered.train]'
            )
        )
        spec = specs[order + window] = pipelines.pack(load_project(tmp_path), "ordered", store.blobs.put)
        job = pipelines.train(store, "ordered", spec=spec, until=40 * 86_400_000, data=data)
        done = work(store, job.id)
        assert done is not None and done.state == "succeeded", done
        said = dict(line.split(" ", 1) for line in runs.console(store, job.id).text.splitlines() if "[" in line)
        seen[order + window] = json.loads(said["order"])
        assert done.result is not None
        version = models.get_version(store, f"ordered@{done.result['version']}")
        facts[order + window] = models.get_logged_model(store, version.logged_model).info["facts"]
    assert seen["time"] == sorted(stored.tolist()) and seen["stored"] == stored.tolist()
    assert seen["stored30d"] == [day for day in stored.tolist() if day >= 10]
    shuffled = np.random.default_rng(3).permutation(40).tolist()
    assert seen["shuffled"] == shuffled, "by the seed"
    assert len({spec.recipe for spec in specs.values()}) == 4
    assert [facts[order].get("order") for order in ("time", "stored", "shuffled")] == [None, "stored", "shuffled"]
    assert len({each["row order"] for each in facts.values()}) == 4
    assert facts["time"]["rows"] == facts["stored"]["rows"] == facts["shuffled"]["rows"]
    (tmp_path / "stead.toml").write_text(toml.replace('order = "ORDER"\n', ""))
    usual = pipelines.pack(load_project(tmp_path), "ordered", store.blobs.put)
    assert usual.recipe == specs["time"].recipe


def test_another_order_is_a_recipe_that_comes_again_and_is_named_as_a_cause(made: tuple[Store, Path]) -> None:
    store, root = made
    said = stead(store, root, "rerun", "quick@1", "--order", "shuffled", "--explain")
    assert "  order: time → shuffled\n" in said and "  order: trained with" not in said, "it is told once"
    assert "  row order: trained with" in said
    assert "order (time → shuffled) explains it: with it as it was recorded the result is identical" in said
    job = runs.list_runs(store).runs[0].id
    again = pipelines.rerun(store, job)
    done = work(store, again.id)
    assert done is not None and done.result is not None and done.result["verdict"] == "identical", done
    with pytest.raises(InvalidInput, match="the order 'random' is none"):
        pipelines.rerun(store, "quick@1", order="random")


TORCH = """import random

generator = random.Random(1)
manual_seed, rand = generator.seed, generator.random


class Tensor:
    pass


class nn:
    Module = Tensor
"""


def test_torch_is_seeded_when_only_train_imports_it(tmp_path: Path, made: tuple[Store, Path]) -> None:
    """One that draws as torch does: the same numbers until it is seeded."""
    store, _ = made
    (tmp_path / "torch.py").write_text(TORCH)
    drawing = CODE.replace(
        '    print("drawn"', '    import torch\n\n    print("torch drew", torch.rand())\n    print("drawn"'
    )
    (tmp_path / "tiny.py").write_text(drawing)
    drawn = []
    for number in (3, 4):
        (tmp_path / "stead.toml").write_text(
            QUICK.replace("seed = 3", f"seed = {number}").replace("tiny", "net").replace('"net.py"', '"tiny.py"')
        )
        spec = pipelines.pack(load_project(tmp_path), "net", store.blobs.put)
        job = pipelines.train(store, "net", spec=spec, since=0, until=200 * 3_600_000)
        done = work(store, job.id)
        assert done is not None and done.state == "succeeded", done
        drawn += [line for line in runs.console(store, job.id).text.splitlines() if line.startswith("torch drew")]
    assert drawn == [f"torch drew {random.Random(number).random()}" for number in (3, 4)]


def test_env_show_and_diff(made: tuple[Store, Path]) -> None:
    store, root = made
    shown = stead(store, root, "env", "show", "tiny@1")
    assert "# seed: 3\n" in shown and "# blas kernel: " in shown and "scikit-learn==" in shown and "--hash=" in shown
    digest = models.get_logged_model(store, models.get_version(store, "tiny@1").logged_model).environment
    assert "--hash=sha256:" in stead(store, root, "env", "show", digest[:12])
    rows = {row["name"]: row for row in json.loads(stead(store, root, "env", "diff", "tiny@1", "--all", "--json"))}
    threads = rows["blas threads"]
    assert threads["values"][:2] == ["2", "1"], "what was recorded, and what a process that serves has here"
    assert rows["cpu"]["values"][0] == rows["cpu"]["values"][1] == rows["cpu"]["values"][2]
    assert rows["OMP_NUM_THREADS"]["values"][:2] == ["2", "1"] and rows["scikit-learn"]["kind"] == "package"
    told = stead(store, root, "env", "diff", "tiny@1").splitlines()
    assert any(line.split()[:4] == ["blas", "threads", "2", "1"] for line in told)
    assert not any(line.startswith("cpu") for line in told)


def test_env_check_names_what_contradicts_the_lock(made: tuple[Store, Path]) -> None:
    store, root = made
    digest = models.get_logged_model(store, models.get_version(store, "tiny@1").logged_model).environment
    python = stead(store, root, "env", "build", "tiny@1").strip()
    assert python == str(environments.made(store, digest))
    environment = environments.get(store, digest)
    before = {row.name: row.values for row in environments.check(environment, made=Path(python))}
    assert all(values[2] is None for values in before.values()), "it is as it was made"
    (site,) = Path(python).parent.parent.glob("lib/python3*/site-packages")
    (info,) = site.glob("joblib-*.dist-info")
    info.rename(site / "joblib.gone")
    after = {row.name: row.values for row in environments.check(environment, made=Path(python))}
    (site / "joblib.gone").rename(info)
    assert after["joblib"][2] == "missing"
    (root / "stead.toml").write_text(TOML.replace("scikit-learn>=1.5", "scikit-learn<1.0"))
    said = stead(store, root, "env", "check", code=1)
    (root / "stead.toml").write_text(TOML)
    assert "differ from the lock" in said and "hint: stead env build tiny" in said
    rows = json.loads(stead(store, root, "env", "check", "tiny@1", "--json"))
    assert "scikit-learn" not in {row["name"] for row in rows if row["values"][3]}


def test_a_reproduction_compares_the_machine(made: tuple[Store, Path]) -> None:
    store, root = made
    logged = models.get_logged_model(store, models.get_version(store, "tiny@1").logged_model)
    other = other_kernel(logged.info["facts"]["blas kernel"])
    found = json.loads(stead(store, root, "reproduce", "tiny@1", "--json", OPENBLAS_CORETYPE=other))
    assert found["verdict"] == "identical", "a forest does not ask the BLAS"
    kernel = found["evidence"]["facts"]["blas kernel"]
    assert kernel[0] != kernel[1] == other


def test_packages_that_cannot_be_had_again_are_named_before_anything_runs(
    made: tuple[Store, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    store, _ = made
    logged = models.get_logged_model(store, models.get_version(store, "tiny@1").logged_model)
    python = environments.made(store, logged.environment)
    assert python is not None
    folder, aside = python.parent.parent, tmp_path / "aside"
    folder.rename(aside)  # another machine, which has nothing cached and reaches no index
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    before = len(jobs.list_jobs(store))
    with pytest.raises(NotFound) as refused:
        pipelines.reproduce(store, "tiny@1")
    aside.rename(folder)
    assert refused.value.code == "reproduce-missing" and len(jobs.list_jobs(store)) == before
    assert "the package scikit-learn is neither kept nor cached" in refused.value.message
    assert refused.value.hint is not None and "backup" not in refused.value.hint
    assert f"stead env vendor {logged.environment[:12]}" in refused.value.hint
    assert refused.value.hint.endswith("stead rerun tiny@1 --env .")
    assert jobs.cancel_job(store, pipelines.reproduce(store, "tiny@1").id).state == "cancelled"


@contextmanager
def gone(store: Store, digest: str) -> Iterator[None]:
    """The bytes of a blob are away for a while."""
    path = store.root / "blobs" / digest[:2] / digest[2:]
    path.rename(path.with_suffix(".aside"))
    yield
    path.with_suffix(".aside").rename(path)


def test_whatever_is_missing_is_named_before_anything_is_queued(made: tuple[Store, Path], tmp_path: Path) -> None:
    store, _ = made
    logged = models.get_logged_model(store, models.get_version(store, "tiny@1").logged_model)
    before = len(jobs.list_jobs(store))

    def said(ref: str = "tiny@1") -> str:
        with pytest.raises(NotFound) as refused:
            pipelines.reproduce(store, ref)
        assert refused.value.code == "reproduce-missing" and len(jobs.list_jobs(store)) == before
        return refused.value.message.removeprefix(f"{ref} cannot be made again: ")

    with gone(store, logged.files["stead/golden.json"].digest):
        assert said() == "the bytes of its golden rows are gone"
    assert logged.code is not None
    with gone(store, json.loads(store.blobs.get(logged.code))["tiny.py"]):
        assert said() == "the bytes of its code tiny.py are gone"
    (part,) = datasets.get_version(store, "tiny", with_parts=True).part_list
    with gone(store, part.digest):
        assert said() == "parts of tiny@1 are gone: rows.parquet"
    rows = store.blobs.get(part.digest)
    with gone(store, part.digest):
        list(store.packs.keep([rows, *(bytes([n]) * 9 for n in range(16))]))  # the same bytes, in a pack
        (pack,) = {chunk.pack.hex() for chunk in store.packs.chunks_of(part.digest)}
        jobs.cancel_job(store, pipelines.reproduce(store, "tiny@1").id)
        before += 1
        with gone(store, pack):
            assert said() == "parts of tiny@1 are gone: rows.parquet"
    (tmp_path / "MLmodel").write_text("flavors:\n  python_function:\n    loader_module: x\n")
    imported = models.log_model(store, tmp_path, name="imported", environment=logged.environment)
    models.register(store, "imported", imported.id)
    assert said("imported@1") == "stead did not train it, so its recipe is not recorded"
    with pytest.raises(NotFound, match=r"^imported@1 cannot be trained again: stead did not train it"):
        pipelines.rerun(store, "imported@1")
    python = environments.get(store, logged.environment).python
    folder = store.root / "environments" / logged.environment[:16]
    folder.rename(tmp_path / "aside")
    for number in ("3.99", python):
        with store.db.engine.begin() as tx:
            tx.execute(sa.update(environment_table).values(python=number))
        if number != python:
            assert said().startswith("Python 3.99 is not on this machine, and uv has none to download")
    (tmp_path / "aside").rename(folder)


def test_an_environment_of_another_platform_is_refused_before_anything_is_queued(made: tuple[Store, Path]) -> None:
    store, _ = made
    ours = environments.get(
        store, models.get_logged_model(store, models.get_version(store, "tiny@1").logged_model).environment
    )
    foreign = environments.add(store, lock=ours.lock, python=ours.python, platform="darwin-arm64")
    before = len(jobs.list_jobs(store))
    with pytest.raises(
        NotFound, match=r"is locked for darwin-arm64, and this is .*: every package has a wheel"
    ) as told:
        pipelines.rerun(store, "tiny@1", environment=foreign.digest)
    assert told.value.code == "reproduce-missing" and len(jobs.list_jobs(store)) == before
    assert told.value.hint is not None and "--env ." in told.value.hint and "backup" not in told.value.hint


KILLED = """
import sys; from stead import jobs; from stead.config import load_settings
from stead.jobs.tables import jobs as job_table
from stead.processes.handlers import handlers; from stead.store import open_store
store = open_store(load_settings(environ={"STEAD_STORE": sys.argv[1], "STEAD_USER": "ada"}))
done = jobs.work(store, handlers(load_settings()), owner=sys.argv[2], job_id=sys.argv[3])
assert done is not None and done.state == "succeeded", done
"""


def elsewhere(store: Store, owner: str, job: jobs.Job, **variables: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", KILLED, str(store.root), owner, job.id]
    return subprocess.Popen(command, env=os.environ | variables, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("point", ["pipelines.step:before#3", "models.log:after"])
def test_a_rerun_that_is_killed_is_one_run_in_the_end(made: tuple[Store, Path], point: str) -> None:
    store, _ = made
    before = {run.id for run in runs.list_runs(store).runs}
    job = pipelines.rerun(store, "tiny@1", seed=5, threads=1)
    died = elsewhere(store, "dying", job, STEAD_FAILPOINT=point)
    assert died.communicate()[1] is not None and died.returncode == -signal.SIGKILL
    with store.db.write("jobs.beat") as tx:
        tx.execute(sa.update(job_table).where(job_table.c.id == job.id).values(lease_until=1))
    done = work(store, job.id)
    assert done is not None and done.state == "succeeded", done
    assert {run.id for run in runs.list_runs(store).runs} - before == {job.id}
    run = runs.get_run(store, job.id)
    assert (run.status, run.metrics["holdout_random"].n) == ("finished", 1)
    assert [version.version for version in models.list_versions(store, "tiny")] == [1]


def test_two_reproductions_at_once(made: tuple[Store, Path]) -> None:
    store, _ = made
    both = [pipelines.reproduce(store, "quick@1") for _ in range(2)]
    working = [elsewhere(store, f"agent-{number}", job) for number, job in enumerate(both)]
    said = [process.communicate()[1] for process in working]
    assert [process.returncode for process in working] == [0, 0], said
    found = {each.job: each.verdict for each in pipelines.list_reproductions(store, "quick", version=1)}
    assert [found[job.id] for job in both] == ["identical", "identical"]


def test_what_differs_from_the_commit_is_kept_with_the_run(tmp_path: Path, store: Store) -> None:
    def git(*arguments: str) -> bytes:
        return subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True, capture_output=True).stdout

    (tmp_path / "stead.toml").write_text(QUICK)
    (tmp_path / "tiny.py").write_text(CODE)
    (tmp_path / ".gitignore").write_text("store\n")
    git("init", "-b", "main")
    git("add", ".")
    git("-c", "user.email=a@example.org", "-c", "user.name=a", "commit", "-m", "one")
    (tmp_path / "tiny.py").write_text(CODE.replace("max_depth=4", "max_depth=3"))
    done = train(store, tmp_path)
    run = runs.get_run(store, done.id)
    assert run.source["git"]["dirty"] and len(run.source["git"]["commit"]) == 40
    difference = runs.read_artifact(store, done.id, "stead/git.diff")
    assert b"-    return RandomForestRegressor(5, max_depth=4)" in difference
    git("checkout", "tiny.py")
    (tmp_path / "patch").write_bytes(difference)
    git("apply", "patch")
    assert "max_depth=3" in (tmp_path / "tiny.py").read_text()


def test_the_monthly_sample_makes_a_live_version_again_and_tells_where_it_differs(made: tuple[Store, Path]) -> None:
    store, _ = made
    row = {"model": "quick", "version": 1, "kind": "deploy", "state": "live", "requested_by": "person:ada"}
    now = now_ms() + 400 * 86_400_000
    with store.db.engine.begin() as tx:
        lists: dict[str, Any] = {"overrides": [], "steps": [], "plan": {}, "shares": []}
        tx.execute(sa.insert(deployment_table).values(**row, **lists, created_at=1))
    (job,) = fleet.sample_reproductions(store.acting("agent"), 1, now=now)
    assert (job.kind, job.model, job.requested_by, job.priority < 0) == ("reproduce", "quick", "agent", True)
    done = work(store, job.id)
    assert done is not None and done.state == "succeeded", done
    newest = pipelines.list_reproductions(store, "quick", version=1)[0]
    assert (newest.job, newest.by, newest.verdict) == (job.id, "agent", "identical")
    assert "reproduction.differed" not in {entry.action for entry in ledger.list_entries(store)}
    with store.db.engine.begin() as tx:  # what is recorded is not what was computed
        tx.execute(sa.update(logged_models).values(metrics={"holdout_random": 9.0, "holdout_time": 9.0}))
    (job,) = fleet.sample_reproductions(store.acting("agent"), 1, now=now + 200 * 86_400_000)
    done = work(store, job.id)
    assert done is not None and done.state == "succeeded", done
    newest = pipelines.list_reproductions(store, "quick", version=1)[0]
    assert (newest.job, newest.verdict) == (job.id, "different")
    (entry,) = (entry for entry in ledger.list_entries(store) if entry.action == "reproduction.differed")
    assert (entry.actor, entry.model, entry.subject) == ("agent", "quick", "quick@1")
    assert entry.evidence["job"] == job.id and "is not the same" in entry.summary
