"""Real engines and registries: podman, Debian's docker-registry, a proxy that fails on purpose, and a registry that answers nonsense."""

from __future__ import annotations

import atexit
import base64
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import IO
from urllib.parse import parse_qs, urlsplit

import httpx

from stead.images import Engine
from tests.conftest import free_ports, needs

OPTIONS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
"""What podman needs where limits are not ours."""


@cache
def podman() -> Engine:
    """podman with images of its own, by overlay where that may be mounted: else every container is a copy of its image."""
    needs("podman and runc", all(map(shutil.which, ("podman", "runc"))), "apt-get install podman runc")
    root = tempfile.mkdtemp(prefix="stead-podman-")
    atexit.register(_forget, root)
    probe = Path(root) / "probe"
    for name in ("lower", "upper", "work", "merged"):
        (probe / name).mkdir(parents=True)
    told = f"lowerdir={probe / 'lower'},upperdir={probe / 'upper'},workdir={probe / 'work'}"
    mount = ["mount", "-t", "overlay", "overlay", "-o", told, str(probe / "merged")]
    overlay = subprocess.run(mount, capture_output=True).returncode == 0
    if overlay:
        subprocess.run(["umount", str(probe / "merged")], check=True)
    place = ["--root", f"{root}/images", "--runroot", f"{root}/run"]
    driver = ["--storage-driver", "overlay" if overlay else "vfs"]
    return Engine(("podman", *place, *driver, "--runtime", "runc"), OPTIONS)


def _forget(root: str) -> None:
    subprocess.run(["umount", f"{root}/images/overlay"], capture_output=True)
    shutil.rmtree(root, ignore_errors=True)


def names(prefix: str) -> list[str]:
    """Containers that run, by their names."""
    command = [*podman().command, "ps", "--format", "{{.Names}}"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return [name for name in listed if name.startswith(prefix)]


@contextmanager
def container(image: str, *options: str, name: str = "") -> Iterator[str]:
    """A container that serves, as one would run it by hand; its address."""
    (port,) = free_ports(1)
    name = name or f"stead-test-{uuid.uuid4().hex[:8]}"
    engine = podman()
    command = [*engine.command, "run", "--rm", "--name", name, "--network", "host", "--env", f"PORT={port}", *options]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([*command, *engine.options, image], stdout=log, stderr=log)
        try:
            wait_for(f"http://127.0.0.1:{port}/health", process, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            subprocess.run([*engine.command, "rm", "--force", "--time", "0", name], capture_output=True)
            process.wait(30)


def wait_for(url: str, process: subprocess.Popen[bytes], log: IO[bytes] | None = None, seconds: float = 180) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            httpx.get(url, verify=False)
            return
        except httpx.TransportError:
            if process.poll() is not None:
                told = os.pread(log.fileno(), 1 << 16, 0).decode() if log else ""
                raise AssertionError(f"it ended with {process.returncode}: {told}") from None
            time.sleep(0.05)
    raise AssertionError(f"no answer from {url}")


@contextmanager
def registry(folder: Path, *settings: str) -> Iterator[str]:
    """Debian's docker-registry with its files in a folder; `settings` are further lines of its configuration."""
    needs("docker-registry", shutil.which("docker-registry") is not None, "apt-get install docker-registry")
    (port,) = free_ports(1)
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["version: 0.1", "log: {level: error}", f"storage: {{filesystem: {{rootdirectory: {folder / 'data'}}}}}"]
    lines += [f"http: {{addr: '127.0.0.1:{port}'}}", *settings]
    (folder / "config.yml").write_text("\n".join(lines))
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(["docker-registry", "serve", str(folder / "config.yml")], stdout=log, stderr=log)
    try:
        wait_for(f"http://127.0.0.1:{port}/", process)
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


class Trouble:
    """A proxy before a registry. `plan` says what happens to the next requests of a method: a status to answer with, or
    after how many bytes of a body to cut off."""

    def __init__(self, upstream: str) -> None:
        self.plan: list[tuple[str, str, int]] = []
        """Method, `status` or `cut`, number."""
        self.seen: list[str] = []
        self._upstream = upstream
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """One request a connection."""
        with client, client.makefile("rb") as incoming:
            request = incoming.readline()
            if not request:
                return
            method = request.split()[0].decode()
            self.seen.append(request.decode().strip())
            headers = []
            while (line := incoming.readline()) not in (b"\r\n", b""):
                if not line.lower().startswith(b"connection:"):
                    headers.append(line)
            todo = next((each for each in self.plan if each[0] == method), None)
            if todo is not None:
                self.plan.remove(todo)
                if todo[1] == "status":
                    said = b'{"errors":[{"message":"on purpose"}]}'
                    head = b"HTTP/1.1 %d No\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % (todo[2], len(said))
                    client.sendall(head + said)
                    return
            host, _, port = self._upstream.partition(":")
            with socket.create_connection((host, int(port))) as server:
                server.sendall(request + b"".join(headers) + b"Connection: close\r\n\r\n")
                size = next((int(h.split(b":")[1]) for h in headers if h.lower().startswith(b"content-length:")), 0)
                sends = method in ("PATCH", "PUT", "POST")
                if todo is not None and sends:
                    server.sendall(incoming.read(min(size, todo[2])))
                    time.sleep(0.2)
                    return
                while size > 0 and (piece := incoming.read(min(size, 1 << 16))):
                    server.sendall(piece)
                    size -= len(piece)
                left = todo[2] if todo is not None else 1 << 60
                while left > 0 and (piece := server.recv(min(left, 1 << 16))):
                    client.sendall(piece)
                    left -= len(piece)


Answer = tuple[int, dict[str, str], bytes | Iterator[bytes]]


@dataclass(frozen=True)
class Odd:
    """A registry that answers what it is told to."""

    address: str
    asked: list[str]
    """`GET /path`, and `closed` where an answer was not read to its end."""
    passwords: list[str]


@contextmanager
def odd_registry(answers: Callable[[str], Answer]) -> Iterator[Odd]:
    """`answers` gets `GET /path`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            line = f"{self.command} {self.path}"
            odd.asked.append(line)
            odd.passwords.extend(filter(None, [self.headers.get("Authorization")]))
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode(errors="replace")
            if "refresh_token=" in body:
                odd.passwords.append(body)
            status, headers, data = answers(line)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                for piece in [data] if isinstance(data, bytes) else data:
                    self.wfile.write(piece)
            except ConnectionError:
                odd.asked.append("closed")

        do_HEAD = do_POST = do_PATCH = do_PUT = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    odd = Odd(f"127.0.0.1:{server.server_port}", [], [])
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield odd
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def auth_file(folder: Path, **entries: str) -> Path:
    """docker's file of passwords: host and `user:password`."""
    auths = {host: {"auth": base64.b64encode(told.encode()).decode()} for host, told in entries.items()}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"auths": auths}))
    return folder


