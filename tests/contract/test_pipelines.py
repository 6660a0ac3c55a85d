"""Training as a job: what is packed, what a step may see, and kill -9 between its steps."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from click.testing import CliRunner

from stead import datasets, gates, jobs, ledger, models, pipelines, runs
from stead.cli import cli
from stead.config import load_project
from stead.errors import InvalidInput, NotFound
from stead.jobs.tables import jobs as job_table
from stead.pipelines.packing import local_files
from stead.runtime.clock import now_ms
from stead.store import Store
from tests.support.working import work

TOML = """[project]
name = "tiny"
requirements = ["pandas>=2.2", "pyarrow", "scikit-learn>=1.5"]

[models.tiny]
code = "tiny.py"
target = "y"
time = "t"
loss = "mae"

[models.tiny.train.env]
SHIFT = "2"
"""

CODE = """import os

import pandas as pd
import stead
from sklearn.linear_model import LinearRegression

from helpers.shift import by


def ingest(since, until):
    t = pd.date_range(since, until, freq="h", inclusive="left", unit="us")
    assert "SECRET" not in os.environ and "STEAD_TOKEN" not in os.environ
    return pd.DataFrame({"t": t, "x": range(len(t)), "y": [2.0 * i + by() for i in range(len(t))]})


def features(raw):
    return raw[["x"]]


def train(X, y):
    for step in range(3):
        stead.log({"seen": step}, step=step)
    return LinearRegression().fit(X, y)
