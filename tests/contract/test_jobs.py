"""The queue on both databases: one owner at a time, no zombie writes, retries, time-outs, cancel, logs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import sqlalchemy as sa

from stead import jobs
from stead.errors import Conflict, Failed, NotFound, Unreachable
from stead.jobs import Keeper, LeaseLost
from stead.jobs import operations as queue
from stead.jobs.tables import jobs as table
from stead.store import Store


def work(store: Store, handler: Any, **options: Any) -> jobs.Job:
    done = jobs.work(store, {"x": handler}, owner="me", **options)
    assert done is not None
    return done


def expire(store: Store, job_id: str) -> None:
    """As if its keeper had not beaten for long."""
    with store.db.write("jobs.beat") as tx:
        tx.execute(sa.update(table).where(table.c.id == job_id).values(lease_until=1))


def due(store: Store, job_id: str) -> None:
    """As if its backoff were over."""
    with store.db.write("jobs.beat") as tx:
        tx.execute(sa.update(table).where(table.c.id == job_id).values(run_after=1))


def test_a_job_is_done_and_tells_its_result(any_store: Store) -> None:
    job = jobs.enqueue(any_store, "x", {"a": 1}, model="m")

    def handler(store: Store, keeper: Keeper) -> dict[str, Any]:
        keeper.report("half", 1, 2)
        keeper.log("hello\n")
        return {"got": keeper.job.payload["a"], "for": store.actor}

    done = work(any_store, handler)
    assert (done.state, done.result, done.attempt) == ("succeeded", {"got": 1, "for": "person:ada"}, 1)
    assert done.progress == jobs.Progress("half", 1, 2)
    assert "".join(text for _, _, text in jobs.job_log(any_store, job.id)) == "half\nhello\n"
    assert jobs.work(any_store, {"x": handler}, owner="me") is None
    assert jobs.open_jobs(any_store) == []


def test_jobs_with_the_same_key_are_one_until_it_has_ended(any_store: Store) -> None:
    first = jobs.enqueue(any_store, "x", {}, key="k")
    assert jobs.enqueue(any_store, "x", {"other": 1}, key="k").id == first.id
    work(any_store, lambda store, keeper: {})
    assert jobs.enqueue(any_store, "x", {}, key="k").id != first.id


def test_priority_then_age(any_store: Store) -> None:
    jobs.enqueue(any_store, "x", {"n": 1})
    jobs.enqueue(any_store, "x", {"n": 2}, priority=5)
    order = [work(any_store, lambda store, keeper: {}).payload["n"] for _ in range(2)]
    assert order == [2, 1]


def test_a_zombie_cannot_write(any_store: Store) -> None:
    jobs.enqueue(any_store, "x", {})
    old = queue.claim(any_store, "old", ["x"])
    assert old is not None
    assert queue.claim(any_store, "new", ["x"]) is None
    expire(any_store, old.id)
    new = queue.claim(any_store, "new", ["x"])
    assert new is not None and new.fence > old.fence and new.attempt == 2
    zombie = Keeper(any_store, old)
    try:
        with pytest.raises(LeaseLost), zombie.write("jobs.beat"):
            pytest.fail("a zombie's transaction must not begin its work")
        for late in (lambda: queue.finish(any_store, old, {}), lambda: queue.give_up(any_store, old, {}, retry=False)):
            with pytest.raises(LeaseLost):
                late()
        with pytest.raises(LeaseLost):
            queue.beat(any_store, old, text="still here")
    finally:
        zombie.close()
    queue.finish(any_store, new, {"by": "new"})
    assert jobs.get_job(any_store, old.id).result == {"by": "new"}


def test_a_try_that_failed_tells_when_the_next_one_is(any_store: Store) -> None:
    job = jobs.enqueue(any_store, "x", {}, max_attempts=2)
    for _ in range(2):
        held = queue.claim(any_store, "me", ["x"])
        assert held is not None
        queue.give_up(any_store, held, {"message": "the index does not answer"}, retry=True)
        due(any_store, job.id)
    told = [text for _, _, text in jobs.job_log(any_store, job.id)]
    assert told == ["the index does not answer (try 1 of 2, the next in 1 s)\n", "the index does not answer\n"]


def test_a_job_whose_process_dies_each_time_is_given_up(any_store: Store) -> None:
    job = jobs.enqueue(any_store, "x", {}, max_attempts=2)
    for _ in range(2):
        assert queue.claim(any_store, "me", ["x"]) is not None
        expire(any_store, job.id)
    assert queue.claim(any_store, "me", ["x"]) is None
    ended = jobs.get_job(any_store, job.id)
    assert ended.state == "failed" and ended.error is not None and ended.error["code"] == "job-lost"


def test_a_crash_is_tried_again_later_and_a_mistake_is_not(any_store: Store) -> None:
    job = jobs.enqueue(any_store, "x", {}, max_attempts=2)

    def crash(store: Store, keeper: Keeper) -> dict[str, Any]:
        raise ZeroDivisionError("oops")

    first = work(any_store, crash)
    assert first.state == "queued" and first.run_after > first.created_at
    assert jobs.work(any_store, {"x": crash}, owner="me") is None
    due(any_store, job.id)
    last = work(any_store, crash)
    assert last.state == "failed" and last.error is not None and "oops" in last.error["message"]
    assert "ZeroDivisionError" in "".join(text for _, _, text in jobs.job_log(any_store, job.id))

    def mistake(store: Store, keeper: Keeper) -> dict[str, Any]:
        raise Failed("no-good", "no good", hint="do better")

    jobs.enqueue(any_store, "x", {})
    failed = work(any_store, mistake)
    assert failed.state == "failed" and failed.attempt == 1
    assert failed.error == {"kind": "Failed", "code": "no-good", "message": "no good", "hint": "do better"}

    def away(store: Store, keeper: Keeper) -> dict[str, Any]:
        raise Unreachable("away", "the gateway is away")

    jobs.enqueue(any_store, "x", {})
    assert work(any_store, away).state == "queued"


def test_cancel(any_store: Store) -> None:
    waiting = jobs.enqueue(any_store, "x", {})
    assert jobs.cancel_job(any_store, waiting.id).state == "cancelled"
    with pytest.raises(Conflict, match="cancelled"):
        jobs.cancel_job(any_store, waiting.id)
    running = jobs.enqueue(any_store, "x", {})
    begun = threading.Event()

    def endless(store: Store, keeper: Keeper) -> dict[str, Any]:
        begun.set()
        while True:
            keeper.check()
            time.sleep(0.01)

    thread = threading.Thread(target=work, args=(any_store, endless))
    thread.start()
    assert begun.wait(10)
    jobs.cancel_job(any_store, running.id)
    thread.join(10)
    assert not thread.is_alive()
    assert jobs.get_job(any_store, running.id).state == "cancelled"
    with pytest.raises(NotFound):
        jobs.get_job(any_store, "f" * 32)


def test_what_failed_or_was_cancelled_is_done_again_as_a_new_job(any_store: Store) -> None:
    first = jobs.enqueue(any_store, "x", {"n": 1}, model="m", key="k", timeout_s=7, max_attempts=1)
    with pytest.raises(Conflict, match="is queued"):
        jobs.retry_job(any_store, first.id)
    jobs.cancel_job(any_store, first.id)
    again = jobs.retry_job(any_store.acting("person:bob"), first.id)
    assert again.id != first.id and (again.state, again.requested_by) == ("queued", "person:bob")
    assert (again.payload, again.model, again.timeout_s) == ({"n": 1}, "m", 7)
    assert jobs.retry_job(any_store, first.id).id == again.id, "one of a key at a time"

    def fails(store: Store, keeper: Keeper) -> dict[str, Any]:
        raise Failed("x", "no")

    assert work(any_store, fails).state == "failed"
    assert jobs.retry_job(any_store, again.id).id not in (first.id, again.id)
    deploy = jobs.enqueue(any_store, "deploy", {}, model="m")
    jobs.cancel_job(any_store, deploy.id)
    with pytest.raises(Conflict, match="deployment has ended"):
        jobs.retry_job(any_store, deploy.id)


def test_time_out_ends_the_command(store: Store, tmp_path: Path) -> None:
    jobs.enqueue(store, "x", {}, timeout_s=1)
    command = [sys.executable, "-c", "import time; time.sleep(600)", str(tmp_path)]

    def alive() -> list[int]:
        return [each.pid for each in psutil.process_iter(["cmdline"]) if str(tmp_path) in (each.info["cmdline"] or [])]

    seen: list[int] = []

    def handler(_: Store, keeper: Keeper) -> dict[str, Any]:
        keeper.run("try", command, cwd=tmp_path, env=dict(os.environ), on_tick=lambda: seen.extend(alive()))
        return {}

    ended = work(store, handler)
    assert ended.state == "failed" and ended.error is not None and ended.error["code"] == "job-timeout"
    assert seen and not alive()


def test_a_failing_command_tells_its_last_line(store: Store, tmp_path: Path) -> None:
    jobs.enqueue(store, "x", {})
    command = [sys.executable, "-c", "import sys; print('one', flush=True); sys.exit('the reason')"]

    def handler(_: Store, keeper: Keeper) -> dict[str, Any]:
        keeper.run("try", command, cwd=tmp_path, env=dict(os.environ))
        return {}

    ended = work(store, handler)
    assert ended.error is not None and ended.error["message"] == "try ended with exit code 1: the reason"


def test_a_command_that_is_killed_from_outside_is_tried_again(store: Store, tmp_path: Path) -> None:
    jobs.enqueue(store, "x", {})
    command = [sys.executable, "-c", "import os; os.path.exists('m') or (open('m', 'w'), os.kill(os.getpid(), 9))"]

    def handler(_: Store, keeper: Keeper) -> dict[str, Any]:
        keeper.run("try", command, cwd=tmp_path, env=dict(os.environ))
        return {}

    waits = work(store, handler)
    assert waits.state == "queued" and waits.error is not None and waits.error["code"] == "step-killed"
    with store.db.write("jobs.beat") as tx:
        tx.execute(sa.text("update jobs set run_after = 0"))
    assert work(store, handler).state == "succeeded"


@pytest.mark.skipif(sys.platform != "linux", reason="memory is bounded on Linux only")
@pytest.mark.parametrize(
    ("script", "code", "hint"),
    [
        ("x = bytearray(1 << 30)", "step-memory", "memory_mb is 300"),
        ("import os; a = [os.open('/dev/null', 0) for _ in range(99)]", "step-files", "open_files is 50"),
        ("import os; os.kill(os.getpid(), 9)", "step-memory", "memory_mb is 300"),
    ],
)
def test_a_command_ends_at_its_limits_and_says_so(
    store: Store, tmp_path: Path, script: str, code: str, hint: str
) -> None:
    def handler(_: Store, keeper: Keeper) -> dict[str, Any]:
        keeper.run("try", [sys.executable, "-c", script], cwd=tmp_path, env=dict(os.environ))
        return {}

    jobs.enqueue(store, "x", {})
    ended = jobs.work(store, {"x": handler}, owner="me", limits=jobs.Limits(memory_mb=300, open_files=50))
    assert ended is not None and ended.error is not None and ended.state == "failed"
    assert ended.error["code"] == code and hint in ended.error["hint"]


def test_the_log_comes_by_whole_lines(store: Store, tmp_path: Path) -> None:
    script = """
