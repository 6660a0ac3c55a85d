"""Other machines that do steps of a job: what each is asked for, a pass for it, and what it says.

The pass opens nothing but its session, and only while the claim of the job holds that began it: a machine that works for
a former keeper is refused, and stops.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from typing import Any

import blake3
import msgspec
import sqlalchemy as sa

from stead.errors import Forbidden
from stead.jobs.operations import LeaseLost, check_fence
from stead.jobs.tables import jobs, remote_messages, remote_sessions
from stead.jobs.types import Job
from stead.runtime import typed
from stead.runtime.clock import now_ms
from stead.runtime.ids import new_id
from stead.store import Store


@dataclass(frozen=True)
class Session:
    """A machine that does steps of a job, for one claim of it."""

    id: str
    job_id: str
    fence: int
    runtime: str
    """Blob with stead's runtime, a zip."""
    asked: int = 0
    """Steps that it was asked for so far."""
    request: dict[str, Any] | None = None
    """The last of them."""

    def may_read(self, digest: str) -> bool:
        """Whether a blob is among what the step was given."""
        return self.request is not None and digest in self.request["reads"]


@dataclass(frozen=True)
class Message:
    """What a machine says, in order; the last one of a step has its outcome."""

    seq: int
    text: str = ""
    """Output of the step since the last message."""
    journal: tuple[tuple[str, int, str], ...] = ()
    """What the step logged since then: file, place in it, and bytes in base64."""
    files: tuple[tuple[str, str], ...] = ()
    """Files of the journal by blob: its name there, and the blob."""
    code: int | None = None
    """Exit code, when the step has ended."""
    outputs: dict[str, Any] | None = None
    """Name → blob, or of a folder path → [blob, bytes]; where the step has ended well."""


def begin_session(store: Store, job: Job, *, runtime: str) -> tuple[Session, str]:
    """A session for this claim of the job, and its pass, which is stored nowhere. Raises LeaseLost."""
    session, secret = Session(new_id(), job.id, job.fence, runtime), secrets.token_urlsafe(32)
    values = {"id": session.id, "job_id": job.id, "fence": job.fence, "runtime": runtime, "digest": _digest(secret)}
    with store.db.write("jobs.session") as tx:
        check_fence(tx, job.id, job.fence)
        kept = sa.select(jobs.c.id).where(jobs.c.state == "running")
        tx.execute(sa.delete(remote_sessions).where(remote_sessions.c.job_id.not_in(kept)))  # whose keeper died
        tx.execute(sa.insert(remote_sessions).values(values | {"asked": 0, "created_at": now_ms()}))
    return session, f"{session.id}.{secret}"


def ask_session(store: Store, session: Session, request: dict[str, Any]) -> None:
    """Ask for a step. Raises LeaseLost."""
    values = {"request": request, "asked": remote_sessions.c.asked + 1}
    with store.db.write("jobs.session") as tx:
        check_fence(tx, session.job_id, session.fence)
        tx.execute(sa.update(remote_sessions).where(remote_sessions.c.id == session.id).values(values))


def end_session(store: Store, session_id: str) -> None:
    """Let a machine go, and forget what it said."""
    with store.db.write("jobs.session") as tx:
        tx.execute(sa.delete(remote_sessions).where(remote_sessions.c.id == session_id))


def earlier_sessions(store: Store, job: Job) -> list[str]:
    """Sessions that former claims of the job began and that nobody ended: their ids."""
    query = sa.select(remote_sessions.c.id).where(
        remote_sessions.c.job_id == job.id, remote_sessions.c.fence < job.fence
    )
    with store.db.read() as tx:
        return list(tx.execute(query.order_by(remote_sessions.c.id)).scalars())


def opened(store: Store, secret: str) -> Session:
    """The session that a pass is for. Raises Forbidden (`pass-invalid`) where it has ended, or its job is not kept by who began it."""
    identity, _, given = secret.partition(".")
    query = (
        sa.select(remote_sessions, jobs.c.state, jobs.c.fence.label("now"))
        .join(jobs, jobs.c.id == remote_sessions.c.job_id)
        .where(remote_sessions.c.id == identity)
    )
    with store.db.read() as tx:
        row = tx.execute(query).mappings().first()
    known = row is not None and hmac.compare_digest(row["digest"], _digest(given))
    if row is None or not known or row["state"] != "running" or row["now"] != row["fence"]:
        raise _refused()
    return Session(row["id"], row["job_id"], row["fence"], row["runtime"], row["asked"], row["request"])


def tell(store: Store, session: Session, message: Message) -> None:
    """Keep what a machine says, once. Raises Forbidden (`pass-invalid`) where the job has been given up meanwhile."""
    row = {"session_id": session.id, "seq": message.seq, "body": msgspec.to_builtins(message)}
    with store.db.write("jobs.tell") as tx:
        try:
            check_fence(tx, session.job_id, session.fence)
        except LeaseLost:
            raise _refused() from None
        if tx.execute(sa.select(remote_sessions.c.id).where(remote_sessions.c.id == session.id)).first() is None:
            raise _refused()
        store.db.upsert(tx, remote_messages, row, ["session_id", "seq"])


def heard(store: Store, session: Session, *, after: int) -> list[Message]:
    """What was said after message `after`, in order."""
    query = sa.select(remote_messages.c.body).where(
        remote_messages.c.session_id == session.id, remote_messages.c.seq > after
    )
    with store.db.read() as tx:
        rows = tx.execute(query.order_by(remote_messages.c.seq).limit(200)).scalars()
        return [typed.convert(body, Message) for body in rows]


def _digest(secret: str) -> str:
    return blake3.blake3(secret.encode()).hexdigest()


def _refused() -> Forbidden:
    return Forbidden(
        "pass-invalid",
        "this pass opens nothing: its job has ended, or another process keeps it now",
        hint="stead jobs list",
    )
