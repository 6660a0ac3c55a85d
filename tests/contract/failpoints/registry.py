"""kill -9 in the small changes: tokens, aliases, tags, descriptions, verdicts, locks, signs of life, files by rename.

Each is one transaction or one rename: before it nothing is there, after it everything is; the same call again is the user's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dying import Scenario, dies

from stead import deployments, environments, gates, jobs, ledger, models, serving
from stead.api.tokens import list_tokens
from stead.demo.data import SOURCES, cache
from stead.processes import lifeline
from stead.store import Store
from tests.conftest import new_store

BEGIN = """
import sys; from pathlib import Path; from tests.conftest import new_store
from stead import deployments, environments, gates, jobs, models, serving
from stead.gates import Verdict
store = new_store(Path(sys.argv[1]))
"""


def one_change(
    act: str, there: Callable[[Store], bool], *, prepare: Callable[[Store], None] | None = None, entries: int = 0
) -> Scenario:
    """`act` dies: it is there if the point is `after`, with its ledger entry; done again, it is there once."""

    def scenario(root: Path, point: str) -> None:
        store = new_store(root)
        if prepare:
            prepare(store)
        before = len(ledger.list_entries(store, limit=1000))
        dies(point, BEGIN + act, str(root))
        happened = point.partition("#")[0].endswith(":after")
        assert there(store) == happened
        assert len(ledger.list_entries(store, limit=1000)) - before == (entries if happened else 0)
        if not happened:
            exec(BEGIN.rpartition("store =")[0] + act, {"sys": None, "store": store})
        assert there(store)
        assert len(ledger.list_entries(store, limit=1000)) - before == entries
        store.close()

    return scenario


def _version(store: Store) -> None:
    """A model with a version, of files that nothing loads."""
    text = b"six==1.0 --hash=sha256:" + b"0" * 64 + b"\n"
    lock = environments.add(store, lock=store.blobs.put(text), python="3.11", platform="linux-x86_64")
    folder = store.root / "m"
    folder.mkdir()
    (folder / "MLmodel").write_text('{"flavors": {"python_function": {"loader_module": "x"}}}')
    logged = models.log_model(store, folder, name="m", environment=lock.digest)
    models.register(store, "m", logged.id)


def _demo_data(root: Path, point: str) -> None:
    """The file is whole or absent, and no half of one is left under its name."""
    if not (cache() / SOURCES["air"].wheel).is_file():
        from stead.demo.data import fetch

        fetch("air", root / "first.csv")
    script = "import sys; from pathlib import Path; from stead.demo.data import fetch; fetch('air', Path(sys.argv[1]))"
    dies(point, script, str(root / "air.csv"))
    assert (root / "air.csv").exists() == point.endswith(":after")


def _state(root: Path, point: str) -> None:
    script = "import sys; from pathlib import Path; from stead.processes import lifeline; lifeline.write_state(Path(sys.argv[1]), {'pid': 2})"
    lifeline.write_state(root, {"pid": 1})
    dies(point, script, str(root))
    import json

    assert json.loads((root / "run" / "up.json").read_text())["pid"] == (2 if point.endswith(":after") else 1)


def _runtime(root: Path, point: str) -> None:
    store = new_store(root)
    dies(point, BEGIN + "environments.runtime_path(store)", str(root))
    made = environments.runtime_path(store)
    assert (made / "stead" / "runtime" / "step.py").is_file()
    store.close()


_GATEWAY = (
    "serving.operations.write_gateway(store, serving.Gateway('g', 'http://127.0.0.1:1', 'h', 1, 0, {}, {}, {}, 1))"
)
_LOCK = """
text = b"six==1.0 --hash=sha256:" + b"0" * 64 + b"\\n"
environments.add(store, lock=store.blobs.put(text), python="3.11", platform="p")
"""
_GIVE_UP = """
from stead.jobs import operations as queue
job = queue.claim(store, "me", ["x"])
queue.give_up(store, job, {"code": "c", "message": "m"}, retry=False)
"""


_SESSION = """
from stead.jobs import operations as queue
jobs.begin_session(store, queue.claim(store, "me", ["x"]) or jobs.get_job(store, jobs.list_jobs(store)[0].id), runtime="r")
"""
_TELL = """
from sqlalchemy import select
from stead.jobs import operations as queue
job = queue.claim(store, "me", ["x"]) or jobs.get_job(store, jobs.list_jobs(store)[0].id)
session = jobs.Session("s", job.id, job.fence, "r")
jobs.tell(store, session, jobs.Message(1, "hello"))
"""


def _count(store: Store, table: str) -> int:
    with store.db.read() as tx:
        return int(tx.exec_driver_sql(f"select count(*) from {table}").scalar_one())


def _asked(store: Store) -> None:
    """A job, and a session of its first claim."""
    from stead.jobs.tables import remote_sessions

    job = jobs.enqueue(store, "x", {})
    values = {"id": "s", "job_id": job.id, "fence": 1, "digest": "d", "runtime": "r", "asked": 0, "created_at": 1}
    with store.db.write("jobs.session") as tx:
        tx.execute(remote_sessions.insert().values(values))


def _expire(store: Store) -> None:
    import sqlalchemy as sa

    from stead.jobs.tables import jobs as table

    with store.db.write("jobs.beat") as tx:
        tx.execute(sa.update(table).where(table.c.state == "running").values(lease_until=1))


def _given_up(store: Store) -> bool:
    _expire(store)
    return [job.state for job in jobs.list_jobs(store)] == ["failed"]


def _sign(root: Path, point: str) -> None:
    store = new_store(root / "s")
    _version(store)
    models.new_key(root / "k.pem")
    made = models.get_logged_model(store, models.get_version(store, "m@1").logged_model)
    bundle = store.blobs.put(models.sign_folder(models.materialise(store, made.id), root / "k.pem"))
    script = f"{BEGIN}models.add_signature(store, 'm', 1, {bundle!r})"
    dies(point, script, str(root / "s"))
    happened = point.partition("#")[0].endswith(":after")
    assert len(models.list_signatures(store, "m@1")) == happened
    models.add_signature(store, "m", 1, bundle)
    assert len(models.list_signatures(store, "m@1")) == 1
    assert [entry.action for entry in ledger.list_entries(store)].count("version.signed") == 1
    store.close()


POINTS: dict[str, Scenario] = {
    "api.token": one_change(
        "from stead.api.tokens import create_token\ncreate_token(store, 'ci')",
        lambda s: [t.name for t in list_tokens(s)] == ["ci"],
        entries=1,
    ),
    "deployments.outside": one_change(
        "deployments.record_outside(store, 'x', place='prod', hours=3)",
        lambda s: [each.hours for each in deployments.list_outside(s)] == [3.0],
        entries=1,
    ),
    "models.alias": one_change(
        "models.set_alias(store, 'm', 'good', 1)",
        lambda s: models.get_model(s, "m").aliases == {"good": 1},
        prepare=_version,
        entries=1,
    ),
    "models.archive": one_change(
        "models.archive_version(store, 'm', 1)",
        lambda s: bool(models.get_version(s, "m@1").tags),
        prepare=_version,
        entries=1,
    ),
    "models.describe": one_change(
        "models.describe(store, 'm', description='words')",
        lambda s: models.get_model(s, "m").description == "words",
        prepare=_version,
        entries=1,
    ),
    "models.facts": one_change(
        "models.set_facts(store, 'm', owner='ada')",
        lambda s: models.get_model(s, "m").owner == "ada",
        prepare=_version,
        entries=1,
    ),
    "models.require": one_change(
        "models.require_signature(store, 'm', keys=[])",
        lambda s: "signers" in models.get_model(s, "m").settings,
        prepare=_version,
        entries=1,
    ),
    "models.sign": _sign,
    "models.tag": one_change(
        "models.set_tag(store, 'm', 'k', 'v')",
        lambda s: models.get_model(s, "m").tags == {"k": "v"},
        prepare=_version,
        entries=1,
    ),
    "gates.verdict": one_change(
        "gates.keep_verdict(store, 'm', 1, Verdict('parity', 'passed', 'same'))",
        lambda s: len(gates.list_verdicts(s, "m")) == 1,
    ),
    "environments.add": one_change(_LOCK, lambda s: len(environments.list_environments(s)) == 1),
    "environments.runtime": _runtime,
    "serving.gateway": one_change(_GATEWAY, lambda s: len(serving.gateways(s, alive=False)) == 1),
    "jobs.agent_beat": one_change("jobs.agent_beat(store, 'a', host='h', pid=1)", jobs.agent_alive),
    "jobs.cancel": one_change(
        "jobs.cancel_job(store, jobs.list_jobs(store)[0].id)",
        lambda s: jobs.list_jobs(s)[0].state == "cancelled",
        prepare=lambda s: jobs.enqueue(s, "x", {}) and None,
    ),
    "jobs.give_up": one_change(_GIVE_UP, _given_up, prepare=lambda s: jobs.enqueue(s, "x", {}) and None),
    "jobs.session": one_change(
        _SESSION,
        lambda s: _count(s, "remote_sessions") == 1,
        prepare=lambda s: jobs.enqueue(s, "x", {}) and None,
    ),
    "jobs.tell": one_change(_TELL, lambda s: _count(s, "remote_messages") == 1, prepare=_asked),
    "demo.data": _demo_data,
    "processes.state": _state,
}
