"""The process that predicts: `python -m stead.runtime.worker --fd N`, inside a model's environment.

It speaks frames over an inherited socket, so there is no file or port that anybody else could open; from inside an image it
connects to a socket in a folder that is mounted there (`--socket PATH`) and only there. It holds one or more
versions, takes every request that has arrived (64 at most), makes one predict call for those of the same version and
shape, and answers them all at once: a call for 32 rows costs hardly more than one for a single row. The version with the
most requests goes first; another one's wait, to become more, for a few calls at most. Nobody waits for a timer. When
the gateway goes away, so does the worker.
"""

from __future__ import annotations

import argparse
import os
import platform
import select
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from stead.errors import Failed, InvalidInput, NotFound, SteadError
from stead.runtime import formats, frames, loading, protocols, secrets
from stead.runtime.frames import Frame
from stead.runtime.tensors import OF_DTYPE

BATCH = 64
PASSES = 3
"""Calls of other versions for which a version's requests wait at most, so that a canary's few rows share a call."""
_RECEIVE = 1 << 20
_pack_outputs = msgspec.msgpack.Encoder(enc_hook=protocols.plain).encode
_json = msgspec.json.Encoder(enc_hook=protocols.plain).encode


class Facts(msgspec.Struct):
    """What a worker tells about a version that it has loaded."""

    flavor: str = ""
    python: str = ""
    signature: dict[str, Any] | None = None
    libraries: dict[str, str] = {}
    """Versions recorded when the model was trained."""
    here: dict[str, str] = {}
    """Versions of the same libraries in this environment."""


class Served(NamedTuple):
    """A loaded version."""

    model: str
    version: int
    predictor: formats.Predictor
    output_name: str
    facts: Facts


class _Asked(NamedTuple):
    """One request on its way to the model."""

    frame: Frame
    request: protocols.Request
    columns: protocols.Columns


