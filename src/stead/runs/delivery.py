"""Taking over what a journal holds: exactly once by (run, writer, number), all of a batch in one transaction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from stead.errors import Conflict, InvalidInput, NotFound
from stead.runs.blocks import Batch, store_points
from stead.runs.experiments import DEFAULT, experiment_id
from stead.runs.points import checked
from stead.runs.prepared import Prepared, insert
from stead.runs.tables import artifacts, console, journals, params, run_inputs, run_tags, runs
from stead.runs.types import Receipt
from stead.runtime import journal as j
from stead.runtime import typed
from stead.store import Store

MAX_TEXT = 1 << 20
_END = ("finished", "failed", "killed")


def deliver(store: Store, run_id: str, *, writer: str, first: int, records: Sequence[Any]) -> Receipt:
    """Store a writer's records, of which the first has the number `first`; those that are stored already are left out.

    A run that is not known begins with its `Started`. Nothing of a batch is stored when one record is wrong.
    Raises Conflict (`journal-gap`) where records before `first` are missing, NotFound (`run-unknown`).
    """
    batch = [_record(record) for record in records]
    last = first + len(batch) - 1
    for record in batch:
        if isinstance(record, j.File):
            record.bytes = _size(store, record)
    with store.db.write("runs.deliver") as tx:
        fresh = first == 1 and _begins(tx, run_id, batch)
        known = 0 if fresh else int(_KNOWN.value(tx, {"run": run_id, "by": writer}) or 0)
        if not batch or last <= known:
            return Receipt(known)
        if first > known + 1:
            raise Conflict(
                "journal-gap", f"records {known + 1} to {first - 1} of run {run_id} are missing", stored=known
            )
        told = apply(store, tx, run_id, batch[known + 1 - first :], fresh=fresh)
        remember = _CHANGE_JOURNAL if known else _NEW_JOURNAL
        remember.run(tx, {"run_id": run_id, "writer": writer, "seq": last, "run": run_id, "by": writer})
    return Receipt(last, told)


def begin(tx: sa.Connection, run_id: str, started: j.Started, further: Sequence[j.Record] = ()) -> bool:
    """Make a run in the caller's transaction, as `further` records leave it; False where it is there already."""
    if _EXISTS.value(tx, {"wanted": run_id}) is not None:
        return False
    facts, ended = _gathered(further)
    values = {
        "id": run_id,
        "experiment_id": experiment_id(tx, started.project or DEFAULT),
        "name": j.clean_text(started.name)[:250] or run_id[-8:],
        "status": ended.status if ended else "running",
        "lifecycle": "active",
        "user": j.clean_text(started.user)[:250],
        "parent_id": started.parent,
        "job_id": started.job,
        "source": msgspec.json.encode(started.source | facts.source).decode(),
        "environment": facts.environment or started.environment,
        "started_at": started.at,
        "ended_at": ended.at if ended else None,
        "beat_at": max((record.at for record in further), default=started.at),
        "error": ended.error if ended else None,
    }
    _NEW_RUN.run(tx, values)
    return True


def apply(
    store: Store, tx: sa.Connection, run_id: str, records: Sequence[j.Record], *, fresh: bool = False
) -> list[str]:
    """Store records in the caller's transaction and return what a person should be told.

    `fresh`: the run was begun in this very transaction and nothing is stored of it yet.
    """
    work = _Work(store, tx, run_id, fresh)
    for record in records:
        work.take(record)
    work.finish()
    return work.told


