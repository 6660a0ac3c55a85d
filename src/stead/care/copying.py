"""Files that are whole under their name or absent, held against what they should be."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import blake3

from stead.errors import Failed
from stead.runtime.failpoints import failpoint
from stead.runtime.recordlog import MAGIC, valid_size
from stead.store import digest_of
from stead.store.blobs import is_pack


def copy_checked(pieces: Iterable[bytes], target: Path, digest: str) -> int | None:
    """Write bytes that should have this digest to a file; how many, or None, and no file, where they do not."""
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".part-")
    hasher, size = blake3.blake3(), 0
    try:
        with os.fdopen(handle, "wb") as out:
            for piece in pieces:
                hasher.update(piece)
                size += len(piece)
                out.write(piece)
        if hasher.hexdigest() != digest and not is_pack(digest, Path(temporary)):
            return None
        failpoint("care.copy:before")
        os.replace(temporary, target)
        failpoint("care.copy:after")
        return size
    except OSError as error:
        raise Failed(
            "disk-full", f"could not write {target}: {error.strerror}", hint="free space, or choose another place"
        ) from None
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def copy_log(source: Path, target: Path) -> str | None:
    """Copy a file of records that may be growing, up to its last whole record; its digest, None where it is gone meanwhile."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copyfile(source, target)
    except FileNotFoundError:
        return None
    os.chmod(target, 0o600)
    with open(target, "rb") as file:
        records = target.suffix == ".log" and file.read(len(MAGIC)) == MAGIC
    if records:
        os.truncate(target, valid_size(target))
    return digest_of(target)