"""


@pytest.fixture
def store(store: Store, share: Callable[[Store], Store]) -> Store:
    return share(store)


@pytest.fixture
def any_store(any_store: Store, share: Callable[[Store], Store]) -> Store:
    return share(any_store)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "tiny"
    (root / "helpers").mkdir(parents=True)
    (root / "stead.toml").write_text(TOML)
    (root / "tiny.py").write_text(CODE)
    (root / "helpers" / "__init__.py").write_text("")
    (root / "helpers" / "shift.py").write_text("import os\n\n\ndef by():\n    return int(os.environ['SHIFT'])\n")
    (root / "unused.py").write_text("raise SystemExit('never imported')")
    return root


def ask(store: Store, root: Path, *, until: int = 200 * 3_600_000) -> jobs.Job:
    spec = pipelines.pack(load_project(root), "tiny", store.blobs.put)
    return pipelines.train(store, "tiny", spec=spec, since=0, until=until)


def test_only_what_is_imported_is_packed(project: Path, store: Store) -> None:
    assert [str(path) for path in local_files(project, Path("tiny.py"))] == [
        "helpers/__init__.py",
        "helpers/shift.py",
        "tiny.py",
    ]
    spec = pipelines.pack(load_project(project), "tiny", store.blobs.put)
    assert store.blobs.get(spec.files["tiny.py"]) == CODE.encode()
    with pytest.raises(NotFound, match="no model 'tinny'"):
        pipelines.pack(load_project(project), "tinny", store.blobs.put)
    (project / "tiny.py").write_text("def broken(:\n")
    with pytest.raises(InvalidInput, match="line 1"):
        pipelines.pack(load_project(project), "tiny", store.blobs.put)


def test_without_requirements_it_says_what_to_write(project: Path, store: Store) -> None:
    (project / "stead.toml").write_text(
        TOML.replace('requirements = ["pandas>=2.2", "pyarrow", "scikit-learn>=1.5"]\n', "")
    )
    with pytest.raises(InvalidInput, match="which packages") as raised:
        pipelines.pack(load_project(project), "tiny", store.blobs.put)
    assert raised.value.hint is not None and "requirements = [" in raised.value.hint


def test_a_range_that_is_none(project: Path, store: Store) -> None:
    spec = pipelines.pack(load_project(project), "tiny", store.blobs.put)
    with pytest.raises(InvalidInput, match="is not before"):
        pipelines.train(store, "tiny", spec=spec, since=5, until=5)
    with pytest.raises(NotFound):
        pipelines.train(store, "tiny", spec=spec, data="tiny@7")
    assert jobs.list_jobs(store) == []


def test_rows_count_up_to_the_time_that_it_was_asked_for(project: Path, store: Store) -> None:
    whose = 'loss = "mae"\nowner = "ada"\nloss_value = 2\ncurrency = "EUR"'
    (project / "stead.toml").write_text(TOML.replace('loss = "mae"', whose))
    spec = pipelines.pack(load_project(project), "tiny", store.blobs.put)
    hour = 3_600_000
    jobs.hold_clock(store, "tiny", now=100 * hour, holder="replay")
    first = pipelines.train(store, "tiny", spec=spec)
    alone = pipelines.ingest(store, "tiny", spec=spec)
    jobs.hold_clock(store, "tiny", now=150 * hour, holder="replay")
    jobs.cancel_job(store, first.id)
    again = jobs.retry_job(store, first.id)
    jobs.release_clock(store, "tiny", holder="replay")
    assert work(store, alone.id) is not None
    assert datasets.get_version(store, "tiny").time_max == 99 * hour
    later = pipelines.ingest(store, "tiny", spec=spec, until=200 * hour)
    assert work(store, later.id) is not None
    done = work(store, again.id)
    assert done is not None and done.state == "succeeded", done
    learned = models.get_logged_model(store, models.get_version(store, "tiny@1").logged_model).info["trained_on"]
    assert learned["until"] == 100 * hour and datasets.get_version(store, "tiny").time_max == 199 * hour
    made = models.get_model(store, "tiny")
    assert (made.owner, made.importance, made.loss_value, made.currency) == ("ada", "normal", 2.0, "EUR")
    assert [entry.action for entry in ledger.list_entries(store, model="tiny")].count("facts.set") == 1


def test_rows_of_the_future_wait(project: Path, store: Store) -> None:
    """Without a replay, too: after one that had passed the next year a training by hand learned from that year."""
    day = 86_400_000
    today = now_ms() // day * day
    (project / "tiny.py").write_text(ROWS)
    spec = pipelines.pack(load_project(project), "tiny", store.blobs.put)
    for until in (today, today + 200 * day):
        some = pipelines.ingest(store, "tiny", spec=spec, until=until, since=today - 100 * day)
        assert work(store, some.id) is not None
    pipelines.train(store, "tiny", spec=spec)
    done = work(store)
    assert done is not None and done.state == "succeeded", done
    info = models.get_logged_model(store, models.get_version(store, "tiny@1").logged_model).info
    assert info["trained_on"]["until"] == done.created_at
    times = pq.read_table(store.blobs.path(info["judged_on"]["rows"]))["t"].cast(pa.timestamp("ms")).cast(pa.int64())
    assert max(times.to_pylist()) == today
    assert made_again(store, "tiny@1").state == "succeeded"
    (again,) = pipelines.list_reproductions(store)
    assert again.verdict == "identical" and again.evidence["same_rows"], "of the rows that it learned from"


@pytest.mark.parametrize("code", ["return 5", "return raw.head(1)", "raise KeyError('wind')"])
def test_a_failing_step_is_told_in_its_own_words(project: Path, store: Store, code: str) -> None:
    (project / "tiny.py").write_text(CODE.replace("return raw[['x']]".replace("'", '"'), code))
    ask(store, project)
    done = work(store)
    assert done is not None and done.state == "failed" and done.error is not None
    said = done.error["message"]
    assert said.startswith("features") and ("one row" in said or "row for each" in said or "KeyError: 'wind'" in said)
    assert runs.get_run(store, done.id).status == "failed"
    assert models.list_models(store) == []


KILLED = """
import sys; from pathlib import Path; from stead import jobs; from stead.config import load_settings
from stead.processes.handlers import handlers; from stead.store import open_store
store = open_store(load_settings(environ={"STEAD_STORE": sys.argv[1], "STEAD_USER": "ada"}))
jobs.work(store, handlers(load_settings()), owner="dying")
"""


@pytest.mark.parametrize(
    "point", ["pipelines.step:before#5", "pipelines.step:after#5", "models.register:after", "runs.deliver:after#3"]
)
def test_killed_in_training_it_goes_on_and_doubles_nothing(project: Path, store: Store, point: str) -> None:
    job = ask(store, project)
    environ = {**os.environ, "STEAD_FAILPOINT": point, "SECRET": "x"}
    died = subprocess.run([sys.executable, "-c", KILLED, str(store.root)], env=environ, capture_output=True, text=True)
    assert died.returncode == -signal.SIGKILL, died.stderr
    with store.db.write("jobs.beat") as tx:
        tx.execute(sa.update(job_table).where(job_table.c.id == job.id).values(lease_until=1))
    done = work(store)
    assert done is not None and done.state == "succeeded", done
    log = "".join(text for _, _, text in jobs.job_log(store, job.id))
    assert "not run again" in log, "finished steps are taken from what they left"
    assert [v.version for v in models.list_versions(store, "tiny")] == [1]
    assert [e.action for e in ledger.list_entries(store)] == ["version.registered"]
    run = runs.get_run(store, job.id)
    assert run.status == "finished"
    (seen,) = runs.series(store, [job.id], "seen")
    assert (seen.steps, seen.values) == ([0, 1, 2], [0.0, 1.0, 2.0])
    assert run.metrics["holdout_time"].n == 1 and run.metrics["holdout_time"].last == pytest.approx(0, abs=1e-9)


def test_the_command_itself_heeds_env_allow_of_the_project(project: Path) -> None:
    (project / "stead.toml").write_text(TOML + '\n[settings]\nenv_allow = "WAREHOUSE, OTHER_*"\n')
    read = CODE.replace("    t = pd", "    print(os.environ['WAREHOUSE'] + os.environ['OTHER_ONE'])\n    t = pd")
    (project / "tiny.py").write_text(read)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("STEAD_")}
    environ |= {"WAREHOUSE": "secret-1", "OTHER_ONE": "secret-2", "SECRET": "x"}
    command = [sys.executable, "-m", "stead", "data", "ingest", "tiny", "--until", "1970-01-02"]
    done = subprocess.run(command, cwd=project, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "secret-1secret-2" in done.stderr
    assert done.stdout.strip() == "tiny@1: 24 rows"


def test_versions_are_compared_with_the_variables_of_their_training(
    project: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / "tiny.py").write_text(CODE.replace('raw[["x"]]', 'raw[["x"]] + by()'))
    ask(store, project)
    trained = work(store)
    assert trained is not None and trained.state == "succeeded", trained
    logged = models.get_logged_model(store, models.get_version(store, "tiny@1").logged_model)
    assert logged.info["train_env"] == {"SHIFT": "2"}
    with pytest.raises(InvalidInput, match="both are tiny@1"):
        pipelines.compare(store, "tiny@1", "tiny")
    models.register(store, "tiny", logged.id, serving_env={"SHIFT": "3"})
    monkeypatch.setenv("STEAD_STORE", str(store.root))
    monkeypatch.chdir(project)
    said = CliRunner().invoke(cli, ["compare", "tiny@1", "tiny@2"], catch_exceptions=False).output
    assert "  tiny@1               0.0000\n" in said, said
    assert "tiny@1 and tiny@2 learned from some of these rows, so their loss here is too good" in said
    assert "These rows do not tell which is better." in said


def test_a_training_that_logs_nothing_is_watched(project: Path, store: Store) -> None:
    quiet = CODE.replace("import stead\n", "").replace('stead.log({"seen": step}, step=step)', "print('seen', step)")
    (project / "tiny.py").write_text(quiet)
    run_id = ask(store, project).id
    trained = work(store)
    assert trained is not None and trained.state == "succeeded", trained
    assert "seen 0\nseen 1\nseen 2\n" in runs.console(store, run_id).text


YEARS = """import pandas as pd
from sklearn.linear_model import LinearRegression


