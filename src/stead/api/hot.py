"""Routes that are asked often and by programs only: plain Starlette, msgpack in and out, no operation of the table."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from stead import runs
from stead.api import tokens
from stead.errors import InvalidInput
from stead.runtime.journal import Delivery
from stead.store import Store

_decode = msgspec.msgpack.Decoder(Delivery).decode
_encode = msgspec.msgpack.Encoder().encode


def routes(store: Store) -> list[Route]:
    """The hot routes; they belong in front of all others, because each route before them is tried first."""
    # SQLite writes one transaction at a time anyway: threads that wait for its lock would only poll.
    pool = ThreadPoolExecutor(1 if store.db.is_sqlite else 8, thread_name_prefix="deliver")

    async def deliver(request: Request) -> Response:
        tokens.permit(request.state.role, "write")
        try:
            delivery = _decode(await request.body())
        except msgspec.MsgspecError as error:
            raise InvalidInput("record-invalid", f"the delivery is not understood: {error}") from None
        receipt = await asyncio.get_running_loop().run_in_executor(pool, _deliver, store, delivery)
        return Response(_encode((receipt.seq, receipt.told)), media_type="application/msgpack")

    return [Route("/api/hot/deliver", deliver, methods=["POST"])]


def _deliver(store: Store, delivery: Delivery) -> runs.Receipt:
    return runs.deliver(store, delivery.run_id, writer=delivery.writer, first=delivery.first, records=delivery.records)
