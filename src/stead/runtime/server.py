"""The server inside an image: `python -m stead.runtime.server FOLDER`, where FOLDER has `image.json` and the model.

It answers the same protocols as the gateway through the same worker, so that an image needs nothing beside Python and the
model's own locked packages: this file is the standard library's HTTP server in front of one worker process. There is one
version, no log and no label here; whoever wants those deploys the version, and stead's gateway is in front of the image.
It ends when it is told to, after all that came was answered, and when its worker dies: whoever runs the image starts it again.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from stead.errors import InvalidInput, NotFound, SteadError, Unreachable, from_dict
from stead.runtime import addresses, frames, protocols, typed
from stead.runtime.addresses import CSV, INVOCATIONS, STEAD, V2
from stead.runtime.frames import Frame
from stead.runtime.ids import new_id
from stead.runtime.worker import Facts

PORT = 8080
MAX_BODY = 16 << 20
MAX_CONNECTIONS = 256
"""Each is a thread; more wait to be accepted."""
ANSWER_S = 30.0
IDLE_S = 60.0
DRAIN_S = 10.0
_JSON = "application/json"
_Reply = tuple[int, bytes, dict[str, str], str]


class _Status(InvalidInput):
    """A refusal of HTTP itself, with its own status."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(code, message)
        self.http_status = status  # type: ignore[misc]


class Model:
    """A worker process with one version, and who waits for what."""

    def __init__(self, folder: Path, model: str, version: int) -> None:
        self.model, self.version = model, version
        self.waiting = 0
        self._name = f"{model}@{version}".encode()
        self._numbers = count(1)
        self._futures: dict[int, Future[Frame]] = {}
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair()
        os.set_inheritable(theirs.fileno(), True)
        command = [sys.executable, "-m", "stead.runtime.worker", "--fd", str(theirs.fileno())]
        self._process = subprocess.Popen(command, pass_fds=(theirs.fileno(),))
        theirs.close()
        threading.Thread(target=self._read, daemon=True).start()
        frame = self.ask(frames.LOAD, part=os.fsencode(folder), timeout=None)
        if frame.kind == frames.ERROR:
            raise from_dict(msgspec.json.decode(frame.body))
        self.facts = msgspec.json.decode(frame.body, type=typed.ready(Facts))

    def ask(self, kind: int, *, timeout: float | None = ANSWER_S, **fields: Any) -> Frame:
        """Send a frame and wait for its answer. Raises Unreachable (`predict-timeout`)."""
        number = next(self._numbers)
        future: Future[Frame] = Future()
        self._futures[number] = future
        with self._lock:
            self.waiting += 1
            self._socket.sendall(frames.pack(kind, number, self._name, **fields))
        try:
            return future.result(timeout)
        except TimeoutError:
            raise Unreachable("predict-timeout", f"no answer within {timeout:g} s") from None
        finally:
            self._futures.pop(number, None)
            with self._lock:
                self.waiting -= 1

    def _read(self) -> None:
        reader = frames.Reader()
        while data := self._socket.recv(1 << 20):
            for frame in reader.feed(data):
                if future := self._futures.get(frame.number):
                    future.set_result(frame)
        print(f"the worker ended with {self._process.wait()}", file=sys.stderr, flush=True)
        os._exit(1)


