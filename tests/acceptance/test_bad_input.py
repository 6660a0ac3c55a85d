"""Nonsense and faults at the door: each gives one clear error with a hint and an exit code, and changes nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.acceptance.life import Life
from tests.conftest import free_ports
from tests.support.commands import stead

TOML = """[project]
name = "p"
requirements = ["pandas>=2.2", "pyarrow", "scikit-learn>=1.5"]

[models.p]
code = "p.py"
target = "demand"
time = "time"
"""


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `stead init` makes of an empty folder."""
    folder = tmp_path_factory.mktemp("template")
    Life(folder, (0, 0)).run("init", "--name", "p")
    return folder


@pytest.fixture
def life(template: Path, tmp_path: Path) -> Iterator[Life]:
    """An empty project of the default template."""
    yield from copied(template, tmp_path / "p")


@pytest.fixture(scope="module")
def refusing(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    """A project for commands that change nothing."""
    yield from copied(template, tmp_path_factory.mktemp("refusing") / "p")


def copied(template: Path, folder: Path) -> Iterator[Life]:
    shutil.copytree(template, folder)
    first, second = free_ports(2)
    made = Life(folder, (first, second))
    yield made
    if (folder / ".stead").exists():
        stead(["down"], cwd=folder, environ=made.environ)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[project\nname = "p"', "stead.toml: Expected ']'"),
        (TOML.replace("target =", "targett ="), "line 7: models.p.targett is not known"),
        (TOML.replace('time = "time"', "time = 5"), "line 8: models.p.time must be a string"),
        (TOML + 'loss = "wap"\n', "line 9: models.p.loss is 'wap'"),
        (TOML.replace("p.py", "../p.py"), "line 6: models.p.code names '../p.py', which lies outside the project"),
        (TOML.replace("p.py", "q.py"), "line 6: models.p.code names 'q.py', and there is no such file"),
        (TOML.replace('target = "demand"\n', ""), "line 5: models.p needs 'target'"),
        (TOML + "[models.p.serve.env]\nTZ = 5\n", "line 10: models.p.serve.env.TZ must be a string"),
        (TOML + "label_delay = 24\n", "hint: write it as 30s, 15m, 24h"),
        (TOML + "[modles.p]\n", "line 9: modles is not known"),
        (TOML + 'label_delay = "soon"\n', "line 9: models.p.label_delay 'soon' is no duration"),
        (TOML + "[settings]\nport = 'x'\n", "line 10: settings.port must be int"),
        (TOML + "[settings]\nport = true\n", "line 10: settings.port must be int"),
        (TOML + "[settings]\nport = 99999\n", "line 10: settings.port must be 1 to 65535"),
        (TOML + "[settings]\nworkers = 0\n", "line 10: settings.workers must be 1 to 256"),
        (TOML.replace("name =", "python = 'banana'\nname ="), "line 2: project.python is 'banana'"),
        (TOML.replace("p.py", "stead.toml"), "line 6: models.p.code names 'stead.toml', which is no Python file"),
        (TOML.replace('"demand"', '""'), "line 7: models.p.target is ''"),
        (TOML.replace('"demand"', '"time"'), "line 7: models.p.target is 'time'"),
        (TOML + 'dataset = "../x"\n', "line 9: models.p.dataset '../x' is no name"),
        (TOML + '[models.p.serve.env]\n"A=B" = "x"\n', "models.p.serve.env.A=B is no environment variable"),
        (TOML + '[models.p.serve.env]\nA = "\\u0000"\n', "line 10: models.p.serve.env.A is no environment variable"),
        (TOML.replace("p.py", "p\udcff.py"), "no text in UTF-8"),
        (TOML.replace("[models.p]", '[models."../p"]'), "'../p' is no name"),
    ],
)
def test_a_broken_stead_toml_is_told_with_file_line_key_and_hint(life: Life, text: str, said: str) -> None:
    (life.folder / "stead.toml").write_bytes(text.encode(errors="surrogateescape"))
    told = life.run("train", "p", code=2)
    assert said in told and "hint: " in told
    assert "Traceback" not in told
    assert not (life.folder / ".stead").exists()


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (["trian", "p"], 2, "did you mean 'train'"),
        (["train", "q"], 3, "no model 'q'"),
        (["deploy", "p"], 3, "hint: stead train p\n"),
        (["level", "p", "train"], 3, "hint: stead train p\n"),
        (["deploy", "q"], 3, "no model 'q'"),
        (["deploy", "p@x"], 2, "no version number"),
        (["rollback", "p"], 3, "no model"),
        (["models", "show", "q@1"], 3, "no model"),
        (["data", "show", "nothing"], 3, "nothing"),
        (["runs", "show", "f" * 32], 3, "run"),
        (["runs", "list", "--where", "metrics. ="], 2, ""),
        (["compare", "p@1", "p"], 2, "names no version"),
        (["undo", "77"], 3, "no decision 77"),
        (["label", "not-an-id", "5"], 2, "not-an-id"),
        (["label", "0" * 31, "5"], 2, ""),
        (["train", "p", "--since", "yesterday"], 2, "is not a time"),
        (["train", "p", "--since", "2020-01-02", "--until", "2020-01-01"], 2, "is not before"),
        (["init", "--name", "p"], 1, "exists already"),
        (["init", "x", "--template", "defualt"], 3, "did you mean 'default'"),
        (["data", "add", "d", "missing.csv"], 3, "missing.csv"),
        (["predict", "p", "--row", "{"], 2, "not JSON"),
        (["replay", "missing.csv", "--model", "p"], 3, ""),
        (["replay", "stead.toml", "--model", "p"], 3, "no model 'p'"),
        (["jobs", "show", "zzz"], 3, "job"),
        (["jobs", "list", "--limit", "-1"], 2, "limit must be"),
        (["decisions", "show", "9" * 30], 2, "64 bits"),
        (["models", "show", "\udcff"], 2, "cannot be stored"),
        (["predictions", "loss", "q"], 3, "no model 'q'"),
        (["label", "--file", "missing.csv"], 3, "no file missing.csv"),
        (["label", "01a20faac4227f0c82e4d450af24882f", "nan"], 2, "is no value"),
        (["label", "--file", sys.executable], 2, "no text"),
        (["label", "01a20faac4227f0c82e4d450af24882f", ""], 2, "it is empty"),
        (["predict", "p", "--row", '{"a": 1, "a": 2}'], 2, "'a' is there twice"),
        (["tokens", "revoke", "nobody"], 3, "nobody"),
        (["up", "--host", "0.0.0.0"], 2, "no token"),
        (["up", "--port", "99999"], 2, "--port must be 1 to 65535"),
        (["up", "--workers", "0"], 2, "--workers must be 1 to 256"),
        (["up", "--port", "9", "--gateway-port", "9"], 2, "port 9 is meant for"),
    ],
)
def test_a_command_that_makes_no_sense(refusing: Life, command: list[str], code: int, said: str) -> None:
    told = refusing.run(*command, code=code)
    assert told.startswith("error: ") and said in told
    assert "Traceback" not in told and "Error: " not in told.split("\n")[0]


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("import numpy", "import no_such_library\nimport numpy", "hint: add its library to requirements in stead.toml"),
        ("def train(X", "def train X", "line 31: unmatched ')'\n"),
    ],
)
def test_code_that_cannot_run(life: Life, before: str, after: str, said: str) -> None:
    code = life.folder / "p.py"
    code.write_text(code.read_text().replace(before, after))
    assert said in stead(["train", "p"], cwd=life.folder, environ=life.environ).stderr


