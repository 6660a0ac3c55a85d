"""A training that is run again and comes out otherwise: each planted change is named, two together, and what changes nothing is not."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from stead import datasets, environments, jobs, models, pipelines, runs
from stead.config import load_project
from stead.errors import InvalidInput, NotFound
from tests.conftest import new_store
from tests.contract.test_again import other_kernel
from tests.support import commands
from tests.support.working import work
from tests.unit.environments.local_package import make_package

TOML = """[project]
name = "planted"
requirements = ["pandas>=2.2", "pyarrow", "scikit-learn>=1.5", "LIBRARY"]

[models.forest]
code = "forest.py"
target = "y"

[models.logistic]
code = "logistic.py"
target = "y"
loss = "log_loss"

[models.chance]
code = "chance.py"
target = "y"
dataset = "forest"

[models.beside]
code = "beside.py"
target = "y"
dataset = "forest"
"""

FOREST = """from planted_library import VALUE
from sklearn.ensemble import RandomForestRegressor

from helper import scaled


def train(X, y):
    return RandomForestRegressor(4, max_depth=5).fit(scaled(X), y + VALUE)
"""

LOGISTIC = """from sklearn.linear_model import LogisticRegression


def train(X, y):
    return LogisticRegression().fit(X, y)
"""

CHANCE = """import secrets
from sklearn.ensemble import RandomForestRegressor


def train(X, y):
    return RandomForestRegressor(4, max_depth=5, random_state=secrets.randbelow(10**6)).fit(X, y)
"""

BESIDE = """from pathlib import Path

from sklearn.linear_model import Ridge


def train(X, y):
    return Ridge(alpha=float(Path("ALPHA").read_text())).fit(X, y)
