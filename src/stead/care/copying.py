"""Files that are whole under their name or absent, held against what they should be."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from stead.errors import Failed
from stead.runtime.recordlog import MAGIC, valid_size
from stead.store import digest_of
from stead.store.blobs import write_whole


def copy_checked(pieces: Iterable[bytes], target: Path, digest: str) -> bool:
    """Write bytes that should have this digest to a file; False, and no file, where they do not."""
    try:
        write_whole(target, pieces, digest, private=True)
    except Failed as error:
        if error.code != "blob-corrupt":
            raise
        return False
    except OSError as error:
        raise Failed(
            "disk-full", f"could not write {target}: {error.strerror}", hint="free space, or choose another place"
        ) from None
    return True


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