def ingest(since, until):
    t = pd.date_range(since, until, freq="D", inclusive="left", unit="us")
    early = t < pd.Timestamp(1970, 4, 1)
    return pd.DataFrame({"t": t, "x": range(len(t)), "y": [(CHANGED if e else 2.0) * i for i, e in enumerate(early)]})


def train(X, y):
    return LinearRegression().fit(X, y)
"""


@pytest.mark.parametrize("chosen", ["window", "all"])
def test_the_window_is_chosen_on_the_last_28_days(project: Path, store: Store, chosen: str) -> None:
    """What was long ago is left out where it does harm, and taken along where it helps."""
    changed = {"window": "-50.0", "all": "2.0"}[chosen]
    code = YEARS.replace("CHANGED", changed)
    if chosen == "all":  # a model that is right with more than 400 rows
        code = code.replace("fit(X, y)", "fit(X, y if len(y) > 400 else y * 1.1)")
    (project / "tiny.py").write_text(code)
    spec = pipelines.pack(load_project(project), "tiny", store.blobs.put)
    day = 86_400_000
    pipelines.train(store, "tiny", spec=spec, until=500 * day)
    done = work(store)
    assert done is not None and done.state == "succeeded", done
    info = models.get_logged_model(store, models.get_version(store, "tiny@1").logged_model).info
    assert info["window"]["chosen"] == chosen and set(info["window"]["losses"]) == {"all", "window"}
    assert info["trained_on"]["since"] == ((500 - 365) * day if chosen == "window" else None)
    run = runs.get_run(store, done.id)
    assert run.params["window"] == {"window": "12 months", "all": "all rows"}[chosen]
    assert run.metrics["holdout_recent"].last == pytest.approx(info["window"]["losses"][chosen])
    rows = pq.read_table(store.blobs.path(info["judged_on"]["rows"]))
    assert rows.num_rows == (365 if chosen == "window" else 500)
    held = pq.read_table(store.blobs.path(info["judged_on"]["holdouts"])).to_pylist()
    recent = [row for row in held if row["split"] == "recent"]
    assert len(recent) == 28 and {row["split"] for row in held} == {"random", "time", "recent"}
    assert all(rows["y"][row["row"]].as_py() == row["target"] for row in held)
    verdicts = {verdict.gate: verdict.outcome for verdict in gates.list_verdicts(store, "tiny", version=1)}
    assert verdicts["metrics"] == "passed" and verdicts["challenger"] == "skipped" and len(verdicts) == 7


ROWS = """import pandas as pd
from sklearn.dummy import DummyRegressor


