"""Does one step on a machine of a cluster: fetches what the step needs from stead's server, runs it, and tells what comes of it.

The machine needs Python, and either a way to the packages' index or an engine for containers; this module is of the
standard library alone. It knows its step's address (`STEAD_STEP_URL`) and pass (`STEAD_STEP_PASS`), which opens nothing else.
Environments are kept in `~/.cache/stead` (or below `XDG_CACHE_HOME`) for the steps that follow. Where the server
refuses the pass, because the job was cancelled or another process keeps it, the step is ended.
"""

from __future__ import annotations

import base64
import fcntl
import http.client
import json
import os
import platform
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar

from stead.errors import Failed, SteadError, Unreachable
from stead.runtime import secrets
from stead.runtime.variables import variables

T = TypeVar("T")
BEAT_S = 5.0
"""A step that says nothing tells at least so often that it lives."""
PATIENCE_S = 600.0
"""So long the outcome of a step waits for a server that is away."""
PIECE = 1 << 20
DEVICES = (
    "CUDA_VISIBLE_DEVICES",
    "HIP_VISIBLE_DEVICES",
    "ROCR_VISIBLE_DEVICES",
    "NEURON_RT_VISIBLE_CORES",
    "TPU_VISIBLE_CHIPS",
)
"""By these Ray says which devices of its machine are the job's."""
FOLDER = "@folder@"
"""Stands in a command of the executor's for the step's folder here."""


def main(runtime: str) -> int:
    """Do the steps that the server asks for until it lets this machine go; 0, or 1 where one could not be begun."""
    server = _Server(os.environ.pop("STEAD_STEP_URL"), os.environ.pop("STEAD_STEP_PASS"))
    teller, done = _Teller(server), 0
    try:
        while True:
            told = server.asked()
            if told["asked"] == done:
                time.sleep(0.2)
                continue
            done = told["asked"]
            with tempfile.TemporaryDirectory(prefix="stead-step-", ignore_cleanup_errors=True) as name:
                _Step(server, teller, told["request"], Path(name).resolve(), Path(runtime)).do()
    except _Refused:
        return 0
    except SteadError as error:
        text = f"error: {error.message}\n" + (f"hint: {error.hint}\n" if error.hint else "")
        print(text, end="", file=sys.stderr, flush=True)
        teller.follow(None)
        teller.say(text)
        with suppress(_Refused):
            teller.outcome(1)
        return 1


class _Refused(Exception):
    """The pass opens nothing any more: the job has ended, or another process keeps it."""


class _Server:
    """The routes of one session. Each raises _Refused, Failed (`server-odd`), Unreachable (`server-unreachable`)."""

    def __init__(self, url: str, secret: str) -> None:
        self.url = url
        self._headers = {"authorization": f"Bearer {secret}"}
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open

    def asked(self) -> Any:
        """How many steps it was asked for so far, and the last of them."""

        def ask() -> Any:
            with self._ask("") as answer:
                return json.loads(answer.read())

        return _patiently(ask)

    def fetch(self, digest: str, target: Path) -> None:
        """Write a blob of the step to a file, whole or not at all."""
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".part-{target.name}")

        def fetch() -> None:
            try:
                with self._ask(f"/blobs/{digest}") as answer, open(part, "wb") as out:
                    shutil.copyfileobj(answer, out, PIECE)
                    size = int(answer.headers["x-bytes"])
            except (OSError, http.client.HTTPException) as error:
                raise Unreachable("server-unreachable", f"{digest[:12]} broke off: {error}") from None
            if part.stat().st_size != size:
                raise Unreachable("server-unreachable", f"{digest[:12]} broke off after {part.stat().st_size} bytes")

        _patiently(fetch)
        os.rename(part, target)

    def put(self, file: Path) -> str:
        """Store a file; the name of its bytes."""
        headers = {"content-length": str(file.stat().st_size), "content-type": "application/octet-stream"}

        def put() -> str:
            with open(file, "rb") as body, self._ask("/blobs", body, headers) as answer:
                return str(json.loads(answer.read())["digest"])

        return _patiently(put)

    def tell(self, message: Mapping[str, Any]) -> None:
        body = json.dumps(message).encode()
        self._ask("/messages", body, {"content-type": "application/json"}).close()

    def _ask(self, path: str, body: IO[bytes] | bytes | None = None, headers: Mapping[str, str] | None = None) -> Any:
        request = urllib.request.Request(self.url + path, data=body, headers={**self._headers, **(headers or {})})
        try:
            return self._open(request, timeout=120)
        except urllib.error.HTTPError as error:
            said = error.read()[:2000].decode(errors="replace")
            if error.code == 403 and '"pass-invalid"' in said:
                raise _Refused from None
            kind = Unreachable if error.code >= 500 else Failed
            raise kind("server-odd", f"{self.url}{path} answers {error.code}: {said[:300]}") from None
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(
                "server-unreachable",
                f"stead's server does not answer here: {self.url}: {getattr(error, 'reason', error)}",
                hint="server_url in [settings] of stead.toml is its address for the machines of the cluster",
            ) from None


