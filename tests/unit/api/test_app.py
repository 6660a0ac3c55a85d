"""The API over HTTP: arguments, errors, tokens and roles, foreign hosts and origins; the same through the remote caller."""

from __future__ import annotations

import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from stead import jobs
from stead.api import Remote
from stead.api.table import operations
from stead.api.tokens import create_token
from stead.errors import Conflict, Forbidden, InvalidInput, NotFound, SteadError, Unreachable
from stead.runtime.clock import now_ms
from stead.store import Store
from stead.store.packfile import WHOLE

Connect = Callable[..., Remote]


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def error(do: Callable[[], object]) -> SteadError:
    with pytest.raises(SteadError) as raised:
        do()
    return raised.value


def test_every_operation_has_a_route_and_a_description(url: str) -> None:
    paths = httpx.get(f"{url}/api/openapi.json").json()["paths"]
    for name, operation in operations().items():
        assert "post" in paths[f"/api/v1/{name}"], name
        assert operation.function.__doc__, f"{name} has no docstring"


def test_health_says_whether_the_loop_turns(url: str, store: Store) -> None:
    ask = partial(httpx.get, f"{url}/health")
    assert ask().text == "OK"
    answer = ask(params={"loop": 60})
    assert (answer.status_code, answer.json()) == (503, {"ok": False, "loop_age_s": None})
    jobs.agent_beat(store, "a", host="h", pid=1, turned_at=now_ms() - 30_000)
    answer = ask(params={"loop": 60})
    assert answer.status_code == 200 and 30 <= answer.json()["loop_age_s"] < 60
    assert ask(params={"loop": 20}).status_code == 503
    assert code(ask(params={"loop": "x"})) == (400, "arguments-invalid")


def test_reads_by_get_and_post_give_the_same(url: str) -> None:
    got = httpx.get(f"{url}/api/v1/jobs.list_jobs", params={"limit": 5})
    assert got.json() == httpx.post(f"{url}/api/v1/jobs.list_jobs", json={"limit": 5}).json() == []
    assert httpx.get(f"{url}/api/v1/jobs.cancel_job", params={"job_id": "x"}).status_code == 405


@pytest.mark.parametrize(
    ("body", "said"),
    [({"limit": "many"}, "limit"), ({"limitt": 5}, "limitt"), ([], "body")],
)
def test_wrong_arguments_are_named(url: str, body: Any, said: str) -> None:
    answer = httpx.post(f"{url}/api/v1/jobs.list_jobs", json=body)
    assert code(answer) == (400, "arguments-invalid")
    assert said in answer.json()["error"]["message"]


def test_a_key_told_twice_and_an_operation_that_is_not_there(url: str) -> None:
    twice = httpx.post(
        f"{url}/api/v1/jobs.list_jobs",
        content=b'{"limit": 1, "limit": 2}',
        headers={"content-type": "application/json"},
    )
    assert code(twice) == (400, "key-repeated")
    for name, hint in (("jobs.list_job", "did you mean 'jobs.list_jobs'?"), ("nothing", "/api/docs")):
        answer = httpx.post(f"{url}/api/v1/{name}", json={})
        assert code(answer) == (404, "operation-unknown") and answer.json()["error"]["hint"] == hint


def test_an_error_is_the_same_class_on_both_sides(url: str, remote: Connect) -> None:
    caller = remote(url)
    with pytest.raises(NotFound, match="no decision 7") as raised:
        caller.call("ledger.get_entry", number=7)
    assert raised.value.code == "decision-unknown"
    assert raised.value.hint == "stead decisions"
    with pytest.raises(InvalidInput, match="nonsense"):
        caller.call("ledger.list_entries", nonsense=1)
    with pytest.raises(NotFound, match="no operation"):
        caller.call("ledger.list_entires")
    caller.close()


def test_results_come_back_as_their_types(url: str, store: Store, remote: Connect) -> None:
    create_token(store, "a", role="admin")
    made = create_token(store, "ci", role="write")
    caller = remote(url, made.secret)
    entries = caller.call("ledger.list_entries")
    assert [entry.subject for entry in entries] == ["token ci", "token a"]
    caller.close()


def test_bytes_go_both_ways_and_a_wrong_name_is_refused(url: str, remote: Connect) -> None:
    caller = remote(url)
    digest = caller.put_blob(b"hello")
    assert caller.get_blob(digest) == b"hello"
    assert code(httpx.put(f"{url}/api/v1/blobs/{digest}", content=b"other")) == (400, "digest-mismatch")
    assert code(httpx.get(f"{url}/api/v1/blobs/{'0' * 64}")) == (404, "blob-missing")
    assert code(httpx.get(f"{url}/api/v1/blobs/..%2f..%2fetc%2fpasswd")) == (404, "http-404")
    assert code(httpx.get(f"{url}/api/v1/blobs/x..x")) == (400, "digest-invalid")
    caller.close()