"""


class Planted:
    """A project, a store with a version of each of its models, and changed pieces of both."""

    def __init__(self, folder: Path) -> None:
        self.store = new_store(folder / "store")
        self.root = folder / "project"
        self.root.mkdir()
        self.alpha = folder / "alpha.txt"
        self.alpha.write_text("1.0")
        self.library = make_package(folder / "library", "planted_library", source="VALUE = 1\n")
        self.write(self.library)
        random = np.random.default_rng(0)
        self.rows = pa.table({name: random.normal(size=400) for name in ("a", "b", "y")})
        X = random.normal(size=(60_000, 20))
        classes = (X @ random.normal(size=20) + random.normal(size=len(X)) > 0).astype(int)
        datasets.add(self.store, "forest", self.rows)
        datasets.add(self.store, "logistic", pa.table({f"x{i}": X[:, i] for i in range(20)} | {"y": classes}))
        for model in ("forest", "logistic", "chance", "beside"):
            self.train(model)
        shuffled = self.rows.take(pa.array(np.random.default_rng(1).permutation(400)))
        self.shuffled = datasets.add(self.store, "forest", shuffled).ref
        changed = self.rows.set_column(0, "a", pa.array(np.random.default_rng(2).normal(size=400)))
        self.changed = datasets.add(self.store, "forest", changed).ref
        newer = make_package(folder / "newer", "planted_library", version="1.1", source="VALUE = 2\n")
        more = ["pandas>=2.2", "pyarrow", "scikit-learn>=1.5", str(newer), "six", "colorama"]
        self.newer = environments.lock(self.store, more).digest
        self.other_code = self.spec("forest", helper="X - X.mean()")

    def write(self, library: Path, helper: str = "X") -> None:
        (self.root / "stead.toml").write_text(TOML.replace("LIBRARY", str(library)))
        (self.root / "forest.py").write_text(FOREST)
        (self.root / "logistic.py").write_text(LOGISTIC)
        (self.root / "chance.py").write_text(CHANCE)
        (self.root / "beside.py").write_text(BESIDE.replace("ALPHA", str(self.alpha)))
        (self.root / "helper.py").write_text(f"def scaled(X):\n    return {helper}\n")

    def spec(self, model: str, *, helper: str = "X") -> pipelines.Spec:
        self.write(self.library, helper)
        packed = pipelines.pack(load_project(self.root), model, self.store.blobs.put)
        self.write(self.library)
        return packed

    def train(self, model: str) -> None:
        self.done(pipelines.train(self.store, model, spec=self.spec(model)))

    def rerun(self, ref: str, **wanted: Any) -> pipelines.Rerun:
        import msgspec

        done = self.done(pipelines.rerun(self.store, ref, explain=True, **wanted))
        return msgspec.convert(done.result, pipelines.Rerun)

    def done(self, job: jobs.Job) -> jobs.Job:
        done = work(self.store, job.id)
        assert done is not None and done.state == "succeeded", done
        return done


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planted]:
    made = Planted(tmp_path_factory.mktemp("planted"))
    yield made
    made.store.close()


Wanted = Callable[[Planted], dict[str, Any]]
PLANTS: dict[str, tuple[str, Wanted, list[str]]] = {
    "library version": ("forest@1", lambda p: {"environment": p.newer}, ["library planted-library"]),
    "row order": ("forest@1", lambda p: {"data": p.shuffled}, ["row order"]),
    "data": ("forest@1", lambda p: {"data": p.changed}, ["data"]),
    "seed": ("forest@1", lambda p: {"seed": 7}, ["seed"]),
    "threads": ("logistic@1", lambda p: {"threads": 2}, ["threads"]),
    "code": ("forest@1", lambda p: {"code": p.other_code}, ["code helper.py"]),
    "seed and code": ("forest@1", lambda p: {"seed": 7, "code": p.other_code}, ["code helper.py", "seed"]),
    "library and row order": (
        "forest@1",
        lambda p: {"environment": p.newer, "data": p.shuffled},
        ["library planted-library", "row order"],
    ),
}


@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_change_is_named(planted: Planted, plant: str) -> None:
    ref, wanted, causes = PLANTS[plant]
    found = planted.rerun(ref, **wanted(planted))
    assert found.verdict != "identical" and found.difference, "the model is sensitive to it"
    assert found.explained is not None
    assert sorted(cause["name"] for cause in found.explained["causes"]) == causes, found.explained
    assert (found.explained["verdict"], found.explained["difference"]) == ("identical", 0.0)
    assert ("together" if len(causes) > 1 else "explains it") in found.explained["said"]


def test_what_changes_nothing_is_not_named(planted: Planted) -> None:
    """A forest does not mind the threads."""
    found = planted.rerun("forest@1", seed=7, threads=2)
    assert found.explained is not None and found.explained["innocent"] == ["threads"]
    assert [cause["name"] for cause in found.explained["causes"]] == ["seed"]
    same = planted.rerun("forest@1", threads=2)
    assert same.verdict == "identical" and same.explained is None


def test_a_rerun_is_a_run_that_says_of_which_one(planted: Planted) -> None:
    store = planted.store
    version = models.get_version(store, "forest@1")
    found = planted.rerun(str(version.run_id), seed=7)
    run = runs.get_run(store, found.run_id)
    assert run.tags["rerun_of"] == version.run_id == found.of and run.tags["replaced.seed"] == "0 → 7"
    assert run.status == "finished" and run.inputs == ["forest@1"]
    assert (
        found.metrics["holdout_random"][0]
        == models.get_logged_model(store, version.logged_model).metrics["holdout_random"]
    )
    assert run.metrics["holdout_random"].last == found.metrics["holdout_random"][1]
    assert [each.version for each in models.list_versions(store, "forest")] == [1], "it is no version"
    back = planted.rerun(found.run_id, seed=0)
    assert back.of == found.run_id and back.replaced == {"seed": ["7", "0"]}
    with pytest.raises(NotFound, match="no training of stead made a model"):
        pipelines.rerun(store, "0" * 32)
    with pytest.raises(InvalidInput, match="threads is 0"):
        pipelines.rerun(store, "forest@1", threads=0)
    with pytest.raises(InvalidInput, match="two replacements"):
        pipelines.rerun(store, "forest@1", code=planted.other_code, code_of="forest@1")
    with pytest.raises(NotFound):
        pipelines.rerun(store, "forest@1", data="forest@99")


def stead(planted: Planted, *arguments: str, code: int = 0, **variables: str) -> str:
    environ = {**os.environ, "STEAD_STORE": str(planted.store.root), **variables}
    done = commands.stead(arguments, cwd=planted.root, environ=environ)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_another_kernel_is_restored_by_name(planted: Planted) -> None:
    logged = models.get_logged_model(planted.store, models.get_version(planted.store, "logistic@1").logged_model)
    kernel = logged.info["facts"]["blas kernel"]
    other = other_kernel(kernel)
    said = stead(planted, "reproduce", "logistic@1", "--explain", OPENBLAS_CORETYPE=other)
    assert f"blas kernel ({kernel} → {other}) explains it: with it as it was recorded the result is identical" in said
    (found,) = pipelines.list_reproductions(planted.store, "logistic", version=1)
    assert found.verdict == "tolerance" and found.evidence["facts"]["blas kernel"] == [kernel, other]


def test_chance_is_told_from_causes(planted: Planted) -> None:
    said = stead(planted, "reproduce", "chance@1", "--explain", code=1)
    assert "it is left to chance: two runs of the same recipe differ" in said


def test_what_is_not_recorded_is_no_chance(planted: Planted) -> None:
    """Runs are alike, yet not as then: `train` reads a number from a file that no record names."""
    planted.alpha.write_text("50.0")
    said = stead(planted, "reproduce", "beside@1", "--explain", code=1)
    assert "nothing that is recorded explains it" in said and "chance" not in said


def test_the_project_as_it_is_now_and_as_it_was(planted: Planted) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(["git", "-C", str(planted.root), *arguments], check=True, capture_output=True)

    git("init", "-b", "main")
    git("-c", "user.email=a@example.org", "-c", "user.name=a", "commit", "--allow-empty", "-m", "empty")
    git("add", ".")
    git("-c", "user.email=a@example.org", "-c", "user.name=a", "commit", "-m", "as it was")
    planted.write(planted.library, "X * 2 - X.mean()")
    try:
        said = stead(planted, "rerun", "forest@1", "--code", ".", "--explain")
        assert "code helper.py" in said and "explains it" in said and "holdout_random" in said
        head = subprocess.run(["git", "-C", str(planted.root), "rev-parse", "HEAD"], capture_output=True, text=True)
        helpers = ("X", "X * 2 - X.mean()")
        then, now = (planted.spec("forest", helper=helper).files["helper.py"][:12] for helper in helpers)
        differs = f"  code: helper.py {then} → helper.py {now} (commit {head.stdout[:12]}, with changes)\n"
        assert differs in said, said
        same = stead(planted, "rerun", "forest", "--code", "main")
        assert "identical\n" in same and "nothing differs from what was recorded" in same
        assert "identical\n" in stead(planted, "rerun", "forest@1", "--code", "forest@1", "--env", "logistic@1")
        (planted.root / "other.txt").write_text(f"pandas>=2.2\npyarrow\nscikit-learn>=1.5\n{planted.library}\nsix\n")
        assert "environment: " in stead(planted, "rerun", "forest@1", "--env", "other.txt")
        assert "is no folder, no version, and no commit" in stead(
            planted, "rerun", "forest@1", "--code", "nowhere", code=2
        )
        assert "is no folder, file, version or digest" in stead(
            planted, "rerun", "forest@1", "--env", "nowhere", code=2
        )
    finally:
        planted.write(planted.library)
