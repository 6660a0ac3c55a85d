"""A load generator in a process of its own: keeps N connections busy, one request each at a time, and checks every answer.

`python benchmarks/load.py PLAN.json` prints one JSON line. The plan: host, port, connections, seconds, warmup_s,
path, headers, bodies (texts), expected (numbers, by body), at (where the number stands in the answer, `predictions.0`).
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any

import msgspec
import uvloop

_decode = msgspec.json.decode


class Connection(asyncio.Protocol):
    """Sends a request, waits for its answer, checks it, sends the next."""

    def __init__(self, load: Load, number: int) -> None:
        self.load = load
        self.at = number
        self.buffer = b""
        self.transport: Any = None
        self.sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.send()

    def send(self) -> None:
        self.at = (self.at + 1) % len(self.load.requests)
        self.sent_at = time.perf_counter()
        self.transport.write(self.load.requests[self.at])

    def data_received(self, data: bytes) -> None:
        if self.buffer:
            data = self.buffer + data
        end = data.find(b"\r\n\r\n")
        if end < 0:
            self.buffer = data
            return
        head = data[:end].lower()
        start = head.find(b"content-length:")
        if start < 0:
            raise RuntimeError(f"an answer without content-length: {head!r}")
        stop = head.find(b"\r\n", start)
        length = int(head[start + 15 : stop if stop > 0 else end])
        if len(data) < end + 4 + length:
            self.buffer = data
            return
        self.buffer = b""
        now = time.perf_counter()
        self.load.answered(self.at, now - self.sent_at, data[9:12], data[end + 4 :], now)
        if now < self.load.until:
            self.send()
        else:
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self.load.closed(self)


class Load:
    def __init__(self, plan: dict[str, Any]) -> None:
        self.plan = plan
        head = f"POST {plan['path']} HTTP/1.1\r\nHost: {plan['host']}:{plan['port']}\r\n" + "".join(
            f"{name}: {value}\r\n" for name, value in plan["headers"].items()
        )
        self.requests = [
            f"{head}Content-Length: {len(body.encode())}\r\n\r\n{body}".encode() for body in plan["bodies"]
        ]
        self.expected = plan["expected"]
        self.way = [int(step) if step.isdigit() else step for step in plan["at"].split(".")] if plan["at"] else []
        self.latencies: list[float] = []
        self.count = self.failed = self.wrong = self.lost = 0
        self.examples: list[str] = []
        self.counted_from = self.until = 0.0
        self.open: set[Connection] = set()
        self.done = asyncio.Event()

    def answered(self, at: int, seconds: float, status: bytes, body: bytes, now: float) -> None:
        self.count += 1
        good = status == b"200"
        if good:
            value = _decode(body)
            for step in self.way:
                value = value[step]
            if abs(value - self.expected[at]) > 1e-6:
                self.wrong += 1
                good = False
        else:
            self.failed += 1
        if not good and len(self.examples) < 3:
            self.examples.append(f"{status.decode()} {body[:300].decode('utf-8', 'replace')}")
        if now >= self.counted_from:
            self.latencies.append(seconds)

    def closed(self, connection: Connection) -> None:
        self.open.discard(connection)
        if time.perf_counter() < self.until:
            self.lost += 1
            self.again = asyncio.ensure_future(self.connect(connection.at))
        elif not self.open:
            self.done.set()

    async def connect(self, number: int) -> None:
        connection = Connection(self, number)
        self.open.add(connection)
        try:
            await asyncio.get_running_loop().create_connection(lambda: connection, self.plan["host"], self.plan["port"])
        except OSError:
            await asyncio.sleep(0.02)
            self.closed(connection)

    async def run(self) -> dict[str, Any]:
        begun = time.perf_counter()
        self.counted_from = begun + self.plan["warmup_s"]
        self.until = self.counted_from + self.plan["seconds"]
        await asyncio.gather(*(self.connect(n * 7) for n in range(self.plan["connections"])))
        try:
            async with asyncio.timeout(self.plan["seconds"] + self.plan["warmup_s"] + 30):
                await self.done.wait()
        except TimeoutError:
            self.lost += len(self.open)
        seen = sorted(self.latencies)
        return {
            "requests": len(seen),
            "all": self.count,
            "rps": len(seen) / self.plan["seconds"],
            "p50_ms": seen[len(seen) // 2] * 1000 if seen else None,
            "p99_ms": seen[int(len(seen) * 0.99)] * 1000 if seen else None,
            "max_ms": seen[-1] * 1000 if seen else None,
            "failed": self.failed,
            "wrong": self.wrong,
            "lost": self.lost,
            "examples": self.examples,
        }


def main() -> None:
    with open(sys.argv[1]) as file:
        plan = json.load(file)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:

        async def go() -> dict[str, Any]:
            return await Load(plan).run()

        print(json.dumps(runner.run(go())))


if __name__ == "__main__":
    main()
