"""Bytes by content, on local files and on S3."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stead.errors import Failed, InvalidInput, NotFound, Unreachable
from stead.store import Blobs, digest_of

UNKNOWN = "0" * 64


def test_put_and_get(any_blobs: Blobs, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"file")
    for given, content in ((b"hello", b"hello"), (b"", b""), (file, b"file")):
        digest = any_blobs.put(given)
        assert digest == digest_of(content)
        assert any_blobs.get(digest) == content
        assert any_blobs.has(digest)
        assert any_blobs.size(digest) == len(content)
        assert any_blobs.put(given) == digest


def test_large_bytes_stream_and_fetch(any_blobs: Blobs, tmp_path: Path) -> None:
    content = os.urandom(12 << 20)
    digest = any_blobs.put(content)
    pieces = list(any_blobs.stream(digest))
    assert len(pieces) > 1
    assert b"".join(pieces) == content
    any_blobs.fetch(digest, tmp_path / "deep" / "copy")
    assert (tmp_path / "deep" / "copy").read_bytes() == content
    assert any_blobs.path(digest).read_bytes() == content
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["copy"]


def test_what_is_not_there(any_blobs: Blobs, tmp_path: Path) -> None:
    assert not any_blobs.has(UNKNOWN)
    for ask in (any_blobs.get, any_blobs.size, any_blobs.path, lambda d: list(any_blobs.stream(d))):
        with pytest.raises(NotFound) as raised:
            ask(UNKNOWN)
        assert raised.value.code == "blob-missing"
    with pytest.raises(NotFound):
        any_blobs.fetch(UNKNOWN, tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_what_is_deleted_is_gone(any_blobs: Blobs) -> None:
    gone, kept = any_blobs.put(b"gone"), any_blobs.put(b"kept")
    assert any_blobs.path(gone).read_bytes() == b"gone"
    for _ in range(2):
        any_blobs.delete(gone)
        assert not any_blobs.has(gone) and any_blobs.get(kept) == b"kept"
    with pytest.raises(NotFound):
        any_blobs.path(gone)


@pytest.mark.parametrize("name", ["", "abc", "../" * 21 + "x", "G" * 64, UNKNOWN + "0"])
def test_only_names_of_bytes_are_asked_for(any_blobs: Blobs, name: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        any_blobs.get(name)
    assert raised.value.code == "digest-invalid"


def test_corrupt_bytes_are_named(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    digest = blobs.put(b"precious")
    blobs.path(digest).write_bytes(b"Precious")
    with pytest.raises(Failed) as raised:
        blobs.get(digest)
    assert raised.value.code == "blob-corrupt"
    assert digest[:12] in raised.value.message


def test_a_place_that_makes_no_sense() -> None:
    with pytest.raises(InvalidInput) as raised:
        Blobs("nowhere://x")
    assert raised.value.code == "blobs-url-invalid"


def test_a_server_that_does_not_answer() -> None:
    options = {"client_options": {"allow_http": True, "connect_timeout": "1s"}, "retry_config": {"max_retries": 0}}
    blobs = Blobs("s3://x", endpoint="http://127.0.0.1:1", skip_signature=True, region="x", **options)
    with pytest.raises(Unreachable) as raised:
        blobs.put(b"hello")
    assert raised.value.code == "blobs-unreachable"