class _Work:
    """Gathers a batch's records by kind, so that each kind is one statement."""

    def __init__(self, store: Store, tx: sa.Connection, run_id: str, fresh: bool) -> None:
        self.store, self.tx, self.run_id, self.fresh = store, tx, run_id, fresh
        self.told: list[str] = []
        self.started: j.Started | None = None
        self.facts: dict[str, Any] = {}
        self.environment: str | None = None
        self.params: dict[str, str] = {}
        self.tags: dict[str, str] = {}
        self.points = Batch()
        self.files: dict[str, j.File] = {}
        self.texts: list[str] = []
        self.inputs: dict[tuple[str, int], str] = {}
        self.ended: j.Ended | None = None
        self.beat = 0

    def take(self, record: j.Record) -> None:
        self.beat = max(self.beat, record.at)
        match record:
            case j.Metrics():
                self.points.add(record.step, record.at, record.values)
            case j.Points():
                self.points.add_block(record.key, checked(record.steps, record.times, record.values))
            case j.Params():
                for key, value in record.values.items():
                    self._param(key, value)
            case j.Tags():
                self.tags |= {j.checked_key(key): _text(value, f"tag {key}") for key, value in record.values.items()}
            case j.Text():
                self.texts.append(j.clean_text(record.text))
            case j.File():
                self.files[j.clean_path(record.path)] = record
            case j.Input():
                self.inputs[record.dataset, record.version] = record.context
            case j.Started():
                self.started = record
            case j.Facts():
                self.facts |= record.source
                self.environment = record.environment or self.environment
            case j.Ended():
                self.ended = _checked_end(record)
            case j.Beat():
                pass

    def finish(self) -> None:
        if not self.fresh:
            self._update_run()
        self._write_params()
        store_points(self.tx, self.run_id, self.points, fresh=self.fresh, final=self.ended is not None)
        self._write("key", run_tags, [{"key": key, "value": value} for key, value in self.tags.items()])
        files = [{"path": path, "digest": f.digest, "bytes": f.bytes, "at": f.at} for path, f in self.files.items()]
        self._write("path", artifacts, files)
        inputs = [{"dataset": name, "version": n, "context": context} for (name, n), context in self.inputs.items()]
        self._write("dataset version", run_inputs, inputs)
        if self.texts:
            newest = sa.select(sa.func.coalesce(sa.func.max(console.c.seq), 0)).where(console.c.run_id == self.run_id)
            number = 0 if self.fresh else int(self.tx.execute(newest).scalar_one())
            text = {"run_id": self.run_id, "seq": number + 1, "text": "".join(self.texts)}
            self.tx.execute(sa.insert(console), text)

    def _write(self, keys: str, table: sa.Table, rows: list[dict[str, Any]]) -> None:
        if rows:
            rows = [{"run_id": self.run_id} | row for row in rows]
            self.store.db.upsert(self.tx, table, rows, ("run_id", *keys.split()))

    def _update_run(self) -> None:
        """Bring the run up to date; it stays locked until the transaction ends."""
        found = _LOCKED.rows(self.tx, {"wanted": self.run_id})
        if not found:
            raise NotFound("run-unknown", f"there is no run {self.run_id}", hint="stead runs list")
        row = found[0]
        beat_at = max(self.beat, row["beat_at"])
        values: dict[str, Any] = {}
        source = (self.started.source if self.started else {}) | self.facts
        if source:
            stored = self.tx.execute(sa.select(runs.c.source).where(runs.c.id == self.run_id)).scalar_one()
            values["source"] = stored | source
        environment = self.environment or (self.started.environment if self.started else None)
        if environment:
            values["environment"] = environment
        if self.ended is not None:
            values |= {"status": self.ended.status, "error": self.ended.error, "ended_at": self.ended.at}
        elif row["status"] == "killed" and row["error"] == SILENT:
            values |= {"status": "running", "error": None, "ended_at": None}
        if values:
            self.tx.execute(sa.update(runs).where(runs.c.id == self.run_id).values(beat_at=beat_at, **values))
        elif beat_at > row["beat_at"]:
            _BEAT.run(self.tx, {"wanted": self.run_id, "beat_at": beat_at})

    def _param(self, key: str, value: str) -> None:
        key, value = j.checked_key(key), _text(value, f"parameter {key}")
        before = self.params.setdefault(key, value)
        if before != value:
            self._changed(key, before, value)

    def _write_params(self) -> None:
        if not self.params:
            return
        stored: dict[str, str] = {}
        if not self.fresh:
            query = sa.select(params.c.key, params.c.value)
            query = query.where(params.c.run_id == self.run_id, params.c.key.in_(list(self.params)))
            stored = {row.key: row.value for row in self.tx.execute(query)}
        rows = []
        for key, value in self.params.items():
            if key not in stored:
                rows.append({"run_id": self.run_id, "key": key, "value": value, "number": number_in(value)})
            elif stored[key] != value:
                self._changed(key, stored[key], value)
        if rows:
            _NEW_PARAMS.run(self.tx, *rows)

    def _changed(self, key: str, before: str, value: str) -> None:
        """A parameter says how a run was made: the first value stays, the other one is kept beside as a tag."""
        self.tags[f"stead.changed.{key}"] = value
        self.told.append(
            f"parameter {key!r} of run {self.run_id} stays {_short(before)}; {_short(value)} is kept as tag "
            f"'stead.changed.{key}'"
        )


