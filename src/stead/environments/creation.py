"""Making an environment on this machine, whole or not at all, and the part of stead that runs in every one."""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

import blake3
from packaging.utils import canonicalize_name

from stead import errors
from stead.environments.bytecode import borrow
from stead.environments.interpreters import without_python
from stead.environments.locking import here
from stead.environments.operations import get
from stead.environments.types import Environment
from stead.environments.uv import Progress, UvFailed, failed, run_uv
from stead.environments.vendoring import foreign, vendored
from stead.errors import Failed, Unreachable
from stead.runtime.failpoints import check_registered, failpoint
from stead.runtime.ids import new_id
from stead.store import Store


def ensure(store: Store, digest: str, *, progress: Progress | None = None) -> Path:
    """The interpreter of an environment, which is created where it is missing: about a second when its packages are cached.

    Two processes that ask at once share one build; a build that was killed leaves nothing that looks finished,
    and what it left is removed by the next build of any environment.
    Raises NotFound (`environment-unknown`), Unreachable (`index-unreachable`), Failed (`environment-platform`,
    `environment-failed`, `disk-full`).
    """
    if len(digest) == 64 and (ready := _interpreter(_folder(store, digest))):
        return ready
    environment = get(store, digest)
    target = _folder(store, environment.digest)
    if ready := _interpreter(target):
        return ready
    if why := foreign(store, environment):
        raise Failed(
            "environment-platform",
            why,
            hint="lock here what it was locked from: stead env build requirements.txt; or train a version of it once more, "
            "locked here: stead rerun MODEL@VERSION --env .",
        )
    say = progress or (lambda _line: None)
    with _locked(target, say):
        if ready := _interpreter(target):
            return ready
        say(f"creating environment {environment.digest[:12]} ({len(environment.packages)} packages)")
        with _place(target.parent, environment.python) as building:
            _build(store, environment, building, progress)
            if target.exists():  # its base interpreter is gone
                shutil.rmtree(target)
            move(building, target, "environments.ensure")
        if environment.python == here()[0]:
            _lend(target, environment.python)
    made = _interpreter(target)
    if made is None:
        raise Failed("environment-failed", f"the environment {environment.digest[:12]} has no interpreter")
    return made


def made(store: Store, digest: str) -> Path | None:
    """The interpreter of an environment that is made on this machine, else None."""
    return _interpreter(_folder(store, digest))


def runtime_path(store: Store) -> Path:
    """The folder for the PYTHONPATH of a job or worker: `stead` as far as it runs there, made once per content."""
    content = runtime_files()
    hasher = blake3.blake3()
    for name, data in content.items():
        hasher.update(f"{name}\0{len(data)}\0".encode() + data)
    target = (store.root / "runtime").resolve() / hasher.hexdigest()[:16]
    if target.is_dir():
        return target
    building = target.parent / f".{target.name}-{new_id()[-12:]}"
    try:
        for name, data in content.items():
            path = building / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        try:
            move(building, target, "environments.runtime")
        except OSError:
            if not target.is_dir():
                raise
    except OSError as error:
        raise Failed(
            "disk-full", f"could not write {target}: {error.strerror}", hint="free space and try again"
        ) from None
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return target


def runtime_files() -> dict[str, bytes]:
    """`stead` as far as it runs in a model's environment: path and content, in the same order always."""
    source = Path(errors.__file__).parent
    files = [source / "__init__.py", source / "errors.py", *sorted((source / "runtime").rglob("*.py"))]
    files += [source / "stats" / "__init__.py", source / "stats" / "losses.py"]
    return {path.relative_to(source.parent).as_posix(): path.read_bytes() for path in files}


def move(source: Path, target: Path, point: str) -> None:
    """Rename a finished folder to its name; what dies before leaves nothing under that name."""
    check_registered(point)
    failpoint(f"{point}:before")
    os.rename(source, target)
    failpoint(f"{point}:after")


def _folder(store: Store, digest: str) -> Path:
    """The folder of environments may be a link: stores that share one share its processes, too."""
    return (store.root / "environments").resolve() / digest[:16]


def _interpreter(folder: Path) -> Path | None:
    path = folder / "bin" / "python"
    return path if path.exists() else None  # a link to an interpreter that is gone does not exist


