"""Tables of the monitors: what a version is held against, what they saw day by day, incidents and who is told of them."""

import sqlalchemy as sa

from stead.store import metadata

references = sa.Table(
    "monitor_references",
    metadata,
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("kind", sa.Text, primary_key=True),  # loss, first-loss, columns, estimate
    sa.Column("source", sa.Text, nullable=False),  # hold-out, served
    sa.Column("value", sa.JSON, nullable=False),
    sa.Column("packed", sa.LargeBinary, nullable=True),  # histograms
    sa.Column("tested_from", sa.BigInteger, nullable=True),  # day; earlier ones made the reference
    sa.Column("made_at", sa.BigInteger, nullable=False),
)

profile_days = sa.Table(
    "profile_days",
    metadata,
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("day", sa.BigInteger, primary_key=True),  # event time, start of the day, milliseconds
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("histograms", sa.LargeBinary, nullable=False),  # by column, in the bins of the version's reference
)

monitor_days = sa.Table(
    "monitor_days",
    metadata,
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("monitor", sa.Text, primary_key=True),  # loss, estimate, requests, data, scale, drift, outputs, volume
    sa.Column("day", sa.BigInteger, primary_key=True),  # last day of the window that was looked at
    sa.Column("value", sa.Float, nullable=True),
    sa.Column("bound", sa.Float, nullable=True),
    sa.Column("outcome", sa.Text, nullable=False),  # ok, watching, alarm, unknown
    sa.Column("evidence", sa.JSON, nullable=False),
    sa.Column("state", sa.JSON, nullable=False),  # where the monitor stands after it: the next day goes on from here
)

watches = sa.Table(
    "monitor_watches",
    metadata,
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("turn", sa.BigInteger, nullable=False),  # counts the looks that wrote something
    sa.Column("version", sa.Integer, nullable=True),  # the live one at the last look
    sa.Column("refresh", sa.BigInteger, nullable=False),  # of performance_days, up to which everything is looked at
    sa.Column("closed", sa.BigInteger, nullable=False),  # end of the days that are over: later ones may still change
    sa.Column("holder", sa.Text, nullable=True),  # the replay that held the clock at the last look
    sa.Column("since", sa.BigInteger, nullable=False),  # the model's clock when that one, or the wall, took it
    sa.Column("now", sa.BigInteger, nullable=False),  # the model's clock at the last look, milliseconds
    sa.Column("next_at", sa.BigInteger, nullable=False),  # the model's clock when the next day closes
)

incidents = sa.Table(
    "incidents",
    metadata,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("version", sa.Integer, nullable=True),
    sa.Column("cause", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),  # open, resolved
    sa.Column("severity", sa.Text, nullable=False),  # note, page
    sa.Column("summary", sa.Text, nullable=False),
    sa.Column("evidence", sa.JSON, nullable=False),
    sa.Column("opened_by", sa.Text, nullable=False),
    sa.Column("opened_at", sa.BigInteger, nullable=False),
    sa.Column("event_time", sa.BigInteger, nullable=False),  # the model's clock
    sa.Column("updated_at", sa.BigInteger, nullable=False),
    sa.Column("resolved_by", sa.Text, nullable=True),
    sa.Column("resolved_at", sa.BigInteger, nullable=True),
    sa.Column("resolved_event_time", sa.BigInteger, nullable=True),
    sa.Column("reason", sa.Text, nullable=True),
    sa.Index(
        "uq_incidents_open",
        "model",
        "cause",
        unique=True,
        sqlite_where=sa.text("state = 'open'"),
    ),
    sa.Index("ix_incidents_model", "model", "id"),
)

deliveries = sa.Table(
    "incident_deliveries",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),  # goes out with it, so that a receiver knows what came twice
    sa.Column("incident", sa.BigInteger, sa.ForeignKey("incidents.id", ondelete="CASCADE"), nullable=False, index=True),
    sa.Column("event", sa.Text, nullable=False),  # opened, resolved
    sa.Column("route", sa.Text, nullable=False),  # webhook, command
    sa.Column("state", sa.Text, nullable=False),  # waiting, sent, off, failed
    sa.Column("body", sa.JSON, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("next_at", sa.BigInteger, nullable=False),  # machine time; while it is being sent, when to send it again
    sa.Column("error", sa.Text, nullable=True),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("sent_at", sa.BigInteger, nullable=True),
    sa.Index(
        "ix_incident_deliveries_waiting",
        "next_at",
        sqlite_where=sa.text("state = 'waiting'"),
    ),
)