def ingest(since, until):
    t = pd.date_range(since, until, freq="D", inclusive="left", unit="us")
    return pd.DataFrame({"t": t, "x": 1.0, "y": 365.0})


def train(X, y):  # says how many rows it has learned from
    return DummyRegressor(strategy="constant", constant=float(len(y))).fit(X, y)
"""


def test_the_twin_of_a_window_has_learned_from_as_many_days(project: Path, store: Store) -> None:
    """Twelve months that end before the last 28 days: cut short at both ends it would not know the season that it is judged on."""
    (project / "tiny.py").write_text(ROWS)
    spec = pipelines.pack(load_project(project), "tiny", store.blobs.put)
    pipelines.train(store, "tiny", spec=spec, until=500 * 86_400_000)
    done = work(store)
    assert done is not None and done.state == "succeeded", done
    info = models.get_logged_model(store, models.get_version(store, "tiny@1").logged_model).info
    assert info["window"]["losses"] == {"all": 500 - 28 - 365, "window": 0}
    held = pq.read_table(store.blobs.path(info["judged_on"]["holdouts"])).to_pylist()
    assert {row["prediction"] for row in held if row["split"] == "recent"} == {365}


def test_a_window_that_is_set_is_taken(project: Path, store: Store) -> None:
    (project / "tiny.py").write_text(YEARS.replace("CHANGED", "2.0"))
    (project / "stead.toml").write_text(TOML.replace('loss = "mae"', 'loss = "mae"\nwindow = "100d"'))
    spec = pipelines.pack(load_project(project), "tiny", store.blobs.put)
    pipelines.train(store, "tiny", spec=spec, until=500 * 86_400_000)
    done = work(store)
    assert done is not None and done.state == "succeeded", done
    info = models.get_logged_model(store, models.get_version(store, "tiny@1").logged_model).info
    assert info["trained_on"]["since"] == 400 * 86_400_000 and "window" not in info


def test_the_twin_of_a_set_window_has_learned_from_as_many_days(project: Path, store: Store) -> None:
    """A window of 40 days: the twin learns from the 40 before the last 28, the model from the last 40, and each row is where it was."""
    (project / "tiny.py").write_text(ROWS)
    (project / "stead.toml").write_text(TOML.replace('loss = "mae"', 'loss = "mae"\nwindow = "40d"'))
    spec = pipelines.pack(load_project(project), "tiny", store.blobs.put)
    pipelines.train(store, "tiny", spec=spec, until=500 * 86_400_000)
    done = work(store)
    assert done is not None and done.state == "succeeded", done
    info = models.get_logged_model(store, models.get_version(store, "tiny@1").logged_model).info
    held = pq.read_table(store.blobs.path(info["judged_on"]["holdouts"])).to_pylist()
    learned = {
        name: {row["prediction"] for row in held if row["split"] == name} for name in ("recent", "time", "random")
    }
    assert learned == {"recent": {40}, "time": {32}, "random": {32}}
    assert [row["row"] for row in held if row["split"] == "recent"] == list(range(12, 40))
    assert pq.read_table(store.blobs.path(info["judged_on"]["rows"])).num_rows == 40


KNOWN = """import numpy as np
import pandas as pd


