"""The edge of the gateway: what it accepts as HTTP at all, and how much of it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from stead.errors import Forbidden, InvalidInput, SteadError

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MAX_URL = 8 << 10
MAX_HEADERS = 100
MAX_HEAD_BYTES = 32 << 10
MAX_PIPELINED = 64
REQUEST_S = 60.0
"""Time for a request to arrive in full, and for a connection to send its first one."""


class TooLarge(InvalidInput):
    http_status = 413


class Unsupported(InvalidInput):
    http_status = 415


class _Refused(Exception):
    """Raised in a parser's callback to stop it."""


class _Joined(asyncio.Transport):
    """A transport that writes the head of a response together with its body: one packet, one system call."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.joins = True
        """Whether a body follows a head: not after HEAD."""
        self._transport = transport
        self._head = b""
        self.is_closing = transport.is_closing  # type: ignore[method-assign]
        self.get_extra_info = transport.get_extra_info  # type: ignore[method-assign]
        self.pause_reading = transport.pause_reading  # type: ignore[method-assign]
        self.resume_reading = transport.resume_reading  # type: ignore[method-assign]
        self.abort = transport.abort  # type: ignore[method-assign]

    def write(self, data: bytes) -> None:  # type: ignore[override]
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head + data)
        elif self.joins and data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 1"):
            self._head = data
        else:
            self._transport.write(data)

    def close(self) -> None:
        if self._head:
            self.write(b"")
        self._transport.close()


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with bounds on the URL, on number and size of headers, and on how long a request may take to arrive.

    What comes in one read is bounded by the event loop (256 kB), so a head is judged when it is complete or goes on
    in a second read.
    """

    joins = True
    """Whether a response's head waits for its body, to be one packet."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.begun = self.loop.time()
        """When the connection opened or its last request began."""
        self._in_head = True
        self._head_bytes = 0
        self._refusal: tuple[bytes, bytes] | None = None

    @property
    def arriving(self) -> bool:
        """Whether a request, or the first one, is not here in full."""
        return self._in_head or (self.cycle is not None and self.cycle.more_body)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(_Joined(transport))  # type: ignore[arg-type]
        connection = transport.get_extra_info("socket")
        if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        # The parser holds an unfinished header where no callback sees it grow.
        self._head_bytes = self._head_bytes + len(data) if self._in_head else len(data)
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES and self._head_bytes > len(data):
            self._refuse(*_HEAD_TOO_LARGE)
            self.send_400_response("")
            return
        super().data_received(data)

    def on_message_begin(self) -> None:
        if len(self.pipeline) >= MAX_PIPELINED:
            self._refuse(b"429 Too Many Requests", b"too many requests before the first answer")
            raise _Refused
        super().on_message_begin()
        self.begun = self.loop.time()
        self._in_head = True

    def on_headers_complete(self) -> None:
        if len(self.url) > MAX_URL:
            self._refuse(b"414 URI Too Long", b"the URL is too long")
            raise _Refused
        if len(self.headers) > MAX_HEADERS or (self._head_bytes > MAX_HEAD_BYTES and self._size() > MAX_HEAD_BYTES):
            self._refuse(*_HEAD_TOO_LARGE)
            raise _Refused
        self._in_head = False
        self.transport.joins = self.joins and self.parser.get_method() != b"HEAD"  # type: ignore[attr-defined]
        super().on_headers_complete()

    def _size(self) -> int:
        return sum(len(name) + len(value) for name, value in self.headers)

    def _refuse(self, status: bytes, text: bytes) -> None:
        self._refusal = (status, text)

    def send_400_response(self, msg: str) -> None:
        status, text = self._refusal or (b"400 Bad Request", b"this is no HTTP request")
        self.transport.write(
            b"HTTP/1.1 %b\r\ncontent-type: text/plain\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
            % (status, len(text), text)
        )
        self.transport.close()


class StreamingProtocol(LimitedProtocol):
    """The same bounds, and heads that leave at once: a stream of events has no body for a while."""

    joins = False


_HEAD_TOO_LARGE = (b"431 Request Header Fields Too Large", b"too many or too large headers")


def close_slow(connections: Iterable[Any], now: float) -> None:
    """End connections whose request does not come to an end."""
    for connection in list(connections):
        if connection.arriving and now - connection.begun > REQUEST_S:
            connection.transport.abort()


class Head:
    """The headers that matter to us."""

    __slots__ = (
        "authorization",
        "content_encoding",
        "content_length",
        "content_type",
        "event_time",
        "header_length",
        "host",
        "hosts",
        "key",
        "model",
        "origin",
    )

    def __init__(self, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self.hosts = 0
        self.host = b""
        self.origin: bytes | None = None
        self.content_length = 0
        self.content_type = b""
        self.content_encoding = b""
        self.header_length = 0
        self.authorization = ""
        self.key: str | None = None
        self.model: str | None = None
        self.event_time: str | None = None
        for name, value in headers:
            if name == b"host":
                self.hosts += 1
                self.host = value
            elif name == b"content-length":
                self.content_length = _number(name, value)
            elif name == b"content-type":
                self.content_type = value
            elif name in _RARE:
                self._rare(name, value)

    def _rare(self, name: bytes, value: bytes) -> None:
        if name == b"inference-header-content-length":
            self.header_length = _number(name, value)
        elif name == b"origin":
            self.origin = value
        elif name == b"content-encoding":
            self.content_encoding = value
        elif name == b"authorization":
            self.authorization = value.decode("latin-1").removeprefix("Bearer ")
        else:
            text = value.decode("utf-8", "replace")[:256]
            if name == b"x-stead-key":
                self.key = text
            elif name == b"x-stead-model":
                self.model = text
            else:
                self.event_time = text


_RARE = frozenset(
    (
        b"inference-header-content-length",
        b"authorization",
        b"origin",
        b"content-encoding",
        b"x-stead-key",
        b"x-stead-model",
        b"x-stead-event-time",
    )
)


def _number(name: bytes, value: bytes) -> int:
    if not value.isdigit() or len(value) > 15:
        raise InvalidInput("header-invalid", f"{name.decode()} is {value[:40].decode('latin-1')!r}, no number")
    return int(value)


class Hosts:
    """Which Host and Origin may be named: this machine's own names and `allowed_hosts`. Keeps DNS rebinding out."""

    def __init__(self, allowed: Iterable[str]) -> None:
        self._allowed = {"127.0.0.1", "localhost", "[::1]", *(name.strip().lower() for name in allowed if name.strip())}
        self._good: set[bytes] = set()

    def check(self, head: Head) -> None:
        """Raises InvalidInput (`host-invalid`) for none or two, Forbidden (`host-foreign`, `origin-foreign`)."""
        if head.hosts != 1:
            raise InvalidInput("host-invalid", f"the request has {head.hosts} Host headers, where one belongs")
        if head.host not in self._good:
            self._known(head.host, "host")
            if len(self._good) < 64:
                self._good.add(head.host)
        if head.origin is not None:
            self._known(head.origin.partition(b"://")[2], "origin")

    def _known(self, value: bytes, what: str) -> None:
        text = value.decode("latin-1").lower()
        name = text[: text.find("]") + 1] if text.startswith("[") else text.partition(":")[0]
        if name not in self._allowed:
            raise Forbidden(
                f"{what}-foreign",
                f"the {what} {text[:100]!r} is not one of this machine",
                hint="name it in the setting allowed_hosts",
            )