def test_a_requirement_that_nobody_has(life: Life) -> None:
    file = life.folder / "stead.toml"
    file.write_text(file.read_text().replace("pandas>=2.2", "pandsa-no-such>=2.2"))
    assert "hint: is 'pandsa-no-such' spelled as its index has it?" in life.run("train", "p", code=2)


def test_python_tells_the_hint_too(life: Life) -> None:
    code = "import stead\nstead.dataset('nothing')"
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=life.folder, env=life.environ, capture_output=True, text=True
    )
    assert told.stderr.endswith("there is no dataset 'nothing'\nhint: stead data add nothing FILE\n")
    code = "import stead\nstead.dataste"
    told = subprocess.run(
        [sys.executable, "-c", code], cwd=life.folder, env=life.environ, capture_output=True, text=True
    )
    assert "Did you mean: 'dataset'?" in told.stderr


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("stead dep", ["deploy", "deployments"]),
        ("stead deploy ", ["p"]),
        ("stead level p tr", ["train"]),
        ("stead data show tr", ["trips"]),
        ("stead runs list --pro", ["--project"]),
    ],
)
def test_the_shell_completes_what_there_is(life: Life, words: str, offered: list[str]) -> None:
    (life.folder / "trips.csv").write_text("time,demand\n2026-01-01,5\n")
    life.run("data", "add", "trips", "trips.csv")
    asked = {"_STEAD_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    command = [str(Path(sys.executable).parent / "stead")]
    told = subprocess.run(command, cwd=life.folder, env=life.environ | asked, capture_output=True, text=True)
    assert [line.partition(",")[2] for line in told.stdout.splitlines()] == offered, told.stderr


def test_an_empty_list_says_why(life: Life) -> None:
    def told(*arguments: str) -> str:
        return stead(["runs", "list", *arguments], cwd=life.folder, environ=life.environ).stderr

    assert "no runs yet" in told()
    assert "no runs like that" in told("--project", "p")


def test_errors_have_one_shape_in_json(refusing: Life) -> None:
    done = stead(["models", "show", "q", "--json"], cwd=refusing.folder, environ=refusing.environ)
    error = json.loads(done.stdout)["error"]
    assert (error["code"], error["kind"]) == ("model-unknown", "NotFound")
    assert error["hint"] and done.returncode == 3


def test_a_label_of_an_unknown_prediction_is_kept(life: Life) -> None:
    told = life.run("label", "01a20faac4227f0c82e4d450af24882f", "5")
    assert "1 label kept" in told and "not known yet" in told


@pytest.mark.parametrize("when", ["2030-01-01", "2030-01-01T13:00:00", "2030-01-01T13:00:00+01:00", "1893456000000"])
def test_a_csv_of_labels_tells_times_as_everywhere_else(life: Life, when: str) -> None:
    rows = f"prediction_id,value,event_time\n01a20faac4227f0c82e4d450af24882f,5,{when}\n"
    (life.folder / "labels.csv").write_text(rows)
    assert "1 label kept" in life.run("label", "--file", "labels.csv")


def test_a_time_in_a_csv_that_is_none_names_its_row(life: Life) -> None:
    good = "01a20faac4227f0c82e4d450af24882f,5,2030-01-01\n"
    for bad in ("2030-13-01", "4000-01-01"):
        (life.folder / "labels.csv").write_text(
            "prediction_id,value,event_time\n" + good + good.replace("2030-01-01", bad)
        )
        told = life.run("label", "--file", "labels.csv", code=2)
        assert "label 2: " in told and "datetime" not in told and "hint: " in told


def test_a_file_of_labels_with_a_bad_one_is_refused_whole(life: Life) -> None:
    """Not even the parts that a long one is sent in."""
    good = json.dumps({"prediction_id": "01a20faac4227f0c82e4d450af24882f", "value": 1}) + "\n"
    for bad, said in (('"source": 3', "3 is no source"), ('"event_time": true', "no time"), ('"vale": 1', "'vale'")):
        (life.folder / "labels.jsonl").write_text(good * 6000 + good.replace("}", f", {bad}}}"))
        told = life.run("label", "--file", "labels.jsonl", code=2)
        assert "label 6001" in told and said in told and "hint: " in told
    assert not (life.folder / ".stead").exists()


def test_what_cannot_be_undone_says_where_to_look(life: Life) -> None:
    life.run("push", "p")
    told = life.run("undo", "1", code=1)
    assert "has no undo" in told and "hint: stead decisions" in told


def test_a_port_in_use_and_a_second_up(life: Life) -> None:
    with socket.create_server(("127.0.0.1", life.ports[0])):
        told = life.run("up", "--background", code=2)
        assert f"port {life.ports[0]}" in told and "--port" in told
    with socket.create_server(("127.0.0.1", life.ports[1])):
        told = life.run("up", "--background", code=2)
        assert f"port {life.ports[1]}" in told and "--gateway-port" in told
    life.run("up", "--background")
    told = life.run("up", code=1)
    assert "is up" in told and "stead down" in told
    life.run("up", "--background")
    assert life.json("status")["up"] is True


def test_ctrl_c_ends_everything(life: Life) -> None:
    up = life.begin("up")
    deadline = time.monotonic() + 60
    while not life.json("status")["up"]:
        assert time.monotonic() < deadline and up.poll() is None
    pids = life.pids()
    up.send_signal(signal.SIGINT)
    _, said = up.communicate(timeout=30)
    assert up.returncode == 0 and "stead is down" in said and "Traceback" not in said
    for pid in pids.values():
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_ctrl_c_in_a_training_cancels_it(life: Life) -> None:
    code = life.folder / "p.py"
    code.write_text(
        code.read_text().replace("    return HistGradient", "    import time; time.sleep(600)\n    return HistGradient")
    )
    train = life.begin("train", "p", "--since", "2026-01-01", "--until", "2026-02-01")
    deadline = time.monotonic() + 120
    while not any((j["progress"] or {}).get("doing") == "evaluate" for j in life.json("jobs", "list")):
        assert time.monotonic() < deadline and train.poll() is None, train.communicate()
    train.send_signal(signal.SIGINT)
    _, said = train.communicate(timeout=30)
    assert train.returncode == 130 and "Traceback" not in said
    assert life.json("jobs", "list")[0]["state"] == "cancelled"
    assert life.json("models", "list") == []


def test_no_network_is_one_clear_error(life: Life) -> None:
    toml = life.folder / "stead.toml"
    toml.write_text(toml.read_text().replace('"pyarrow"', '"pyarrow", "six>=1.0"'))
    away = {
        "UV_INDEX_URL": "http://127.0.0.1:9/simple",
        "UV_DEFAULT_INDEX": "http://127.0.0.1:9/simple",
        "UV_CACHE_DIR": str(life.folder / "c"),
        "UV_HTTP_TIMEOUT": "2",
    }
    offline = Life(life.folder, life.ports, extra={**away, "UV_HTTP_RETRIES": "0"})
    told = offline.run("train", "p", code=5)
    assert told.count("error: ") == 1 and "hint: " in told and "Traceback" not in told
    assert life.json("models", "list") == []


def test_a_disk_that_is_full_for_a_moment(life: Life, tmp_path: Path) -> None:
    """A file size limit stands for it: the command says so, and the same command works when there is room."""
    life.run("sync")
    big = tmp_path / "big.csv"
    big.write_text("a,b\n" + "\n".join(f"{i},{i * 7919 % 10007}" for i in range(400_000)))
    script = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000)); from stead.cli import main; sys.argv = ['stead', 'data', 'add', 'd', sys.argv[1]]; main()"
    done = subprocess.run(
        [sys.executable, "-c", script, str(big)], cwd=life.folder, env=life.environ, capture_output=True, text=True
    )
    assert done.returncode == 1 and "error: " in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert life.json("data", "list") == []
    life.run("data", "add", "d", str(big))
    assert life.json("data", "list")[0]["rows"] == 400_000


