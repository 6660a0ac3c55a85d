"""The log of predictions as a gateway writes it: one record a request, handed over before the answer leaves."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

import msgspec

from stead.predictions.segment import ROLL_BYTES, Kind, Segment, folder_of, roll_seconds
from stead.store import Store


class Logged(msgspec.Struct, array_like=True):
    """One request as it was answered. Times in milliseconds since 1970 UTC, latency in microseconds.

    Fields may be added at the end, with a default; old records then still read.
    """

    id: str
    """The prediction id of the request, 32 hexadecimal digits. Its rows are `ID` alone, or `ID.0`, `ID.1`, … where it had several."""
    model: str
    version: int
    event_time: int
    received_at: int
    latency_us: int
    status: int
    """HTTP status that was answered; from 400 on the request failed and has no outputs."""
    protocol: str
    """How to read the body: a name that `stead.runtime.protocols.decode` knows."""
    key: str | None
    """The caller's sticky key."""
    header_length: int
    """Bytes of JSON before the binary part of a V2 body; 0 otherwise."""
    body: bytes
    """The request's body as it came."""
    outputs: bytes
    """MessagePack of the list with one output a row; empty for a failed request."""
    named: bool = False
    """Whether the request named the version; no split sent it there."""


_encode = msgspec.msgpack.Encoder().encode


class PredictionLog:
    """Writes the prediction log of one process; every process has files of its own.

    `append` hands records to the operating system, so that a kill -9 right after it loses none; `sync`, called every
    second, brings them to the disk and starts a new file when the present one is old. Both may run in different threads.

    >>> import tempfile; from pathlib import Path; from stead.store import Store
    >>> from stead.store.database import Database
    >>> store = Store(db=Database("sqlite://"), blobs=None, root=Path(tempfile.mkdtemp()), actor="gateway")
    >>> log = PredictionLog(store, "gateway-1")
    >>> log.append([Logged("0" * 32, "demand", 1, 0, 0, 900, 200, "stead", None, 0, b'{"row": {}}', b"\\x91\\x01")])
    >>> log.close()
    """

    def __init__(
        self,
        store: Store,
        writer_name: str,
        *,
        kind: Kind = "predictions",
        roll_bytes: int = ROLL_BYTES,
        seconds: float | None = None,
    ) -> None:
        self._folder = folder_of(store, kind)
        self._writer = writer_name
        self._roll_bytes = roll_bytes
        self._roll_seconds = roll_seconds(store) if seconds is None else seconds
        self._lock = threading.Lock()
        self._segment: Segment | None = None
        self._full: list[Segment] = []  # rolled, not yet synced: still locked, so nobody compacts them

    def append(self, records: Sequence[Logged]) -> None:
        """Log requests in one write. Raises Failed (`disk-full`) and keeps none of them where they do not fit."""
        if not records:
            return
        data = [_encode(record) for record in records]
        with self._lock:
            segment = self._segment
            if segment is None:
                segment = self._segment = Segment(self._folder, self._writer, point="predictions.append")
            segment.log.append(data)
            if segment.log.size >= self._roll_bytes:
                self._roll()

    def sync(self) -> None:
        """Bring everything to the disk. Raises Failed (`disk-full`) where the disk refuses it."""
        with self._lock:
            if self._segment is not None and self._segment.full(
                roll_bytes=self._roll_bytes, roll_seconds=self._roll_seconds
            ):
                self._roll()
            full, self._full = self._full, []
            handle = self._segment.handle() if self._segment is not None else None
        for segment in full:
            segment.log.sync()
            segment.close()
        if handle is not None:
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def close(self) -> None:
        """Sync and seal what was written; a later `append` starts anew."""
        with self._lock:
            if self._segment is not None:
                self._roll()
        self.sync()

    def _roll(self) -> None:
        assert self._segment is not None
        self._full.append(self._segment)
        self._segment = None