def test_bytes_come_into_files_whole_or_not_at_all(url: str, store: Store, remote: Connect, tmp_path: Path) -> None:
    caller, target = remote(url), tmp_path / "deep" / "file"
    data = np.random.default_rng(0).bytes(WHOLE + 1)
    ((_, large, _),) = store.blobs.keep([data])
    small = caller.put_blob(b"hello")
    for digest, wanted in ((small, b"hello"), (large, data)):
        caller.fetch_blob(digest, target)
        assert target.read_bytes() == wanted
    assert error(lambda: caller.fetch_blob("0" * 64, target)).code == "blob-missing"
    store.blobs.path(small).write_text("jello")
    chunk = store.packs.chunks_of(large)[-1]
    with open(store.blobs.path(chunk.pack.hex()), "r+b") as file:
        file.seek(chunk.offset)
        file.write(b"altered")
    assert error(lambda: caller.fetch_blob(small, target)).code == "blob-corrupt"
    broken = error(lambda: caller.fetch_blob(large, target))
    assert broken.code == "server-unreachable" and "broke off" in broken.message
    assert target.read_bytes() == data and list(target.parent.iterdir()) == [target]
    caller.close()


def test_with_a_token_everybody_needs_one_of_the_right_role(url: str, store: Store, remote: Connect) -> None:
    assert httpx.get(f"{url}/api/v1/jobs.list_jobs").status_code == 200
    read, write = create_token(store, "r", role="read"), create_token(store, "w", role="write")
    assert code(httpx.get(f"{url}/api/v1/jobs.list_jobs")) == (403, "token-missing")
    assert code(httpx.get(f"{url}/api/v1/jobs.list_jobs", headers={"authorization": "Bearer stead-x-y"})) == (
        403,
        "token-invalid",
    )
    assert httpx.get(f"{url}/health").text == "OK"
    caller = remote(url, read.secret)
    assert caller.call("jobs.list_jobs") == []
    with pytest.raises(Forbidden, match="needs the role 'write'"):
        caller.call("jobs.hold_clock", model="m", now=1, holder="h")
    caller.close()
    caller = remote(url, write.secret)
    caller.call("jobs.hold_clock", model="m", now=1, holder="h")
    with pytest.raises(NotFound):
        caller.call("deployments.deploy", model="m")
    with pytest.raises(Forbidden, match="'approve'"):
        caller.call("deployments.deploy", model="m", override=["parity"], reason="I know")
    with pytest.raises(Forbidden, match="'admin'"):
        caller.call("tokens.create_token", name="more", role="admin")
    with pytest.raises(Conflict):
        caller.call("jobs.hold_clock", model="m", now=1, holder="other")
    caller.close()


def test_foreign_hosts_and_origins_are_refused(url: str) -> None:
    ask = f"{url}/api/v1/jobs.hold_clock"
    body = {"model": "m", "now": 1, "holder": "h"}
    assert code(httpx.get(f"{url}/health", headers={"host": "evil.example"})) == (403, "host-foreign")
    assert code(httpx.post(ask, json=body, headers={"origin": "https://evil.example"})) == (403, "origin-foreign")
    assert code(httpx.post(ask, json=body, headers={"sec-fetch-site": "cross-site"})) == (403, "origin-foreign")
    assert httpx.post(ask, json=body, headers={"origin": url}).status_code == 200
    host = url.removeprefix("http://")
    for head in (b"", b"host: a\r\nhost: b\r\n"):
        with socket.create_connection(tuple(host.split(":"))) as raw:  # type: ignore[arg-type]
            raw.sendall(b"GET /health HTTP/1.1\r\n" + head + b"connection: close\r\n\r\n")
            assert b" 400 " in raw.makefile("rb").readline()


def test_a_body_over_the_limit_is_refused_with_and_without_a_length(url: str) -> None:
    ask, piece = f"{url}/api/v1/runs.list_runs", b"x" * 65_536
    told = httpx.post(ask, content=piece * 257)
    assert code(told) == (413, "body-too-large") and "max_body_bytes" in told.json()["error"]["hint"]
    pieces = (piece for _ in range(257))  # without a length
    assert code(httpx.post(ask, content=pieces)) == (413, "body-too-large")


def test_a_server_that_is_away_is_unreachable(remote: Connect) -> None:
    caller = remote("http://127.0.0.1:9")
    with pytest.raises(Unreachable):
        caller.call("jobs.cancel_job", job_id="x")
    caller.close()


def test_a_text_that_is_none_is_refused_before_it_is_sent(remote: Connect) -> None:
    """Half of a pair of UTF-16, as Python has what a command line or a file's name gives it in other bytes than UTF-8."""
    caller = remote("http://127.0.0.1:9")
    with pytest.raises(InvalidInput, match="characters that cannot be sent"):
        caller.call("models.get_model", name="\udcff")
    caller.close()
