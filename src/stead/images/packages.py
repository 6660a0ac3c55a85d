"""What an image holds besides its base: the locked packages for its platform, stead's runtime, their bytecode."""

from __future__ import annotations

import hashlib
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from stead import environments
from stead.environments import Environment
from stead.environments.lockfile import parse_hashes
from stead.environments.uv import Progress, UvFailed, failed, run_uv
from stead.environments.vendoring import locate
from stead.errors import Failed, InvalidInput
from stead.images import compiling
from stead.images.layers import Entry, link, tree
from stead.images.layout import spare
from stead.images.reading import Reader
from stead.images.types import Platform
from stead.runtime.workfolder import work_folder

HOME = "opt/stead"
_MADE_HERE = {"REQUESTED", "direct_url.json", "uv_cache.json", "uv_build.json"}
"""What an installer writes beside a package about how it came here."""


def install(
    reader: Reader, environment: Environment, platform: Platform, work: Path, say: Progress | None = None
) -> Path:
    """The packages of a lock under a folder in `work`, from wheels alone, for a platform that need not be this one.

    Raises InvalidInput (`lock-platform`, `wheel-missing`), Unreachable (`index-unreachable`), Failed (`environment-failed`).
    """
    target, wheels, lock = work / "packages", work / "wheels", work / "lock.txt"
    wheels.mkdir()
    for wheel in reader.wheels(environment):
        reader.fetch(wheel.digest, wheels / wheel.filename)
    reader.fetch(environment.lock, lock)
    command = ["pip", "install", "--target", str(target), "--require-hashes", "--no-deps"]
    if _whole(environment, platform, wheels):
        command += ["--no-index", "--offline"]
    try:
        run_uv([*command, *_for(environment, platform, wheels), "--requirements", str(lock)], progress=say)
    except UvFailed as error:
        missing = re.findall(r"([A-Za-z0-9][\w.-]*==\S+?) has no (?:usable wheels|wheels with)", error.text)
        if missing or "no usable wheels" in error.text or "no wheels with a matching" in error.text:
            lacking = _lacking(environment, platform, lock, wheels)
            what = ", ".join(sorted({*missing, *lacking})) or "a package"
            raise InvalidInput(
                "wheel-missing",
                f"no wheel for Python {environment.python} on linux/{platform.architecture}: {what}",
                hint="an image is made of wheels alone: name a version that has one, or a folder that one is built from",
            ) from None
        failed(error, f"install the environment {environment.digest[:12]}")
    if environment.platform != f"linux-{platform.machine}":
        _complete(target, environment, platform)
    return target


def _whole(environment: Environment, platform: Platform, wheels: Path) -> bool:
    """Whether there is a wheel of each package, so that no index is asked. Those that are kept are for the lock's own platform."""
    there = {parse_wheel_filename(path.name)[0] for path in wheels.glob("*.whl")}
    return environment.platform == f"linux-{platform.machine}" and environment.packages.keys() <= there


def _lacking(environment: Environment, platform: Platform, lock: Path, wheels: Path) -> list[str]:
    """All packages of a lock that have no wheel for a platform; uv names the first alone."""
    there = {parse_wheel_filename(path.name)[0] for path in wheels.glob("*.whl")}
    pins = {name: version for name, version in environment.packages.items() if name not in there}
    where = f"linux-{platform.machine}"
    _, why = locate(pins, parse_hashes(lock.read_text()), python=environment.python, platform=where)
    return [f"{name}=={pins[name]}" for name in why]


def _for(environment: Environment, platform: Platform, wheels: Path) -> list[str]:
    told = ["--python-platform", platform.uv, "--python-version", environment.python, "--find-links", str(wheels)]
    return [*told, "--python", sys.executable, "--only-binary", ":all:"]


def _complete(target: Path, environment: Environment, platform: Platform) -> None:
    """Whether a lock that was made for another platform has all that its packages need on this one."""
    here = {
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": platform.machine,
        "os_name": "posix",
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "python_version": environment.python,
        "python_full_version": f"{environment.python}.0",
        "extra": "",
    }
    missing = {}
    for distribution in distributions(path=[str(target)]):
        for line in distribution.requires or ():
            needed = Requirement(line)
            if needed.marker is not None and not needed.marker.evaluate(here):
                continue
            if canonicalize_name(needed.name) not in environment.packages:
                missing[canonicalize_name(needed.name)] = distribution.name
    if missing:
        told = ", ".join(f"{name} (for {by})" for name, by in sorted(missing.items()))
        raise InvalidInput(
            "lock-platform",
            f"the environment {environment.digest[:12]} is locked for {environment.platform}: on linux/{platform.architecture} it lacks {told}",
            hint="train where the image is to run, or add them to requirements",
        )


