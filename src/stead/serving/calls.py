"""A request on its way through a worker, and what comes back."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from stead.errors import SteadError
from stead.runtime import frames, protocols
from stead.runtime.frames import Frame


class Call:
    """One request on its way through a worker."""

    __slots__ = (
        "alone",
        "body",
        "deaths",
        "event_time",
        "future",
        "header_length",
        "id",
        "key",
        "kind",
        "model",
        "name",
        "named",
        "number",
        "protocol",
        "received_ns",
        "shadow",
        "version",
    )

    def __init__(
        self,
        *,
        kind: int,
        number: int,
        name: bytes,
        model: str,
        version: int,
        prediction_id: str,
        protocol: int,
        body: bytes,
        header_length: int,
        event_time: int,
        received_ns: int,
        key: str | None,
        future: asyncio.Future[Answer] | None,
        named: bool = False,
    ) -> None:
        self.kind = kind
        self.number = number
        self.name = name
        self.model = model
        self.version = version
        self.id = prediction_id
        self.protocol = protocol
        self.body = body
        self.header_length = header_length
        self.event_time = event_time
        self.received_ns = received_ns
        self.key = key
        self.future = future
        self.named = named
        self.deaths = 0
        self.alone = False
        self.shadow = future is None
        """Scored aside: nobody waits for it."""


@dataclass(slots=True)
class Answer:
    """What a client gets."""

    status: int
    body: bytes
    header_length: int = 0
    retry: bool = False


def refusal(call: Call, error: SteadError, status: int | None = None) -> Frame:
    """An error as the frame that a worker would have answered with."""
    protocol = protocols.PROTOCOLS[call.protocol]
    body = protocols.encode_error(protocol, error)
    return Frame(
        frames.ANSWER, call.number, call.name, b"", call.protocol, 0, status or error.http_status, 0, 0, b"", body
    )