SILENT = "its process was not heard of any more"
_WANTED = runs.c.id == sa.bindparam("wanted")
_LOCKED = Prepared(sa.select(runs.c.status, runs.c.error, runs.c.beat_at).where(_WANTED).with_for_update())
_BEAT = Prepared(sa.update(runs).where(_WANTED), ["beat_at"])
_ONE_JOURNAL = (journals.c.run_id == sa.bindparam("run"), journals.c.writer == sa.bindparam("by"))
_KNOWN = Prepared(sa.select(journals.c.seq).where(*_ONE_JOURNAL).with_for_update())
_EXISTS = Prepared(sa.select(runs.c.id).where(_WANTED))
_NEW_RUN = insert(runs)
_NEW_JOURNAL = insert(journals)
"""A second delivery of the same new journal at the same moment contradicts the first one's row and is taken back."""
_CHANGE_JOURNAL = Prepared(sa.update(journals).where(*_ONE_JOURNAL), ["seq"])
_NEW_PARAMS = insert(params)


def number_in(text: str) -> float | None:
    """The finite number that a parameter's text is, else None.

    >>> number_in("1e-3"), number_in("gbm"), number_in("True")
    (0.001, None, None)
    """
    if len(text) > 40 or "_" in text:
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _begins(tx: sa.Connection, run_id: str, batch: Sequence[j.Record]) -> bool:
    """Whether this batch brings a run that the store does not have; it is made."""
    started = batch[0] if batch else None
    return isinstance(started, j.Started) and begin(tx, run_id, started, batch)


def _gathered(records: Sequence[j.Record]) -> tuple[j.Facts, j.Ended | None]:
    """All facts in one, and the end if it is among them."""
    facts, ended = j.Facts(0, {}), None
    for record in records:
        if isinstance(record, j.Facts):
            facts = j.Facts(0, facts.source | record.source, record.environment or facts.environment)
        elif isinstance(record, j.Ended):
            ended = _checked_end(record)
    return facts, ended


def _checked_end(record: j.Ended) -> j.Ended:
    if record.status not in _END:
        raise InvalidInput("status-invalid", f"a run ends as {', '.join(_END)}, not as {record.status!r}")
    return j.Ended(record.at, record.status, record.error and j.clean_text(record.error))


def _size(store: Store, record: j.File) -> int:
    """Bytes of an artifact, which must be in the blob store before the record comes."""
    try:
        return store.blobs.size(record.digest)
    except (NotFound, InvalidInput):
        raise InvalidInput("artifact-missing", f"the bytes of artifact {record.path!r} were not stored first") from None


def _record(record: j.Record | list[Any]) -> j.Record:
    if isinstance(record, j.KINDS):
        return record
    try:
        return typed.convert(record, j.Record)  # type: ignore[arg-type]
    except msgspec.ValidationError as error:
        raise InvalidInput("record-invalid", f"a record of the journal is not understood: {error}") from None


def _text(value: str, what: str) -> str:
    if len(value) > MAX_TEXT:
        raise InvalidInput("value-too-long", f"{what} has {len(value)} characters", hint="log it as an artifact")
    return j.clean_text(value)


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "…")