def _patiently(call: Callable[[], T]) -> T:
    """What a call gives, which is tried again for long while the server is away. Raises _Refused, Failed, Unreachable."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            return call()
        except Unreachable:
            if time.monotonic() > until:
                raise
            time.sleep(2)


class _Teller:
    """Tells the server what the step says and logs, from a thread; nothing is told twice, and nothing is left out."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self._seq = 0
        self._text: list[str] = []
        self._waiting: dict[str, Any] | None = None
        self._told_at = 0.0
        self._journal: Path | None = None
        self._places: dict[str, int] = {}
        self._files: set[str] = set()
        self._lock = threading.Lock()
        self._outcome: dict[str, Any] | None = None
        self._told = threading.Event()
        self.refused = threading.Event()
        self.secrets: tuple[str, ...] = ()
        """Values that the step was given; nothing that is told has them."""
        self._thread = threading.Thread(target=self._beats, name="teller", daemon=True)
        self._thread.start()

    def say(self, text: str) -> None:
        with self._lock:
            self._text.append(secrets.hidden_text(text, self.secrets))

    def follow(self, journal: Path | None) -> None:
        """From now on carry what is written to a journal's folder, or to none."""
        with self._lock:
            self._journal, self._places, self._files = journal, {}, set()

    def outcome(self, code: int, outputs: Mapping[str, Any] | None = None) -> None:
        """Tell the rest, then how the step has ended. Raises _Refused, Unreachable (`server-unreachable`)."""
        self._told.clear()
        with self._lock:
            self._outcome = {"code": code, "outputs": outputs}
        until = time.monotonic() + PATIENCE_S
        while not self._told.wait(0.5):
            if self.refused.is_set():
                raise _Refused
            if time.monotonic() > until:
                raise Unreachable("server-unreachable", "the outcome of the step could not be told")
        self.follow(None)

    def _beats(self) -> None:
        while not self.refused.is_set():
            if self._waiting is None:
                with self._lock, suppress(FileNotFoundError):  # a step that could not be done is cleared away
                    self._waiting = self._next()
            if self._waiting is None:
                time.sleep(0.2)
            elif not self._deliver():
                time.sleep(2)

    def _deliver(self) -> bool:
        assert self._waiting is not None
        try:
            upload = self._waiting.get("upload", {})
            for name in list(upload):
                self._waiting.setdefault("files", []).append([name, self._server.put(upload[name])])
                self._files.add(name)
                del upload[name]
            self._server.tell({"seq": self._seq + 1} | {k: v for k, v in self._waiting.items() if k != "upload"})
        except _Refused:
            self.refused.set()
            return False
        except (SteadError, OSError):
            return False
        ended = "code" in self._waiting
        self._seq, self._waiting, self._told_at = self._seq + 1, None, time.monotonic()
        if ended:
            self._told.set()
        return True

    def _next(self) -> dict[str, Any] | None:
        """The next message, if there is something to tell; an empty one where nothing was told for long."""
        text = "".join(self._text)
        text, self._text = text[:PIECE], [text[PIECE:]] if len(text) > PIECE else []
        said: dict[str, Any] = {"text": text} if text else {}
        if self._journal is not None and self._journal.is_dir():
            grown, room = [], 4 * PIECE
            for log in sorted(self._journal.glob("*.log")):
                at = self._places.get(log.name, 0)
                with open(log, "rb") as file:
                    file.seek(at)
                    piece = file.read(min(room, PIECE))
                if piece:
                    grown.append([log.name, at, base64.b64encode(piece).decode()])
                    self._places[log.name] = at + len(piece)
                    room -= len(piece)
            # a record that names a file is written after it: whoever has the record finds the file
            new = {f"files/{file.name}": file for file in sorted((self._journal / "files").glob("[0-9a-f]*"))}
            new = {name: file for name, file in new.items() if name not in self._files}
            said |= ({"journal": grown} if grown else {}) | ({"upload": new} if new else {})
        if said:
            return said
        outcome, self._outcome = self._outcome, None
        return outcome or ({} if time.monotonic() - self._told_at > BEAT_S else None)


