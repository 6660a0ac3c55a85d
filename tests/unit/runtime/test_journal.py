"""The journal: what append returned from is in the file, each process has a writer of its own."""

from __future__ import annotations

import multiprocessing
import os
import resource
import threading
from pathlib import Path

import pytest

from stead.errors import Failed, InvalidInput, NotFound
from stead.runtime import journal as j

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def values(log: Path) -> list[object]:
    return [record.values for _, record in j.read(log) if isinstance(record, j.Metrics)]


def test_every_kind_of_record_comes_back(tmp_path: Path) -> None:
    records: list[j.Record] = [
        j.Started(1, "p", "n", source={"a": [1, None]}),
        j.Facts(1, {"git": {}}),
        j.Params(1, {"a": "1"}),
        j.Tags(1, {"a": "1"}),
        j.Metrics(1, -5, {"loss": float("inf")}),
        j.Points(1, "loss", b"", b"", b""),
        j.File(1, "a/b", "f", 3),
        j.Text(1, "grüße\n"),
        j.Input(1, "trips", 3),
        j.Beat(1),
        j.Ended(1, "finished"),
    ]
    assert {type(record) for record in records} == set(j.KINDS)
    journal = j.Journal(tmp_path / "r")
    journal.append(*records)
    assert [record for _, record in j.read(journal.path)] == records


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Failed) as raised:
        j.Journal(tmp_path / "file" / "r")
    assert raised.value.code == "journal-folder" and "STEAD_STORE" in str(raised.value.hint)


def test_a_torn_tail_is_not_read(tmp_path: Path) -> None:
    journal = j.Journal(tmp_path / "r")
    journal.append(j.Metrics(1, 0, {"a": 1.0}))
    journal.append(j.Metrics(1, 1, {"a": 2.0}))
    journal.close()
    data = journal.path.read_bytes()
    for cut in range(1, 20):
        journal.path.write_bytes(data[:-cut])
        assert values(journal.path) == [{"a": 1.0}]


def test_a_forked_child_has_its_own_writer(tmp_path: Path) -> None:
    journal = j.Journal(tmp_path / "r")
    journal.append(j.Metrics(1, 0, {"parent": 1.0}))

    def child() -> None:
        journal.append(j.Metrics(1, 0, {"child": 1.0}))
        assert all(j.is_alive(log) for log in j.logs_of(journal.folder))

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    assert process.exitcode == 0
    journal.append(j.Metrics(1, 1, {"parent": 2.0}))
    mine, other = j.logs_of(journal.folder)
    assert (values(mine), values(other)) == ([{"parent": 1.0}, {"parent": 2.0}], [{"child": 1.0}])
    assert j.is_alive(mine)
    assert not j.is_alive(other)
    journal.close()
    assert not j.is_alive(mine)


def test_in_a_forked_child_journals_that_were_closed_before_take_no_file_away(tmp_path: Path) -> None:
    below = os.open(os.devnull, os.O_RDONLY)
    closed = []
    for n in range(9):
        closed.append(j.Journal(tmp_path / str(n)))
        closed[-1].close()
    os.close(below)
    journal = j.Journal(tmp_path / "r")  # its log has the number that their locks had
    process = multiprocessing.get_context("fork").Process(
        target=journal.append, args=(j.Metrics(1, 0, {"child": 1.0}),)
    )
    process.start()
    process.join()
    assert process.exitcode == 0 and len(j.logs_of(journal.folder)) == 2


def test_another_process_sees_the_writer_alive(tmp_path: Path) -> None:
    journal = j.Journal(tmp_path / "r")
    pid = os.fork()
    if pid == 0:
        os._exit(0 if j.is_alive(journal.path) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert j.is_alive(journal.path)  # looking did not let go of the lock


def test_threads_share_a_journal(tmp_path: Path) -> None:
    journal = j.Journal(tmp_path / "r")

    def write(name: str) -> None:
        for n in range(200):
            journal.append(j.Metrics(n, n, {name: float(n)}))

    threads = [threading.Thread(target=write, args=(f"t{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(values(journal.path)) == 800


def test_artifacts_are_copied_by_content(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(b"first")
    journal = j.Journal(tmp_path / "r")
    journal.add_file(file, "x/a.bin", 1)
    journal.add_file(b"first", "x//b.bin", 1)
    file.write_bytes(b"second")
    records = [record for _, record in j.read(journal.path) if isinstance(record, j.File)]
    assert [record.path for record in records] == ["x/a.bin", "x/b.bin"]
    assert len({record.file for record in records}) == 1
    assert (journal.folder / "files" / records[0].file).read_bytes() == b"first"
    for bad in ("", "..", "/a", "a/../../b", "a\\b", "a\nb", "x" * 2000):
        with pytest.raises(InvalidInput):
            journal.add_file(file, bad, 1)
    with pytest.raises(NotFound):
        journal.add_file(tmp_path / "none", "a", 1)
    with pytest.raises(InvalidInput):
        journal.add_file(tmp_path, "a", 1)
    assert len(list((journal.folder / "files").iterdir())) == 1


def test_a_full_disk_is_told_and_the_journal_goes_on(tmp_path: Path) -> None:
    journal = j.Journal(tmp_path / "r")
    journal.append(j.Metrics(1, 0, {"a": 1.0}))
    pid = os.fork()
    if pid == 0:
        import signal

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        code = 1
        try:
            journal.append(j.Text(1, "x" * 5000))
        except Failed as error:
            code = 0 if error.code == "disk-full" else 2
        journal.append(j.Metrics(1, 1, {"a": 2.0}))
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert values(j.logs_of(journal.folder)[1]) == [{"a": 2.0}]


def test_a_closed_journal_says_so(tmp_path: Path) -> None:
    journal = j.Journal(tmp_path / "r")
    journal.close()
    journal.close()
    with pytest.raises(Failed, match="is closed"):
        journal.append(j.Beat(1))


def test_the_courier_goes_on_where_it_was_left(tmp_path: Path) -> None:
    journal = j.Journal(tmp_path / "r")
    journal.append(*[j.Metrics(n, n, {"a": 1.0}) for n in range(j.BATCH_RECORDS + 10)])
    got: list[tuple[int, int]] = []
    fail = [True]

    def deliver(writer: str, first: int, records: object) -> int:
        assert isinstance(records, list)
        if len(got) == 1 and fail:
            fail.pop()
            raise Failed("no", "no")
        if records:
            got.append((first, len(records)))
        return first + len(records) - 1

    courier = j.Courier(journal.folder, deliver, lambda _: "", fresh=True)
    with pytest.raises(Failed):
        courier.carry()
    assert courier.carry() == 10
    assert courier.carry() == 0
    journal.append(j.Ended(1, "finished"))
    assert courier.carry() == 1
    assert courier.has_ended
    assert got == [(1, j.BATCH_RECORDS), (j.BATCH_RECORDS + 1, 10), (j.BATCH_RECORDS + 11, 1)]
    later = j.Courier(journal.folder, lambda *_: j.BATCH_RECORDS + 11, lambda _: "")
    assert later.carry() == 0
    assert later.has_ended
    j.remove(journal.folder)
    assert not journal.folder.exists()