def test_bad_rows_at_the_gateway(life: Life) -> None:
    life.run("train", "p", "--since", "2026-01-01", "--until", "2026-02-01")
    life.run("deploy", "p")
    url = f"http://127.0.0.1:{life.ports[1]}/predict/p"
    good = {"time": "2026-03-01T12:00:00", "temperature": 5.0}
    assert httpx.post(url, json={"row": good}).status_code == 200
    for row, said in (
        ({"time": "2026-03-01T12:00:00"}, "temperature"),
        ({**good, "temperature": "warm"}, "temperature"),
        ({**good, "temperature": None}, "temperature"),
        ({**good, "time": "noon"}, "time"),
        ([1, 2], ""),
    ):
        answer = httpx.post(url, json={"row": row})
        assert answer.status_code == 400 and said in answer.text, (row, answer.text)
    nan = httpx.post(url, content=b'{"row": {"time": "2026-03-01T12:00:00", "temperature": NaN}}')
    assert nan.status_code == 400
    assert httpx.post(url, content=b"{").status_code == 400
    assert httpx.post(url + "q", json={"row": good}).status_code == 404
    assert httpx.post(url, json={"row": good}, headers={"host": "evil.example"}).status_code == 403
    for port in life.ports:  # pages and API have the same bounds as the gateway
        with socket.create_connection(("127.0.0.1", port)) as connection:
            long = b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nx-long: " + bytes([120]) * (1 << 20) + b"\r\n\r\n"
            with suppress(OSError):  # it hangs up before it has read all of it
                connection.sendall(long)
            with suppress(ConnectionResetError):
                assert connection.recv(100).startswith(b"HTTP/1.1 431 ")
    assert httpx.post(url, json={"row": {**good, "extra": 1}}).status_code == 200
    counts = life.json("predictions", "counts", "p")
    assert counts["failed"] == 0 or counts["failed"] >= 5
