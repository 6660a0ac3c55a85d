"""Taking in labels: durable when acknowledged, whatever becomes of the process."""

from __future__ import annotations

import math
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from stead.errors import Failed, InvalidInput
from stead.models import list_models
from stead.predictions.index import find
from stead.predictions.segment import ROLL_SECONDS, Segment, folder_of, roll_seconds
from stead.predictions.tail import KeptLabel, is_prediction_id, request_and_row
from stead.predictions.types import Label, LabelReceipt
from stead.runtime.clock import checked_ms, shown
from stead.store import Store

BATCH = 10_000
MOST_LETTERS = 1_000
TEXTS = "error"
"""The one loss that can use a text; all others go by numbers."""
_encode = msgspec.msgpack.Encoder().encode


def add_labels(store: Store, labels: Sequence[Label]) -> LabelReceipt:
    """Keep labels; when this returns they are on the disk. All of a batch or none.

    Labels may come late, repeatedly and for predictions that are not known yet: all are kept, the newest one counts.

    Raises what `check_labels` raises where one makes no sense, Failed (`disk-full`) where there is no room: nothing of the
    batch is kept then.
    """
    if not labels:
        return LabelReceipt(accepted=0, unknown=0)
    writer = _writer(store)
    kept = writer.add(labels)
    places = find(store, [label.request for label in kept])
    unknown = sum(place is None or label.row >= place.rows for label, place in zip(kept, places, strict=True))
    texts = [place.model for label, place in zip(kept, places, strict=True) if place and isinstance(label.value, str)]
    unusable = 0
    if texts:
        losses = {model.name: model.loss for model in list_models(store)}
        unusable = sum(losses.get(model, TEXTS) != TEXTS for model in texts)
    return LabelReceipt(accepted=len(kept), unknown=unknown, unusable=unusable)


def seal_labels(store: Store) -> None:
    """End this process's file of labels, so that the next compaction takes it."""
    with _lock:
        writer = _writers.get((os.getpid(), store.root))
    if writer is not None:
        writer.close()


class _LabelWriter:
    """The file of labels of one process and store."""

    def __init__(self, folder: Path, seconds: float) -> None:
        self._folder = folder
        self._seconds = seconds
        self._lock = threading.Lock()
        self._segment: Segment | None = None
        self._last = 0

    def add(self, labels: Sequence[Label]) -> list[KeptLabel]:
        checked = check_labels(labels)
        with self._lock:
            accepted = max(time.time_ns(), self._last + 1)
            self._last = accepted + len(labels)
            kept = [
                KeptLabel(request, row, label.value, accepted + place, label.event_time, label.source)
                for place, ((request, row), label) in enumerate(zip(checked, labels, strict=True))
            ]
            records = [_encode(kept[start : start + BATCH]) for start in range(0, len(kept), BATCH)]
            if self._segment is not None and self._segment.full(roll_seconds=self._seconds):
                self._close()
            if self._segment is None:
                self._segment = Segment(self._folder, "labels", point="predictions.labels")
                if self._seconds < ROLL_SECONDS:  # others wait for it, and perhaps no further label comes
                    _later(self._seconds, self.close)
            try:
                self._segment.log.append(records, sync=True)
            except OSError as error:
                raise Failed(
                    "disk-full",
                    f"labels could not be brought to the disk: {error.strerror}",
                    hint="free space and try again",
                ) from error
        return kept

    def close(self) -> None:
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._segment is not None:
            self._segment.close()
            self._segment = None


def _later(seconds: float, what: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, what)
    timer.daemon = True
    timer.start()


_lock = threading.Lock()
_writers: OrderedDict[tuple[int, Path], _LabelWriter] = OrderedDict()
_MOST = 16


def _writer(store: Store) -> _LabelWriter:
    key = (os.getpid(), store.root)
    with _lock:
        writer = _writers.setdefault(key, _LabelWriter(folder_of(store, "labels"), roll_seconds(store)))
        _writers.move_to_end(key)
        if len(_writers) > _MOST:
            _writers.popitem(last=False)[1].close()
        return writer


def check_labels(labels: Sequence[Label]) -> list[tuple[str, int]]:
    """Request and row of each label. Raises InvalidInput (`label-id-invalid`, `label-value-invalid`, `label-time-invalid`,
    `label-source-invalid`) with the `position` of the first that makes no sense; the message counts them from 1."""
    return [_checked(label, place) for place, label in enumerate(labels)]


def _checked(label: Label, place: int) -> tuple[str, int]:
    if not isinstance(label.prediction_id, str) or not is_prediction_id(label.prediction_id):
        raise InvalidInput(
            "label-id-invalid",
            f"label {place + 1}: {repr(label.prediction_id)[:100]} is no prediction id",
            hint="it is the prediction_id of the answer, with .0, .1, … where the request had several rows",
            position=place,
        )
    if (problem := _value_problem(label.value)) is not None:
        raise InvalidInput(
            "label-value-invalid",
            f"label {place + 1} of {label.prediction_id}: {shown(label.value)[:100]} is no value: {problem}",
            hint=f"a label is a finite number, a text of 1 to {MOST_LETTERS} letters, true or false",
            position=place,
        )
    if label.event_time is not None:
        try:
            checked_ms(label.event_time)
        except InvalidInput as error:
            raise InvalidInput(
                "label-time-invalid", f"label {place + 1}: {error.message}", hint=error.hint, position=place
            ) from None
    if label.source is not None and not (isinstance(label.source, str) and 0 < len(label.source) <= MOST_LETTERS):
        raise InvalidInput(
            "label-source-invalid",
            f"label {place + 1}: {repr(label.source)[:100]} is no source",
            hint=f"who says so, in 1 to {MOST_LETTERS} letters",
            position=place,
        )
    return request_and_row(label.prediction_id)


def _value_problem(value: Any) -> str | None:
    if isinstance(value, str):
        if not value or len(value) > MOST_LETTERS:
            return f"it has {len(value)} letters" if value else "it is empty"
        return None
    if isinstance(value, int):
        return None if -(1 << 63) <= value < 1 << 63 else "it has more than 64 bits"
    if not isinstance(value, float):
        return "it is null" if value is None else f"it is a {type(value).__name__}"
    return None if math.isfinite(value) else "it is not finite"
