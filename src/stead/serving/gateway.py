"""The gateway: a bare ASGI application that answers predictions by the routes, logs them, and takes labels."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from importlib.metadata import version as version_of
from typing import Any, Literal

import msgspec

from stead import predictions
from stead.config import Settings
from stead.errors import Forbidden, InvalidInput, NotFound, SteadError, Unreachable, did_you_mean
from stead.images import Containers
from stead.jobs import Limits
from stead.predictions import Logged, PredictionLog
from stead.runtime import addresses, frames, keys, protocols
from stead.runtime.addresses import CSV, INVOCATIONS, STEAD, V2, Asked
from stead.runtime.clock import checked_ms, now_ms, to_ms
from stead.runtime.frames import Frame
from stead.runtime.ids import new_id
from stead.serving.calls import Answer, Call
from stead.serving.following import Follower, Target
from stead.serving.http import Head, Hosts, Receive, Scope, Send, read_body
from stead.serving.metrics import Metrics
from stead.serving.pool import Pool
from stead.serving.types import Gateway as Row
from stead.serving.workers import Launch
from stead.store import Store

_VERSION = version_of("stead")
SYNC_S = 1.0
SWEEP_S = 0.25
_JSON = b"application/json"
_json = msgspec.json.encode


class Gateway:
    """One gateway process. It is the ASGI application; its lifespan starts and ends the workers."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        *,
        url: str,
        names: Sequence[str] = (),
        authorize: Callable[[str, Literal["read", "write"]], Awaitable[None]] | None = None,
        secret: str | None = None,
    ) -> None:
        """`names` are further hosts that requests may carry. `authorize` gets each request's bearer token and the role that it
        needs, and raises where it does not permit; without one nobody is asked for a token. `secret` opens it for stead's own
        processes."""
        self.metrics = Metrics()
        self._store = store
        self._limit = int(settings.max_body_bytes)
        self._timeout_s = float(settings.predict_timeout_s)
        self._workers = max(1, int(settings.workers))
        self._max_waiting = int(settings.max_waiting)
        self._authorize = authorize
        self._hosts = Hosts([*settings.allowed_hosts.split(","), *names])
        self._name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        row = Row(self._name, url, socket.gethostname(), os.getpid(), 0, {}, {}, {}, now_ms())
        allow = settings.names("env_allow")
        self.follower = Follower(
            store,
            row,
            make_pool=self._pool,
            allow=allow,
            limits=Limits.of(settings),
            secret=secret,
            containers=Containers(settings),
        )
        self.follower.stats = self._stats
        self._log = PredictionLog(store, self._name)
        self._aside = PredictionLog(store, self._name, kind="shadows")
        self._finished: list[tuple[Call, Frame]] = []
        self._held = 0
        self._paths: dict[str, Asked] = {}
        self._labels = asyncio.Lock()
        self._loops: list[asyncio.Task[None]] = []
        self._started = time.time()

    # lifespan

    async def start(self) -> None:
        """Follow the routes; models whose workers are still starting are answered when these are there."""
        await self.follower.start()
        self._loops = [asyncio.create_task(self._syncing()), asyncio.create_task(self._sweeping())]

    async def stop(self) -> None:
        """Let everything be answered, end the workers, close the log."""
        for task in self._loops:
            task.cancel()
        await self.follower.stop()
        self._flush()
        await asyncio.to_thread(self._log.close)
        await asyncio.to_thread(self._aside.close)
        await asyncio.to_thread(predictions.seal_labels, self._store)

    def _pool(self, launch: Launch) -> Pool:
        return Pool(
            launch,
            size=self._workers,
            timeout_s=self._timeout_s,
            max_waiting=self._max_waiting,
            finish=self._finish,
        )

    async def _syncing(self) -> None:
        while True:
            await asyncio.sleep(SYNC_S)
            try:
                await asyncio.to_thread(self._log.sync)
                await asyncio.to_thread(self._aside.sync)
            except Exception as error:
                print(f"the prediction log could not be synced: {error}", file=sys.stderr)

    async def _sweeping(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            for pool in self.follower.pools.values():
                pool.sweep()

    def _stats(self) -> dict[str, Any]:
        pools = self.follower.pools.values()
        return {
            "answered": self.metrics.total(),
            "in_flight": sum(pool.open for pool in pools),
            "workers": {pool.launch.key: sum(w.ready for w in pool.workers) for pool in pools},
            "worker_pids": [w.process.pid for pool in pools for w in pool.workers if w.ready and w.process],
            "restarts": sum(pool.restarts for pool in pools),
            "started_at": int(self._started * 1000),
        }

    # ASGI

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        protocol = STEAD
        try:
            head = Head(scope["headers"])
            self._hosts.check(head)
            path = scope["path"]
            asked = self._paths.get(path)
            if asked is None:
                protocol = V2 if path.startswith("/v2") else STEAD
                asked = addresses.asked(path.split("/")[1:])
                if asked.kind and self.follower.knows(asked.model) and len(self._paths) < 4096:
                    self._paths[path] = asked
            protocol = asked.protocol
            if protocol == INVOCATIONS and head.content_type.startswith(b"text/csv"):
                protocol = CSV
            if self._authorize is not None and asked.parts not in _OPEN:
                await self._authorize(head.authorization, "write" if asked.parts == LABELS else "read")
            if asked.kind:
                answer = await self._predicted(scope["method"], asked, protocol, head, receive)
            else:
                answer = await self._other(scope["method"], asked.parts, head, receive)
            await _reply(send, *answer)
        except _Gone:
            return
        except SteadError as error:
            self.metrics.refused[error.code] += 1
            headers = [(b"retry-after", b"1")] if error.http_status == 503 else []
            if error.http_status == 413:
                headers.append((b"connection", b"close"))
            await _reply(send, error.http_status, protocols.encode_error(protocols.PROTOCOLS[protocol], error), headers)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            step, kind = (self.start, "startup") if message["type"].endswith("startup") else (self.stop, "shutdown")
            try:
                await step()
            except Exception as error:
                await send({"type": f"lifespan.{kind}.failed", "message": str(error)})
                return
            await send({"type": f"lifespan.{kind}.complete"})
            if kind == "shutdown":
                return

    # predictions

    async def _predicted(self, method: str, asked: Asked, protocol: int, head: Head, receive: Receive) -> _Reply:
        """A prediction or an explanation, through a worker."""
        if method != "POST":
            raise _MethodNotAllowed("method-not-allowed", f"send a POST, not {method}")
        model = asked.model or head.model or self._only_model()
        body = await read_body(receive, head, self._limit)
        if body is None:
            raise _Gone
        received = time.time_ns()
        event_time = received // 1_000_000 if head.event_time is None else _event_time(head.event_time)
        if self.follower.clocks and head.event_time is None:
            event_time = self.follower.clocks.get(model, event_time)
        if asked.version is None and model not in self.follower.splits:
            await self._wait_for(model)
        chosen, target = self._target(model, asked.version, head.key)
        call = Call(
            kind=asked.kind,
            number=target.pool.next_number(),
            name=target.name,
            model=model,
            version=chosen,
            prediction_id=new_id(),
            protocol=protocol,
            body=body,
            header_length=head.header_length if protocol == V2 else 0,
            event_time=event_time,
            received_ns=received,
            key=head.key,
            future=asyncio.get_running_loop().create_future(),
            named=asked.version is not None,
        )
        target.pool.submit(call)
        if asked.version is None and (shadows := self.follower.shadows.get(model)):
            self._score_aside(call, shadows)
        assert call.future is not None
        answer = await call.future
        headers = [(b"x-stead-version", b"%d" % chosen), (b"x-stead-prediction-id", call.id.encode())]
        if answer.retry:
            headers.append((b"retry-after", b"1"))
        if answer.header_length:
            headers.append((b"inference-header-content-length", b"%d" % answer.header_length))
            return answer.status, answer.body, headers, b"application/octet-stream"
        return answer.status, answer.body, headers, _JSON

    def _score_aside(self, call: Call, versions: Sequence[int]) -> None:
        """Let further versions score a request that is on its way, as far as there is room beside what is answered."""
        for version in versions:
            target = self.follower.targets.get((call.model, version))
            if version == call.version or target is None:
                continue
            if target.pool.open * 2 > self._max_waiting:
                self.metrics.refused["shadow-skipped"] += 1
                continue
            copy = Call(
                kind=frames.PREDICT,
                number=target.pool.next_number(),
                name=target.name,
                model=call.model,
                version=version,
                prediction_id=call.id,
                protocol=call.protocol,
                body=call.body,
                header_length=call.header_length,
                event_time=call.event_time,
                received_ns=call.received_ns,
                key=call.key,
                future=None,
            )
            with suppress(SteadError):  # what cannot be scored aside is missing there, and nowhere else
                target.pool.submit(copy)

    def _target(self, model: str, version: int | None, key: str | None) -> tuple[int, Target]:
        follower = self.follower
        if version is None:
            version = follower.splits[model].choose(key)
            if version is None:
                raise NotFound("model-not-deployed", f"no version of {model!r} answers", hint=f"stead deploy {model}")
        target = follower.targets.get((model, version))
        if target is None:
            if not follower.knows(model):
                raise self._unknown(model)
            served = ", ".join(map(str, follower.versions(model))) or "none"
            raise NotFound("version-not-served", f"{model}@{version} is not loaded here", hint=f"loaded are: {served}")
        return version, target

    async def _wait_for(self, model: str) -> None:
        """Wait for a route that is known and whose workers start; raises what is wrong with it."""
        if not self.follower.knows(model):
            raise self._unknown(model)
        if self._held >= self._max_waiting:
            raise Unreachable("too-busy", f"{self._held} requests wait for models that start already")
        self._held += 1
        try:
            async with asyncio.timeout(self._timeout_s):
                await self.follower.settled(model)
        except TimeoutError:
            raise Unreachable("model-starting", f"{model} is still being loaded", hint="try again in a while") from None
        finally:
            self._held -= 1
        if model not in self.follower.splits:
            error = self.follower.errors.get(model)
            raise Unreachable("model-failed", f"{model} could not be loaded: {error}", hint="stead status")

    def _unknown(self, model: str) -> NotFound:
        known = self.follower.models()
        hint = did_you_mean(model, known) or f"stead deploy {model}"
        return NotFound("model-unknown", f"no model {model[:100]!r} is deployed here", hint=hint)

    def _only_model(self) -> str:
        known = self.follower.models()
        if len(known) == 1:
            return known[0]
        raise InvalidInput(
            "model-unnamed",
            f"{len(known)} models are deployed here, so the request must name one",
            hint="send the header X-Stead-Model, or use /models/NAME/invocations",
        )

    def _finish(self, done: Sequence[tuple[Call, Frame]]) -> None:
        """Collect what workers answered in this turn of the loop; all of it is logged in one write."""
        if not self._finished:
            asyncio.get_running_loop().call_soon(self._flush)
        self._finished += done

    def _flush(self) -> None:
        """Log, then let the answers go: what a client got is in the log, whatever happens to this process next."""
        done, self._finished = self._finished, []
        now = time.time_ns()
        records: list[Logged] = []
        aside: list[Logged] = []
        for call, frame in done:
            if call.kind != frames.PREDICT:
                continue
            latency = now - call.received_ns
            if not call.shadow:
                self.metrics.answered(call.model, call.version, frame.status, latency / 1e9)
            (aside if call.shadow else records).append(
                Logged(
                    call.id,
                    call.model,
                    call.version,
                    call.event_time,
                    call.received_ns // 1_000_000,
                    latency // 1000,
                    frame.status,
                    protocols.PROTOCOLS[call.protocol],
                    call.key,
                    call.header_length,
                    b"" if call.shadow else call.body,
                    frame.part,
                    call.named,
                )
            )
        if aside:
            self._keep_aside(aside)
        failed: SteadError | None = None
        try:
            self._log.append(records)
        except Exception as error:
            what = error.message if isinstance(error, SteadError) else f"{type(error).__name__}: {error}"
            failed = Unreachable("log-unwritable", f"the prediction could not be logged: {what}", hint="free space")
            self.metrics.refused[failed.code] += len(records)
        for call, frame in done:
            if call.future is None or call.future.done():
                continue
            if failed is not None and call.kind == frames.PREDICT:
                body = protocols.encode_error(protocols.PROTOCOLS[call.protocol], failed)
                call.future.set_result(Answer(503, body, retry=True))
            else:
                call.future.set_result(Answer(frame.status, frame.body, frame.header_length, frame.status == 503))

    def _keep_aside(self, records: list[Logged]) -> None:
        try:
            self._aside.append(records)
        except Exception:
            self.metrics.refused["shadow-unlogged"] += len(records)

    # everything else

    async def _other(self, method: str, parts: list[str], head: Head, receive: Receive) -> _Reply:
        if parts == LABELS and method == "POST":
            return await self._take_labels(head, receive)
        if parts[:2] == ["v2", "repository"] or "systemsharedmemory" in parts or "cudasharedmemory" in parts:
            raise Forbidden(
                "repository-closed", "what is served is changed by deployments only", hint="stead deploy MODEL"
            )
        if method not in ("GET", "HEAD"):
            raise _MethodNotAllowed("method-not-allowed", f"{method} is not offered at this address")
        answer = self._told(parts)
        if answer is None:
            raise NotFound("address-unknown", "there is nothing at this address", hint="POST /predict/MODEL")
        return answer

    def _told(self, parts: list[str]) -> _Reply | None:
        """Answers that only say how things are."""
        match parts:
            case ["ping"] | ["health"]:
                return 200, b"\n", [], b"text/plain"
            case ["version"]:
                return 200, _VERSION.encode(), [], b"text/plain"
            case ["metrics"]:
                return 200, self._prometheus().encode(), [], b"text/plain; version=0.0.4; charset=utf-8"
            case ["v2"]:
                return 200, _json(addresses.about_server(_VERSION)), [], _JSON
            case ["v2", "health", "live"]:
                return 200, b"", [], _JSON
            case ["v2", "health", "ready"]:
                return (200 if self.follower.ready() else 503), b"", [], _JSON
            case ["v2", "models", model, *rest]:
                return self._v2_model(model, rest)
        return None

    def _v2_model(self, model: str, rest: list[str]) -> _Reply | None:
        version = None
        if len(rest) >= 2 and rest[0] == "versions":
            version, rest = addresses.version_number(rest[1]), rest[2:]
        versions = self.follower.versions(model)
        known = bool(versions) if version is None else version in versions
        if rest == ["ready"]:
            return (200 if known else 404), b"", [], _JSON
        if rest:
            return None
        if not known:
            raise self._unknown(model) if not versions else NotFound("version-not-served", f"{model}@{version}")
        split = self.follower.splits.get(model)
        first = split.arms[0].version if split and split.arms else versions[-1]
        facts = self.follower.targets[model, first if version is None else version].facts
        about = addresses.about_model(model, versions, facts.flavor, facts.signature)
        return 200, _json(about), [], _JSON

    async def _take_labels(self, head: Head, receive: Receive) -> _Reply:
        body = await read_body(receive, head, self._limit)
        if body is None:
            raise _Gone
        try:
            read = _labels(body)
            given = read if isinstance(read, list) else [read]
            keys.check(body, sum(2 + (each.event_time is not None) + (each.source is not None) for each in given))
        except (msgspec.DecodeError, RecursionError) as error:
            raise InvalidInput(
                "labels-invalid",
                f"the labels cannot be read: {error}",
                hint='send [{"prediction_id": …, "value": …}]; event_time and source are optional',
            ) from None
        labels = [predictions.Label(*msgspec.structs.astuple(each)) for each in given]
        async with self._labels:
            receipt = await asyncio.to_thread(predictions.add_labels, self._store, labels)
        return 200, _json(receipt), [], _JSON

    def _prometheus(self) -> str:
        pools = sorted(self.follower.pools.values(), key=lambda pool: pool.launch.key)
        gauges: list[tuple[str, str, dict[str, str], float]] = []
        for name, text, value in _GAUGES:
            gauges += [(name, text, {"environment": pool.launch.key}, value(pool)) for pool in pools]
        return self.metrics.text(gauges)


_Reply = tuple[int, bytes, list[tuple[bytes, bytes]], bytes]
_GAUGES: tuple[tuple[str, str, Callable[[Pool], float]], ...] = (
    ("stead_in_flight", "Requests that are not answered yet.", lambda pool: pool.open),
    ("stead_workers", "Workers that answer.", lambda pool: sum(worker.ready for worker in pool.workers)),
    ("stead_worker_restarts", "Workers started again since the gateway began.", lambda pool: pool.restarts),
    ("stead_versions", "Versions loaded.", lambda pool: len(pool.facts)),
)


LABELS = ["labels"]
_OPEN = (["ping"], ["health"], ["v2", "health", "live"], ["v2", "health", "ready"])
"""What a load balancer may ask without a token."""


class _Label(msgspec.Struct, forbid_unknown_fields=True):
    """A label as it is sent; what its values may be says `predictions.add_labels`."""

    prediction_id: Any
    value: Any
    event_time: Any = None
    source: Any = None


_labels = msgspec.json.Decoder(list[_Label] | _Label).decode


class _Gone(Exception):
    """The client went away before its request was complete."""


class _MethodNotAllowed(InvalidInput):
    http_status = 405


def _event_time(text: str) -> int:
    digits = text.removeprefix("-")
    return checked_ms(int(text) if digits.isascii() and digits.isdigit() and len(digits) < 16 else to_ms(text))


async def _reply(
    send: Send, status: int, body: bytes, headers: Sequence[tuple[bytes, bytes]] = (), content_type: bytes = _JSON
) -> None:
    start = [(b"content-type", content_type), (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": start})
    await send({"type": "http.response.body", "body": body})
