"""Pushing to and pulling from a real registry: with passwords, and when it fails or cuts off."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import httpx
import pytest
from image_parts import AMD64, built, document, plain
from running import Answer, Trouble, auth_file, odd_registry, registry, token_service

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


def named(value: Any) -> tuple[str, bytes]:
    data = json.dumps(value).encode()
    return f"sha256:{hashlib.sha256(data).hexdigest()}", data


CHALLENGE = {"WWW-Authenticate": 'Bearer realm="http://{host}/token",service="odd"'}


@pytest.mark.parametrize(
    ("answer", "token", "requests"),
    [
        ((302, {"Location": "/v2/team/odd/again"}, b""), None, 11),
        ((401, CHALLENGE, b""), (302, {"Location": "/token"}, b""), 12),
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

    def answers(line: str) -> Answer:
        status, headers, data = token if token and line.startswith("GET /token") else answer
        return status, {name: value.replace("{host}", host) for name, value in headers.items()}, data

    with odd_registry(answers) as odd:
        host = odd.address
        with pytest.raises(Unreachable) as raised:
            protocol.pull(Layout(tmp_path / "pool"), f"{host}/team/odd@sha256:{'0' * 64}", AMD64)
        assert raised.value.code == "registry-unreachable" and host in raised.value.message
        assert len(odd.asked) == requests  # what cannot pass is not tried again


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
        {"config": PART | {"size": 10**400}, "layers": []},
        {"config": PART, "layers": [PART | {"digest": PART["digest"] + "\n"}]},
        {"config": [PART], "layers": {}},
        {"manifests": [{"digest": "../../x", "platform": {"os": "linux", "architecture": "amd64"}}]},
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

    def answers(line: str) -> Answer:
        data = documents.get(line.rpartition("/")[2])
        return (404, {}, b"") if data is None else (200, {}, data)

    with odd_registry(answers) as odd, pytest.raises(Failed) as raised:
        protocol.pull(Layout(tmp_path), f"{odd.address}/team/odd@{named(told)[0]}", AMD64)
    assert raised.value.code == "image-corrupt" and "another base" in str(raised.value.hint)


def test_a_blob_that_is_longer_than_announced_is_not_read_to_its_end(tmp_path: Path) -> None:
    told, data = named({"config": PART, "layers": []})
    longer = bytes(64 << 20)

    def answers(line: str) -> Answer:
        return (200, {}, data) if "/manifests/" in line else (200, {"Content-Length": str(len(longer))}, longer)

    with odd_registry(answers) as odd:
        with pytest.raises(Failed) as raised:
            protocol.pull(Layout(tmp_path), f"{odd.address}/team/odd@{told}", AMD64)
        assert raised.value.code == "image-corrupt" and "2 bytes" in raised.value.message
    assert odd.asked[1:] == [f"GET /v2/team/odd/blobs/{PART['digest']}", "closed"]
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [told[7:]]


def test_what_has_no_digest_yet_and_is_no_manifest_is_not_offered_as_a_base(tmp_path: Path) -> None:
    with odd_registry(lambda _: (200, {}, b"<html>log in first</html>")) as odd, pytest.raises(Failed) as raised:
        protocol.pull(Layout(tmp_path), f"{odd.address}/team/odd:1", AMD64)
    assert raised.value.code == "image-corrupt" and f"{odd.address}/team/odd:1" in raised.value.message


def without_end() -> Iterator[bytes]:
    return repeat(b" " * (1 << 16))


TOKEN = {"WWW-Authenticate": 'Bearer realm="http://{host}/token",service="odd"'}


@pytest.mark.parametrize(
    "answers",
    [
        lambda _: (200, {}, without_end()),
        lambda _: (404, {}, without_end()),
        lambda line: (200, {}, without_end()) if "/token" in line else (401, TOKEN, b""),
        lambda line: (200, {}, without_end()) if "/again" in line else (302, {"Location": "/again"}, without_end()),
    ],
    ids=["document", "error", "token", "redirect"],
)
def test_an_answer_without_an_end_is_not_read_to_it(
    answers: Callable[[str], Answer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "nothing"))

    def told(line: str) -> Answer:
        status, headers, data = answers(line)
        return status, {name: value.replace("{host}", odd.address) for name, value in headers.items()}, data

    with odd_registry(told) as odd, pytest.raises((Failed, NotFound)) as raised:
        protocol.pull(Layout(tmp_path / "pool"), f"{odd.address}/team/odd@sha256:{'0' * 64}", AMD64)
    assert raised.value.code in ("registry-refused", "image-unknown") and raised.value.hint
    assert "closed" in odd.asked
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "token", [b"[]", b'{"token": {"a": 1}}', b'{"token": "a\\nb"}', '{"token": "ä"}'.encode(), b"[" * 100_000, b"", b'{"token": 7}']
)  # fmt: skip
def test_a_token_that_is_none_is_told(token: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "nothing"))

    def answers(line: str) -> Answer:
        if "/token" in line:
            return 200, {}, token
        return 401, {"WWW-Authenticate": f'Bearer realm="http://{odd.address}/token"'}, b""

    with odd_registry(answers) as odd, pytest.raises(Forbidden) as raised:
        protocol.pull(Layout(tmp_path / "pool"), f"{odd.address}/team/odd@sha256:{'0' * 64}", AMD64)
    assert raised.value.code == "registry-denied" and "gives no token" in raised.value.message
    assert len(odd.asked) == 2


def test_a_registry_that_wants_to_be_left_alone_for_long_is_asked_once(tmp_path: Path) -> None:
    with odd_registry(lambda _: (429, {"Retry-After": "3600"}, b"")) as odd, pytest.raises(Unreachable) as raised:
        protocol.pull(Layout(tmp_path), f"{odd.address}/team/odd@sha256:{'0' * 64}", AMD64)
    assert "429, again in 3600 s" in raised.value.message and len(odd.asked) == 1


def test_a_password_does_not_leave_an_encrypted_registry_in_the_clear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(auth_file(tmp_path, **{"hub.example": "ada:sesame"})))
    with odd_registry(lambda _: (200, {}, b'{"token": "a"}')) as clear:
        with protocol.Registry(parse("hub.example/team/demand"), "pull") as there, pytest.raises(Forbidden) as raised:
            there.authorised(f'Bearer realm="http://{clear.address}/token"')
        assert "not encrypted" in raised.value.message and not clear.asked


def test_a_password_stays_with_the_registry_that_asks_for_it(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another host, where blobs lie or uploads go, gets none, and may not ask for one."""
    monkeypatch.setattr(protocol, "PAUSE_S", 0.01)
    image = plain(base)

    def other(line: str) -> Answer:
        return 401, {"WWW-Authenticate": f'Bearer realm="http://{elsewhere.address}/token"'}, b""

    def own(line: str) -> Answer:
        if not odd.passwords:
            return 401, {"WWW-Authenticate": "Basic"}, b""
        if line.startswith("POST"):
            return 202, {"Location": f"http://{elsewhere.address}/upload"}, b""
        if line.startswith("HEAD"):
            return 404, {}, b""
        return 307, {"Location": f"http://{elsewhere.address}/blob"}, b""

    with odd_registry(other) as elsewhere, odd_registry(own) as odd:
        monkeypatch.setenv("DOCKER_CONFIG", str(auth_file(tmp_path, **{odd.address: "ada:sesame"})))
        with pytest.raises(Forbidden):
            protocol.pull(Layout(tmp_path / "pool"), f"{odd.address}/team/odd@sha256:{'0' * 64}", AMD64)
        with pytest.raises(Forbidden):
            images.push(image, f"{odd.address}/team/odd:1")
        assert odd.passwords and elsewhere.asked and not elsewhere.passwords


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_what_is_sent_is_not_redirected(
    status: int, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answers(line: str) -> Answer:
        if line.startswith("HEAD"):
            return 404, {}, b""
        if line.startswith("POST"):
            return 202, {"Location": "uploads/1?_state=a"}, b""
        return status, {"Location": "http://elsewhere.example/?key=secret"}, b""

    with odd_registry(answers) as odd, pytest.raises(Failed) as raised:
        images.push(plain(base), f"{odd.address}/team/odd:1")
    assert raised.value.code == "registry-refused" and raised.value.hint
    assert "redirects PATCH to http://elsewhere.example/" in raised.value.message
    assert "secret" not in raised.value.message
    assert odd.asked[-1] == "PATCH /v2/team/odd/blobs/uploads/uploads/1?_state=a"  # relative to where it was told


def test_a_token_that_is_kept_is_not_sent_where_its_service_redirects_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answers(line: str) -> Answer:
        if "/token" in line:
            return 307, {"Location": f"http://{elsewhere.address}/token"}, b""
        return 401, {"WWW-Authenticate": f'Bearer realm="http://{odd.address}/token"'}, b""

    with odd_registry(lambda _: (200, {}, b'{"token": "a"}')) as elsewhere, odd_registry(answers) as odd:
        (tmp_path / "config.json").write_text(json.dumps({"auths": {odd.address: {"identitytoken": "sesame"}}}))
        monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
        with pytest.raises(Forbidden) as raised:
            protocol.pull(Layout(tmp_path / "pool"), f"{odd.address}/team/odd@sha256:{'0' * 64}", AMD64)
    assert "its token service says 307" in raised.value.message
    assert odd.passwords and not elsewhere.asked


@pytest.mark.parametrize(
    "kept", ["[]", "7", '{"auths": null}', '{"auths": {"HOST": 7}}', '{"credHelpers": []}', "[" * 100_000]
)
def test_a_file_of_passwords_of_another_form_holds_none(
    kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    with odd_registry(lambda _: (401, {"WWW-Authenticate": "Basic"}, b"")) as odd:
        (tmp_path / "config.json").write_text(kept.replace("HOST", odd.address))
        with pytest.raises(Forbidden) as raised:
            protocol.pull(Layout(tmp_path / "pool"), f"{odd.address}/team/odd@sha256:{'0' * 64}", AMD64)
    assert raised.value.code == "registry-denied" and "docker login" in str(raised.value.hint)


def test_an_upload_that_a_registry_says_is_longer_than_it_is_begins_anew(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "PAUSE_S", 0.01)
    said: list[str] = []

    def answers(line: str) -> Answer:
        if line.startswith(("HEAD", "GET")):
            return (404, {}, b"") if line.startswith("HEAD") else (204, {"Range": f"0-{10**15}"}, b"")
        return (500, {}, b"") if line.startswith("PATCH") else (202, {"Location": "/upload"}, b"")

    with odd_registry(answers) as odd, pytest.raises(Unreachable):
        images.push(plain(base), f"{odd.address}/team/odd:1", said.append)
    assert len(said) == protocol.ATTEMPTS and len(set(said)) == 1 and "-" not in said[0]


def test_addresses_that_lead_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "PAUSE_S", 0.01)
    for where in ("http://a..b/", "http://[::1::]/", "mailto:ada", "http://"):
        with odd_registry(lambda _, where=where: (302, {"Location": where}, b"")) as odd, pytest.raises(Unreachable):
            protocol.pull(Layout(tmp_path), f"{odd.address}/team/odd@sha256:{'0' * 64}", AMD64)
    for text in ("a..b/team/odd:1", "[:::]:5000/team/odd:1", "localhost:1234567/odd:1"):
        with pytest.raises((InvalidInput, Unreachable)):
            protocol.pull(Layout(tmp_path), text, AMD64)
