"""Pushing to and pulling from a real registry: with passwords, and when it fails or cuts off."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from image_parts import AMD64, built, document
from running import Trouble, auth_file, registry, token_service

from stead import images
from stead.errors import Failed, Forbidden, InvalidInput, NotFound, Unreachable
from stead.images import Layout
from stead.images import registry as protocol
from stead.images.registry import parse
from stead.images.types import MANIFEST
from stead.store import Store

SESAME = "$2b$05$aaaaaaaaaaaaaaaaaaaaaOFnFX973iHdYVMuvTBSsVpqxjoVL1V5a"
"""The password `sesame`, as bcrypt keeps it."""


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture(scope="module")
def image(shelf: Store, base: Path, tmp_path_factory: pytest.TempPathFactory) -> images.Image:
    return built(shelf, base, tmp_path_factory.mktemp("pool") / "pool")


@pytest.fixture
def trouble(hub: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trouble]:
    monkeypatch.setattr(protocol, "PAUSE_S", 0.01)
    proxy = Trouble(hub)
    yield proxy
    proxy.close()


def test_what_is_pushed_is_pulled_again_and_built_on(
    shelf: Store, image: images.Image, hub: str, tmp_path: Path
) -> None:
    pushed = images.push(image, f"{hub}/team/demand")
    assert pushed == f"{hub}/team/demand:1@{image.digest}"
    answer = httpx.get(f"http://{hub}/v2/team/demand/manifests/1", headers={"Accept": MANIFEST})
    assert f"sha256:{hashlib.sha256(answer.content).hexdigest()}" == image.digest
    with pytest.raises(InvalidInput) as unpinned:
        built(shelf, f"{hub}/team/demand:1", tmp_path / "pool")
    assert unpinned.value.code == "base-unpinned" and f"@{image.digest}" in str(unpinned.value.hint)
    again = built(shelf, pushed, tmp_path / "pool")
    assert again.base == image.digest
    labels = document(again, again.config)["config"]["Labels"]
    assert labels["org.opencontainers.image.base.name"] == pushed
    assert (images.write_context(again, tmp_path / "context") / "Dockerfile").read_text().splitlines()[
        1
    ] == f"FROM {pushed}"


def test_an_index_gives_the_image_of_the_platform(shelf: Store, image: images.Image, hub: str, tmp_path: Path) -> None:
    images.push(image, f"{hub}/team/many:1")
    size = (Path(image.layout) / "blobs" / image.digest.replace(":", "/")).stat().st_size
    entry = {"mediaType": MANIFEST, "digest": image.digest, "size": size}
    listed = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json"}
    listed["manifests"] = [entry | {"platform": {"os": "linux", "architecture": "amd64"}}]
    put = httpx.put(
        f"http://{hub}/v2/team/many/manifests/all", json=listed, headers={"Content-Type": listed["mediaType"]}
    )
    digest = put.headers["Docker-Content-Digest"]
    assert protocol.pull(Layout(tmp_path), f"{hub}/team/many@{digest}", AMD64)[0] == image.digest
    with pytest.raises(NotFound) as raised:
        protocol.pull(Layout(tmp_path), f"{hub}/team/many@{digest}", images.PLATFORMS["arm64"])
    assert raised.value.code == "image-platform"


def test_a_push_takes_over_what_the_registry_has(shelf: Store, image: images.Image, hub: str, tmp_path: Path) -> None:
    base = images.push(image, f"{hub}/team/base:1")
    above = built(shelf, base, tmp_path / "pool")
    said: list[str] = []
    images.push(above, f"{hub}/team/above:1", said.append)
    assert sum("took over" in line for line in said) >= len(document(image, image.digest)["layers"])
    said.clear()
    images.push(above, f"{hub}/team/above:2", said.append)
    assert said == []


def test_errors_of_the_registry_are_tried_again(image: images.Image, trouble: Trouble, tmp_path: Path) -> None:
    trouble.plan += [("HEAD", "status", 500), ("POST", "status", 503), ("PATCH", "status", 500), ("PUT", "status", 502)]
    pushed = images.push(image, f"{trouble.address}/shaky/demand:1")
    assert trouble.plan == []
    trouble.plan += [("GET", "status", 500), ("GET", "status", 429), ("GET", "cut", 700)]
    assert protocol.pull(Layout(tmp_path), pushed, AMD64)[0] == image.digest
    assert trouble.plan == []


def test_an_upload_that_is_cut_off_goes_on(image: images.Image, trouble: Trouble, hub: str) -> None:
    trouble.plan += [("PATCH", "cut", 30_000), ("PATCH", "cut", 30_000)]
    images.push(image, f"{trouble.address}/cut/demand:1")
    assert trouble.plan == []
    asked = [line for line in trouble.seen if line.startswith("GET /v2/cut/demand/blobs/uploads/")]
    assert len(asked) == 2  # how far it came
    assert httpx.get(f"http://{hub}/v2/cut/demand/manifests/1", headers={"Accept": MANIFEST}).status_code == 200


def test_a_download_that_is_cut_off_goes_on_where_it_ended(
    image: images.Image, hub: str, trouble: Trouble, tmp_path: Path
) -> None:
    images.push(image, f"{hub}/range/demand:1")
    place = parse(f"{trouble.address}/range/demand")
    largest = max(document(image, image.digest)["layers"], key=lambda layer: layer["size"])
    blob = images.types.Descriptor(largest["digest"], largest["size"], largest["mediaType"])
    trouble.plan += [("GET", "cut", 100_000), ("GET", "cut", 50_000)]
    with protocol.Registry(place, "pull") as asked:
        asked.download(Layout(tmp_path), blob)
    assert trouble.plan == [] and Layout(tmp_path).has(blob)


@pytest.mark.parametrize("how", [("status", 500), ("cut", 10)])
def test_a_registry_that_stays_broken_is_told_and_shows_nothing_half(
    image: images.Image, trouble: Trouble, hub: str, tmp_path: Path, how: tuple[str, int]
) -> None:
    name = f"broken-{how[0]}/demand"
    trouble.plan += [("PATCH", *how)] * 50
    with pytest.raises(Unreachable) as raised:
        images.push(image, f"{trouble.address}/{name}:1")
    assert raised.value.code == "registry-unreachable" and "what was sent stays" in raised.value.hint
    assert httpx.get(f"http://{hub}/v2/{name}/manifests/1", headers={"Accept": MANIFEST}).status_code == 404
    trouble.plan[:] = [("GET", *how)] * 50
    with pytest.raises(Unreachable) as raised:
        protocol.pull(Layout(tmp_path / "pool"), f"{trouble.address}/team/demand@{image.digest}", AMD64)
    assert "what was read stays" in raised.value.hint and "./FOLDER" in raised.value.hint
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_names_that_are_not_there_or_make_no_sense(tmp_path: Path, hub: str, image: images.Image) -> None:
    with pytest.raises(NotFound) as raised:
        protocol.pull(Layout(tmp_path), f"{hub}/nobody/nothing@sha256:{'0' * 64}", AMD64)
    assert raised.value.code == "image-unknown"
    for text in ("", "UPPER/case", "a b", "x@sha256:12", "../x", "ghcr.io/", "host:99999999x/a", "-a"):
        with pytest.raises(InvalidInput) as refused:
            parse(text)
        assert refused.value.code == "reference-invalid"
    with pytest.raises(InvalidInput):
        images.push(image, f"{hub}/team/demand@{image.digest}")
    assert parse("python:3.12").url == "https://registry-1.docker.io/v2/library/python"
    assert parse("team/demand").name == "team/demand"
    assert parse("http://registry.example/team/demand:1").url == "http://registry.example/v2/team/demand"


def test_it_asks_for_a_password_and_gets_it_from_dockers_file(
    image: images.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "htpasswd").write_text(f"ada:{SESAME}\n")
    auth = f"auth: {{htpasswd: {{realm: stead, path: {tmp_path / 'htpasswd'}}}}}"
    with registry(tmp_path / "registry", auth) as address:
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "nothing"))
        with pytest.raises(Forbidden) as raised:
            images.push(image, f"{address}/team/demand:1")
        assert raised.value.code == "registry-denied" and "docker login" in str(raised.value.hint)
        monkeypatch.setenv("DOCKER_CONFIG", str(auth_file(tmp_path / "wrong", **{address: "ada:guess"})))
        with pytest.raises(Forbidden):
            images.push(image, f"{address}/team/demand:1")
        monkeypatch.setenv("DOCKER_CONFIG", str(auth_file(tmp_path / "right", **{address: "ada:sesame"})))
        pushed = images.push(image, f"{address}/team/demand:1")
        assert protocol.pull(Layout(tmp_path / "pool"), pushed, AMD64)[0] == image.digest


def test_it_asks_for_a_token_and_gets_one_for_what_it_does(
    image: images.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with token_service(tmp_path, "ada", "sesame") as (realm, certificate, asked):
        auth = f"auth: {{token: {{realm: '{realm}', service: hub, issuer: stead-test, rootcertbundle: {certificate}}}}}"
        with registry(tmp_path / "registry", auth) as address:
            monkeypatch.setenv("DOCKER_CONFIG", str(auth_file(tmp_path / "wrong", **{address: "ada:guess"})))
            with pytest.raises(Forbidden):
                images.push(image, f"{address}/team/demand:1")
            monkeypatch.setenv("DOCKER_CONFIG", str(auth_file(tmp_path / "right", **{address: "ada:sesame"})))
            asked.clear()
            pushed = images.push(image, f"{address}/team/demand:1")
            assert asked == [["repository:team/demand:pull,push"]]
            assert protocol.pull(Layout(tmp_path / "pool"), pushed, AMD64)[0] == image.digest


Answer = tuple[int, dict[str, str], bytes]


@contextmanager
def odd_registry(answers: Callable[[str], Answer]) -> Iterator[tuple[str, list[str]]]:
    """A registry that answers what it is told to, by path: its address, and what it was asked."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            status, headers, data = answers(self.path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                self.wfile.write(data)
            except ConnectionError:
                asked.append("closed")

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def named(value: Any) -> tuple[str, bytes]:
    data = json.dumps(value).encode()
    return f"sha256:{hashlib.sha256(data).hexdigest()}", data