def ingest(since, until):
    t = pd.date_range(since, until, freq="D", inclusive="left", unit="us")
    return pd.DataFrame({"t": t, "x": 0, "y": [float(i) for i in range(len(t))]})


class Newest:
    def predict(self, X):
        return np.full(len(X), self.seen)


def train(X, y):
    model = Newest()
    model.seen, model.rows = y.max(), len(y)
    print("learned from", len(y))
    return model
"""


def test_a_backtest_learns_only_from_what_was_known(project: Path, store: Store) -> None:
    """The model predicts the newest row that it has seen, and the truth is the number of the day."""
    day = 86_400_000
    (project / "tiny.py").write_text(KNOWN)
    (project / "stead.toml").write_text(TOML.replace('loss = "mae"', 'loss = "mae"\nlabel_delay = "48h"'))
    spec = pipelines.pack(load_project(project), "tiny", store.blobs.put)
    with pytest.raises(NotFound, match="tiny"):
        pipelines.backtest(store, "tiny", spec=spec, since=59 * day, until=100 * day)
    pipelines.ingest(store, "tiny", spec=spec, since=0, until=100 * day)
    work(store)
    with pytest.raises(InvalidInput, match="more than 400"):
        pipelines.backtest(store, "tiny", spec=spec, since=59 * day, until=100 * day, every="60s")
    pipelines.backtest(store, "tiny", spec=spec, since=59 * day, until=100 * day, window="30d")
    done = work(store)
    assert done is not None and done.state == "succeeded", done
    found = msgspec.convert(done.result, pipelines.Backtest)
    assert [(p.start // day, p.until // day, p.rows) for p in found.periods] == [(59, 90, 31), (90, 100, 10)]
    first, second = found.periods
    assert first.once == first.again == sum(i - 56 for i in range(59, 90))  # day 56 is the last one known at day 59
    assert second.once == sum(i - 56 for i in range(90, 100))
    assert second.again == sum(i - 87 for i in range(90, 100))
    assert second.weight == 10 and found.total("once") == pytest.approx((first.once + second.once) / 41)
    log = "".join(text for _, _, text in jobs.job_log(store, done.id))
    assert log.count("learned from 28") == 2  # 30 days less the two whose labels had not come


SOURCE = """import pandas as pd


def ingest(since, until):
    rows = pd.read_csv("source.csv", parse_dates=["t"])
    return rows[(rows["t"] >= since) & (rows["t"] < until)]


def train(X, y):
    raise NotImplementedError
