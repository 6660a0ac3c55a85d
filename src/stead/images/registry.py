"""Registries: the OCI distribution protocol, as far as pulling a base and pushing an image need it.

What fails for a while is tried again, a download goes on where it was cut off, so does an upload; each blob is checked by its
digest, and the manifest comes last, so that nobody ever sees half an image.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from stead.config.units import size_text
from stead.errors import Failed, Forbidden, InvalidInput, NotFound, Unreachable
from stead.images.documents import LARGEST, chosen, document, is_index, parts
from stead.images.layout import Layout, blobs_of, used
from stead.images.types import DOCKER_INDEX, DOCKER_MANIFEST, INDEX, MANIFEST, Descriptor, Image, Platform
from stead.runtime import typed

if TYPE_CHECKING:
    import httpx

Progress = Callable[[str], None]
T = TypeVar("T")
ATTEMPTS = 6
PAUSE_S = 0.5
"""Before the second attempt; it doubles up to eight seconds."""
TIMEOUT_S = 60.0
LONGEST_WAIT_S = 60
"""A registry that asks to be left alone for longer is not waited for."""
REDIRECTS = 10
_PIECE = 1 << 20
_HUB = "registry-1.docker.io"
_ACCEPT = ", ".join((INDEX, MANIFEST, DOCKER_INDEX, DOCKER_MANIFEST))
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_REFERENCE = re.compile(
    rf"(?P<scheme>https?://)?(?:(?P<host>{_LABEL}(?:\.{_LABEL})*(?::\d{{1,5}})?|\[[0-9a-f:]+\](?::\d{{1,5}})?)/)?"
    r"(?P<name>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)(?::(?P<tag>[A-Za-z0-9_][\w.-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)


@dataclass(frozen=True)
class Reference:
    """A place in a registry."""

    host: str
    name: str
    tag: str = ""
    digest: str = ""
    secure: bool = True

    @property
    def url(self) -> str:
        return f"{'https' if self.secure else 'http'}://{self.host}/v2/{self.name}"

    def __str__(self) -> str:
        host = "docker.io" if self.host == _HUB else self.host
        return f"{host}/{self.name}{f':{self.tag}' if self.tag else ''}{f'@{self.digest}' if self.digest else ''}"


def parse(text: str) -> Reference:
    """Reads a reference. A registry on this machine is spoken to without TLS, and so is one that is written with http://.

    >>> str(parse("python:3.12-slim")), parse("localhost:5000/team/demand:3").secure
    ('docker.io/library/python:3.12-slim', False)

    Raises InvalidInput (`reference-invalid`).
    """
    match = _REFERENCE.fullmatch(text)
    host = (match["host"] or "") if match else ""
    part_of_name = not ("." in host or ":" in host or host == "localhost")
    if match is None or (part_of_name and host != host.lower()):
        hint = "ghcr.io/team/demand:3, or docker.io/library/python:3.12-slim@sha256:…"
        raise InvalidInput("reference-invalid", f"{text[:200]!r} is no reference of an image", hint=hint)
    name = match["name"]
    if host and part_of_name:
        host, name = "", f"{host}/{name}"
    if host in ("", "docker.io", "index.docker.io"):
        host, name = _HUB, name if "/" in name else f"library/{name}"
    bare = host.rpartition(":")[0] or host
    local = bare == "localhost" or bare.startswith("127.") or bare == "[::1]"
    secure = match["scheme"] == "https://" or (match["scheme"] is None and not local)
    return Reference(host, name, match["tag"] or "", match["digest"] or "", secure)


def parse_tag(text: str) -> Reference:
    """Reads where an image is to be pushed to. Raises InvalidInput (`reference-invalid`)."""
    place = parse(text)
    if place.digest:
        hint = text.partition("@")[0]
        raise InvalidInput("reference-invalid", f"{text} names a digest; a push names a tag", hint=hint)
    return place


def pull(layout: Layout, text: str, platform: Platform, say: Progress | None = None) -> tuple[str, str]:
    """Fetch an image into a layout; digest of its manifest, and the reference that names it for good.

    Raises InvalidInput (`base-unpinned`) where the reference has no digest, NotFound (`image-unknown`, `image-platform`),
    Forbidden (`registry-denied`), Unreachable (`registry-unreachable`), Failed (`image-corrupt`, `registry-refused`).
    """
    place = parse(text)
    with Registry(place, "pull") as registry:
        if not place.digest:
            data = registry.manifest(place.tag or "latest")
            document(data, f"what is at {place}")
            now = f"{place}@sha256:{hashlib.sha256(data).hexdigest()}"
            raise InvalidInput(
                "base-unpinned", f"{place} may be another image tomorrow", hint=f"name it by what it is now: {now}"
            )

        def read(digest: str) -> dict[str, Any]:
            what = f"{digest[:19]}… of {place}"
            return document(registry.fetched(layout, digest, registry.manifest_or_blob), what)

        digest = place.digest
        manifest = read(digest)
        if is_index(manifest):
            digest = chosen(manifest, platform, read, str(place))
            manifest = read(digest)
        for blob in parts(manifest, digest):
            if not layout.has(blob):
                if say:
                    say(f"pulling {blob.digest[7:19]} ({size_text(blob.size)})")
                registry.download(layout, blob)
        return digest, str(place)


def push(image: Image, text: str, say: Progress | None = None) -> str:
    """Send an image to a registry under a tag; the reference with its digest.

    Blobs that the registry has are not sent; those of the base are taken over from the base's own repository where it lies
    in the same registry. Raises as `pull` does.
    """
    place = parse_tag(text)
    layout, tag = Layout(Path(image.layout)), place.tag or str(image.version)
    base = layout.document(image.digest).get("annotations", {}).get("org.opencontainers.image.base.name", "")
    source = parse(base) if base else None
    with Registry(place, "pull,push", also=source.name if source and source.host == place.host else "") as registry:
        *blobs, manifest = blobs_of(layout, image)
        for blob in blobs:
            registry.upload(layout, blob, say)
        registry.put_manifest(tag, layout.read(manifest.digest), manifest.digest)
    return f"{Reference(place.host, place.name, tag)}@{image.digest}"


class _Again(Exception):
    """It may work another time, after so many seconds."""

    def __init__(self, said: str, after: float = 0.0) -> None:
        super().__init__(said)
        self.after = after


class Registry:
    """One registry for one repository, with its authorisation."""

    def __init__(self, place: Reference, actions: str, *, also: str = "") -> None:
        import httpx

        self._place = place
        self._pushes = "push" in actions
        self._also = also
        """A repository that blobs may be taken over from."""
        self._scopes = [f"repository:{place.name}:{actions}", *([f"repository:{also}:pull"] if also else [])]
        try:
            self._client = httpx.Client(timeout=TIMEOUT_S)
        except (OSError, ValueError, ImportError) as error:
            said = f"the registry {place.host} cannot be asked with these variables: {error}"
            raise Unreachable("registry-unreachable", said, hint="SSL_CERT_FILE, HTTPS_PROXY, ALL_PROXY") from None
        self._header = ""

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    # reading

    def manifest(self, reference: str) -> bytes:
        return self._again(lambda: self._small(f"{self._place.url}/manifests/{reference}", {"Accept": _ACCEPT}))

    def manifest_or_blob(self, digest: str) -> bytes:
        """A document by digest: a manifest, or, where there is none, a configuration."""
        try:
            return self.manifest(digest)
        except NotFound:
            return self._again(lambda: self._small(f"{self._place.url}/blobs/{digest}", {}))

    def fetched(self, layout: Layout, digest: str, read: Callable[[str], bytes]) -> bytes:
        """A document from the layout, or read, checked and kept there."""
        if layout.path(digest).is_file():
            used(layout.path(digest))
            return layout.read(digest)
        with layout.new("", expected=digest) as new:
            new.file.write(read(digest))
        return layout.read(digest)

    def download(self, layout: Layout, blob: Descriptor) -> None:
        """Fetch a blob; what was cut off goes on where it ended, and nothing is read beyond its size.

        Raises Failed (`image-corrupt`) where what comes is another blob or a longer one, and as `pull` does.
        """
        with layout.new(blob.media_type, expected=blob.digest) as new:

            def attempt() -> None:
                have = new.file.tell()
                headers = {"Range": f"bytes={have}-"} if have else {}
                with self._stream("GET", f"{self._place.url}/blobs/{blob.digest}", headers) as answer:
                    if have and answer.status_code != 206:
                        new.file.seek(0)
                        new.file.truncate()
                    for piece in answer.iter_raw(_PIECE):
                        if new.file.tell() + len(piece) > blob.size:
                            said = f"what came as {blob.digest[:19]}… is longer than its {blob.size} bytes"
                            raise Failed("image-corrupt", said, hint="try again")
                        new.file.write(piece)
                if new.file.tell() < blob.size:
                    raise _Again(f"{blob.digest[:19]}… ended after {new.file.tell()} of {blob.size} bytes")

            self._again(attempt)

    # writing

    def upload(self, layout: Layout, blob: Descriptor, say: Progress | None = None) -> None:
        """Send a blob unless it is there; what was cut off goes on where the registry says that it is."""
        url = f"{self._place.url}/blobs/{blob.digest}"
        if self._again(lambda: self._request("HEAD", url, allowed=(200, 404)).status_code) == 200:
            return
        where = ""

        def attempt() -> None:
            nonlocal where
            offset = 0
            if where:
                told = self._request("GET", where, allowed=(204, 404))
                where = self._next(told) if told.status_code == 204 else ""
                offset = _after(told.headers.get("Range", "")) if where else 0
            if not where or offset > blob.size:
                offset = 0
                mount = f"?mount={blob.digest}&from={self._also}" if self._also else ""
                begun = self._request("POST", f"{self._place.url}/blobs/uploads/{mount}", allowed=(201, 202))
                if begun.status_code == 201:
                    if say:
                        say(f"took over {blob.digest[7:19]} from {self._also}")
                    return
                where = self._next(begun)
            if say:
                say(f"pushing {blob.digest[7:19]} ({size_text(blob.size - offset)})")
            if offset < blob.size:
                headers = {"Content-Type": "application/octet-stream", "Content-Length": str(blob.size - offset)}
                if offset:
                    headers["Content-Range"] = f"{offset}-{blob.size - 1}"
                sent = self._request("PATCH", where, headers, _pieces(layout.path(blob.digest), offset), allowed=(202,))
                where = self._next(sent)
            ended = f"{where}{'&' if '?' in where else '?'}digest={blob.digest}"
            self._request("PUT", ended, {"Content-Length": "0"}, allowed=(201,))

        self._again(attempt)

    def put_manifest(self, tag: str, data: bytes, digest: str) -> None:
        url = f"{self._place.url}/manifests/{tag}"
        answer = self._again(lambda: self._request("PUT", url, {"Content-Type": MANIFEST}, data, allowed=(201,)))
        said = answer.headers.get("Docker-Content-Digest", digest)
        if said != digest:
            raise Failed("image-corrupt", f"the registry has taken {digest[:19]}… for {said[:19]}…", hint="try again")

    # asking

    def _next(self, answer: httpx.Response) -> str:
        """Where an upload goes on: relative or whole."""
        return str(answer.url.join(answer.headers.get("Location", str(answer.url))))

    def _small(self, url: str, headers: dict[str, str]) -> bytes:
        with self._stream("GET", url, headers) as answer:
            return self._body(answer)

    def _body(self, answer: httpx.Response) -> bytes:
        """The whole of a small answer. Raises Failed (`registry-refused`) where it does not end."""
        data = b""
        for piece in answer.iter_bytes(_PIECE):
            data += piece
            if len(data) > LARGEST:
                said = f"{_shown(answer.url)} answers with more than {size_text(LARGEST)} where a document belongs"
                raise Failed("registry-refused", said, hint="is that the address of a registry?")
        return data

    def _request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        content: Any = None,
        *,
        allowed: tuple[int, ...],
    ) -> httpx.Response:
        """An answer whose headers say all."""
        with self._stream(method, url, headers or {}, content, allowed=allowed) as answer:
            self._body(answer)  # so that the next request has the connection
            return answer

    @contextmanager
    def _stream(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        content: Any = None,
        allowed: tuple[int, ...] = (200, 206),
    ) -> Iterator[httpx.Response]:
        """One request with the authorisation that the registry asks for, and its answer, once the status is what it should be."""
        for attempt in range(2):
            data = content() if callable(content) else content
            request = self._client.build_request(method, url, headers=headers, content=data)
            if self._header and self._own(request.url):
                request.headers["Authorization"] = self._header
            answer = self._sent(request)
            if answer.status_code != 401 or attempt or not self._own(answer.url):
                break
            answer.close()
            self.authorised(answer.headers.get("WWW-Authenticate", ""))
        with closing(answer):
            if answer.status_code not in allowed:
                raise self._refusal(method, answer)
            yield answer

    def _own(self, url: httpx.URL) -> bool:
        """Whether an address is the registry's: no other is told a password, or believed where one is asked for."""
        home = type(url)(self._place.url)
        return (url.scheme, url.host, url.port) == (home.scheme, home.host, home.port)

    def _sent(self, request: httpx.Request) -> httpx.Response:
        """The answer to a request. What only reads goes where it is redirected to, and takes no password to another host."""
        import httpx

        for _ in range(REDIRECTS + 1):
            answer = self._client.send(request, stream=True)
            if answer.next_request is None or request.method not in ("GET", "HEAD"):
                return answer
            answer.close()
            request = answer.next_request
        raise httpx.TooManyRedirects(f"more than {REDIRECTS} redirects", request=request)

    def _refusal(self, method: str, answer: httpx.Response) -> Exception:
        """What a status means that was not hoped for."""
        status, host = answer.status_code, self._place.host
        if answer.next_request is not None:
            where = _shown(answer.next_request.url)
            said = (
                f"the registry {host} redirects {method} to {where}, and nothing is sent where it was not meant to go"
            )
            return Failed("registry-refused", said, hint="name the registry by the address that it redirects to")
        said = self._said(answer)
        told = f"{status} {said}".strip()
        if status >= 500 or status in (408, 429):
            return _later(told, answer)
        if status in (401, 403):
            return self.denied(said or str(status))
        if method in ("PATCH", "PUT") and status in (400, 404, 416):  # an upload that the registry has lost sight of
            return _Again(told)
        if status == 404:
            hint = "is it spelled as the registry has it?"
            return NotFound("image-unknown", f"{self._place} is not there: {said or status}", hint=hint)
        return Failed("registry-refused", f"the registry {host} refuses {method}: {told}")

    def _said(self, answer: httpx.Response) -> str:
        with suppress(Failed, ValueError, TypeError, AttributeError, KeyError, RecursionError):
            errors = json.loads(self._body(answer))["errors"]
            return "; ".join(str(error.get("message") or error.get("code")) for error in errors)[:300]
        return ""

    def _again(self, attempt: Callable[[], T]) -> T:
        """Try until it works, a few times; once where another time ends the same way, as redirects in a circle do.

        Raises Unreachable (`registry-unreachable`) with what happened last.
        """
        import httpx

        for number in range(ATTEMPTS):
            try:
                return attempt()
            except (_Again, httpx.RequestError, httpx.InvalidURL, UnicodeError) as error:
                last: Exception = error
            wait = last.after if isinstance(last, _Again) else 0.0
            hopeless = (httpx.TooManyRedirects, httpx.UnsupportedProtocol, httpx.InvalidURL, UnicodeError)
            if isinstance(last, hopeless) or wait > LONGEST_WAIT_S:
                break
            if number < ATTEMPTS - 1:
                time.sleep(max(wait, min(8.0, PAUSE_S * 2**number)))
        said = str(last) or type(last).__name__
        raise Unreachable(
            "registry-unreachable",
            f"the registry {self._place.host} does not answer as it should: {said}",
            hint="nothing half is visible there: try again; what was sent stays"
            if self._pushes
            else "try again; what was read stays. A base in a folder is named by its path: --base ./FOLDER",
        )

    def authorised(self, challenge: str) -> None:
        """Do what a registry asks for. Raises Forbidden (`registry-denied`)."""
        kind, _, rest = challenge.partition(" ")
        told = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        user, password = _credentials(self._place.host)
        if kind.lower() == "basic":
            if not user:
                raise self.denied("it asks for a user and a password")
            self._header = _basic(user, password)
        elif kind.lower() == "bearer" and "realm" in told:
            self._header = f"Bearer {self._token(told, user, password)}"
        else:
            raise self.denied(f"it asks for {kind or 'nothing that is known'}")

    def _token(self, told: Mapping[str, str], user: str, password: str) -> str:
        if user and self._place.url.startswith("https:") and not told["realm"].lower().startswith("https:"):
            raise self.denied("its token service is not encrypted, and no password is sent there")
        service = {"service": told["service"]} if "service" in told else {}
        if user == "<token>":
            form = {"grant_type": "refresh_token", "refresh_token": password, "client_id": "stead", **service}
            request = self._client.build_request("POST", told["realm"], data={**form, "scope": " ".join(self._scopes)})
        else:
            request = self._client.build_request("GET", told["realm"], params={**service, "scope": self._scopes})
            if user:
                request.headers["Authorization"] = _basic(user, password)
        with closing(self._sent(request)) as answer:
            status = answer.status_code
            if status >= 500 or status in (408, 429):
                raise _later(f"{status} from its token service", answer)
            if status != 200:
                raise self.denied(f"its token service says {status}")
            with suppress(ValueError, AttributeError, TypeError, RecursionError):
                found = json.loads(self._body(answer))
                token = found.get("token") or found.get("access_token")
                if re.fullmatch(r"[!-~]+", token):
                    return str(token)
        raise self.denied("its token service gives no token")

    def denied(self, why: str) -> Forbidden:
        host = "docker.io" if self._place.host == _HUB else self._place.host
        return Forbidden("registry-denied", f"{self._place} is not open to you: {why}", hint=f"docker login {host}")


