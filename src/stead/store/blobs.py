"""Bytes by content: BLAKE3 names, through obstore to local files or S3, GCS and Azure."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import blake3
import obstore
from obstore.store import LocalStore, from_url

from stead.errors import Failed, InvalidInput, NotFound, Unreachable
from stead.runtime.failpoints import failpoint
from stead.store.damage import Damaged
from stead.store.packfile import PACK, WHOLE, pack_name

if TYPE_CHECKING:
    from stead.store.packs import Packs
    from stead.store.reader import PackedFile

CHUNK = 8 << 20
FRESH_S = 12 * 3600
"""What is stored again counts as new when it is older than this: who takes away what nobody names leaves alone what is
younger than `OLD_S`, so a change has the time between both to name what it has stored."""
OLD_S = 24 * 3600
GONE = ".gone-"
RESTORE = "restore them from a backup"
MANY = 16
"""So many files that come together go into packs."""
CACHE = 8 << 30
"""Copies of what is not a file here take about so many bytes; those that were used least recently go first."""
_LOOK = 256 << 20
_USED_S = 600
_WRITE = 256 << 10
"""A file is written so many bytes at a time: for more Linux looks for large stretches of free memory, which costs more than it saves."""


Thing = bytes | Path | BinaryIO
"""What is stored: bytes, a file by its path, or one that has none."""


class Stored(NamedTuple):
    """One blob of a listing: its name, bytes, and when it was stored (seconds since 1970)."""

    digest: str
    bytes: int
    at: float


class Blobs:
    """A store of immutable bytes. The name of a blob is the BLAKE3 hash of its content, 64 hexadecimal digits; of a pack, that of its table.

    >>> import tempfile
    >>> blobs = Blobs(tempfile.mkdtemp())
    >>> blobs.get(blobs.put(b"hello"))
    b'hello'
    """

    def __init__(
        self, location: str | Path, *, cache: Path | None = None, damaged: Path | None = None, **options: Any
    ) -> None:
        self.location = str(location)
        if "://" in self.location and not self.location.startswith("file://"):
            self.local: Path | None = None
            try:
                self._remote: Any = from_url(self.location, **options)
            except Exception as error:
                said = str(error).split("\n")[0]  # what follows is the driver's own debugging
                raise InvalidInput(
                    "blobs-url-invalid",
                    f"{self.location} is no place for bytes: {said}",
                    hint="a folder, or s3://BUCKET/PREFIX",
                ) from None
        else:
            self.local = Path(self.location.removeprefix("file://"))
            self.local.mkdir(parents=True, exist_ok=True)
            self._remote = LocalStore(self.local)
        self._cache = cache
        self._cached = _LOOK
        self.damaged = Damaged(damaged)
        self.packs: Packs | None = None
        """Set where a database tells what lies in packs: what is not a blob of its own is looked for there."""

    def keep(
        self, things: Sequence[Thing], progress: Callable[[int], None] = lambda _: None
    ) -> Iterator[tuple[int, str, int]]:
        """Store data, large or much: place among what was given, name and bytes of each when it is there for good, in any order.

        Large things and many small ones go into packs, cut by content; others are blobs of their own. `progress` is told how many
        bytes were read.
        """
        if self.packs is not None and (len(things) >= MANY or any(_size(thing) >= WHOLE for thing in things)):
            yield from self.packs.keep(things, progress)
            return
        for place, thing in enumerate(things):
            if isinstance(thing, Path) and thing.exists() and not thing.is_file():
                raise InvalidInput("file-unreadable", f"{thing} cannot be read: it is no file any more")
            data = thing if isinstance(thing, (bytes, Path)) else os.pread(thing.fileno(), _size(thing), 0)
            yield place, self.put(data), _size(thing)

    def put(self, data: bytes | Path, *, again: bool = False) -> str:
        """Store bytes or a file and return its name; storing the same content again costs a hash and a look.

        What was found damaged is written anew, and with `again` all is.
        """
        return self._put(digest_of(data), lambda key: obstore.put(self._remote, key, data), again)

    def put_named(self, digest: str, file: Path) -> bool:
        """Store a file under the name that it has elsewhere; False, and nothing is stored, where it is not as that says."""
        if not _is_named(digest, file):
            return False
        self._put(digest, lambda key: obstore.put(self._remote, key, file))
        return True

    def put_pieces(self, digest: str, pieces: Sequence[bytes | memoryview]) -> None:
        """Store a pack that lies in several places of memory; where it becomes a file these are not brought together before."""

        def write(key: str) -> None:
            if self.local is None:
                obstore.put(self._remote, key, b"".join(pieces))
            else:
                some = (memoryview(piece)[at : at + _WRITE] for piece in pieces for at in range(0, len(piece), _WRITE))
                obstore.put(self._remote, key, some, use_multipart=False)

        self._put(digest, write)

    def _put(self, digest: str, write: Callable[[str], Any], again: bool = False) -> str:
        key = _key(digest)
        if not again and digest not in self.damaged.names() and self._has(key, renew=True):
            return digest
        failpoint("blobs.put:before")
        try:
            write(key)
        except Exception as error:
            raise _translated(error, f"store {digest[:12]}") from error
        failpoint("blobs.put:after")
        self.damaged.forget([digest])
        return digest

    def get(self, digest: str) -> bytes:
        """The bytes of a blob. Raises NotFound (`blob-missing`), or Failed (`blob-corrupt`) where they do not fit their name."""
        key = _key(digest)
        try:
            data = bytes(obstore.get(self._remote, key).bytes())
        except FileNotFoundError:
            return self._packed(digest).read()
        except Exception as error:
            raise _translated(error, f"read {digest[:12]}") from error
        if not _is_named(digest, data):
            self.damaged.note(digest)
            raise altered(digest)
        return data

    def intact(self, digest: str) -> bool:
        """Whether a blob is as its name says. Raises NotFound (`blob-missing`)."""
        pieces = self.stream(digest)
        first = next(pieces, b"")
        if first.startswith(PACK):
            whole = _is_named(digest, b"".join([first, *pieces]))
        else:
            hasher = blake3.blake3(first)
            for piece in pieces:
                hasher.update(piece)
            whole = hasher.hexdigest() == digest
        if not whole:
            self.damaged.note(digest)
        return whole

    def delete(self, digest: str) -> None:
        """Take a blob away, and what is cached of it; nothing happens where it is gone. Only for what nothing names any more."""
        key = _key(digest)
        try:
            obstore.delete(self._remote, key)
        except FileNotFoundError:
            pass
        except Exception as error:
            raise _translated(error, f"delete {digest[:12]}") from error
        self.drop_copy(digest)

    def drop_copy(self, digest: str) -> None:
        """Take away what is cached of something."""
        if self._cache is not None:
            (self._cache / _key(digest)).unlink(missing_ok=True)

    def forget(self, stored: Stored) -> bool:
        """Take away a blob of a listing that nothing names, unless it was stored again since; whether it is gone.

        On a file system nothing can come between the look and the deletion; in a bucket milliseconds lie between them.
        """
        key = _key(stored.digest)
        if self.local is None:
            with suppress(FileNotFoundError):
                if obstore.head(self._remote, key)["last_modified"].timestamp() > stored.at:
                    return False
            self.delete(stored.digest)
            return True
        path = self.local / key
        failpoint("blobs.forget:before")
        try:
            os.rename(
                path, path.with_name(f"{GONE}{path.name}")
            )  # who stores the same bytes from here on writes them anew
        except FileNotFoundError:
            return True
        failpoint("blobs.forget:after")
        return self._forgotten(path, stored.at)

    def finish_forgetting(self) -> None:
        """Bring to an end what a kill -9 left of `forget`, and take away what it left of what was being written."""
        for aside in self.local.glob(f"??/{GONE}*") if self.local is not None else ():
            self._forgotten(aside.with_name(aside.name.removeprefix(GONE)), time.time() - OLD_S)
        for half in self.local.glob("??/*#*") if self.local is not None else ():  # as obstore calls what is not whole
            with suppress(FileNotFoundError):
                if half.stat().st_mtime < time.time() - OLD_S:
                    half.unlink()

    def _forgotten(self, path: Path, at: float) -> bool:
        """Remove the file that was put aside, or put it back where it was stored again after `at`."""
        aside = path.with_name(f"{GONE}{path.name}")
        with suppress(FileNotFoundError):  # another one that does the same
            back = aside.stat().st_mtime > at + 1
            if back:
                with suppress(FileExistsError):
                    os.link(aside, path)
            os.unlink(aside)
            return not back
        return True

    def has(self, digest: str) -> bool:
        return self._has(_key(digest)) or self._packed_size(digest) is not None

    def complete(self, digest: str) -> bool:
        """Whether all bytes are here, those that lie in packs among them: `has` believes what the database says of packs. Nothing is read."""
        if self._has(_key(digest)):
            return True
        if self.packs is None:
            return False
        try:
            chunks = self.packs.chunks_of(digest)
        except NotFound:
            return False
        return all(self._has(_key(pack)) for pack in {chunk.pack.hex() for chunk in chunks})

    def alone(self, digest: str) -> bool:
        """Whether it is a blob of its own, and does not lie in packs."""
        return self._has(_key(digest))

    def renew(self, digests: Iterable[str]) -> set[str]:
        """Make what is here fresh, as if it were stored again; the names of what need not be."""
        asked = list(dict.fromkeys(digests))
        if self.packs is None:
            return {digest for digest in asked if self._has(_key(digest), renew=True)}
        whole = {digest.hex() for digest in self.packs.known([bytes.fromhex(digest) for digest in asked])}
        rest = (digest for digest in asked if digest not in whole)
        return whole | {digest for digest in rest if self._has(_key(digest), renew=True) or self.packs.renew(digest)}

    def open(self, digest: str) -> Path | PackedFile:
        """What pyarrow reads a file from: its path, or a file object over its chunks. Raises NotFound (`blob-missing`)."""
        if self.local is not None and (path := self.local / _key(digest)).exists():
            return path
        if self._cached_copy(digest) is None and self._packed_size(digest) is not None:
            return self._packed(digest)
        return self.path(digest)

    def read_range(self, digest: str, start: int, length: int) -> bytes:
        """Some bytes of a blob, unchecked. Raises NotFound (`blob-missing`)."""
        if length == 0:
            return b""
        try:
            if self.local is not None:
                with open(self.local / _key(digest), "rb", buffering=0) as file:
                    return os.pread(file.fileno(), length, start)
            return bytes(obstore.get_range(self._remote, _key(digest), start=start, length=length))
        except FileNotFoundError:
            raise NotFound("blob-missing", f"the store has no bytes {digest[:12]}") from None
        except Exception as error:
            raise _translated(error, f"read {digest[:12]}") from error

    def stream(self, digest: str) -> Iterator[bytes]:
        """The bytes of a blob in pieces, unchecked where they lie in no pack: for answers to a browser."""
        try:
            yield from (
                bytes(piece) for piece in obstore.get(self._remote, _key(digest)).stream(min_chunk_size=1 << 20)
            )
        except FileNotFoundError:
            yield from self._packed(digest).pieces()

    def size(self, digest: str) -> int:
        try:
            return int(obstore.head(self._remote, _key(digest))["size"])
        except FileNotFoundError:
            size = self._packed_size(digest)
        if size is None:
            raise NotFound("blob-missing", f"the store has no bytes {digest[:12]}")
        return size

    def path(self, digest: str) -> Path:
        """A local file with this content, read-only by convention: the blob itself, or a cached copy of what is none here."""
        if self.local is not None and (path := self.local / _key(digest)).exists():
            return path
        if (copy := self._cached_copy(digest)) is not None:
            return copy
        if self._cache is None:
            if self.local is not None and self._packed_size(digest) is None:
                raise NotFound("blob-missing", f"the store has no bytes {digest[:12]}")
            raise Failed("blobs-no-cache", "what is no file here needs a folder for cached copies")
        path = self._cache / _key(digest)
        self.fetch(digest, path)
        self._make_room(path.stat().st_size)
        return path

    def _cached_copy(self, digest: str) -> Path | None:
        if self._cache is None:
            return None
        path = self._cache / _key(digest)
        try:
            os.utime(path)
        except FileNotFoundError:
            return None
        return path

    def _make_room(self, came: int) -> None:
        """Take away cached copies that were not used lately, where they are too many."""
        self._cached += came
        if self._cached < _LOOK or self._cache is None:
            return
        self._cached = 0
        found = []
        for path in self._cache.glob("??/*"):
            with suppress(FileNotFoundError):
                found.append((path.stat().st_mtime, path.stat().st_size, path))
        size = sum(each for _, each, _ in found)
        for used, each, path in sorted(found):
            if size <= CACHE or used > time.time() - _USED_S:
                break
            path.unlink(missing_ok=True)
            size -= each

    def _packed(self, digest: str) -> PackedFile:
        from stead.store.reader import PackedFile

        if self.packs is None:
            raise NotFound("blob-missing", f"the store has no bytes {digest[:12]}")
        return PackedFile(self.packs, digest)

    def _packed_size(self, digest: str) -> int | None:
        return self.packs.size(digest) if self.packs is not None else None

    def fetch(self, digest: str, target: Path) -> None:
        """Copy a blob to a file, whole and as its name says, or not at all. Raises NotFound (`blob-missing`), Failed (`blob-corrupt`)."""
        write_whole(target, self.stream(digest), digest)

    def all(self) -> Iterator[Stored]:
        """Every blob there is, in any order."""
        try:
            for batch in obstore.list(self._remote):
                for each in batch:
                    digest = str(each["path"]).replace("/", "")
                    if len(each["path"]) == 65 and _is_digest(digest):
                        yield Stored(digest, int(each["size"]), each["last_modified"].timestamp())
        except Exception as error:
            raise _translated(error, "list what the store has") from error

    def _has(self, key: str, *, renew: bool = False) -> bool:
        """Whether there is such a blob; with `renew` one that is not fresh is made so, or counts as absent."""
        try:
            found = obstore.head(self._remote, key)
            if renew and found["last_modified"].timestamp() < time.time() - FRESH_S:
                if self.local is None:
                    return False
                os.utime(self.local / key)
        except FileNotFoundError:
            return False
        except Exception as error:
            raise _translated(error, "look into the store") from error
        return True


def write_whole(
    target: Path, pieces: Iterable[bytes], digest: str, *, hint: str = RESTORE, private: bool = False
) -> None:
    """Write what comes in pieces to a file, whole and as its name says, or not at all; a `private` one is for its owner alone.

    Raises Failed (`blob-corrupt`), OSError.
    """
    hasher = blake3.blake3()
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".part-")
    try:
        with os.fdopen(handle, "wb") as out:
            for piece in pieces:
                hasher.update(piece)
                out.write(piece)
        if hasher.hexdigest() != digest and not _is_pack(digest, Path(temporary)):
            raise altered(digest, hint=hint)
        os.chmod(temporary, 0o600 if private else 0o644)
        failpoint("blobs.copy:before")
        os.replace(temporary, target)
        failpoint("blobs.copy:after")
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def altered(digest: str, *, hint: str = RESTORE) -> Failed:
    return Failed("blob-corrupt", f"the bytes of {digest[:12]} do not match their name", hint=hint)


def digest_of(data: bytes | Path) -> str:
    """BLAKE3 of bytes or of a file, 64 hexadecimal digits.

    >>> digest_of(b"")[:12]
    'af1349b9f5f9'
    """
    if isinstance(data, bytes):
        return blake3.blake3(data).hexdigest()
    hasher = blake3.blake3(max_threads=2)
    with open(data, "rb") as file:
        while piece := file.read(CHUNK):
            hasher.update(piece)
    return hasher.hexdigest()


def _is_named(digest: str, data: bytes | Path) -> bool:
    return digest_of(data) == digest or _is_pack(digest, data)


def _is_pack(digest: str, data: bytes | Path) -> bool:
    """Whether bytes, or those of a file, are a pack of this name that is whole."""
    if isinstance(data, Path):
        with open(data, "rb") as file:
            data = file.read(len(PACK))
            data += file.read() if data == PACK else b""
    return data.startswith(PACK) and pack_name(data) == digest


def _size(thing: Thing) -> int:
    if isinstance(thing, bytes):
        return len(thing)
    return thing.stat().st_size if isinstance(thing, Path) else os.fstat(thing.fileno()).st_size


def _key(digest: str) -> str:
    if not _is_digest(digest):
        raise InvalidInput("digest-invalid", f"{digest!r} is not the name of stored bytes")
    return f"{digest[:2]}/{digest[2:]}"


def _is_digest(text: str) -> bool:
    return len(text) == 64 and all(c in "0123456789abcdef" for c in text)


def _translated(error: Exception, doing: str) -> Exception:
    text = str(error)
    if "No space left" in text or "File too large" in text or "os error 28" in text or "os error 27" in text:
        return Failed(
            "disk-full", f"could not {doing}: no space left", hint="free space and try again; nothing was changed"
        )
    if isinstance(error, PermissionError):
        return Failed("store-permission", f"could not {doing}: {text}")
    return Unreachable("blobs-unreachable", f"could not {doing}: {text}")