"""


def feed(root: Path, hours: int, *, late: int | None = None, **changed: float) -> None:
    """Write what the source knows now: a row an hour; one may be late, and one may be another than before."""
    lines = [
        f"{pd_time(hour)},{hour % 9},{changed.get(f'h{hour}', float(hour))}" for hour in range(hours) if hour != late
    ]
    (root / "source.csv").write_text("\n".join(["t,x,y", *lines]) + "\n")


def pd_time(hour: int) -> str:
    return f"1970-01-{1 + hour // 24:02d} {hour % 24:02d}:00:00"


def bring(store: Store, root: Path, hours: int) -> jobs.Job:
    spec = pipelines.pack(load_project(root), "tiny", store.blobs.put)
    pipelines.ingest(store, "tiny", spec=spec, until=hours * 3_600_000, since=0)
    done = work(store)
    assert done is not None
    return done


def test_late_rows_come_in_and_changed_ones_take_their_place(project: Path, store: Store) -> None:
    (project / "tiny.py").write_text(SOURCE)
    (project / "stead.toml").write_text(TOML.replace('loss = "mae"', 'loss = "mae"\ningest_overlap = "1d"'))
    feed(project, 48, late=40)
    assert bring(store, project, 48).state == "succeeded"
    feed(project, 60)
    assert bring(store, project, 60).state == "succeeded"
    version = datasets.get_version(store, "tiny", with_parts=True)
    assert (version.rows, version.parts, version.part_list[1].rows) == (60, 2, 13), "the late row and the new ones"
    feed(project, 72, h50=-5.0)
    assert bring(store, project, 72).state == "succeeded"
    rows = datasets.read(store, "tiny").sort_by("t")["y"].to_pylist()
    assert len(rows) == 72 and rows[50] == -5.0 and rows[40] == 40.0
    feed(project, 5)  # a source that has lost its past
    lost = bring(store, project, 96)
    assert lost.state == "failed" and lost.error is not None and "gave 24 before" in lost.error["message"]
    assert datasets.get_version(store, "tiny").rows == 72


def test_other_columns_come_in_with_all_rows(project: Path, store: Store) -> None:
    (project / "tiny.py").write_text(SOURCE)
    feed(project, 48)
    assert bring(store, project, 48).state == "succeeded"
    (project / "tiny.py").write_text(SOURCE.replace("< until)]", "< until)].assign(z=1.0)"))
    feed(project, 60)
    refused = bring(store, project, 60)
    assert refused.error is not None and "'z'" in refused.error["message"]
    assert "stead data add tiny FILE --time t, then ingest again" in refused.error["hint"]
    rows = datasets.read(store, "tiny")
    datasets.add(store, "tiny", rows.append_column("z", pa.array([0.0] * 48)), time_column="t")
    done = bring(store, project, 60)
    assert done.state == "succeeded", done.error
    assert datasets.read(store, "tiny").sort_by("t")["z"].to_pylist() == [0.0] * 48 + [1.0] * 12


def test_a_bad_batch_is_put_aside_and_trains_nothing(project: Path, store: Store) -> None:
    (project / "tiny.py").write_text(SOURCE)
    (project / "tiny.contract.toml").write_text('[columns.y]\ntype = "number"\nmax = 100\n')
    feed(project, 48)
    assert bring(store, project, 48).state == "succeeded"
    feed(project, 60, h50=500.0)
    failed = bring(store, project, 60)
    assert failed.state == "failed" and failed.error is not None and failed.error["code"] == "batch-quarantined"
    assert "'y' is 500" in failed.error["message"] and "tiny.contract.toml" in failed.error["hint"]
    assert datasets.get_version(store, "tiny").version == 1
    (aside,) = datasets.list_quarantine(store)
    assert (aside.rows, aside.job, aside.problems) == (12, failed.id, [failed.error["message"].partition(": ")[2]])
    assert pq.read_table(store.blobs.path(aside.digest)).num_rows == 12
    (project / "tiny.contract.toml").write_text("[columns.y]\nmax = 1000\n")
    assert bring(store, project, 60).state == "succeeded"
    assert datasets.get_version(store, "tiny").rows == 60
    (project / "tiny.contract.toml").unlink()
    command = [sys.executable, "-m", "stead", "data", "contract", "tiny"]
    environ = {**os.environ, "STEAD_STORE": str(store.root)}
    done = subprocess.run(command, cwd=project, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert '[columns."x"]' in (project / "tiny.contract.toml").read_text()
    again = subprocess.run(command, cwd=project, env=environ, capture_output=True, text=True)
    assert again.returncode == 1 and "--force" in again.stderr


CHANCE = """    import secrets
    from sklearn.ensemble import RandomForestRegressor
    return RandomForestRegressor(3, max_depth=4, random_state=secrets.randbelow(10**6)).fit(X, y)