import os, time
for part in (b"one ", b"line \\xe2", b"\\x82\\xac\\nhalf", b" of\\nthe end"): os.write(1, part); time.sleep(0.02)
"""
    told: list[str] = []

    def handler(_: Store, keeper: Keeper) -> dict[str, Any]:
        keeper.run("try", [sys.executable, "-c", script], cwd=tmp_path, env=dict(os.environ))
        return {}

    jobs.enqueue(store, "x", {})
    jobs.work(store, {"x": handler}, owner="me", echo=told.append)
    assert told == ["one line €\n", "half of\n", "the end"]


def test_only_one_of_many_keepers_gets_a_job(any_store: Store) -> None:
    for number in range(10):
        jobs.enqueue(any_store, "x", {"n": number})
    claimed: list[str] = []

    def take() -> None:
        while (job := queue.claim(any_store, threading.current_thread().name, ["x"])) is not None:
            claimed.append(job.id)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(claimed) == 10 and len(set(claimed)) == 10


DIES = """
import sys
from stead import jobs
from stead.config import load_settings
from stead.store import open_store
store = open_store(load_settings())
def handler(store, keeper):
    with keeper.write("jobs.clock") as tx:
        store.db.upsert(tx, __import__("stead.jobs.tables").jobs.tables.model_clocks, {"model": "m", "asked": 7, "holder": "h", "beat_at": 1}, ["model"])
    keeper.log("worked\\n")
    return {"ok": True}