def _later(said: str, answer: httpx.Response) -> _Again:
    """What passes, after the seconds that an answer names."""
    named = answer.headers.get("Retry-After", "")
    if not re.fullmatch(r"\d{1,9}", named):
        return _Again(said)
    return _Again(f"{said}, again in {named} s", int(named))


def _shown(url: httpx.URL) -> str:
    """An address without what may be secret in it."""
    return str(url.copy_with(query=None, fragment=None, userinfo=b""))


def _basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _pieces(path: Path, offset: int) -> Callable[[], Iterator[bytes]]:
    def read() -> Iterator[bytes]:
        with open(path, "rb") as file:
            file.seek(offset)
            while piece := file.read(_PIECE):
                yield piece

    return read


def _after(told: str) -> int:
    """The first byte that a registry lacks, by its header Range: `0-99`; a `0-0` is what nothing looks like, too."""
    match = re.fullmatch(r"(?:bytes=)?0-(\d{1,18})", told)
    return int(match[1]) + 1 if match and match[1] != "0" else 0


@dataclass(frozen=True)
class _Entry:
    auth: str | None = None
    identitytoken: str | None = None


@dataclass(frozen=True)
class _Kept:
    """A file of docker's or podman's, with the names that it has there."""

    auths: dict[str, _Entry | None] | None = None
    credHelpers: dict[str, str] | None = None  # noqa: N815
    credsStore: str | None = None  # noqa: N815


