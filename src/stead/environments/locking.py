"""Locks: exact versions with hashes, found by uv, from whatever says what an environment needs."""

from __future__ import annotations

import platform
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import blake3
import msgspec
import sqlalchemy as sa
from packaging.utils import canonicalize_name, parse_wheel_filename

from stead.environments.lockfile import pin_wheels
from stead.environments.operations import add, get
from stead.environments.requirements import Requirements, checked, read_requirements
from stead.environments.tables import lock_inputs
from stead.environments.types import Environment, Wheel
from stead.environments.uv import UvFailed, failed, last_words, run_uv
from stead.errors import InvalidInput, NotFound
from stead.store import Store

NEEDED = ("msgspec",)
"""What `stead.runtime` imports in every environment."""


@dataclass(frozen=True)
class Draft:
    """A lock made on this machine, before it is in a store: the client of a remote server makes one and sends it."""

    python: str
    platform: str
    lock: str
    wheels: list[Path]
    source: dict[str, Any]


def here() -> tuple[str, str]:
    """Python's minor version and the platform: what decides which wheels fit.

    >>> python, machine = here()
    >>> python.startswith("3.")
    True
    """
    return f"{sys.version_info[0]}.{sys.version_info[1]}", f"{sys.platform}-{platform.machine()}"


def lock(
    store: Store,
    requirements: Sequence[str] | Path,
    *,
    python: str | None = None,
    extra: Sequence[str] = (),
    upgrade: bool = False,
) -> Environment:
    """Lock requirement lines or a file (`requirements.txt`, `pyproject.toml`, a script with a PEP 723 header).

    The same input gives the same environment ever after; `upgrade` asks the index again. `extra` are further lines.
    A path in the lines is built into a wheel and stored. Raises InvalidInput (`requirement-invalid`,
    `requirements-unsatisfiable`, `requirement-unhashable`), Unreachable (`index-unreachable`).
    """
    asked = read_requirements(requirements)
    asked.lines.extend(read_requirements(list(extra)).lines)
    python = python or asked.python or here()[0]
    with workspace() as folder:
        wheels = [build_wheel(path, folder / "wheels") for path, _ in asked.local]
        key = inputs_key(asked, python, wheels)
        if not upgrade and (known := remembered(store, key)):
            return known
        draft = compile_lock(asked, wheels, folder, python=python)
        return keep(store, draft, inputs=key)


def keep(store: Store, draft: Draft, *, inputs: str | None = None) -> Environment:
    """Put a lock and its wheels into the store."""
    kept = [wheel_of(path, store.blobs.put(path)) for path in draft.wheels]
    return add(
        store,
        lock=store.blobs.put(draft.lock.encode()),
        python=draft.python,
        platform=draft.platform,
        wheels=kept,
        source=draft.source,
        inputs=inputs,
    )


@contextmanager
def workspace() -> Iterator[Path]:
    """A folder that only this process's user can enter, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="stead-lock-") as name:
        folder = Path(name)
        (folder / "wheels").mkdir()
        yield folder


def build_wheel(source: Path, target: Path) -> Path:
    """Build a folder or source archive into a wheel under `target`; a wheel is taken as it is.

    Raises Failed (`environment-failed`) naming the package where it cannot be built.
    """
    if source.suffix == ".whl":
        copy = target / source.name
        copy.write_bytes(source.read_bytes())
        return copy
    if source.is_dir() and not any((source / name).is_file() for name in ("pyproject.toml", "setup.py")):
        raise InvalidInput("package-unbuildable", f"{source} has neither pyproject.toml nor setup.py")
    with tempfile.TemporaryDirectory(dir=target.parent) as out:
        try:
            run_uv(["build", "--wheel", "--no-create-gitignore", "--out-dir", out, str(source)])
        except UvFailed as error:
            failed(error, f"build a wheel of {source.name}", hint=f"uv build --wheel {source}")
        (built,) = Path(out).glob("*.whl")
        return built.rename(target / built.name)


def compile_lock(asked: Requirements, wheels: list[Path], folder: Path, *, python: str, exact: bool = False) -> Draft:
    """Exact versions and hashes for what is asked. `exact`: the lines are all there is, nothing is resolved.

    Raises InvalidInput (`requirements-unsatisfiable`) with uv's reason.
    """
    lines = list(asked.lines)
    for (_, extras), wheel in zip(asked.local, wheels, strict=True):
        name, version, _, _ = parse_wheel_filename(wheel.name)
        lines.append(f"{name}{extras}=={version}")
    named = {canonicalize_name(checked(line, "requirements").name) for line in lines}
    lines.extend(name for name in NEEDED if name not in named)
    (folder / "asked.txt").write_text("\n".join(lines) + "\n")
    command = [
        "pip",
        "compile",
        "--quiet",
        "--generate-hashes",
        "--no-header",
        "--no-annotate",
        "--no-emit-build-options",
    ]
    command += ["--find-links", str(folder / "wheels"), *asked.options]
    command += ["--python", sys.executable] if python == here()[0] else ["--python-version", python]
    if exact:
        command.append("--no-deps")
    if asked.constraints:
        (folder / "constraints.txt").write_text("\n".join(asked.constraints) + "\n")
        command += ["--constraint", str(folder / "constraints.txt")]
    try:
        text = run_uv([*command, str(folder / "asked.txt")], cwd=asked.folder)
    except UvFailed as error:
        if "No solution found" in error.text or "not found in the package registry" in error.text:
            raise Unsatisfiable(error.text) from None
        failed(error, "lock the environment")
    text = pin_wheels(text, wheels)
    return Draft(python, here()[1], text, wheels, {"kind": asked.kind, "requirements": asked.lines})


class Unsatisfiable(InvalidInput):
    """No versions fit; `missing` are the packages that the index does not have."""

    def __init__(self, text: str) -> None:
        words = last_words(text).removeprefix("error: ").removeprefix("No solution found when resolving dependencies:")
        words = re.sub(r"^No solution found when resolving dependencies\s*(cause:)?\s*", "", words).strip()
        unknown = re.findall(r"([A-Za-z0-9][\w.-]*) was not found in the", text)
        hint = f"is {unknown[0]!r} spelled as its index has it?" if unknown else "loosen one of the requirements"
        super().__init__("requirements-unsatisfiable", f"no versions fit: {words}", hint=hint)
        found = re.findall(r"no version of ([A-Za-z0-9][\w.-]*?)(?:\[[^\]]*\])?==", text) + unknown
        found += re.findall(r"([A-Za-z0-9][\w.-]*)==\S+ has no wheels", text)
        self.missing = sorted({canonicalize_name(name) for name in found})


def wheel_of(path: Path, digest: str) -> Wheel:
    name, version, _, _ = parse_wheel_filename(path.name)
    return Wheel(name=name, version=str(version), filename=path.name, digest=digest)


def inputs_key(asked: Requirements, python: str, wheels: Sequence[Path]) -> str:
    built = sorted([wheel.name, blake3.blake3(wheel.read_bytes()).hexdigest()] for wheel in wheels)
    extras = [extra for _, extra in asked.local]
    said = [sorted(asked.lines), asked.options, asked.constraints, built, extras, python, here()[1], NEEDED]
    return blake3.blake3(msgspec.json.encode(said)).hexdigest()


def remembered(store: Store, key: str) -> Environment | None:
    with store.db.read() as tx:
        digest = tx.execute(sa.select(lock_inputs.c.environment).where(lock_inputs.c.inputs == key)).scalar()
    try:
        return get(store, digest) if digest else None
    except NotFound:
        return None