class Server(ThreadingHTTPServer):
    """Listens for one model; a thread for each connection."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], model: Model, *, version: str, max_body: int) -> None:
        self.model = model
        self.version = version
        self.max_body = max_body
        self.open = 0
        """Requests that are not answered yet."""
        self._lock = threading.Lock()
        self._room = threading.BoundedSemaphore(MAX_CONNECTIONS)
        super().__init__(address, _Handler)

    @contextmanager
    def busy(self) -> Iterator[None]:
        with self._lock:
            self.open += 1
        try:
            yield
        finally:
            with self._lock:
                self.open -= 1

    def process_request(self, request: Any, client_address: Any) -> None:
        self._room.acquire()
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # which is a client that went away
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    timeout = IDLE_S
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body leave together

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_HEAD = do_PUT = do_DELETE = do_GET  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        return

    def _answer(self) -> None:
        with self.server.busy():
            self._send(*self._reply())

    def _reply(self) -> _Reply:
        protocol = STEAD
        try:
            path = self.path.partition("?")[0]
            protocol = V2 if path.startswith("/v2") else STEAD
            body = self._body()
            asked = addresses.asked(path.split("/")[1:])
            protocol = asked.protocol
            if protocol == INVOCATIONS and self.headers.get("Content-Type", "").startswith("text/csv"):
                protocol = CSV
            return self._predicted(asked, protocol, body) if asked.kind else self._told(asked.parts)
        except SteadError as error:
            headers = {"Retry-After": "1"} if error.http_status == 503 else {}
            return error.http_status, protocols.encode_error(protocols.PROTOCOLS[protocol], error), headers, _JSON

    def _send(self, status: int, answer: bytes, headers: dict[str, str], kind: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(answer)), **headers}.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)
        self.wfile.flush()

    def _predicted(self, asked: addresses.Asked, protocol: int, body: bytes) -> _Reply:
        model = self.server.model
        if self.command != "POST":
            raise _Status(405, "method-not-allowed", f"send a POST, not {self.command}")
        self._known(asked.model or self.headers.get("X-Stead-Model", ""), asked.version)
        prediction_id = new_id()
        frame = model.ask(
            asked.kind,
            prediction_id=prediction_id.encode(),
            protocol=protocol,
            header_length=_number(self.headers.get("Inference-Header-Content-Length", "0")) if protocol == V2 else 0,
            body=body,
        )
        headers = {"X-Stead-Version": str(model.version), "X-Stead-Prediction-Id": prediction_id}
        if frame.header_length:
            headers["Inference-Header-Content-Length"] = str(frame.header_length)
        return frame.status, frame.body, headers, "application/octet-stream" if frame.header_length else _JSON

    def _known(self, model: str, version: int | None) -> None:
        ours = self.server.model
        if model not in ("", ours.model):
            raise NotFound("model-unknown", f"no model {model[:100]!r} is in this image", hint=f"it has {ours.model}")
        if version not in (None, ours.version):
            raise NotFound("version-not-served", f"this image has version {ours.version} of {ours.model}")

    def _told(self, parts: list[str]) -> _Reply:
        """Answers that only say how things are."""
        model = self.server.model
        match parts:
            case ["ping"] | ["health"]:
                return 200, b"\n", {}, "text/plain"
            case ["version"]:
                return 200, self.server.version.encode(), {}, "text/plain"
            case ["v2"]:
                return 200, msgspec.json.encode(addresses.about_server(self.server.version)), {}, _JSON
            case ["v2", "health", "live"] | ["v2", "health", "ready"]:
                return 200, b"", {}, _JSON
            case ["v2", "models", name, *rest]:
                version = None
                if len(rest) >= 2 and rest[0] == "versions":
                    version, rest = addresses.version_number(rest[1]), rest[2:]
                if rest == ["ready"]:
                    known = name == model.model and version in (None, model.version)
                    return 200 if known else 404, b"", {}, _JSON
                if not rest:
                    self._known(name, version)
                    facts = model.facts
                    about = addresses.about_model(name, [model.version], facts.flavor, facts.signature)
                    return 200, msgspec.json.encode(about), {}, _JSON
        raise NotFound("address-unknown", "there is nothing at this address", hint="POST /predict/MODEL")

    def _body(self) -> bytes:
        """All of a request's body; where it is refused, the connection ends with the answer, for the rest still comes."""
        close, self.close_connection = self.close_connection, True
        if self.headers.get("Content-Encoding", "identity") != "identity":
            raise _Status(415, "encoding-unsupported", "compressed bodies are not taken")
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            body = self._chunks()
        else:
            body = self._exactly(_number(self.headers.get("Content-Length", "0")))
        self.close_connection = close
        return body

    def _chunks(self) -> bytes:
        pieces: list[bytes] = []
        while True:
            try:
                size = int(self.rfile.readline(1000).partition(b";")[0], 16)
            except ValueError:
                raise InvalidInput("body-invalid", "the body is not chunked as it should be") from None
            if size == 0:
                while self.rfile.readline(1000) not in (b"\r\n", b"\n", b""):
                    pass
                return b"".join(pieces)
            pieces.append(self._exactly(size, sum(map(len, pieces))))
            self.rfile.readline(1000)

    def _exactly(self, size: int, already: int = 0) -> bytes:
        if not 0 <= size <= self.server.max_body - already:
            raise _Status(413, "body-too-large", f"the body has more than {self.server.max_body} bytes")
        body = self.rfile.read(size)
        if len(body) < size:
            raise ConnectionAbortedError("the client went away")
        return body


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise InvalidInput("header-invalid", f"{text[:40]!r} is no number of bytes")
    return int(text)


def main() -> NoReturn:
    folder = Path(sys.argv[1])
    image = json.loads((folder / "image.json").read_text())
    port, max_body = int(os.environ.get("PORT", PORT)), int(os.environ.get("STEAD_MAX_BODY_BYTES", MAX_BODY))
    try:
        model = Model(folder / "model", image["model"], image["version"])
    except SteadError as error:
        print(f"error: {error.message}", file=sys.stderr)
        sys.exit(1)
    server = Server(("", port), model, version=image["stead"], max_body=max_body)
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"{image['model']}@{image['version']} answers on port {port}", flush=True)
    ended.wait()
    server.server_close()  # nobody else is let in
    for _ in range(int(DRAIN_S / 0.02)):
        if not server.open:
            break
        threading.Event().wait(0.02)
    os._exit(0)


if __name__ == "__main__":
    main()