def components(
    target: Path, lock: Path, environment: Environment, platform: Platform, wheels: Path
) -> list[dict[str, Any]]:
    """The installed packages with the hash of the wheel that each came from."""
    told: dict[str, list[dict[str, Any]]] = {}
    for path in wheels.glob("*.whl"):
        here = {"name": path.name, "hashes": {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}}
        told.setdefault(parse_wheel_filename(path.name)[0], []).append(here)
    if not _whole(environment, platform, wheels):
        command = ["pip", "compile", "--quiet", "--format", "pylock.toml", "--no-deps", "--no-header"]
        try:
            text = run_uv([*command, *_for(environment, platform, wheels), str(lock)])
        except UvFailed as error:
            failed(error, "list the wheels of the environment")
        for package in tomllib.loads(text).get("packages", ()):
            told.setdefault(package["name"], []).extend(package.get("wheels", ()))
    found = []
    for each in distributions(path=[str(target)]):
        name = canonicalize_name(each.name)
        wheel = _wheel_of(each, told.get(name, []))
        found.append({"name": name, "version": each.version, "license": _license(each), **wheel})
    return sorted(found, key=lambda each: each["name"])


def _wheel_of(distribution: Distribution, wheels: list[dict[str, Any]]) -> dict[str, str]:
    """File name and hash of the wheel whose tags the installed one has."""
    tags = set(re.findall(r"(?m)^Tag: (\S+)", distribution.read_text("WHEEL") or ""))
    for wheel in wheels:
        filename = (wheel.get("name") or wheel.get("url") or wheel.get("path") or "").rpartition("/")[2]
        filename = filename.partition("#")[0].replace("%2B", "+")
        if len(wheels) == 1 or {str(tag) for tag in parse_wheel_filename(filename)[3]} & tags:
            return {"filename": filename, "sha256": wheel["hashes"]["sha256"]}
    return {}


def _license(distribution: Distribution) -> str | None:
    found = distribution.metadata.json.get("license_expression")
    return str(found) if found else None


def site_packages(environment: Environment) -> str:
    return f"{HOME}/env/lib/python{environment.python}/site-packages"


def environment_entries(target: Path, environment: Environment, python: str, compiler: str) -> Iterator[Entry]:
    """A virtual environment of the installed packages; scripts, which name this machine's interpreter, are left out."""
    place = site_packages(environment)
    compile_files(target, f"/{place}", compiler)
    home = python.rpartition("/")[0]
    config = f"home = {home}\ninclude-system-site-packages = false\nversion = {environment.python}\n"
    yield Entry(f"{HOME}/env/pyvenv.cfg", config.encode())
    yield link(f"{HOME}/env/bin/python", python)
    yield link(f"{HOME}/env/bin/python3", "python")
    for entry in tree(target, place):
        name = entry.path.removeprefix(f"{place}/")
        if name.startswith(("bin/", ".")) or name.rpartition("/")[2] in _MADE_HERE:
            continue
        if name.endswith(".dist-info/RECORD"):
            assert isinstance(entry.data, Path)
            entry = Entry(entry.path, _record(entry.data.read_text()))
        yield entry


def _record(text: str) -> bytes:
    """The list of a package's files without those that are not in the image."""
    kept = [
        line for line in text.splitlines()
        if not line.startswith(("bin/", "../../bin/")) and line.partition(",")[0].rpartition("/")[2] not in _MADE_HERE
    ]  # fmt: skip
    return "".join(f"{line}\n" for line in sorted(kept)).encode()


def runtime_entries(compiler: str) -> Iterator[Entry]:
    """stead as far as it runs in an image."""
    with work_folder("image") as folder, spare(folder):
        write(folder, environments.runtime_files())
        compile_files(folder, f"/{HOME}/runtime", compiler)
        yield from [held(entry) for entry in tree(folder, f"{HOME}/runtime")]


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def held(entry: Entry) -> Entry:
    """An entry that no longer needs its file."""
    return Entry(entry.path, entry.data.read_bytes() if isinstance(entry.data, Path) else entry.data, entry.mode)


def compile_files(root: Path, prefix: str, compiler: str) -> None:
    """Raises Failed (`compile-failed`)."""
    command = [compiler, "-I", "-S", "-W", "ignore", str(compiling.__file__), str(root), prefix]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PYTHONHASHSEED": "0"})
    if done.returncode == 0:
        return
    said = done.stderr.strip().splitlines()[-1:] or [f"it ended with {done.returncode}"]
    if done.returncode == -signal.SIGXFSZ or any(sign in said[0] for sign in ("No space left", "File too large")):
        raise Failed("disk-full", f"could not compile in {root}: no space left", hint="free space and try again")
    raise Failed("compile-failed", f"the bytecode could not be made: {said[0][:300]}")


def interpreter(version: str) -> tuple[str, str]:
    """An interpreter of this minor version on this machine, and its exact version. Raises NotFound (`python-missing`)."""
    if version == f"{sys.version_info[0]}.{sys.version_info[1]}":
        return sys.executable, sys.version.partition(" ")[0]
    try:
        path = run_uv(["python", "find", "--no-config", "--no-project", "--no-python-downloads", version]).strip()
    except UvFailed:
        raise Failed(
            "python-missing",
            f"bytecode for Python {version} is compiled by it, and it is not on this machine",
            hint=f"uv python install {version}",
        ) from None
    told = subprocess.run(
        [path, "-I", "-c", "import sys; print(sys.version.split()[0])"], capture_output=True, text=True
    )
    return path, told.stdout.strip()