CHALLENGE = {"WWW-Authenticate": 'Bearer realm="http://{host}/token",service="odd"'}


@pytest.mark.parametrize(
    ("answer", "token", "requests"),
    [
        ((302, {"Location": "/v2/team/odd/again"}, b""), None, 21),
        ((401, CHALLENGE, b""), (302, {"Location": "/token"}, b""), 22),
        ((401, {"WWW-Authenticate": 'Bearer realm="odd"'}, b""), None, 1),
        ((401, {"WWW-Authenticate": 'Bearer realm="http://odd:port/"'}, b""), None, 1),
        ((200, {"Content-Encoding": "gzip"}, b"no gzip"), None, protocol.ATTEMPTS),
        ((401, CHALLENGE, b""), (200, {"Content-Encoding": "gzip"}, b"no gzip"), 2 * protocol.ATTEMPTS),
    ],
    ids=["circle", "circle-of-tokens", "realm-without-scheme", "realm-no-url", "gzip", "gzip-of-tokens"],
)
def test_a_registry_that_redirects_in_a_circle_or_garbles_is_told(
    answer: Answer, token: Answer | None, requests: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "PAUSE_S", 0.01)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "nothing"))

    def answers(path: str) -> Answer:
        status, headers, data = token if token and path.startswith("/token") else answer
        return status, {name: value.replace("{host}", host) for name, value in headers.items()}, data

    with odd_registry(answers) as (host, asked):
        with pytest.raises(Unreachable) as raised:
            protocol.pull(Layout(tmp_path / "pool"), f"{host}/team/odd@sha256:{'0' * 64}", AMD64)
        assert raised.value.code == "registry-unreachable" and host in raised.value.message
        assert len(asked) == requests  # what cannot pass is not tried again


