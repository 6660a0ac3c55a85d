"""The HTTP API: every operation at `POST /api/v1/PART.FUNCTION`, reading ones with GET too; OpenAPI at `/api/docs`."""

from __future__ import annotations

import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cache
from types import UnionType
from typing import Any, Union, get_args, get_origin
from urllib.parse import urlsplit

import blake3
import msgspec
from fastapi import APIRouter, FastAPI, Query
from fastapi.exceptions import RequestValidationError
from pydantic import ConfigDict, create_model
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stead import __version__, jobs
from stead.api import hot, tokens
from stead.api.steps import MAX_BYTES, MAX_MESSAGE, STEP, add_steps
from stead.api.table import Operation, operation, operations
from stead.config import Settings
from stead.errors import Forbidden, InvalidInput, NotFound, SteadError
from stead.runtime import keys
from stead.serving.http import too_large
from stead.store import Store

LOCAL_HOSTS = ("127.0.0.1", "localhost", "[::1]")
OPERATIONS = "/api/v1/"
BLOBS = f"{OPERATIONS}blobs/"
REPORTS = "/report/"
"""Pages for users without an account: a key is in their address."""
MAX_BLOB = 1 << 30
"""Bytes of artifacts and data come whole, and may be more than arguments."""


def create_app(store: Store, settings: Settings) -> FastAPI:
    """The API alone, without pages."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        store.close()

    app = FastAPI(
        title="stead",
        version=__version__,
        docs_url="/api/docs",
        redoc_url=None,
        openapi_url="/api/openapi.json",
        lifespan=lifespan,
    )
    app.state.store = store
    app.state.settings = settings
    app.add_exception_handler(SteadError, _stead_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.router.routes.extend(_routes())
    app.add_route(BLOBS + "{digest}", _blob, methods=["GET", "PUT"])
    add_steps(app)
    app.add_route("/health", _health)
    app.add_route("/version", _version)
    return app


class Guard:
    """In front of everything: foreign hosts and origins are refused, bodies are bounded, tokens give a role."""

    def __init__(self, app: ASGIApp, store: Store, settings: Settings) -> None:
        self.app = app
        self.store = store
        self.hosts = {
            *LOCAL_HOSTS,
            settings.host,
            *settings.names("allowed_hosts"),
        }
        if own := urlsplit(str(settings.server_url)).hostname:
            self.hosts.add(own)
        self.limit = int(settings.max_body_bytes)
        self._deliveries = hot.Deliveries(store)
        # A store without tokens is asked for them once a second and when this process makes one, not at each request.
        self._open_until, self._open_since = 0.0, -1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        limit = self._limit(scope["path"])
        try:
            self._check(scope, limit)
            scope.setdefault("state", {})
            if time.monotonic() < self._open_until and self._open_since == tokens.made_here:
                who: tuple[tokens.Role, str] = ("admin", self.store.actor)
            else:
                who = await run_in_threadpool(self._identify, scope)
            scope["state"]["role"], scope["state"]["actor"] = who
            if scope["path"] == hot.DELIVER:
                await self._deliveries(scope, receive, send)
                return
        except SteadError as error:
            response = _refusal(scope, error)
            await response(scope, receive, send)
            return
        await self.app(scope, _bounded(receive, limit), send)

    def _limit(self, path: str) -> int:
        if path == hot.DELIVER:
            return hot.MAX_BODY
        if path == f"{STEP}/blobs":
            return MAX_BYTES
        if path == f"{STEP}/messages":
            return MAX_MESSAGE
        return max(self.limit, MAX_BLOB) if path.startswith(BLOBS) else self.limit

    def _check(self, scope: Scope, limit: int) -> None:
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1:
            raise InvalidInput("host-invalid", "a request needs exactly one Host header")
        if _host(hosts[0]) not in self.hosts:
            raise Forbidden(
                "host-foreign",
                f"requests for host {hosts[0]!r} are refused",
                hint="STEAD_ALLOWED_HOSTS names further hosts",
            )
        if scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            for name, value in scope["headers"]:
                if name == b"origin" and _host(value.decode("latin-1").rpartition("://")[2]) not in self.hosts:
                    raise Forbidden("origin-foreign", f"requests from {value.decode('latin-1')!r} are refused")
                if name == b"sec-fetch-site" and value == b"cross-site":
                    raise Forbidden("origin-foreign", "requests from other sites are refused")
        for name, value in scope["headers"]:
            if name == b"content-length" and (not value.isdigit() or int(value) > limit):
                raise too_large(limit)

    def _identify(self, scope: Scope) -> tuple[tokens.Role, str]:
        made = tokens.made_here
        if not tokens.any_token(self.store):
            self._open_until, self._open_since = time.monotonic() + 1, made
            return "admin", self.store.actor
        request = Request(scope)
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            secret = request.cookies.get("stead_token", "")
        open_to_all = scope["path"] in ("/health", "/version", "/login") or scope["path"].startswith(
            ("/static/", REPORTS)
        )
        if open_to_all or scope["path"].startswith(STEP):  # a step has a pass instead
            return "read", "nobody"
        if not secret:
            raise Forbidden(
                "token-missing", "this server wants a token", hint="STEAD_TOKEN=…, or open /login in a browser"
            )
        token = tokens.authenticate(self.store, secret)
        return token.role, f"token:{token.name}"


def _bounded(receive: Receive, limit: int) -> Receive:
    """`receive` that ends with 413 where a body without a told length is more than `limit`."""
    size = 0

    async def counted() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > limit:
            # FastAPI lets only this one pass while it reads a body
            raise HTTPException(413, str(limit))
        return message

    return counted


def _refusal(scope: Scope, error: SteadError) -> Response:
    """Programs get the error; a browser that lacks a valid token is sent to where it can give one."""
    accepts = any(name == b"accept" and b"text/html" in value for name, value in scope["headers"])
    if accepts and scope["method"] == "GET" and error.code in ("token-missing", "token-invalid"):
        return Response(status_code=303, headers={"location": "/login"})
    return _json(error.as_dict(), error.http_status)


def _host(authority: str) -> str:
    if authority.startswith("["):
        return authority.partition("]")[0] + "]"
    return authority.partition(":")[0].lower()


@cache
def _routes() -> list[BaseRoute]:
    """A route for each operation. They know nothing of an application: making them takes most of what making one does."""
    router = APIRouter()
    for each in operations().values():
        _add(router, each)
    return router.routes


def _add(router: APIRouter, operation: Operation) -> None:
    """The route of one operation, from its signature."""
    fields: dict[str, Any] = {}
    for name, parameter in operation.parameters.items():
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        fields[name] = (operation.hints[name], default)
    title = "".join(word.title() for word in operation.name.replace(".", "_").split("_")) + "Arguments"
    model = create_model(title, __config__=ConfigDict(extra="forbid", arbitrary_types_allowed=True), **fields)
    part = operation.name.partition(".")[0]
    summary = (inspect.getdoc(operation.function) or operation.name).partition("\n")[0]
    options: dict[str, Any] = {
        "tags": [part],
        "summary": summary,
        "description": inspect.getdoc(operation.function),
        "response_model": None,
    }

    async def post(request: Request, arguments: Any) -> Response:
        keys.parse(await request.body())  # the framework takes the last of a key that is there twice
        return await _call(request, operation, {name: getattr(arguments, name) for name in fields})

    post.__annotations__ = {"request": Request, "arguments": model, "return": Response}
    router.add_api_route(
        f"{OPERATIONS}{operation.name}", post, methods=["POST"], operation_id=operation.name, **options
    )
    if operation.reads and all(_simple(hint) for hint, _ in fields.values()):
        router.add_api_route(
            f"{OPERATIONS}{operation.name}",
            _getter(operation, fields),
            methods=["GET"],
            operation_id=f"get {operation.name}",
            **options,
        )


def _getter(operation: Operation, fields: dict[str, Any]) -> Callable[..., Awaitable[Response]]:
    async def get(request: Request, **arguments: Any) -> Response:
        return await _call(request, operation, arguments)

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter("request", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Request)]
    for name, (hint, default) in fields.items():
        parameters.append(inspect.Parameter(name, keyword, annotation=hint, default=Query(default)))
    get.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    get.__annotations__ = {}
    return get


def _simple(hint: Any) -> bool:
    """Whether a query string can carry it: a scalar, or a list of scalars."""
    if get_origin(hint) in (Union, UnionType):
        return all(_simple(arm) for arm in get_args(hint) if arm is not type(None))
    if get_origin(hint) in (list, Sequence):
        return all(arm in (str, int, float) for arm in get_args(hint))
    return hint in (str, int, float, bool)


async def _call(request: Request, operation: Operation, arguments: dict[str, Any]) -> Response:
    tokens.permit(request.state.role, operation.needed(arguments))
    store: Store = request.app.state.store.acting(request.state.actor)
    result = await run_in_threadpool(operation.function, store, **arguments)
    if request.headers.get("accept", "").startswith("application/msgpack"):
        return Response(msgspec.msgpack.encode(result), media_type="application/msgpack")
    return _json(result)


async def _blob(request: Request) -> Response:
    store: Store = request.app.state.store
    digest = request.path_params["digest"]
    if request.method != "PUT":
        await run_in_threadpool(store.blobs.size, digest)
        return StreamingResponse(
            store.blobs.stream(digest),
            media_type="application/octet-stream",
            headers={"x-content-type-options": "nosniff"},
        )
    tokens.permit(request.state.role, "write")
    data = await request.body()
    if blake3.blake3(data).hexdigest() != digest:
        raise InvalidInput("digest-mismatch", "the bytes do not match the name that they were sent under")
    await run_in_threadpool(store.blobs.put, data)
    return _json({"digest": digest})


async def _health(request: Request) -> Response:
    """`OK` while the server answers; with `?loop=SECONDS` 503 where the agent's loop has not come around for so long."""
    most = request.query_params.get("loop")
    if most is None:
        return Response("OK", media_type="text/plain")
    if not most.isascii() or not most.isdigit():
        raise InvalidInput("arguments-invalid", f"loop is {most[:20]!r}, no number of seconds", hint="/health?loop=60")
    age = await run_in_threadpool(jobs.loop_age, request.app.state.store)
    well = age is not None and age <= int(most)
    return _json({"ok": well, "loop_age_s": age}, 200 if well else 503)


async def _version(_: Request) -> Response:
    return Response(__version__, media_type="text/plain")


def _json(body: Any, status: int = 200) -> Response:
    return Response(msgspec.json.encode(body), status_code=status, media_type="application/json")


async def _stead_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, SteadError)
    return _json(error.as_dict(), error.http_status)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _json(told(request, error).as_dict(), error.status_code)


def told(request: Request, error: HTTPException) -> SteadError:
    """What the framework refused, as an error of ours."""
    if error.status_code == 413:
        return too_large(int(error.detail))
    name = request.url.path.removeprefix(OPERATIONS)
    if error.status_code == 404 and name != request.url.path and "/" not in name:
        try:
            operation(name)
        except NotFound as unknown:
            return unknown
    kind = NotFound if error.status_code == 404 else InvalidInput
    what = "there is no page" if error.status_code == 404 else error.detail
    return kind(f"http-{error.status_code}", f"{request.method} {request.url.path}: {what}", hint="/api/docs")


async def _validation_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = [f"{'.'.join(str(part) for part in e['loc'][1:]) or 'body'}: {e['msg']}" for e in error.errors()]
    return _json(InvalidInput("arguments-invalid", "; ".join(problems), hint="/api/docs").as_dict(), 400)