def _credentials(host: str) -> tuple[str, str]:
    """User and password of a registry, from the files that docker and podman keep; both empty where there are none."""
    names = {host, f"https://{host}", f"https://{host}/v1/", f"https://{host}/v2/"}
    if host == _HUB:
        names |= {"docker.io", "index.docker.io", "https://index.docker.io/v1/"}
    for file in _auth_files():
        try:
            told = msgspec.json.decode(file.read_bytes(), type=typed.ready(_Kept))
        except (OSError, msgspec.DecodeError, RecursionError):
            continue
        auths, helpers = told.auths or {}, told.credHelpers or {}
        helper = next((helpers[name] for name in names if name in helpers), None)
        for name in names:
            entry = auths.get(name)
            store = helper or (told.credsStore if entry is not None else None)
            if store and (found := _helped(store, name)):
                return found
            if entry is None:
                continue
            if entry.identitytoken:
                return "<token>", entry.identitytoken
            with suppress(ValueError):
                user, _, password = base64.b64decode(entry.auth or "", validate=True).decode().partition(":")
                if user:
                    return user, password
    return "", ""


def _auth_files() -> list[Path]:
    docker = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"
    found = [Path(os.environ["REGISTRY_AUTH_FILE"])] if os.environ.get("REGISTRY_AUTH_FILE") else []
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    return [*found, docker, Path(runtime) / "containers" / "auth.json", Path("/run/containers/0/auth.json")]


def _helped(store: str, name: str) -> tuple[str, str] | None:
    """What a program of docker's that keeps passwords says."""
    if not re.fullmatch(r"[\w-]+", store):
        return None
    try:
        done = subprocess.run(
            [f"docker-credential-{store}", "get"], input=name, capture_output=True, text=True, timeout=30
        )
        told = json.loads(done.stdout)
        return str(told["Username"]), str(told["Secret"])
    except (OSError, ValueError, KeyError, TypeError, subprocess.TimeoutExpired):
        return None