async def read_body(receive: Receive, head: Head, limit: int) -> bytes | None:
    """The body, or None where the client went away. Raises TooLarge (`body-too-large`).

    A body that is somewhat too large is read to its end and thrown away: closing on a client that still sends would
    lose it the answer.
    """
    if head.content_encoding not in (b"", b"identity"):
        raise Unsupported("encoding-unsupported", "compressed bodies are not taken", hint="send the body as it is")
    if head.content_length <= limit:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body: bytes = message.get("body", b"")
        if not message.get("more_body"):
            if len(body) > limit:
                raise too_large(limit)
            return body
        pieces, size = [body], len(body)
    elif head.content_length > 4 * limit:
        raise too_large(limit)
    else:
        pieces, size = [], limit + 1
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        piece = message.get("body", b"")
        size += len(piece)
        if size <= limit:
            pieces.append(piece)
        else:
            pieces.clear()
        if not message.get("more_body"):
            break
        if size > 4 * limit:
            raise too_large(limit)
    if size > limit:
        raise too_large(limit)
    return b"".join(pieces)


def too_large(limit: int) -> SteadError:
    """413: what gateway and server say to a body over the limit."""
    return TooLarge(
        "body-too-large", f"the body has more than {limit} bytes", hint="send fewer rows, or set max_body_bytes"
    )