class Worker:
    """Answers frames from one socket until it closes."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._reader = frames.Reader()
        self._waiting: deque[Frame] = deque()
        self._served: dict[bytes, Served] = {}
        self._passed: dict[bytes, int] = {}

    def run(self) -> None:
        """Greet, then answer until the other side goes away."""
        self._connection.sendall(frames.pack(frames.HELLO, 0, b"", body=_json({"python": platform.python_version()})))
        try:
            while self._receive():
                self._turn()
        except (BrokenPipeError, ConnectionResetError):
            return

    def _receive(self) -> bool:
        """Take what has arrived; block only where there is nothing to do. False at the end of the connection."""
        flags = 0
        while len(self._waiting) < BATCH:
            try:
                data = self._connection.recv(_RECEIVE, flags or (socket.MSG_DONTWAIT if self._waiting else 0))
            except BlockingIOError:
                return True
            if not data:
                return False
            self._waiting.extend(self._reader.feed(data))
            if len(data) < _RECEIVE and self._waiting:
                return True
        return True

    def _turn(self) -> None:
        """Answer one version's requests among those that wait, as one batch. A frame of another kind or one marked ALONE
        comes when all before it are answered, by itself."""
        by_name: dict[bytes, list[Frame]] = {}
        for frame in islice(self._waiting, BATCH):
            if frame.kind != frames.PREDICT or frame.flags & frames.ALONE:
                break
            by_name.setdefault(frame.name, []).append(frame)
        if not by_name:
            frame = self._waiting.popleft()
            if frame.kind == frames.PREDICT:
                self._predict([frame])
            else:
                self._connection.sendall(self._control(frame))
            return
        name = self._next(by_name)
        batch = by_name.pop(name)
        if by_name:
            taken = {frame.number for frame in batch}
            self._waiting = deque(frame for frame in self._waiting if frame.number not in taken)
        else:
            for _ in batch:
                self._waiting.popleft()
        self._passed = {other: self._passed.get(other, 0) + 1 for other in by_name}
        self._predict(batch)

    def _next(self, by_name: dict[bytes, list[Frame]]) -> bytes:
        """The version that was passed over too often, else the one with the most requests; the oldest where they tie."""
        if len(by_name) == 1:
            return next(iter(by_name))
        longest = max(by_name, key=lambda name: self._passed.get(name, 0))
        if self._passed.get(longest, 0) >= PASSES:
            return longest
        return max(by_name, key=lambda name: len(by_name[name]))

    def _control(self, frame: Frame) -> bytes:
        try:
            if frame.kind == frames.LOAD:
                with loading.quick():
                    facts = self._take(frame.name, Path(os.fsdecode(frame.part)))
                return frames.pack(frames.LOADED, frame.number, frame.name, body=_json(facts))
            if frame.kind == frames.UNLOAD:
                self._served.pop(frame.name, None)
                return frames.pack(frames.LOADED, frame.number, frame.name, body=_json(Facts()))
            if frame.kind == frames.EXPLAIN:
                return self._explain(frame)
            raise Failed("frame-invalid", f"a worker knows no frame of kind {frame.kind}")
        except BaseException as error:
            told = _told(error, f"{frame.name.decode()} could not be loaded")
            body = secrets.hidden(_json(told.as_dict()), secrets.mine())
            return frames.pack(frames.ERROR, frame.number, frame.name, status=told.http_status, body=body)

    def _take(self, name: bytes, folder: Path) -> Facts:
        predictor = formats.load(folder)
        model, _, version = name.decode().rpartition("@")
        outputs = (predictor.signature or {}).get("outputs") or [{}]
        facts = Facts(
            flavor=predictor.flavor,
            python=platform.python_version(),
            signature=predictor.signature,
            libraries=dict(predictor.libraries),
            here=_versions(predictor.libraries),
        )
        output_name = str(outputs[0].get("name") or "predict")
        _warm(predictor, folder)
        self._served[name] = Served(model, int(version), predictor, output_name, facts)
        return facts

    def _predict(self, batch: Sequence[Frame]) -> None:
        """Answer a batch; each version's requests as soon as they are computed."""
        answers: list[bytes] = []
        groups: dict[Any, list[_Asked]] = {}
        for frame in batch:
            try:
                served = self._named(frame.name)
                request = protocols.read(protocols.PROTOCOLS[frame.protocol], frame.body, frame.header_length)
                columns = served.predictor.check(request.columns)
                groups.setdefault((frame.name, _shape(columns)), []).append(_Asked(frame, request, columns))
            except Exception as error:
                answers.append(_refusal(frame, _told(error, "the request could not be read")))
        if answers:
            self._connection.sendall(b"".join(answers))
        for group in groups.values():
            self._connection.sendall(b"".join(self._answer(group)))

    def _answer(self, group: list[_Asked]) -> list[bytes]:
        """Answers of one predict call; where it raises, each request is tried by itself, so that only the bad one fails."""
        served = self._named(group[0].frame.name)
        try:
            begun = time.process_time()
            outputs, datatype = _outputs(served.predictor, group)
            cost = min(65_535, int((time.process_time() - begun) * 10_000))
        except MemoryError:  # what leaks would refuse every request from here on: a fresh worker gets these again
            print(
                f"{served.model}@{served.version}: no memory left, the worker begins anew", file=sys.stderr, flush=True
            )
            os._exit(1)
        except Exception as error:
            if len(group) > 1:
                return [answer for asked in group for answer in self._answer([asked])]
            return [_refusal(group[0].frame, _told(error, f"{served.model}@{served.version} failed"))]
        answers: list[bytes] = []
        start = 0
        for frame, request, _ in group:
            part = outputs[start : start + request.rows]
            start += request.rows
            try:
                body, header_length = protocols.encode(
                    protocols.PROTOCOLS[frame.protocol],
                    request,
                    part,
                    prediction_id=frame.id.decode(),
                    model=served.model,
                    version=served.version,
                    output_name=served.output_name,
                    datatype=datatype,
                )
                answers.append(
                    frames.pack(
                        frames.ANSWER,
                        frame.number,
                        frame.name,
                        protocol=frame.protocol,
                        status=200,
                        header_length=header_length,
                        cost=cost,
                        part=_pack_outputs(part),
                        body=body,
                    )
                )
            except Exception as error:
                answers.append(_refusal(frame, _told(error, "the outputs could not be written")))
        return answers

    def _explain(self, frame: Frame) -> bytes:
        """Features and outputs as this worker computes them, for the parity check."""
        try:
            served = self._named(frame.name)
            request = protocols.read(protocols.PROTOCOLS[frame.protocol], frame.body, frame.header_length)
            columns = served.predictor.check(request.columns)
            features = served.predictor.features(columns)
            outputs, _ = _outputs(served.predictor, [_Asked(frame, request, columns)])
        except Exception as error:
            return _refusal(frame, _told(error, f"{frame.name.decode()} failed"))
        body = _json(
            {
                "features": features,
                "outputs": outputs,
                "libraries": served.facts.here,
                "python": served.facts.python,
                "model": served.model,
                "version": served.version,
            }
        )
        return frames.pack(frames.ANSWER, frame.number, frame.name, status=200, body=body)

    def _named(self, name: bytes) -> Served:
        try:
            return self._served[name]
        except KeyError:
            raise NotFound("version-not-loaded", f"this worker has not loaded {name.decode()}") from None