if sys.argv[1] == "enqueue":
    jobs.enqueue(store, "x", {}, key="only")
    print("acknowledged", flush=True)
else:
    jobs.work(store, {"x": handler}, owner="other")
"""


@pytest.mark.parametrize("point", ["jobs.enqueue", "jobs.claim", "jobs.clock", "jobs.beat", "jobs.finish"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_kill_at_each_failpoint_loses_and_doubles_nothing(store: Store, point: str, moment: str) -> None:
    environ = {**os.environ, "STEAD_STORE": str(store.root), "STEAD_FAILPOINT": f"{point}:{moment}"}
    first = "enqueue" if point == "jobs.enqueue" else "work"
    if first == "work":
        jobs.enqueue(store, "x", {}, key="only")
    died = subprocess.run([sys.executable, "-c", DIES, first], env=environ, capture_output=True, text=True)
    assert died.returncode == -signal.SIGKILL, died.stderr
    if first == "enqueue" and moment == "before":
        assert jobs.list_jobs(store) == []
    jobs.enqueue(store, "x", {}, key="only")  # what the user does who saw no answer
    for job in jobs.open_jobs(store):
        expire(store, job.id)
    del environ["STEAD_FAILPOINT"]
    subprocess.run([sys.executable, "-c", DIES, "work"], env=environ, check=True)
    succeeded = jobs.list_jobs(store, state="succeeded")
    assert [job.result for job in succeeded] in (
        [{"ok": True}],
        [{"ok": True}] * 2 if (point, moment) == ("jobs.finish", "after") else [],
    )
    assert jobs.open_jobs(store) == []


def test_a_clock_moves_where_the_loop_takes_it_up(any_store: Store) -> None:
    store = any_store
    jobs.move_clock(store, "m", to=5, holder="a")
    assert jobs.held_at(store, "m") is None and jobs.clocks_asked(store), "the wall clock until a turn begins"
    assert jobs.take_up_clocks(store) == {"m": 5} and not jobs.clocks_asked(store)
    jobs.move_clock(store, "m", to=6, holder="a")
    with pytest.raises(Conflict, match="another replay"):
        jobs.move_clock(store, "m", to=9, holder="b")
    assert jobs.held_at(store, "m") == 5
    jobs.settle_clock(store, "m", at=5)
    with store.db.read() as tx:
        assert not jobs.settled_in(tx, "m"), "done at 5, and asked for 6"
    assert jobs.take_up_clocks(store) == {"m": 6}
    jobs.settle_clock(store, "m", at=5)
    with store.db.read() as tx:
        assert not jobs.settled_in(tx, "m"), "a turn at 5 says nothing of 6"
    jobs.settle_clock(store, "m", at=6)
    with store.db.read() as tx:
        assert jobs.settled_in(tx, "m")
    jobs.enqueue(store, "x", {}, model="m", event_time=6)
    with store.db.read() as tx:
        assert not jobs.settled_in(tx, "m"), "a job has begun there"
    jobs.settle_clock(store, "m", at=6)
    with store.db.read() as tx:
        assert not jobs.settled_in(tx, "m"), "and a turn that looked before it began does not know of it"
    assert jobs.work(store, {"x": lambda store, keeper: None}, owner="w") is not None
    jobs.settle_clock(store, "m", at=6)
    with store.db.read() as tx:
        assert jobs.settled_in(tx, "m"), "it has ended"
    jobs.release_clock(store, "m", holder="a")
    assert jobs.take_up_clocks(store) == {} and not jobs.clocks_asked(store)


def test_a_clock_is_held_by_one_and_given_back(any_store: Store) -> None:
    assert jobs.held_at(any_store, "m") is None
    jobs.hold_clock(any_store, "m", now=5, holder="a")
    assert jobs.model_now(any_store, "m") == 5
    with pytest.raises(Conflict):
        jobs.hold_clock(any_store, "m", now=6, holder="b")
    jobs.release_clock(any_store, "m", holder="b")
    assert jobs.held_at(any_store, "m") == 5
    jobs.release_clock(any_store, "m", holder="a")
    assert jobs.model_now(any_store, "m") > 10**12
