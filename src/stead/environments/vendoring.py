"""The wheels of a lock: where the index has them, whether they can still be had, and copies that the store keeps.

An index may withdraw a file. A lock whose wheels are kept (`stead env vendor`) is made without any index. Copies come from the index
alone: this machine has what uv unpacked, not the files themselves, whose hashes a lock names.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import sqlalchemy as sa
from packaging.utils import canonicalize_name, parse_wheel_filename

from stead import jobs
from stead.environments.lockfile import parse_hashes
from stead.environments.locking import here, workspace
from stead.environments.operations import get
from stead.environments.tables import environment_wheels
from stead.environments.types import Environment, Wheel
from stead.environments.uv import UvFailed, failed, run_uv
from stead.errors import Failed, NotFound, SteadError, Unreachable
from stead.jobs import Keeper
from stead.runtime.clock import now_ms
from stead.store import Store

TIMEOUT_S = 3600


@dataclass(frozen=True)
class Found:
    """A wheel of a lock as the index has it."""

    name: str
    version: str
    filename: str
    url: str
    sha256: str


def vendor(store: Store, digest: str) -> jobs.Job:
    """Queue keeping the wheels of an environment in the store, so that it can be made whatever becomes of the index.

    Raises NotFound (`environment-unknown`).
    """
    environment = get(store, digest)
    return jobs.enqueue(
        store, "vendor", {"environment": environment.digest}, key=f"vendor:{environment.digest}", timeout_s=TIMEOUT_S
    )


def run_vendor(store: Store, keeper: Keeper) -> dict[str, Any]:
    """The handler of `vendor` jobs. A second attempt goes on with what is not kept yet.

    Raises Failed (`wheels-missing`) naming what has no wheel at the index, Unreachable (`index-unreachable`) naming what is not kept
    yet; the others are kept.
    """
    environment = get(store, keeper.job.payload["environment"])
    lacking = _lacking(store, environment)
    pins = {name: environment.packages[name] for name in lacking}
    try:
        found, missing = locate(
            pins, _hashes(store, environment), python=environment.python, platform=environment.platform
        )
    except Unreachable as error:
        message = f"{error.message}; not kept yet: {', '.join(lacking)}"
        raise Unreachable("index-unreachable", message, hint=error.hint) from None
    new = 0
    with workspace() as folder:
        for number, each in enumerate(found):
            keeper.report(f"keeping {each.filename}", number, len(found))
            keeper.check()
            try:
                path = fetch(each, folder / "wheels")
            except NotFound:
                missing[each.name] = f"{each.version} is not at the index any more"
                continue
            new += 1
            row = {
                "sha256": each.sha256, "filename": each.filename, "digest": store.blobs.put(path), "bytes": path.stat().st_size, "at": now_ms(),
            }  # fmt: skip
            path.unlink()
            with keeper.write("environments.vendor") as tx:
                store.db.upsert(tx, environment_wheels, row, ["sha256"])
    _refuse(environment, missing)
    kept = vendored(store, environment)
    told = {"environment": environment.digest, "kept": len(kept), "new": new}
    keeper.report(f"{len(kept)} wheels are kept, {new} of them new", new, new)
    return told


def vendored(store: Store, environment: Environment) -> list[Wheel]:
    """The wheels of a lock that the store has copies of, whose bytes are there."""
    wanted = {sha256: name for name, hashes in _hashes(store, environment).items() for sha256 in hashes}
    kept = []
    with store.db.read() as tx:
        for row in _in_blocks(tx, sorted(wanted)):
            if store.blobs.has(row.digest):
                name = wanted[row.sha256]
                kept.append(Wheel(name, environment.packages[name], row.filename, row.digest))
    return kept


def _in_blocks(tx: sa.Connection, wanted: Sequence[str]) -> Iterator[Any]:
    for start in range(0, len(wanted), 500):
        some = wanted[start : start + 500]
        yield from tx.execute(sa.select(environment_wheels).where(environment_wheels.c.sha256.in_(some)))


def unobtainable(store: Store, environment: Environment) -> dict[str, str]:
    """What of an environment can't be had again, by package: neither kept in the store, nor cached here, nor at the index.

    It is asked before anything is run. Raises nothing: an index that does not answer has nothing.
    """
    gone = {wheel.name: "is gone from the store" for wheel in environment.wheels if not store.blobs.has(wheel.digest)}
    lacking = _lacking(store, environment)
    pins = {name: environment.packages[name] for name in lacking}
    if not pins or _cached(pins, _hashes(store, environment)):
        return gone
    try:
        _, missing = locate(pins, _hashes(store, environment), python=environment.python, platform=environment.platform)
    except Unreachable:
        missing = dict.fromkeys(pins, "is neither kept nor cached, and the index does not answer")
    return gone | missing


def without_wheels(store: Store, environment: Environment, platform: str) -> dict[str, str]:
    """What of a lock has no wheel for another platform than its own, and why, by package. Raises Unreachable (`index-unreachable`)."""
    own = {canonicalize_name(wheel.name): wheel for wheel in environment.wheels}
    built = {
        name: f"{wheel.version} was built for {environment.platform}"
        for name, wheel in own.items()
        if not wheel.filename.endswith("-none-any.whl")
    }
    pins = {name: version for name, version in environment.packages.items() if name not in own}
    return built | locate(pins, _hashes(store, environment), python=environment.python, platform=platform)[1]


def foreign(store: Store, environment: Environment) -> str | None:
    """Why an environment is not to be made on this machine, where it is locked for another platform: what has no wheel here, by name.

    It is asked before anything is run. Raises nothing.
    """
    ours = here()[1]
    if environment.platform == ours:
        return None
    try:
        lacking = without_wheels(store, environment, ours)
        told = "; ".join(f"{name} {why}" for name, why in lacking.items()) or (
            "every package has a wheel here, but what only this platform needs is not in the lock"
        )
    except SteadError as error:
        told = f"which packages have no wheel here is not known, since {error.message}"
    return f"the environment {environment.digest[:12]} is locked for {environment.platform}, and this is {ours}: {told}"


def _lacking(store: Store, environment: Environment) -> list[str]:
    """Packages of a lock of which the store has no wheel."""
    there = {canonicalize_name(wheel.name) for wheel in (*environment.wheels, *vendored(store, environment))}
    return [name for name in environment.packages if name not in there]


def _hashes(store: Store, environment: Environment) -> dict[str, set[str]]:
    return parse_hashes(store.blobs.get(environment.lock).decode())


def _cached(pins: dict[str, str], hashes: dict[str, set[str]]) -> bool:
    """Whether uv has all of it on this machine."""
    with workspace() as folder:
        (folder / "lock.txt").write_text(_lines(pins, hashes))
        command = ["pip", "install", "--dry-run", "--offline", "--no-deps", "--require-hashes"]
        try:
            run_uv([*command, "--target", str(folder / "nothing"), "-r", str(folder / "lock.txt")])
        except (UvFailed, Unreachable):
            return False
    return True


def _lines(pins: dict[str, str], hashes: dict[str, set[str]]) -> str:
    return "".join(
        f"{name}=={version} {' '.join(f'--hash=sha256:{sha}' for sha in sorted(hashes[name]))}\n"
        for name, version in pins.items()
    )


def locate(
    pins: dict[str, str],
    hashes: dict[str, set[str]],
    *,
    python: str,
    platform: str,
    glibc: str = "2.36",
) -> tuple[list[Found], dict[str, str]]:
    """Where the index has the wheels of pinned packages for a Python and a platform (`linux-aarch64`), and why it has not the others'.

    What the lock gives no hash of is not taken. Raises Unreachable (`index-unreachable`).
    """
    wanted, missing = dict(pins), dict[str, str]()
    target = (
        ["--python", sys.executable]
        if (python, platform) == here()
        else ["--python-version", python, "--python-platform", _triple(platform, glibc)]
    )
    command = ["pip", "compile", "--quiet", "--no-deps", "--no-header", "--format", "pylock.toml", *target]
    with workspace() as folder:
        while wanted:
            (folder / "pins.txt").write_text("".join(f"{name}=={version}\n" for name, version in wanted.items()))
            try:
                listed = tomllib.loads(run_uv([*command, str(folder / "pins.txt")]))
                break
            except UvFailed as error:
                gone = _named(error.text) & wanted.keys()
                if not gone:
                    failed(error, "ask the index for wheels")
                missing |= {name: f"{wanted.pop(name)} is not at the index any more" for name in sorted(gone)}
        else:
            return [], missing
    found = []
    for package in listed.get("packages", ()):
        name = canonicalize_name(package["name"])
        wheels = [_found(name, package["version"], wheel) for wheel in package.get("wheels", ())]
        named = [wheel for wheel in wheels if wheel.sha256 in hashes.get(name, ())]
        if named:
            found.append(named[0])
        elif wheels:
            missing[name] = f"{package['version']} has other bytes at the index than the lock names"
        else:
            missing[name] = f"{package['version']} has no wheel for python {python} on {platform}, only its source"
    return found, missing


def fetch(found: Found, folder: Path) -> Path:
    """Download a wheel into a folder and hold it against its hash. Raises NotFound (`wheel-withdrawn`), Unreachable (`index-unreachable`), Failed (`wheel-damaged`)."""
    import httpx

    target, hasher = folder / found.filename, hashlib.sha256()
    parts = urlsplit(found.url)
    if parts.scheme in ("", "file"):
        data = Path(unquote(parts.path)).read_bytes()
        hasher.update(data)
        target.write_bytes(data)
    else:
        try:
            with (
                open(target, "wb") as out,
                httpx.stream("GET", found.url, auth=_login(parts.netloc), follow_redirects=True, timeout=60) as answer,
            ):
                answer.raise_for_status()
                for block in answer.iter_bytes():
                    hasher.update(block)
                    out.write(block)
        except httpx.HTTPError as error:
            if isinstance(error, httpx.HTTPStatusError) and error.response.status_code in (404, 410):
                raise NotFound("wheel-withdrawn", f"the index lists {found.filename} and has it not any more") from None
            raise Unreachable(
                "index-unreachable",
                f"{found.filename} does not come: {error or type(error).__name__}",
                hint="check the network, or try again",
            ) from None
    if hasher.hexdigest() != found.sha256:
        raise Failed("wheel-damaged", f"{found.filename} came with other bytes than its lock names", hint="try again")
    return target


def fetch_all(
    store: Store, environment: Environment, folder: Path, *, platform: str | None = None, glibc: str = "2.36"
) -> list[Path]:
    """Every wheel of an environment in a folder, for its platform or another one of the same Python: from the store where it is kept, else from the index.

    Raises Failed (`wheels-missing`) naming those that cannot be had, Unreachable (`index-unreachable`).
    """
    platform = platform or environment.platform
    kept = [*environment.wheels, *(vendored(store, environment) if platform == environment.platform else ())]
    if platform != environment.platform:
        kept = [wheel for wheel in kept if wheel.filename.endswith("-none-any.whl")]
    paths = []
    for wheel in kept:
        store.blobs.fetch(wheel.digest, folder / wheel.filename)
        paths.append(folder / wheel.filename)
    there = {canonicalize_name(wheel.name) for wheel in kept}
    pins = {name: version for name, version in environment.packages.items() if name not in there}
    found, missing = locate(
        pins, _hashes(store, environment), python=environment.python, platform=platform, glibc=glibc
    )
    _refuse(environment, missing)
    return [*paths, *(fetch(each, folder) for each in found)]


def _refuse(environment: Environment, missing: dict[str, str]) -> None:
    if missing:
        raise Failed(
            "wheels-missing",
            "not every wheel can be had: " + "; ".join(f"{name} {why}" for name, why in missing.items()),
            hint=f"stead env show {environment.digest[:12]}",
        )


def _found(name: str, version: str, wheel: dict[str, Any]) -> Found:
    where = str(wheel.get("url") or wheel.get("path"))
    filename = wheel.get("name") or unquote(urlsplit(where).path).rpartition("/")[2]
    parse_wheel_filename(filename)
    return Found(name, version, filename, where, str(wheel["hashes"].get("sha256", "")))


def _named(text: str) -> set[str]:
    """Packages that uv says it cannot find."""
    names = re.findall(r"no version of ([A-Za-z0-9][\w.-]*?)==", text)
    names += re.findall(r"([A-Za-z0-9][\w.-]*) was not found in the", text)
    names += re.findall(r"([A-Za-z0-9][\w.-]*?)==\S+ has no (?:usable |compatible )?(?:wheels|source)", text)
    return {canonicalize_name(name) for name in names}


def _triple(platform: str, glibc: str) -> str:
    """A platform as uv names it.

    >>> _triple("linux-aarch64", "2.28"), _triple("darwin-arm64", "")
    ('aarch64-manylinux_2_28', 'aarch64-apple-darwin')
    """
    system, _, machine = platform.partition("-")
    machine = {"arm64": "aarch64", "amd64": "x86_64"}.get(machine.lower(), machine)
    return f"{machine}-apple-darwin" if system == "darwin" else f"{machine}-manylinux_{glibc.replace('.', '_')}"


def _login(netloc: str) -> tuple[str, str] | None:
    """Name and password of an index that is configured with them; uv writes addresses without."""
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL"):
        for address in os.environ.get(name, "").split():
            parts = urlsplit(address.partition("=")[2] if re.match(r"[\w-]+=", address) else address)
            if parts.username and parts.netloc.rpartition("@")[2] == netloc:
                return unquote(parts.username), unquote(parts.password or "")
    return None
