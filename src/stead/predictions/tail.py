"""What the raw segments of this machine hold: the part of the log that is not yet Parquet.

Each look reads on from where the last one of this process ended, so that looking often costs only what is new.
"""

from __future__ import annotations

import bisect
import os
import re
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from stead.errors import Failed
from stead.predictions.log import Logged
from stead.predictions.segment import SUFFIX, Kind, folder_of, raw_paths
from stead.runtime.recordlog import read_records
from stead.store import Store

_SPLIT = 32
"""Digits of a request's id; a dot and the row's number may follow."""


class Answer(NamedTuple):
    """A logged request with its outputs unpacked; None where it failed."""

    logged: Logged
    outputs: list[Any] | None


class KeptLabel(msgspec.Struct, array_like=True):
    """A label as it is kept. `accepted` is machine time in nanoseconds, rising within a process: the newest label counts."""

    request: str
    row: int
    value: float | int | str | bool
    accepted: int
    event_time: int | None = None
    source: str | None = None


@dataclass
class RawSegment:
    """The records read of one raw segment so far, in the order of the file."""

    name: str
    position: int = 0
    records: list[Any] = field(default_factory=list)
    """`Answer`s or `KeptLabel`s."""
    ends: list[int] = field(default_factory=list)
    """For each record the position behind it."""
    requests: dict[str, Answer] = field(default_factory=dict)
    """Predictions only: the records by the request's id."""
    cache: dict[str, Any] = field(default_factory=dict)
    """What readers made of the records; all looks at a segment share it."""

    def after(self, position: int) -> list[Any]:
        """Records behind a position."""
        return self.records[bisect.bisect_right(self.ends, position) :]


_decode_logged = msgspec.msgpack.Decoder(Logged).decode
_decode_outputs = msgspec.msgpack.Decoder(list[Any]).decode
_decode_labels = msgspec.msgpack.Decoder(list[KeptLabel]).decode

_id = re.compile(r"[0-9a-f]{32}(\.(0|[1-9][0-9]{0,6}))?").fullmatch

_lock = threading.Lock()
_known: dict[Path, RawSegment] = {}


def tail(store: Store, kind: Kind) -> list[RawSegment]:
    """All raw segments of this machine, oldest first. Some may be in the store meanwhile: look there afterwards.

    >>> import tempfile; from stead.store import Store
    >>> tail(Store(db=None, blobs=None, root=Path(tempfile.mkdtemp()), actor="me"), "labels")
    []
    """
    with _lock:
        return [
            replace(segment, records=segment.records[:], ends=segment.ends[:]) for segment in _read_all(store, kind)
        ]


def logged_now(store: Store) -> list[dict[str, Answer]]:
    """By request id what the raw segments of predictions hold, one dictionary a segment; they go on growing."""
    with _lock:
        return [segment.requests for segment in _read_all(store, "predictions")]


def _read_all(store: Store, kind: Kind) -> list[RawSegment]:
    paths = raw_paths(store, kind)
    found = []
    for path in paths:
        segment = _known.setdefault(path, RawSegment(path.name.removesuffix(SUFFIX)))
        try:
            if os.stat(path).st_size > segment.position:
                read_on(path, segment, kind)
            found.append(segment)
        except FileNotFoundError:  # compacted since the folder was listed
            pass
    folder = folder_of(store, kind)
    for gone in [path for path in _known if path.parent == folder]:
        if gone not in paths:
            del _known[gone]
    return found


def read_on(path: Path, segment: RawSegment, kind: Kind) -> None:
    """Read what a segment has gained. What is behind a damaged record is not read."""
    try:
        for position, payload in read_records(path, segment.position):
            if kind != "labels":
                answer = unpack(payload)
                segment.records.append(answer)
                segment.ends.append(position)
                segment.requests[answer.logged.id] = answer
            else:
                batch = _decode_labels(payload)
                segment.records.extend(batch)
                segment.ends.extend([position] * len(batch))
            segment.position = position
    except (Failed, msgspec.DecodeError):
        return


def unpack(payload: bytes) -> Answer:
    logged = _decode_logged(payload)
    failed = logged.status >= 400 or not logged.outputs
    return Answer(logged, None if failed else _decode_outputs(logged.outputs))


def is_prediction_id(text: str) -> bool:
    """
    >>> is_prediction_id("0" * 32 + ".7"), is_prediction_id("7")
    (True, False)
    """
    return _id(text) is not None


def request_and_row(prediction_id: str) -> tuple[str, int]:
    """
    >>> request_and_row("0" * 32 + ".7")[1]
    7
    """
    return prediction_id[:_SPLIT], int(prediction_id[_SPLIT + 1 :] or 0)
