"""A full disk: one clear error, nothing half-written, and all goes on when there is room again."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from traffic import hours, log

from stead.errors import Failed
from stead.predictions import Label, PredictionLog, add_labels, compact, counts, seal_labels
from tests.conftest import new_store


@contextmanager
def file_size_limit(limit: int) -> Iterator[None]:
    """No file of this process may grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_log_and_labels_at_a_file_size_limit(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    writer = PredictionLog(store, "gateway-1")
    writer.append(hours(3))
    add_labels(store, [Label(each.id, 1.0) for each in hours(3)])
    size = writer._segment.log.size if writer._segment else 0
    with file_size_limit(size + 100):
        for _ in range(3):
            with pytest.raises(Failed) as raised:
                writer.append(hours(5))
            assert raised.value.code == "disk-full"
    with file_size_limit(200):
        with pytest.raises(Failed) as raised:
            add_labels(store, [Label(each.id, 1.0) for each in hours(9)])
        assert raised.value.code == "disk-full"
    assert counts(store, "bikes").logged == 3
    assert counts(store, "bikes").unknown_labels == 3
    more = hours(2, first=3)
    writer.append(more)
    add_labels(store, [Label(more[0].id, 1.0)])
    writer.close()
    seal_labels(store)
    compact(store)
    assert counts(store, "bikes").logged == 5
    assert counts(store, "bikes").labelled == 1
    store.close()


def test_no_file_is_left_where_none_can_be_begun(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    writer = PredictionLog(store, "gateway-1")
    handles = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    with file_size_limit(8):
        for _ in range(5):
            with pytest.raises(Failed) as raised:
                writer.append(hours(1))
            assert raised.value.code == "disk-full"
    assert not list((store.root / "log").rglob("*.log"))
    if handles:
        assert len(os.listdir("/proc/self/fd")) <= handles
    writer.append(hours(1))
    writer.close()
    assert counts(store, "bikes").logged == 1
    store.close()


def test_compaction_that_finds_no_room_loses_nothing(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    ids = log(store, hours(300))
    with file_size_limit(4096), pytest.raises(Failed) as raised:
        compact(store)
    assert raised.value.code == "disk-full"
    assert counts(store, "bikes").rows == len(ids)
    compact(store)
    assert counts(store, "bikes").rows == len(ids)
    store.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MB, where one may be mounted."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if (
        sys.platform != "linux"
        or os.geteuid() != 0
        or subprocess.run(command, capture_output=True, check=False).returncode
    ):
        pytest.skip("needs root and the right to mount a tmpfs; the file size limit above tests the same")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_on_a_full_file_system(small_disk: Path) -> None:
    store = new_store(small_disk)
    writer = PredictionLog(store, "gateway-1")
    logged = 0
    code = ""
    while not code:
        try:
            writer.append(hours(50))
            logged += 50
        except Failed as error:
            code = error.code
    assert code == "disk-full"
    with pytest.raises(Failed) as raised:
        add_labels(store, [Label(each.id, "x" * 1000) for each in hours(100)])
    assert raised.value.code == "disk-full"
    assert counts(store, "bikes").logged == logged
    writer.close()
    seal_labels(store)
    store.close()
