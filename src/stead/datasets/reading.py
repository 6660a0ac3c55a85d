"""Reading a version: rows between two times, files for a job, and whether its bytes are what they were."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stead.datasets import manifests
from stead.datasets.operations import get_version
from stead.datasets.rows import pieces_of, read_manifest
from stead.datasets.scanning import Index, compare
from stead.datasets.sources import part_path
from stead.datasets.types import DatasetVersion, Part
from stead.errors import Failed, InvalidInput, NotFound, did_you_mean
from stead.folders import Status
from stead.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

MOST_FLAWS = 5


def read(
    store: Store,
    ref: str,
    *,
    since: int | None = None,
    until: int | None = None,
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """Rows of a version with `since` <= event time < `until` (milliseconds), parts in order; parts outside are not opened.

    Raises NotFound, InvalidInput (`dataset-no-frame`, `dataset-no-time`, `column-unknown`), Failed (`dataset-corrupt`).
    """
    version = get_version(store, ref)
    if not version.schema:
        raise InvalidInput(
            "dataset-no-frame", f"{version.ref} holds files, not rows", hint=f"stead data get {version.ref} FOLDER"
        )
    if (since is not None or until is not None) and version.time_column is None:
        raise InvalidInput(
            "dataset-no-time",
            f"{version.ref} has no time column, so it cannot be read between times",
            hint=f"stead data add {version.dataset} FILE --time COLUMN",
        )
    check_columns(version, columns or ())
    return read_manifest(
        store, manifests.get(store, version.manifest, version.ref), since=since, until=until, columns=columns
    )


def batches(store: Store, ref: str, *, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """All rows of a version in pieces of some hundred thousand: for versions that are larger than memory.

    Raises what `read` raises.
    """
    version = get_version(store, ref)
    if not version.schema:
        raise InvalidInput(
            "dataset-no-frame", f"{version.ref} holds files, not rows", hint=f"stead data get {version.ref} FOLDER"
        )
    check_columns(version, columns or ())
    return pieces_of(store, manifests.get(store, version.manifest, version.ref), columns)


def status(store: Store, ref: str, folder: Path) -> Status:
    """How the files of a folder differ from a version; those that were added from here and not touched since are not read.

    A table that is kept in another form than it was given in (CSV) counts as changed where it was not added from here.
    Raises NotFound (`dataset-unknown`, `dataset-version-unknown`, `source-missing`), InvalidInput (`path-escapes`, `path-invalid`),
    Failed (`dataset-corrupt`).
    """
    version = get_version(store, ref)
    if not folder.is_dir():
        raise NotFound("source-missing", f"there is no folder {folder}")
    parts = manifests.digests(store, version.manifest, version.ref)
    index, part_of = Index(store, version.dataset, folder), part_path if version.schema else str
    return compare(index, folder, store.root, version.manifest, parts, part_of)._replace(ref=version.ref)


def check_columns(version: DatasetVersion, columns: Sequence[str]) -> None:
    """Raises InvalidInput (`column-unknown`) where a version has not got one of them."""
    names = [column.name for column in version.schema]
    for name in columns:
        if name not in names:
            raise InvalidInput(
                "column-unknown",
                f"{version.ref} has no column {name!r}",
                hint=did_you_mean(name, names) or f"columns: {', '.join(names)}",
            )


def verify(store: Store, ref: str) -> int:
    """Hold the bytes of each part against their name; returns how many parts there are. What is found damaged is stored anew when it is added again.

    Raises Failed (`dataset-corrupt`) and names the parts whose bytes are missing or were altered, and of those that lie in
    chunks which bytes; or says that so is the list of the parts.
    """
    version = get_version(store, ref, with_parts=True)
    manifest = manifests.get(store, version.manifest, version.ref)
    if manifest.reference is not None:
        if (rows := sum(piece.num_rows for piece in pieces_of(store, manifest))) != version.rows:
            said = f"{version.ref}: {manifest.reference.url} has {rows} rows, not {version.rows}"
            raise Failed("dataset-corrupt", said, hint="its files are not stead's; add the table as it is now")
        return version.parts
    bad = {part.path: problem for part in version.part_list if (problem := _problem(store, part)) is not None}
    if bad:
        listed = ", ".join(f"{path} {problem}" for path, problem in bad.items())
        raise Failed(
            "dataset-corrupt",
            f"{version.ref}: {listed}",
            hint=f"add what it was made from again, or stead data verify {version.ref} --repair-from BACKUPS",
            parts=bad,
        )
    return len(version.part_list)


def _problem(store: Store, part: Part) -> str | None:
    if not store.blobs.alone(part.digest) and store.packs.size(part.digest) is not None:
        try:
            flaws = store.packs.flaws(part.digest)
        except (NotFound, Failed) as error:
            return f"cannot be put together: {error.message}"
        said = [f"bytes {f.offset} to {f.offset + f.bytes} (chunk {f.chunk[:12]}) {f.why}" for f in flaws[:MOST_FLAWS]]
        said += [f"{len(flaws) - MOST_FLAWS} chunks more"] if len(flaws) > MOST_FLAWS else []
        return "; ".join(said) or None
    try:
        return None if store.blobs.intact(part.digest) else "was altered"
    except NotFound:
        return "is missing"