PART = {"digest": f"sha256:{'1' * 64}", "size": 2, "mediaType": "application/vnd.oci.image.config.v1+json"}


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"schemaVersion": 1, "name": "team/odd", "tag": "1", "fsLayers": [{"blobSum": PART["digest"]}]},
        {"config": PART},
        {"config": PART, "layers": None},
        {"config": PART, "layers": [None]},
        {"config": PART, "layers": [{"digest": PART["digest"], "mediaType": PART["mediaType"]}]},
        {"config": PART | {"size": "2"}, "layers": []},
        {"config": PART | {"size": -1}, "layers": []},
        {"config": PART | {"digest": "../../x"}, "layers": []},
        {"manifests": None},
        {"manifests": [None]},
        {"manifests": [{"platform": {"os": "linux", "architecture": "amd64"}}]},
        {"manifests": [{"digest": PART["digest"], "platform": "linux/amd64"}]},
        {"manifests": [{"digest": named({})[0]}]},
    ],
    ids=lambda told: json.dumps(told)[:60],
)
def test_a_manifest_of_another_form_is_corrupt(told: dict[str, Any], tmp_path: Path) -> None:
    documents = dict([named(told), named({})])

    def answers(path: str) -> Answer:
        data = documents.get(path.rpartition("/")[2])
        return (404, {}, b"") if data is None else (200, {}, data)

    with odd_registry(answers) as (host, _), pytest.raises(Failed) as raised:
        protocol.pull(Layout(tmp_path), f"{host}/team/odd@{named(told)[0]}", AMD64)
    assert raised.value.code == "image-corrupt" and "another base" in str(raised.value.hint)


def test_a_blob_that_is_longer_than_announced_is_not_read_to_its_end(tmp_path: Path) -> None:
    told, data = named({"config": PART, "layers": []})
    longer = bytes(64 << 20)

    def answers(path: str) -> Answer:
        return (200, {}, data) if "/manifests/" in path else (200, {"Content-Length": str(len(longer))}, longer)

    with odd_registry(answers) as (host, asked):
        with pytest.raises(Failed) as raised:
            protocol.pull(Layout(tmp_path), f"{host}/team/odd@{told}", AMD64)
        assert raised.value.code == "image-corrupt" and "2 bytes" in raised.value.message
    assert asked[1:] == [f"/v2/team/odd/blobs/{PART['digest']}", "closed"]
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [told[7:]]