class _Step:
    def __init__(
        self, server: _Server, teller: _Teller, request: Mapping[str, Any], folder: Path, runtime: Path
    ) -> None:
        self.server = server
        self.teller = teller
        self.request = request
        self.folder = folder
        self.journal = folder / "journal"
        with zipfile.ZipFile(runtime) as archive:
            archive.extractall(folder / "runtime")

    def do(self) -> None:
        """Run the step and tell what it made. Raises _Refused, SteadError where it could not be begun."""
        environ = self._variables()
        environ |= {name: value.replace(FOLDER, str(self.folder)) for name, value in self.request["env"].items()}
        names = environ.get(secrets.NAMES, "").split(",")
        self.teller.secrets = tuple(environ[name] for name in names if environ.get(name))
        image = self.request["image"]
        command = self._contained(image, environ) if image else self._here(environ)
        for name, digest in self.request["code"].items():
            self.server.fetch(digest, self.folder / "code" / name)
        for name, digest in self.request["inputs"].items():
            self.server.fetch(digest, self.folder / "in" / name)
        (self.folder / "out").mkdir()
        spec = json.dumps(self.request["spec"]).replace(FOLDER, str(self.folder))
        (self.folder / "spec.json").write_text(spec)
        if image and os.getuid() == 0:
            _own(self.folder, image["user"])
        self.teller.follow(self.journal)
        code = self._run(command, environ, image)
        if self.teller.refused.is_set():
            raise _Refused
        outputs = {name: self._kept(self.folder / "out" / name) for name in self.request["outputs"]} if not code else {}
        self.teller.outcome(code, outputs)

    def _variables(self) -> dict[str, str]:
        """Those of this machine that a step may see, and the step's own. Secrets are looked up here: they travel by name."""
        given = self.request["variables"]
        try:
            seen = variables(allow=given["allow"], extra=given["set"], threads=given["threads"])
        except Failed as error:
            hint = "a secret is looked up on the machine of the step: it must be there when `ray start` is run"
            raise Failed(error.code, f"on {platform.node()}: {error.message}", hint=hint) from None
        return {name: os.environ[name] for name in DEVICES if name in os.environ} | seen

    def _kept(self, path: Path) -> Any:
        """A file as its blob, a folder as path → blob and bytes. Raises what `put` raises."""
        if not path.is_dir():
            return self.server.put(path)
        files = sorted(each for each in path.rglob("*") if each.is_file() and "__pycache__" not in each.parts)
        return {each.relative_to(path).as_posix(): [self.server.put(each), each.stat().st_size] for each in files}

    def _run(self, command: Sequence[str], environ: Mapping[str, str], image: Any) -> int:
        alive, hold = os.pipe()
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env={**os.environ, **environ} if image else {**environ, "STEAD_ALIVE_FD": str(alive)},
            stdin=subprocess.PIPE if image else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(alive,),
            start_new_session=True,
        )
        os.close(alive)
        try:
            for text in _lines(process):
                if text:
                    self.teller.say(text)
                if self.teller.refused.is_set():
                    break
            else:
                return process.wait()
            return 1
        finally:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                if image:
                    subprocess.run(
                        [*_engine(image), "rm", "--force", self.folder.name], capture_output=True, check=False
                    )
                process.wait()
            os.close(hold)

    def _here(self, environ: dict[str, str]) -> list[str]:
        python = self._environment()
        environ["PYTHONPATH"] = str(self.folder / "runtime")
        return [*self.request["around"], str(python), "-m", "stead.runtime.step", str(self.folder / "spec.json")]

    def _contained(self, image: Mapping[str, Any], environ: Mapping[str, str]) -> list[str]:
        """The command of the engine, with the image in it."""
        engine = _engine(image)
        if subprocess.run([*engine, "image", "inspect", image["name"]], capture_output=True, check=False).returncode:
            self.teller.say(f"fetching the image {image['name']}\n")
            archive = self.folder / "image.tar"
            self.server.fetch(image["archive"], archive)
            done = subprocess.run(
                [*engine, "load", "--input", str(archive)], capture_output=True, text=True, check=False
            )
            archive.unlink()
            if done.returncode:
                last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["it says nothing"]
                raise Failed("engine-failed", f"{engine[0]} could not take the image: {last[0][:400]}")
        uid, gid = os.getuid(), os.getgid()
        keep = ["--userns=keep-id"] if os.path.basename(engine[0]) == "podman" else []
        parts = {
            "@engine@": engine,
            "@user@": [f"--user={uid}:{gid}", *keep] if uid else [],
            "--env=@env@": [f"--env={name}" for name in sorted(environ) if name not in image["outside"]],
            "--name=@container@": [f"--name={self.folder.name}"],
        }
        command: list[str] = []
        for each in image["command"]:
            command += parts.get(each, [each.replace(FOLDER, str(self.folder))])
        return command

    def _environment(self) -> Path:
        """The interpreter of the step's environment, which is made where it is missing, whole or not at all."""
        wanted = self.request["environment"]
        here = f"{sys.platform}-{platform.machine()}"
        if here != wanted["platform"]:
            raise Failed(
                "environment-platform",
                f"the environment is locked for {wanted['platform']}, and {platform.node()} is {here}",
                hint="resources of the model's training can name machines that fit",
            )
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stead"
        target = cache / "environments" / str(wanted["digest"])[:16]
        python = target / "bin" / "python"
        with _locked(target):
            if not python.exists():
                self.teller.say(f"creating environment {wanted['digest'][:12]} on {platform.node()}\n")
                shutil.rmtree(target, ignore_errors=True)
                building = target.with_name(f".{target.name}")
                shutil.rmtree(building, ignore_errors=True)
                self._build(cache, wanted, building)
                os.rename(building, target)
        return python

    def _build(self, cache: Path, wanted: Mapping[str, Any], building: Path) -> None:
        uv = cache / "uv" / wanted["uv"]
        if not uv.exists():
            self.server.fetch(wanted["uv"], uv)
            uv.chmod(0o755)
        self._uv(
            [
                str(uv),
                "venv",
                "--quiet",
                "--relocatable",
                "--no-project",
                "--no-config",
                "--python",
                wanted["python"],
                str(building),
            ]
        )
        wheels = self.folder / "wheels"
        self.server.fetch(wanted["lock"], wheels / "lock.txt")
        for name, digest in wanted["wheels"]:
            self.server.fetch(digest, wheels / name)
        sync = [
            str(uv),
            "pip",
            "sync",
            "--quiet",
            "--require-hashes",
            "--find-links",
            str(wheels),
            "--python",
            str(building / "bin" / "python"),
        ]
        sync += ["--no-index"] if wanted["whole"] else []
        self._uv([*sync, str(wheels / "lock.txt")])
        shutil.rmtree(wheels)

    def _uv(self, command: Sequence[str]) -> None:
        done = subprocess.run(
            [*command, "--color", "never", "--no-progress"],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode:
            said = done.stderr.strip()
            self.teller.say(said + "\n")
            last = said.splitlines()[-1:] or [f"it ended with {done.returncode}"]
            raise Failed(
                "environment-failed", f"the environment could not be made on {platform.node()}: {last[0].strip()[:400]}"
            )


def _engine(image: Mapping[str, Any]) -> list[str]:
    """The engine that the settings name, else podman or docker, whichever is here."""
    for each in image["engines"]:
        if shutil.which(each[0]):
            return list(each)
    names = " nor ".join(each[0] for each in image["engines"])
    raise Failed("engine-missing", f"{platform.node()} has no {names}", hint="apt-get install podman")


def _own(folder: Path, user: int) -> None:
    """Give what lies in a folder to the user inside the image."""
    for path in (folder, *folder.rglob("*")):
        os.chown(path, user, user, follow_symlinks=False)


def _lines(process: subprocess.Popen[bytes]) -> Iterator[str]:
    """Its output by whole lines until it ends, and an empty text five times a second."""
    assert process.stdout is not None
    fd, rest = process.stdout.fileno(), b""
    os.set_blocking(fd, False)
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        while True:
            piece = b"" if not selector.select(0.2) else _read(fd)
            if piece:
                whole, newline, rest = (rest + piece).rpartition(b"\n")
                yield (whole + newline).decode(errors="replace")
                continue
            if process.poll() is not None:
                yield (rest + (_read(fd) or b"")).decode(errors="replace")
                return
            yield ""


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except BlockingIOError:
        return b""


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target.with_name(f"{target.name}.lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
