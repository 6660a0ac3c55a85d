"""Secrets for ingest and webhooks: what a run wrote, anywhere, has their names and never their values."""

from __future__ import annotations

from pathlib import Path

import pytest

from stead import environments, jobs, pipelines
from stead.config import load_project, load_settings
from stead.errors import Failed
from stead.processes.handlers import handlers
from stead.runtime import journal, secrets
from stead.store import Store

SHOUTED, FILED = "hunter2-öffne-dich", "a-word-from-a-file"
TOML = """[project]
name = "tiny"
requirements = ["pandas>=2.2", "pyarrow"]

[models.tiny]
code = "tiny.py"
target = "y"

[models.tiny.train.env]
DSN = "env:WAREHOUSE"
WORD = "file:{folder}/word"
"""
CODE = """import os, sys

def ingest(since, until):
    print("asking", os.environ["DSN"], os.environ["OTHER_TOKEN"], flush=True)
    print(os.environ["WORD"], file=sys.stderr, flush=True)
    raise ConnectionError(f"cannot reach postgres://ada:{os.environ['DSN']}@db with {os.environ['WORD']}")

def features(raw): return raw
def train(X, y): return None
"""


def everything(root: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file())


def test_what_an_ingest_prints_and_raises_is_kept_without_its_secrets(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "tiny"
    root.mkdir()
    (tmp_path / "word").write_text(FILED + "\n")
    (root / "stead.toml").write_text(TOML.replace("{folder}", str(tmp_path)))
    (root / "tiny.py").write_text(CODE)
    monkeypatch.setenv("WAREHOUSE", SHOUTED)
    monkeypatch.setenv("OTHER_TOKEN", "passed-by-allow")
    settings = load_settings(environ={"STEAD_ENV_ALLOW": "OTHER_TOKEN"})
    spec = pipelines.pack(load_project(root), "tiny", store.blobs.put)
    job = pipelines.ingest(store, "tiny", spec=spec, since=0, until=3_600_000)
    ended = jobs.work(store, handlers(settings), owner="me", job_id=job.id, echo=print)
    assert ended is not None and ended.state == "failed" and ended.error is not None
    assert "ConnectionError" in ended.error["message"]
    log = "".join(text for _, _, text in jobs.job_log(store, job.id))
    assert "asking ****" in log and "@db with ****" in log
    store.db.close()
    said = capfd.readouterr()
    left = everything(store.root) + said.out.encode() + said.err.encode()
    assert b"env:WAREHOUSE" in left
    for value in (SHOUTED, FILED, "passed-by-allow"):
        assert value.encode() not in left


def test_what_a_run_logs_has_stars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORD", FILED)
    monkeypatch.setenv(secrets.NAMES, "WORD")
    made = journal.Journal(tmp_path / "run")
    made.append(journal.Params(1, {"url": f"x:{FILED}@y"}), journal.Text(2, FILED), journal.Ended(3, "failed", FILED))
    made.close()
    (log,) = journal.logs_of(tmp_path / "run")
    kept = [record for _, record in journal.read(log)]
    assert kept[0] == journal.Params(1, {"url": f"x:{'*' * len(FILED)}@y"}) and len(kept) == 3
    assert FILED.encode() not in everything(tmp_path)


def test_a_secret_that_is_not_there_is_named_and_no_more(tmp_path: Path) -> None:
    for reference in ("env:NOT_THERE", f"file:{tmp_path}/none"):
        with pytest.raises(Failed) as raised:
            environments.variables(extra={"DSN": reference})
        assert raised.value.code == "secret-missing" and reference.partition(":")[2] in raised.value.message
