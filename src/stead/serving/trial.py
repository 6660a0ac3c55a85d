"""One worker outside the gateway: a version is asked in its environment before anybody depends on it."""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from stead import environments
from stead.errors import Failed, from_dict
from stead.jobs import Limits
from stead.runtime import frames
from stead.runtime.frames import Frame
from stead.serving.types import Served
from stead.store import Store

LOAD_S = 300.0
ANSWER_S = 120.0


class Trial:
    """A worker that has loaded one version; ends with the `with`, or with this process."""

    def __init__(self, store: Store, served: Served, *, allow: Sequence[str], limits: Limits) -> None:
        self._name = f"{served.model}@{served.version}".encode()
        self._reader = frames.Reader()
        self._number = 0
        self._said = tempfile.TemporaryFile()  # noqa: SIM115, it lives as long as the worker
        self._socket, theirs = socket.socketpair()
        command = [served.python, "-m", "stead.runtime.worker", "--fd", str(theirs.fileno())]
        runtime: Mapping[str, str] = {"PYTHONPATH": str(environments.runtime_path(store)), "PYTHONSAFEPATH": "1"}
        (Path(store.root) / "workers").mkdir(parents=True, exist_ok=True)
        try:
            self._process = subprocess.Popen(
                limits.around(command),
                stdin=subprocess.DEVNULL,
                stdout=self._said,
                stderr=subprocess.STDOUT,
                env={**environments.variables(allow=allow, extra=served.env), **runtime},
                cwd=Path(store.root) / "workers",
                pass_fds=(theirs.fileno(),),
            )
        finally:
            theirs.close()
        try:
            self._ask(frames.LOAD, part=served.folder.encode(), timeout_s=LOAD_S)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Trial:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()  # the worker ends when this side is gone
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._said.close()

    def explain(self, rows: Sequence[Any]) -> dict[str, Any]:
        """Features and outputs for rows of a request. Raises the worker's own error, or Failed (`worker-died`)."""
        told: dict[str, Any] = msgspec.json.decode(self._ask(frames.EXPLAIN, body=_body(rows)).body)
        return told

    def milliseconds(self, rows: Sequence[Any], times: int) -> list[float]:
        """How long each of several requests with these rows took, to the worker and back."""
        body, took = _body(rows), []
        for _ in range(times):
            begun = time.perf_counter()
            self._ask(frames.PREDICT, body=body)
            took.append((time.perf_counter() - begun) * 1000)
        return took

    def _ask(self, kind: int, *, part: bytes = b"", body: bytes = b"", timeout_s: float = ANSWER_S) -> Frame:
        self._number += 1
        self._socket.settimeout(timeout_s)
        try:
            self._socket.sendall(frames.pack(kind, self._number, self._name, part=part, body=body))
            while True:
                data = self._socket.recv(1 << 20)
                if not data:
                    raise ConnectionResetError
                for frame in self._reader.feed(data):
                    if frame.number == self._number and frame.kind != frames.HELLO:
                        if frame.kind == frames.ERROR or frame.status not in (0, 200):
                            raise from_dict(msgspec.json.decode(frame.body))
                        return frame
        except (ConnectionError, BrokenPipeError):
            self._said.seek(0)
            words = self._said.read()[-600:].decode("utf-8", "replace").strip()
            raise Failed("worker-died", f"the worker died: {words}") from None
        except TimeoutError:
            raise Failed("worker-died", f"the worker gave no answer for {timeout_s:g} s") from None


def _body(rows: Sequence[Any]) -> bytes:
    return msgspec.json.encode({"rows": list(rows)})