"""
HOUR = 3_600_000


def trained(store: Store, project: Path, code: str = CODE) -> models.Version:
    (project / "tiny.py").write_text(code)
    ask(store, project)
    done = work(store)
    assert done is not None and done.state == "succeeded", done
    return models.list_versions(store, "tiny")[0]


def made_again(store: Store, ref: str) -> jobs.Job:
    job = pipelines.reproduce(store, ref)
    done = work(store, job.id)
    assert done is not None
    return done


def test_a_version_is_made_again_and_is_the_same(project: Path, any_store: Store) -> None:
    version = trained(any_store, project)
    (project / "tiny.py").write_text("what the project is now does not matter")
    datasets.add(any_store, "tiny", pa.table({"t": pa.array([999 * HOUR], pa.timestamp("ms")), "x": [1], "y": [9.0]}))
    done = made_again(any_store, version.ref)
    assert done.state == "succeeded", done
    (found,) = pipelines.list_reproductions(any_store, "tiny", version=1)
    assert (found.verdict, found.difference, found.job) == ("identical", 0.0, done.id)
    assert found.evidence["same_rows"] and found.evidence["rows"] == 24 and found.evidence["files"] == []
    assert found.evidence["metrics"].keys() >= {"holdout_random", "holdout_time"}
    assert all(then == now for then, now in found.evidence["metrics"].values())
    assert found.said.startswith("identical in 24 golden rows")
    assert "not run again" not in "".join(text for _, _, text in jobs.job_log(any_store, done.id))
    assert [each.version for each in models.list_versions(any_store, "tiny")] == [1]
    assert runs.list_runs(any_store, project="tiny").runs[0].id == version.run_id, "it is no run of its own"


def test_a_version_that_owes_itself_to_chance_is_different(project: Path, store: Store) -> None:
    code = CODE.replace("    return LinearRegression().fit(X, y)\n", CHANCE)
    version = trained(store, project, code)
    assert made_again(store, version.ref).state == "succeeded"
    (found,) = pipelines.list_reproductions(store)
    assert found.verdict == "different" and found.difference is not None and found.difference > 1e-6
    assert found.evidence["furthest"] in found.evidence["apart"] and "model.pkl" in found.evidence["files"]
    assert found.said.startswith("different: ") and "relative, 1e-12 are allowed" in found.said


def test_what_is_missing_is_named_before_anything_runs(project: Path, store: Store) -> None:
    version = trained(store, project)
    logged = models.get_logged_model(store, version.logged_model)
    data = datasets.get_version(store, str(logged.info["trained_on"]["dataset"]), with_parts=True)
    store.blobs.delete(data.part_list[0].digest)
    spec = jobs.get_job(store, str(version.run_id)).payload["spec"]
    store.blobs.delete(spec["files"]["helpers/shift.py"])
    before = len(jobs.list_jobs(store))
    with pytest.raises(NotFound) as refused:
        pipelines.reproduce(store, version.ref)
    assert refused.value.code == "reproduce-missing" and len(jobs.list_jobs(store)) == before
    assert f"parts of {data.ref} are gone: {data.part_list[0].path}" in refused.value.message
    assert "the bytes of its code helpers/shift.py are gone" in refused.value.message


@pytest.mark.parametrize("point", ["pipelines.reproduce:before", "pipelines.reproduce:after"])
def test_killed_while_it_is_made_again_there_is_one_verdict(project: Path, store: Store, point: str) -> None:
    version = trained(store, project)
    job = pipelines.reproduce(store, version.ref)
    environ = {**os.environ, "STEAD_FAILPOINT": point}
    died = subprocess.run([sys.executable, "-c", KILLED, str(store.root)], env=environ, capture_output=True, text=True)
    assert died.returncode == -signal.SIGKILL, died.stderr
    with store.db.write("jobs.beat") as tx:
        tx.execute(sa.update(job_table).where(job_table.c.id == job.id).values(lease_until=1))
    done = work(store)
    assert done is not None and done.state == "succeeded", done
    assert [each.verdict for each in pipelines.list_reproductions(store)] == ["identical"]