@contextmanager
def _place(folder: Path, python: str) -> Iterator[Path]:
    """A folder to build in that is this process's own as long; what killed builds left in it and in others is removed.

    Places are few and used again: uv starts an interpreter that lies where it has seen none, which takes a third of a build.
    """
    for left in folder.glob(".3.*"):
        with _lock_file(folder / left.name[1:]) as file, suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left, ignore_errors=True)
    for number in count():
        with _lock_file(folder / f"{python}-{number}") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            building = folder / f".{python}-{number}"
            try:
                yield building
            finally:
                shutil.rmtree(building, ignore_errors=True)
            return


@contextmanager
def _locked(target: Path, say: Progress) -> Iterator[None]:
    target.parent.mkdir(parents=True, exist_ok=True)
    with _lock_file(target) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process creates this environment: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _lock_file(target: Path) -> Iterator[int]:
    """Open the file whose lock a builder of `target` holds; closing it gives the lock back."""
    file = os.open(target.parent / f"{target.name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield file
    finally:
        os.close(file)


def _build(store: Store, environment: Environment, building: Path, progress: Progress | None) -> None:
    python = sys.executable if environment.python == here()[0] else environment.python
    wheels = building / ".wheels"
    doing = f"create the environment {environment.digest[:12]}"
    try:
        try:
            _venv(store, python, building)
        except (UvFailed, Unreachable):
            if why := without_python(environment.python):
                hint = f"uv python install {environment.python}"
                raise Failed("environment-failed", f"could not {doing}: {why}", hint=hint) from None
            raise
        wheels.mkdir()
        for wheel in environment.wheels:
            store.blobs.fetch(wheel.digest, wheels / wheel.filename)
        (wheels / "lock.txt").write_bytes(store.blobs.get(environment.lock))
        command = ["pip", "sync", "--require-hashes", "--link-mode", "hardlink", "--find-links", str(wheels)]
        command += ["--python", str(building / "bin" / "python"), str(wheels / "lock.txt")]
        try:
            run_uv([*command, "--offline"])  # what is cached is checked by its hashes, and asks no index
        except (UvFailed, Unreachable):
            kept = vendored(store, environment)
            for wheel in kept:
                store.blobs.fetch(wheel.digest, wheels / wheel.filename)
            whole = environment.packages.keys() <= {
                canonicalize_name(each.name) for each in (*kept, *environment.wheels)
            }
            run_uv([*command, "--offline", "--no-index"] if whole else command, progress=progress)
    except UvFailed as error:
        failed(error, doing, hint=f"stead env show {environment.digest[:12]}")
    except OSError as error:
        raise Failed("disk-full", f"could not {doing}: {error.strerror}", hint="free space and try again") from None
    shutil.rmtree(wheels)


def _venv(store: Store, python: str, place: Path) -> None:
    """An environment with nothing in it; that of this interpreter is copied from the first one that uv made. Raises what uv and the disk raise."""
    command = ["venv", "--quiet", "--relocatable", "--no-project", "--no-config", "--python", python, str(place)]
    base = os.stat(python).st_mtime_ns if python == sys.executable else 0
    key = blake3.blake3(f"{python} {base} {sys.version} {sys.prefix}".encode()).hexdigest()[:16]
    first = store.root / "cache" / f"venv-{key}"
    if base and first.is_dir():
        shutil.copytree(first, place, symlinks=True)
        return
    run_uv(command)
    if base:
        copy = first.with_name(f".{first.name}-{new_id()[-12:]}")
        with suppress(OSError):  # another process was first, or the disk is full
            shutil.copytree(place, copy, symlinks=True)
            os.rename(copy, first)
        shutil.rmtree(copy, ignore_errors=True)


def _lend(target: Path, python: str) -> None:
    """Have compiled modules taken over, beside what the environment is made for: who imports one before compiles it, no more."""
    site = f"lib/python{python}/site-packages"
    others = (path for path in target.parent.iterdir() if path.name[0] != "." and path.is_dir() and path != target)
    lenders = [Path(sysconfig.get_path("purelib")), *sorted(path / site for path in others)[:8]]
    threading.Thread(target=borrow, args=(target / site, lenders), name="bytecode").start()