@contextmanager
def token_service(folder: Path, user: str, password: str) -> Iterator[tuple[str, Path, list[list[str]]]]:
    """What a registry with tokens points to: its address, the certificate of its key, and the scopes that it was asked for."""
    key, certificate = folder / "token.key", folder / "token.crt"
    subject = ["-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=stead-test", "-days", "9"]
    made = ["openssl", "req", *subject, "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(made, check=True, capture_output=True)
    der = "".join(certificate.read_text().splitlines()[1:-1])
    scopes: list[list[str]] = []

    class Service(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            expected = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
            wanted = parse_qs(urlsplit(self.path).query)
            scopes.append(wanted["scope"])
            if self.headers.get("Authorization") != expected:
                self.send_error(401)
                return
            access = [
                {"type": kind, "name": name, "actions": actions.split(",")}
                for kind, name, actions in (scope.split(":") for scope in wanted["scope"])
            ]
            now = int(time.time())
            claims = {"iss": "stead-test", "sub": user, "aud": wanted["service"][0], "exp": now + 600, "nbf": now - 60}
            claims |= {"iat": now, "jti": uuid.uuid4().hex, "access": access}
            parts = [{"typ": "JWT", "alg": "RS256", "x5c": [der]}, claims]
            text = b".".join(_b64url(json.dumps(part).encode()) for part in parts)
            sign = ["openssl", "dgst", "-sha256", "-sign", str(key)]
            signature = subprocess.run(sign, input=text, check=True, capture_output=True).stdout
            body = json.dumps({"token": (text + b"." + _b64url(signature)).decode()}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/token", certificate, scopes
    finally:
        server.shutdown()
        server.server_close()


def _b64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
