"""Environments in the store."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import blake3
import msgspec
import sqlalchemy as sa
from packaging.utils import canonicalize_name

from stead.environments.lockfile import blocks, parse_lock
from stead.environments.tables import environments, lock_inputs
from stead.environments.types import Environment, Wheel
from stead.errors import InvalidInput, NotFound
from stead.runtime.clock import now_ms
from stead.store import Store, checked_limit, from_row


def add(
    store: Store,
    *,
    lock: str,
    python: str,
    platform: str,
    wheels: Sequence[Wheel] = (),
    source: dict[str, Any] | None = None,
    inputs: str | None = None,
) -> Environment:
    """Keep a lock that lies in the blob store; `inputs` names what it was made from. The same lock twice is one environment.

    Raises InvalidInput (`lock-invalid`) where it holds anything but pinned requirements with hashes, or a wheel does
    not fit the hash that the lock gives it.
    """
    text = store.blobs.get(lock).decode()
    packages = parse_lock(text)
    for wheel in wheels:
        if hashlib.sha256(store.blobs.get(wheel.digest)).hexdigest() not in text or "/" in wheel.filename:
            raise InvalidInput("lock-invalid", f"the wheel {wheel.filename!r} is not the one that the lock names")
    kept = sorted(wheels, key=lambda wheel: wheel.filename)
    digest = blake3.blake3(
        msgspec.json.encode([python, platform, lock, [[wheel.filename, wheel.digest] for wheel in kept]])
    ).hexdigest()
    row = {
        "digest": digest,
        "python": python,
        "platform": platform,
        "lock": lock,
        "packages": packages,
        "wheels": msgspec.to_builtins(kept),
        "source": source or {},
        "created_at": now_ms(),
    }
    with store.db.write("environments.add") as tx:
        store.db.upsert(tx, environments, row, ["digest"], update=[])
        if inputs is not None:
            store.db.upsert(tx, lock_inputs, {"inputs": inputs, "environment": digest}, ["inputs"])
    return get(store, digest)


def mixed(store: Store, digest: str, other: str, names: Sequence[str]) -> Environment:
    """An environment with some of its packages as another one has them, or absent where that has none.

    Nothing is resolved: what does not fit together fails when it is used.
    """
    base, second = get(store, digest), get(store, other)
    lines = blocks(store.blobs.get(base.lock).decode())
    theirs = blocks(store.blobs.get(second.lock).decode())
    for name in names:
        lines.pop(name, None)
        if name in theirs:
            lines[name] = theirs[name]
    wheels = [wheel for wheel in base.wheels if canonicalize_name(wheel.name) not in names]
    wheels += [wheel for wheel in second.wheels if canonicalize_name(wheel.name) in names]
    return add(
        store,
        lock=store.blobs.put("".join(lines[name] for name in sorted(lines)).encode()),
        python=base.python,
        platform=base.platform,
        wheels=wheels,
        source={"kind": "mixed", "of": [base.digest, second.digest], "packages": sorted(names)},
    )


def get(store: Store, digest: str) -> Environment:
    """An environment by its digest or the first 8 digits or more of it. Raises NotFound (`environment-unknown`)."""
    query = sa.select(environments).where(environments.c.digest == digest)
    if 8 <= len(digest) < 64 and digest.isalnum():
        query = sa.select(environments).where(environments.c.digest.startswith(digest, autoescape=True)).limit(2)
    with store.db.read() as tx:
        rows = tx.execute(query).mappings().all()
    if len(rows) != 1:
        raise NotFound("environment-unknown", f"there is no environment {digest!r}", hint="stead env list")
    return from_row(rows[0], Environment)


def list_environments(store: Store, *, limit: int = 100) -> list[Environment]:
    """Environments, newest first."""
    query = (
        sa.select(environments)
        .order_by(environments.c.created_at.desc(), environments.c.digest)
        .limit(checked_limit(limit))
    )
    with store.db.read() as tx:
        return [from_row(row, Environment) for row in tx.execute(query).mappings()]
