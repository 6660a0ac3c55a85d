"""`import stead` in scripts: embedded, against a server that comes and goes, in threads, forks and notebooks."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stead import environments, runs
from stead.api import connect
from stead.config import load_settings
from stead.runs import Run
from stead.runtime import journal as j
from stead.sdk import sync_journals
from stead.sdk.sender import Sender
from stead.store import Store

SERVER = Path(__file__).parents[2] / "support" / "api_server.py"
Start = Callable[..., "subprocess.Popen[str]"]
PATIENCE_S = 150.0
"""On a machine that does other things, too; on a quiet one nothing takes five."""


@pytest.fixture
def start(store: Store, tmp_path: Path) -> Iterator[Start]:
    """Starts a script that uses stead on the test's store."""
    running: list[subprocess.Popen[str]] = []

    def begin(script: str, *arguments: str, **environ: str) -> subprocess.Popen[str]:
        file = tmp_path / f"script{len(running)}.py"
        file.write_text(script)
        process = subprocess.Popen(
            [sys.executable, str(file), *arguments],
            env={**os.environ, "STEAD_STORE": str(store.root), "STEAD_USER": "ada", **environ},
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def finished(process: subprocess.Popen[str]) -> tuple[str, str]:
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    return out, err


def only_run(store: Store) -> Run:
    (run,) = runs.list_runs(store).runs
    return runs.get_run(store, run.id)


def until(condition: Callable[[], Any], seconds: float = PATIENCE_S) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return found


def test_a_script_without_any_ado(store: Store, start: Start) -> None:
    out, err = finished(
        start("""
import stead, pathlib
stead.init(project="bikes", name="first", config={"lr": 0.1}, tags={"team": "a"})
for n in range(10):
    stead.log({"loss": 1 / (n + 1)})
print("training is over")
pathlib.Path("plot.txt").write_text("plot")
stead.log_artifact("plot.txt", "plots/plot.txt")
""")
    )
    run = only_run(store)
    assert (run.name, run.status, run.experiment, run.user) == ("first", "finished", "bikes", "ada")
    assert (run.params, run.tags) == ({"lr": "0.1"}, {"team": "a"})
    assert run.metrics["loss"].n == 10
    assert run.metrics["loss"].last == 0.1
    assert run.source["command"][0].startswith("python")
    assert runs.read_artifact(store, run.id, "plots/plot.txt") == b"plot"
    assert b"msgspec==" in runs.read_artifact(store, run.id, "stead/packages.txt")
    assert "training is over\n" in runs.console(store, run.id).text
    assert list((store.root / "journals").iterdir()) == []
    assert out == "training is over\n"
    assert err == ""


@pytest.mark.parametrize(
    ("end", "status", "error"),
    [
        ("raise ValueError('no data')", "failed", "ValueError: no data"),
        ("raise KeyboardInterrupt", "killed", "KeyboardInterrupt"),
        ("stead.finish('failed', 'gave up')", "failed", "gave up"),
    ],
)
def test_a_run_ends_as_its_script(store: Store, start: Start, end: str, status: str, error: str) -> None:
    start(f"import stead\nstead.init(project='p', watch=False)\nstead.log({{'a': 1}})\n{end}").communicate(
        timeout=PATIENCE_S
    )
    run = only_run(store)
    assert (run.status, run.error, run.metrics["a"].n) == (status, error, 1)


def test_in_a_notebook(store: Store, start: Start) -> None:
    finished(
        start("""
import sys
sys.ps1 = "In: "
import stead
one = stead.init(project="p", name="one", watch=False)
stead.log({"a": 1})
two = stead.init(project="p", name="two", watch=False)
assert one.status == "finished"
stead.log({"a": 2})
try:
    stead.log({"a": "x"})
except Exception as error:
    sys.last_value = sys.last_exc = error
with stead.init(project="p", name="three", watch=False) as run:
    run.log({"a": 3})
stead.finish()
stead.finish()
try:
    stead.log({"a": 4})
except Exception as error:
    assert error.code == "run-missing", error
four = stead.init(project="p", name="four", watch=False)
""")
    )
    found = runs.list_runs(store, order="started asc").runs
    assert [(run.name, run.status) for run in found] == [(n, "finished") for n in ("one", "two", "three", "four")]
    assert [run.metrics["a"].last for run in found[:3]] == [1, 2, 3]


def test_threads_and_forks_log_to_one_run(store: Store, start: Start) -> None:
    finished(
        start("""
import multiprocessing, threading, stead
run = stead.init(project="p", watch=False)

def work(name, n):
    for i in range(n):
        stead.log({name: i}, step=i)

def child():
    work("child", 200)
    stead.finish()  # its parent's affair

threads = [threading.Thread(target=work, args=(f"t{n}", 500)) for n in range(3)]
process = multiprocessing.get_context("fork").Process(target=child)
process.start()
for t in threads: t.start()
for t in threads: t.join()
process.join()
assert process.exitcode == 0
""")
    )
    run = only_run(store)
    assert run.status == "finished"
    assert {key: summary.n for key, summary in run.metrics.items()} == {"child": 200, "t0": 500, "t1": 500, "t2": 500}
    (series,) = runs.series(store, [run.id], "t1")
    assert series.steps == list(range(500))


def test_a_hundred_thousand_points(store: Store, start: Start) -> None:
    finished(
        start("""
import stead
with stead.init(project="p", watch=False) as run:
    for n in range(100):
        run.log({"a": [n + i / 1000 for i in range(1000)]})
""")
    )
    run = only_run(store)
    assert run.metrics["a"].n == 100_000
    (series,) = runs.series(store, [run.id], "a")
    assert series.n == 100_000
    assert series.thinned
    assert len(series.steps) <= 3_002


TRAIN = """
import sys, stead
run = stead.init(project="p")
print(run.id, flush=True)
n = 0
while True:
    run.log({"a": n}, step=n)
    n += 1
    sys.stdout.write(f"{n}\\n")  # so many came back
    sys.stdout.flush()
"""


@pytest.mark.parametrize("count", [1, 50, 3000])
def test_kill_9_loses_nothing_that_log_returned_from(store: Store, start: Start, count: int) -> None:
    process = start(TRAIN)
    assert process.stdout is not None
    run_id = process.stdout.readline().strip()
    lines = [process.stdout.readline() for _ in range(count)]
    process.send_signal(signal.SIGKILL)
    lines += process.stdout.readlines()
    returned = len([line for line in lines if line.endswith("\n")])
    process.wait()
    caller = connect(load_settings(environ={"STEAD_STORE": str(store.root)}))
    for _ in range(2):
        sync_journals(caller, store.root)
    caller.close()
    run = runs.get_run(store, run_id)
    assert (run.status, run.error) == ("killed", "its process ended without a word")
    (series,) = runs.series(store, [run_id], "a", points=0)
    assert len(series.steps) in (returned, returned + 1)
    assert series.steps == list(range(len(series.steps)))
    assert not (store.root / "journals" / run_id).exists()


def test_the_next_run_delivers_what_a_dead_one_left(store: Store, start: Start) -> None:
    process = start(TRAIN)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.readline()
    process.kill()
    process.wait()
    start("import stead, time\nstead.init(project='p', watch=False)\ntime.sleep(60)")
    until(lambda: [run for run in runs.list_runs(store).runs if run.status == "killed"])
    assert len(runs.list_runs(store).runs) == 2


def test_somebody_else_delivers_the_closed_journal_first(store: Store) -> None:
    caller = connect(load_settings(environ={"STEAD_STORE": str(store.root)}))
    journal = j.Journal(store.root / "journals" / ("b" * 32))
    journal.append(j.Started(1, "p", "n"), j.Ended(2, "finished"))
    journal.close()
    assert sync_journals(caller, store.root) == 2
    sender = Sender()
    sender.add(journal.folder, lambda: caller)
    assert sender.settle(journal.folder, 10)
    assert only_run(store).status == "finished"
    caller.close()


def test_leftovers_of_the_living_are_left(store: Store, start: Start) -> None:
    caller = connect(load_settings(environ={"STEAD_STORE": str(store.root)}))
    journal = j.Journal(store.root / "journals" / ("a" * 32))
    assert sync_journals(caller, store.root) == 0
    journal.append(j.Started(1, "p", "n"))
    assert sync_journals(caller, store.root) == 0
    assert sync_journals(caller, store.root, living=True) == 1
    assert only_run(store).status == "running"
    journal.append(j.File(1, "x", "f" * 64, 1))
    journal.close()
    told: list[str] = []
    assert sync_journals(caller, store.root, progress=told.append) == 0
    assert "its journal stays" in told[0]
    caller.close()


@pytest.fixture
def server(store: Store, tmp_path: Path) -> Iterator[Callable[[], tuple[str, subprocess.Popen[bytes]]]]:
    """Starts the API on one and the same port, again and again."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    running: list[subprocess.Popen[bytes]] = []

    def begin() -> tuple[str, subprocess.Popen[bytes]]:
        environ = {**os.environ, "STEAD_STORE": str(store.root)}
        process = subprocess.Popen([sys.executable, str(SERVER), str(port)], env=environ)
        running.append(process)

        def answers() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        until(answers)
        return f"http://127.0.0.1:{port}", process

    yield begin
    for process in running:
        process.kill()
        process.wait()


def test_a_server_that_goes_and_comes_back(
    store: Store, start: Start, server: Callable[[], tuple[str, subprocess.Popen[bytes]]], tmp_path: Path
) -> None:
    url, process = server()
    script = start(
        """
import stead, sys
run = stead.init(project="p", name="remote", watch=False)
for n, line in enumerate(sys.stdin):
    for i in range(100):
        run.log({"a": 100 * n + i}, step=100 * n + i)
    run.log_artifact(line.encode(), f"lines/{n}.txt")
    print('logged', flush=True)
run.finish()
""",
        STEAD_URL=url,
        STEAD_STORE=str(tmp_path / "client"),
    )
    assert script.stdin is not None
    assert script.stdout is not None

    def say(text: str) -> None:
        assert script.stdin is not None
        assert script.stdout is not None
        script.stdin.write(text + "\n")
        script.stdin.flush()
        assert script.stdout.readline() == "logged\n"

    say("one")
    until(lambda: [run for run in runs.list_runs(store).runs if run.metrics])
    process.send_signal(signal.SIGSTOP)
    say("two")  # what waits for an answer gets none
    process.kill()
    process.wait()
    say("three")
    server()
    script.stdin.close()
    script.stdin = None
    finished(script)
    run = only_run(store)
    assert (run.name, run.status) == ("remote", "finished")
    assert runs.series(store, [run.id], "a", points=0)[0].steps == list(range(300))
    assert runs.read_artifact(store, run.id, "lines/1.txt") == b"two\n"
    assert list((tmp_path / "client" / "journals").iterdir()) == []


def test_no_server_at_all(store: Store, start: Start, tmp_path: Path) -> None:
    client = tmp_path / "client"
    script = """
import stead
run = stead.init(project="p", watch=False)
run.log({"a": 1})
run.finish(timeout_s=0.5)
"""
    _, err = finished(start(script, STEAD_URL="http://127.0.0.1:9", STEAD_STORE=str(client)))
    assert "stead sync" in err
    caller = connect(load_settings(environ={"STEAD_STORE": str(store.root)}))
    assert sync_journals(caller, client) == 3
    caller.close()
    assert only_run(store).status == "finished"


def test_import_stead_loads_nothing_heavy() -> None:
    code = "import json, sys, stead; stead.init; stead.log; stead.finish; print(json.dumps(sorted(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    loaded = set(json.loads(out))
    tops = {name.partition(".")[0] for name in loaded} - set(sys.stdlib_module_names)
    third_party = {name for name in tops if not name.startswith("_")} - {"stead", "msgspec", "sitecustomize"}
    assert third_party <= {"typing_extensions"}
    assert {name for name in loaded if name.startswith("stead")} == {
        "stead",
        "stead.config",
        "stead.config.facts",
        "stead.config.projectfile",
        "stead.config.settings",
        "stead.config.types",
        "stead.config.units",
        "stead.errors",
        "stead.runtime",
        "stead.runtime.capture",
        "stead.runtime.clock",
        "stead.runtime.failpoints",
        "stead.runtime.ids",
        "stead.runtime.journal",
        "stead.runtime.recordlog",
        "stead.runtime.sdk",
        "stead.sdk",
        "stead.sdk.connection",
        "stead.sdk.sender",
        "stead.sdk.tracking",
    }
    assert "asyncio" not in loaded


CODE = """
import stead
run = stead.init(project="code")
import helper
stead.log({"x": helper.X})
"""


def artifacts(store: Store) -> dict[str, bytes]:
    (run,) = runs.list_runs(store, project="code").runs
    return {each.path: runs.read_artifact(store, run.id, each.path) for each in runs.list_artifacts(store, run.id)}


def test_without_git_the_project_s_own_files_are_kept(start: Start, store: Store, tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("import os\nX = 1\nKEY = 'hunter2222'\n")
    (tmp_path / "unused.py").write_text("")
    finished(start(CODE, DB_PASSWORD="hunter2222"))
    kept = artifacts(store)
    assert {name for name in kept if name.startswith("stead/code/")} == {
        "stead/code/helper.py",
        "stead/code/script0.py",
    }
    assert kept["stead/code/script0.py"].decode() == CODE
    assert kept["stead/code/helper.py"] == b"import os\nX = 1\nKEY = '**********'\n"
    (run,) = runs.list_runs(store, project="code").runs
    assert run.source["facts"]["cpu"] and run.source["facts"]["interpreter"]


def test_with_git_only_what_it_does_not_know_is_kept(start: Start, store: Store, tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True, capture_output=True)

    (tmp_path / "helper.py").write_text("X = 1\n")
    git("init", "-b", "main")
    git("add", "helper.py")
    git("-c", "user.email=a@example.org", "-c", "user.name=a", "commit", "-m", "one")
    (tmp_path / "helper.py").write_text("X = 2\n")
    finished(start(CODE))
    kept = artifacts(store)
    assert {name for name in kept if name.startswith("stead/code/")} == {"stead/code/script0.py"}
    assert b"-X = 1\n+X = 2\n" in kept["stead/git.diff"]


TELLING = """
import os, stead, sys, time
run = stead.init(project="telling")
print("it is", os.environ["API_TOKEN"])
sys.stdout.write("and " + os.environ["API_TOKEN"][:5])
time.sleep(2.5)
print(os.environ["API_TOKEN"][5:], "again")
stead.log({"loss": 0.5})
run.log_params({"url": f"https://ada:{os.environ['API_TOKEN']}@db", "shuffle": "false", "pin": "20261130"})
"""


def test_the_console_and_parameters_have_stars_for_secrets(start: Start, store: Store) -> None:
    finished(start(TELLING, API_TOKEN="hunter2222", TOKENIZERS_PARALLELISM="false", DB_PASSWORD="20261130"))
    (run,) = runs.list_runs(store, project="telling").runs
    told = runs.console(store, run.id).text
    assert told == "it is **********\nand ********** again\n"
    kept = runs.get_run(store, run.id).params
    assert (kept["url"], kept["shuffle"], kept["pin"]) == ("https://ada:**********@db", "false", "********")


def test_the_api_is_there_with_stead_alone() -> None:
    code = "import stead; print(stead.api.connect.__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "connect\n", done.stderr


NOTEBOOK = """
import sys, time
from pathlib import Path
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_cell("a = 1", store_history=True)
shell.run_cell("from pathlib import Path; from stead.runtime import sdk; from stead.runtime.journal import Journal", store_history=True)
shell.run_cell(f"run = sdk.Run(Journal(Path({sys.argv[1]!r}) / 'r1'))", store_history=True)
shell.run_cell("b = a + 1", store_history=True)
end = time.monotonic() + 150
while not any("b = a + 1" in p.read_text() for p in Path(sys.argv[1], "r1").glob("files/" + "?" * 64)):
    assert time.monotonic() < end, "it is kept while the session lives"
    time.sleep(0.05)
shell.run_cell("password = 'hunter2222'", store_history=True)
shell.run_cell("run.finish()", store_history=True)
"""


def test_a_notebook_s_cells_are_kept_in_the_order_that_they_ran(store: Store, tmp_path: Path) -> None:
    python = environments.ensure(store, environments.lock(store, ["ipython"]).digest)
    environ = {**os.environ, "PYTHONPATH": str(environments.runtime_path(store)), "MY_SECRET": "hunter2222"}
    done = subprocess.run(
        [python, "-c", NOTEBOOK, str(tmp_path)], env=environ, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    records = [record for log in (tmp_path / "r1").glob("*.log") for _, record in j.read(log)]
    last = [record for record in records if isinstance(record, j.File) and record.path == "stead/cells.py"][-1]
    text = (tmp_path / "r1" / "files" / last.file).read_text()
    places = [
        text.index(line) for line in ("a = 1", "import sdk", "run = sdk.Run", "b = a + 1", "password", "run.finish()")
    ]
    assert places == sorted(places) and text.startswith("# In[1]\na = 1\n\n# In[2]\n")
    assert "hunter2222" not in text and "password = '**********'" in text