def _shape(columns: protocols.Columns) -> Any:
    """What requests must have in common to share a predict call."""
    if isinstance(columns, dict):
        return tuple(columns)
    shape = getattr(columns, "shape", None)
    return shape[1:] if shape is not None else len(columns[0])


def _outputs(predictor: formats.Predictor, group: list[_Asked]) -> tuple[list[Any], str | None]:
    rows = sum(asked.request.rows for asked in group)
    outputs = predictor.predict(
        group[0].columns if len(group) == 1 else formats.join([asked.columns for asked in group])
    )
    datatype = OF_DTYPE.get(str(getattr(outputs, "dtype", "")))
    values = outputs.tolist() if hasattr(outputs, "tolist") else list(outputs)
    if not isinstance(values, list) or len(values) != rows:
        made = len(values) if isinstance(values, list) else "a single"
        raise Failed("model-outputs", f"the model made {made} outputs for {rows} rows")
    return values, datatype


def _warm(predictor: formats.Predictor, folder: Path) -> None:
    """Predict the golden rows once, so that the first request does not pay for lazy imports. Failing is the parity check's to tell."""
    try:
        golden = msgspec.json.decode((folder / "stead" / "golden.json").read_bytes())
        predictor.predict(predictor.check(formats.golden_columns(golden, predictor.config)))
    except FileNotFoundError:
        return
    except Exception as error:
        print(f"not warmed: {type(error).__name__}: {error}", file=sys.stderr)


def _versions(names: Sequence[str] | dict[str, str]) -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, str] = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _told(error: BaseException, what: str) -> SteadError:
    """Any failure as an error of ours; the traceback of one that the model raised goes to the worker's log."""
    if isinstance(error, SteadError):
        return error
    import traceback

    traceback.print_exception(error, limit=-20)
    text = str(error)
    return Failed("model-raised", f"{what}: {type(error).__name__}{': ' + text[:500] if text else ''}")


def _refusal(frame: Frame, error: SteadError) -> bytes:
    """The answer that tells an error, with stars for the secrets of this process."""
    if not isinstance(error, InvalidInput):
        print(f"{frame.name.decode()} {frame.id.decode()}: {error.code}: {error}", file=sys.stderr, flush=True)
    return frames.pack(
        frames.ANSWER,
        frame.number,
        frame.name,
        protocol=frame.protocol,
        status=error.http_status,
        body=secrets.hidden(protocols.encode_error(protocols.PROTOCOLS[frame.protocol], error), secrets.mine()),
    )


def _leave_with(fd: int) -> None:
    """End the process as soon as the other side is gone, also in the middle of a long predict call."""
    poll = select.poll()
    poll.register(fd, 0)
    while not any(events & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, events in poll.poll()):
        pass
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m stead.runtime.worker")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--fd", type=int)
    where.add_argument("--socket")
    asked = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the gateway, which drains first
    connection = socket.socket(socket.AF_UNIX) if asked.fd is None else socket.socket(fileno=asked.fd)
    if asked.socket:
        connection.connect(asked.socket)
    connection.setblocking(True)
    threading.Thread(target=_leave_with, args=(connection.fileno(),), daemon=True).start()

    Worker(connection).run()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
