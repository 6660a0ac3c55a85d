"""The routes of machines that do steps, under `/api/v1/step`: a pass opens its own session there, and nothing anywhere else."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import msgspec
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from stead import jobs
from stead.errors import Forbidden, InvalidInput
from stead.jobs import Message, Session
from stead.runtime import typed
from stead.store import Store

STEP = "/api/v1/step"
MAX_BYTES = 1 << 40
"""Of a file that a step made: it goes to disk piece by piece."""
MAX_MESSAGE = 64 << 20
"""A machine tells some MB at once."""


def add_steps(app: FastAPI) -> None:
    """What a machine is to do, stead's runtime, the blobs of a step, and what the machine says."""
    app.add_route(STEP, _request)
    app.add_route(f"{STEP}/runtime", _runtime)
    app.add_route(f"{STEP}/blobs", _put, methods=["POST"])
    app.add_route(f"{STEP}/blobs/{{digest}}", _get)
    app.add_route(f"{STEP}/messages", _tell, methods=["POST"])


async def _opened(request: Request) -> tuple[Store, Session]:
    store: Store = request.app.state.store
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise Forbidden("pass-missing", "this is for a step on another machine, with the pass that it was given")
    return store, await run_in_threadpool(jobs.opened, store, secret)


async def _request(request: Request) -> Response:
    _, session = await _opened(request)
    told = {"asked": session.asked, "request": session.request}
    return Response(msgspec.json.encode(told), media_type="application/json")


async def _runtime(request: Request) -> Response:
    store, session = await _opened(request)
    return await run_in_threadpool(_stream, store, session.runtime)


async def _get(request: Request) -> Response:
    store, session = await _opened(request)
    digest = request.path_params["digest"]
    if not session.may_read(digest):
        raise Forbidden("pass-scope", f"the step was not given {digest[:12]}")
    return await run_in_threadpool(_stream, store, digest)


def _stream(store: Store, digest: str) -> Response:
    headers = {"x-bytes": str(store.blobs.size(digest))}
    return StreamingResponse(store.blobs.stream(digest), media_type="application/octet-stream", headers=headers)


async def _put(request: Request) -> Response:
    store, _ = await _opened(request)
    handle, name = tempfile.mkstemp(prefix="stead-blob-")
    try:
        with os.fdopen(handle, "wb") as file:
            async for piece in request.stream():
                file.write(piece)
        digest = await run_in_threadpool(store.blobs.put, Path(name))
    finally:
        os.unlink(name)
    return Response(msgspec.json.encode({"digest": digest}), media_type="application/json")


async def _tell(request: Request) -> Response:
    store, session = await _opened(request)
    try:
        message = msgspec.json.decode(await request.body(), type=typed.ready(Message))
    except msgspec.MsgspecError as error:
        raise InvalidInput("message-invalid", f"what the step says is not understood: {error}") from None
    await run_in_threadpool(jobs.tell, store, session, message)
    return Response(b"{}", media_type="application/json")
