"""Tables of the queue and of the models' clocks."""

import sqlalchemy as sa

from stead.store import metadata

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=True, index=True),
    sa.Column("key", sa.Text, nullable=True),  # of the jobs not yet ended, one a key
    sa.Column("payload", sa.JSON, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False, default=0),
    sa.Column("run_after", sa.BigInteger, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False, default=0),
    sa.Column("max_attempts", sa.Integer, nullable=False, default=3),
    sa.Column("timeout_s", sa.Integer, nullable=False, default=3600),
    sa.Column("lease_owner", sa.Text, nullable=True),
    sa.Column("lease_until", sa.BigInteger, nullable=True),
    sa.Column("fence", sa.BigInteger, nullable=False, default=0),
    sa.Column("cancel_requested", sa.Boolean, nullable=False, default=False),
    sa.Column("progress", sa.JSON, nullable=True),
    sa.Column("result", sa.JSON, nullable=True),
    sa.Column("error", sa.JSON, nullable=True),
    sa.Column("event_time", sa.BigInteger, nullable=True),
    sa.Column("requested_by", sa.Text, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("started_at", sa.BigInteger, nullable=True),
    sa.Column("ended_at", sa.BigInteger, nullable=True),
    sa.Index("ix_jobs_due", "state", "run_after"),
    sa.Index(
        "uq_jobs_key_open",
        "key",
        unique=True,
        sqlite_where=sa.text("state in ('queued', 'running')"),
    ),
)

job_logs = sa.Table(
    "job_logs",
    metadata,
    sa.Column("job_id", sa.String(32), sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
)

agents = sa.Table(
    "agents",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("beat_at", sa.BigInteger, nullable=False),
    sa.Column("turned_at", sa.BigInteger, nullable=True),  # when its loop last came around, machine time
)

model_clocks = sa.Table(
    "model_clocks",
    metadata,
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("now", sa.BigInteger, nullable=True),  # null until the loop has taken up what was asked first
    sa.Column("asked", sa.BigInteger, nullable=False),  # where the holder wants it; the loop moves it between its turns
    sa.Column("settled", sa.BigInteger, nullable=True),  # where the loop had nothing more to do
    sa.Column("holder", sa.Text, nullable=False),
    sa.Column("beat_at", sa.BigInteger, nullable=False),
)

# Another machine that does steps of a job one by one: the one that it is asked for now, and what it said. Gone when it is let go.
remote_sessions = sa.Table(
    "remote_sessions",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),  # the cluster knows it by this, too
    sa.Column("job_id", sa.String(32), sa.ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("fence", sa.BigInteger, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),  # of its pass
    sa.Column("runtime", sa.Text, nullable=False),
    sa.Column("request", sa.JSON, nullable=True),  # null until the first
    sa.Column("asked", sa.Integer, nullable=False, default=0),  # steps so far, this one included
    sa.Column("created_at", sa.BigInteger, nullable=False),
)

remote_messages = sa.Table(
    "remote_messages",
    metadata,
    sa.Column("session_id", sa.String(32), sa.ForeignKey("remote_sessions.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("seq", sa.Integer, primary_key=True),
    sa.Column("body", sa.JSON, nullable=False),
)
