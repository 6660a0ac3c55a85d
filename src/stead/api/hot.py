"""The route that is asked most and by programs only: deliveries of journals, msgpack in and out.

It stands beside the application of routes, not in it: what lies between a socket and a handler there costs as much as a
small delivery itself.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import msgspec
from starlette.types import Receive, Scope, Send

from stead import runs
from stead.api import tokens
from stead.errors import InvalidInput
from stead.runtime.journal import Delivery
from stead.store import Store

DELIVER = "/api/hot/deliver"
MAX_BODY = 256 << 20

_decode = msgspec.msgpack.Decoder(Delivery).decode
_encode = msgspec.msgpack.Encoder().encode


class Deliveries:
    """`POST /api/hot/deliver`: a bare ASGI application behind the guard, which has said who asks."""

    def __init__(self, store: Store) -> None:
        self._store = store
        # SQLite writes one transaction at a time anyway: threads that wait for its lock would only poll.
        self._pool = ThreadPoolExecutor(1 if store.db.is_sqlite else 8, thread_name_prefix="deliver")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            raise InvalidInput("http-405", f"{scope['method']} {DELIVER}: it takes POST")
        tokens.permit(scope["state"]["role"], "write")
        try:
            delivery = _decode(await _body(receive))
        except msgspec.MsgspecError as error:
            raise InvalidInput("record-invalid", f"the delivery is not understood: {error}") from None
        receipt = await asyncio.get_running_loop().run_in_executor(self._pool, self._deliver, delivery)
        body = _encode((receipt.seq, receipt.told))
        headers = [(b"content-type", b"application/msgpack"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _deliver(self, delivery: Delivery) -> runs.Receipt:
        return runs.deliver(
            self._store, delivery.run_id, writer=delivery.writer, first=delivery.first, records=delivery.records
        )


async def _body(receive: Receive) -> bytes:
    pieces: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise InvalidInput("record-invalid", "the client went away before its delivery was complete")
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if size > MAX_BODY:
            raise InvalidInput("body-too-large", f"a delivery of more than {MAX_BODY >> 20} MB is too large")
        if not message.get("more_body", False):
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
