"""Whether a store has what its rows name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from stead import ledger
from stead.care.types import Problem, Progress
from stead.datasets import manifests
from stead.datasets.tables import dataset_versions, quarantine
from stead.environments.tables import environments
from stead.errors import Failed, SteadError
from stead.models.tables import logged_models
from stead.predictions.tables import segments
from stead.runs.tables import artifacts
from stead.store import Store
from stead.store.repacking import problems_of


def check(store: Store, *, contents: bool = False) -> list[Problem]:
    """What is missing or altered: bytes that data, models, environments, runs and the log name, and sealed decisions.

    With `contents` each blob is read and held against its name, else it is only looked whether it is there.
    """
    return check_store(store, contents=contents)


def check_store(store: Store, *, contents: bool = False, progress: Progress = lambda *_: None) -> list[Problem]:
    """`check`, with progress. Raises Failed (`database-damaged`)."""
    store.db.check()
    problems: list[Problem] = []
    there = {each.digest for each in store.blobs.all()}
    altered = set(_altered(store, there, progress)) if contents else set()
    wanted = list(users_of_bytes(store, problems))
    packed = problems_of(store.packs, {digest for _, digest in wanted if digest not in there}, there, altered)
    for what, digest in wanted:
        if digest not in there:
            problems += [Problem(what, f"its bytes {digest[:12]} {why}") for why in packed.get(digest, ())]
        elif digest in altered:
            problems.append(Problem(what, f"its bytes {digest[:12]} were altered"))
    try:
        ledger.verify(store)
    except SteadError as error:
        problems.append(Problem("decisions", error.message))
    return problems


def _altered(store: Store, there: set[str], progress: Progress) -> Iterator[str]:
    for done, digest in enumerate(sorted(there)):
        progress("reading blobs", done, len(there))
        if not store.blobs.intact(digest):
            yield digest


def users_of_bytes(store: Store, problems: list[Problem]) -> Iterator[tuple[str, str]]:
    """What has which bytes; a manifest that cannot be read is added to the problems."""
    with store.db.read() as tx:
        data = tx.execute(
            sa.select(dataset_versions.c.dataset, dataset_versions.c.version, dataset_versions.c.manifest)
        )
        for dataset, version, digest in data.all():
            ref = f"{dataset}@{version}"
            try:
                parts = manifests.get(store, digest, ref).parts
            except Failed as error:
                problems.append(Problem(ref, error.message.removeprefix(f"{ref}: ")))
                continue
            for part in parts:
                yield f"{ref} {part.path}", part.digest
        for table, name in ((quarantine, "dataset"), (artifacts, "path")):
            for row in tx.execute(sa.select(table.c[name], table.c.digest)):
                yield f"{table.name} {row[0]}", row[1]
        kept = segments.c.merged_into.is_(None) & (segments.c.digest != "")
        for log in tx.execute(sa.select(segments.c.kind, segments.c.model, segments.c.digest).where(kept)):
            yield f"log of {log.kind} {log.model}".rstrip(), log.digest
        for model in tx.execute(sa.select(logged_models.c.name, logged_models.c.files, logged_models.c.code)):
            files: dict[str, Any] = model.files
            for path, file in files.items():
                yield f"model {model.name} {path}", file["digest"]
        for lock in tx.execute(sa.select(environments.c.digest, environments.c.lock)):
            yield f"environment {lock.digest[:12]}", lock.lock
