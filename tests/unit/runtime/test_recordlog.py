"""The record log: what was appended is read, whatever happened to the end of the file."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stead.errors import Failed
from stead.runtime.recordlog import MAGIC, RecordLog, read_records, valid_size

BATCHES = st.lists(st.lists(st.binary(max_size=50), max_size=4), max_size=6)
SAME_FOLDER = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)


def records(path: Path, offset: int = 0) -> list[bytes]:
    return [payload for _, payload in read_records(path, offset)]


def written(path: Path, batches: list[list[bytes]]) -> list[bytes]:
    path.unlink(missing_ok=True)
    log = RecordLog(path)
    for batch in batches:
        log.append(batch, sync=bool(len(batch) % 2))
    log.sync()
    log.close()
    return [record for batch in batches for record in batch]


@SAME_FOLDER
@given(batches=BATCHES)
def test_everything_is_read_and_reading_goes_on_from_any_record(batches: list[list[bytes]], tmp_path: Path) -> None:
    path = tmp_path / "log"
    expected = written(path, batches)
    found = list(read_records(path))
    assert [payload for _, payload in found] == expected
    for place, (offset, _) in enumerate(found):
        assert records(path, offset) == expected[place + 1 :]
    assert valid_size(path) == path.stat().st_size


@SAME_FOLDER
@given(batches=BATCHES, data=st.data())
def test_a_torn_tail_ends_the_reading_and_is_cut_off(
    batches: list[list[bytes]], data: st.DataObject, tmp_path: Path
) -> None:
    path = tmp_path / "log"
    expected = written(path, batches)
    content = path.read_bytes()
    end = data.draw(st.integers(0, len(content)))
    junk = data.draw(st.binary(max_size=20))
    path.write_bytes(content[:end])
    whole = records(path)
    assert whole == expected[: len(whole)]
    if end >= len(MAGIC) and not any(content[end : end + len(junk)].startswith(junk[:1]) for _ in junk[:1]):
        path.write_bytes(content[:end] + junk)
        assert records(path)[: len(whole)] == whole
    path.write_bytes(content[:end])
    log = RecordLog(path)
    log.append([b"after"])
    log.close()
    assert records(path) == [*whole, b"after"]


@SAME_FOLDER
@given(batches=BATCHES.filter(any), data=st.data())
def test_a_flipped_bit_is_never_read_as_a_record(
    batches: list[list[bytes]], data: st.DataObject, tmp_path: Path
) -> None:
    path = tmp_path / "log"
    expected = written(path, batches)
    content = bytearray(path.read_bytes())
    if len(content) == len(MAGIC):
        return
    place = data.draw(st.integers(len(MAGIC), len(content) - 1))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    found = records(path)
    assert found == expected[: len(found)]
    assert len(found) < len(expected)


@pytest.mark.parametrize(
    "content", [b"not a log at all, but long", MAGIC[:-1] + b"\x01" + b"x", b"STEADLOG\x02" + bytes(20)]
)
def test_a_file_that_is_none_of_ours(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "log"
    path.write_bytes(content)
    with pytest.raises(Failed) as raised:
        records(path)
    assert raised.value.code == "log-corrupt"
    with pytest.raises(Failed):
        RecordLog(path)
    assert path.read_bytes() == content


def test_a_file_that_was_just_begun(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for content in (b"", MAGIC[:5], MAGIC):
        path.write_bytes(content)
        assert records(path) == []
        RecordLog(path).close()
        assert path.read_bytes() == MAGIC


def test_a_length_that_cannot_be(tmp_path: Path) -> None:
    path = tmp_path / "log"
    written(path, [[b"one"]])
    with open(path, "ab") as file:
        file.write(b"\xff\xff\xff\xff" + bytes(100))
    assert records(path) == [b"one"]


def test_on_a_full_disk_the_file_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = RecordLog(path)
    log.append([b"one"])
    size = path.stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, hard))
    try:
        with pytest.raises(Failed) as raised:
            log.append([b"x" * 30, b"y" * 30])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert raised.value.code == "disk-full"
    assert path.stat().st_size == size
    log.append([b"two"])
    log.close()
    assert records(path) == [b"one", b"two"]
