"""The order in which a worker answers, through its socket; its models answer with the size of the batch that they got."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from stead.runtime import formats, frames
from stead.runtime.worker import BATCH, PASSES, Worker

Ask = Callable[..., list[tuple[int, int]]]


def batch_size(rows: np.ndarray) -> list[int]:
    return [len(rows)] * len(rows)


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[Ask]:
    """Sends requests for versions of `m` in one piece to a worker that has not started yet; gives (version, batch) of each
    answer in the order in which they come."""
    formats.save(batch_size, tmp_path / "model", input_example=np.zeros((3, 2)))
    folder = str(tmp_path / "model").encode()
    ours, theirs = socket.socketpair()
    ours.settimeout(30)
    thread = threading.Thread(target=Worker(theirs).run, daemon=True)

    def send(versions: list[int], flags: dict[int, int] | None = None) -> list[tuple[int, int]]:
        load = [frames.pack(frames.LOAD, 1000 + n, b"m@%d" % n, part=folder) for n in (1, 2)]
        body = b'{"row": [1.0, 2.0]}'
        for place, version in enumerate(versions):
            flag = (flags or {}).get(place, 0)
            load.append(frames.pack(frames.PREDICT, place, b"m@%d" % version, flags=flag, body=body))
        ours.sendall(b"".join(load))
        thread.start()
        reader = frames.Reader()
        found: list[frames.Frame] = []
        while len(found) < len(versions):
            found += [frame for frame in reader.feed(ours.recv(1 << 20)) if frame.kind == frames.ANSWER]
        return [(versions[frame.number], int(json.loads(frame.body)["predictions"][0])) for frame in found]

    yield send
    ours.close()
    thread.join(30)
    theirs.close()


def test_the_version_with_the_most_requests_goes_first(ask: Ask) -> None:
    assert ask([2, 1, 1, 2, 1, 1, 1]) == [(1, 5)] * 5 + [(2, 2)] * 2


def test_a_few_requests_of_another_version_are_passed_over_a_few_times_only(ask: Ask) -> None:
    answered = ask([2] + [1] * (10 * BATCH))
    assert answered.index((2, 1)) == PASSES * (BATCH - 1)


def test_a_request_marked_alone_waits_for_those_before_it_and_shares_no_call(ask: Ask) -> None:
    answered = ask([2, 1, 1, 1, 1], flags={3: frames.ALONE})
    assert answered == [(1, 2), (1, 2), (2, 1), (1, 1), (1, 1)]
