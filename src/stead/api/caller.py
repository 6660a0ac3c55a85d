"""Calling operations by name: embedded on the store itself, or remote over HTTP. Both raise the same errors."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec

from stead.config import Settings, find_project, load_project, load_settings
from stead.errors import InvalidInput, Unreachable, from_dict
from stead.runtime import typed
from stead.store import Store, digest_of, is_made, open_store
from stead.store.blobs import altered, write_whole

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")
DOCTOR = "stead doctor --store, where the store is, says what names them"


class Caller(Protocol):
    """What the SDK and the command line work with."""

    settings: Settings

    @property
    def url(self) -> str | None:
        """Address of the server, or None where the store is opened here."""

    def call(self, operation: str, /, **arguments: Any) -> Any:
        """Do one operation of `stead.api.table` and return its result."""

    def put_blob(self, data: bytes | Path) -> str: ...

    def get_blob(self, digest: str) -> bytes: ...

    def fetch_blob(self, digest: str, target: Path) -> None:
        """Write bytes to a file in pieces, whole and as their name says, or not at all.

        Raises NotFound (`blob-missing`), Failed (`blob-corrupt`), OSError where the file cannot be written.
        """

    def close(self) -> None: ...


def connect(settings: Settings | None = None) -> Caller:
    """The server that `url` names, else the store itself."""
    if settings is None:
        root = find_project()
        settings = load_settings(load_project(root) if root else None)
    if settings.url:
        return Remote(settings)
    return Embedded(open_store(settings), settings) if is_made(settings) else Unmade(settings)


class Embedded:
    """Operations as function calls in this process."""

    url = None

    def __init__(self, store: Store, settings: Settings) -> None:
        self.store = store
        self.settings = settings

    def call(self, operation: str, /, **arguments: Any) -> Any:
        from stead.api import table

        return table.operation(operation).function(self.store, **arguments)

    def put_blob(self, data: bytes | Path) -> str:
        return self.store.blobs.put(data)

    def get_blob(self, digest: str) -> bytes:
        return self.store.blobs.get(digest)

    def fetch_blob(self, digest: str, target: Path) -> None:
        self.store.blobs.fetch(digest, target)

    def close(self) -> None:
        self.store.close()


class Unmade(Embedded):
    """Where there is no store yet: what only reads is answered by an empty one, and the first change makes the store."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    @cached_property
    def store(self) -> Store:  # type: ignore[override]
        return open_store(self.settings)

    @cached_property
    def _nothing(self) -> Store:
        self._folder = tempfile.TemporaryDirectory(prefix="stead-")  # goes with this caller
        empty = {"store": self._folder.name, "database": "", "blobs": ""}
        return open_store(Settings({**self.settings.values, **empty}, self.settings.where))

    def call(self, operation: str, /, **arguments: Any) -> Any:
        from stead.api import table

        described = table.operation(operation)
        made = "store" in self.__dict__ or is_made(self.settings)
        looks = described.reads or ".list_" in operation or bool(arguments.get("dry_run"))
        store = self._nothing if looks and not made else self.store
        return described.function(store, **arguments)

    def close(self) -> None:
        for name in self.__dict__.keys() & {"store", "_nothing"}:
            getattr(self, name).close()


class Remote:
    """Operations over HTTP: reads are tried again when the server is away for a moment, changes are not."""

    def __init__(self, settings: Settings) -> None:
        import logging

        import httpx

        # each wait of a retry is worth a line in a log, and none to a person where no log is set up
        logging.getLogger("stamina").addHandler(logging.NullHandler())
        self.settings = settings
        self.url = str(settings.url).rstrip("/")
        # msgpack answers keep infinities, which JSON has no word for
        headers = {"accept": "application/msgpack, application/json"}
        if settings.token:
            headers["authorization"] = f"Bearer {settings.token}"
        self._client = httpx.Client(base_url=self.url, headers=headers, timeout=60, trust_env=False)

    def call(self, operation: str, /, **arguments: Any) -> Any:
        from stead.api import table

        described = table.operation(operation)
        unknown = arguments.keys() - described.parameters.keys()
        if unknown:
            raise InvalidInput("argument-unknown", f"{operation} takes no {', '.join(sorted(unknown))}")
        try:
            body = msgspec.json.encode({key: value for key, value in arguments.items() if value is not None})
        except UnicodeEncodeError:
            raise InvalidInput("text-invalid", "a text has characters that cannot be sent") from None
        answer = self._request("POST", f"/api/v1/{operation}", content=body, retry=described.reads)
        kind = described.hints.get("return", Any)
        return None if kind is type(None) else msgspec.msgpack.decode(answer, type=typed.ready(kind))

    def put_blob(self, data: bytes | Path) -> str:
        digest = digest_of(data)
        content = data if isinstance(data, bytes) else data.read_bytes()
        self._request("PUT", f"/api/v1/blobs/{digest}", content=content, retry=True)
        return digest

    def get_blob(self, digest: str) -> bytes:
        data: bytes = self._request("GET", f"/api/v1/blobs/{digest}", retry=True)
        if digest_of(data) != digest:
            raise altered(digest, hint=DOCTOR)
        return data

    def fetch_blob(self, digest: str, target: Path) -> None:
        path = f"/api/v1/blobs/{digest}"
        self._request(
            "GET", path, retry=True, take=lambda it: write_whole(target, it.iter_bytes(), digest, hint=DOCTOR)
        )

    def send(self, path: str, content: bytes, *, kind: Callable[[bytes], T]) -> T:
        """One request to a hot route that is no operation of the table."""
        return kind(self._request("POST", path, content=content, retry=False))

    def close(self) -> None:
        self._client.close()

    def _request(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        retry: bool,
        take: Callable[[httpx.Response], Any] = lambda answer: answer.read(),
    ) -> Any:
        import httpx
        import stamina

        attempts = stamina.retry_context(on=httpx.TransportError, attempts=4 if retry else 1, timeout=20)
        headers = {"content-type": "application/json"}
        begun = False
        try:
            for attempt in attempts:
                with attempt, self._client.stream(method, path, content=content, headers=headers) as answer:
                    begun = True
                    if answer.status_code < 400:
                        return take(answer)
                    answer.read()
        except httpx.TransportError as error:
            if begun:
                raise Unreachable(
                    "server-unreachable",
                    f"the answer of {self.url}{path} broke off: {error}",
                    hint="its log says why; `stead data verify NAME` tells of damaged bytes",
                ) from error
            raise Unreachable(
                "server-unreachable",
                f"{self.url} does not answer: {error}",
                hint="is stead up there, and STEAD_URL right?",
            ) from error
        try:
            raise from_dict(answer.json())
        except (ValueError, KeyError, TypeError):
            raise Unreachable(
                "server-odd", f"{self.url}{path} answered {answer.status_code}: {answer.text[:200]}"
            ) from None
