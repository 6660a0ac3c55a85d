"""The routes of machines that do steps: a pass opens its own session, what that was given, and nothing else, while its job is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from stead import jobs
from stead.api.tokens import create_token
from stead.jobs import operations as queue
from stead.store import Store


@pytest.fixture
def kept(store: Store) -> jobs.Job:
    """A job that is kept here."""
    jobs.enqueue(store, "train", {})
    job = queue.claim(store, "me", ["train"])
    assert job is not None
    return job


class Machine:
    """What holds a pass."""

    def __init__(self, url: str, store: Store, job: jobs.Job, given: dict[str, Any] | None = None) -> None:
        self.session, secret = jobs.begin_session(store, job, runtime=store.blobs.put(b"the runtime"))
        jobs.ask_session(store, self.session, {"step": "train", "reads": [], **(given or {})})
        self.http = httpx.Client(base_url=url, headers={"authorization": f"Bearer {secret}"})

    def get(self, path: str = "") -> httpx.Response:
        return self.http.get(f"/api/v1/step{path}")

    def tell(self, **message: Any) -> httpx.Response:
        return self.http.post("/api/v1/step/messages", json=message)


@pytest.fixture
def machine(store: Store, url: str, kept: jobs.Job) -> Iterator[Callable[..., Machine]]:
    """A machine that was given something."""
    made: list[Machine] = []

    def make(given: dict[str, Any] | None = None) -> Machine:
        made.append(Machine(url, store, kept, given))
        return made[-1]

    yield make
    for each in made:
        each.http.close()


def code(answer: httpx.Response) -> str:
    return str(answer.json()["error"]["code"])


@pytest.mark.parametrize("tokens", [False, True])
def test_a_pass_opens_what_its_step_was_given(
    machine: Callable[..., Machine], store: Store, url: str, kept: jobs.Job, tokens: bool
) -> None:
    if tokens:
        create_token(store, "someone")
    given, other = store.blobs.put(b"rows"), store.blobs.put(b"somebody else's")
    there = machine({"reads": [given]})
    assert there.get().json() == {"asked": 1, "request": {"step": "train", "reads": [given]}}
    assert there.get("/runtime").content == b"the runtime"
    answer = there.get(f"/blobs/{given}")
    assert answer.content == b"rows" and answer.headers["x-bytes"] == "4"
    refused = there.get(f"/blobs/{other}")
    assert refused.status_code == 403 and code(refused) == "pass-scope"
    made = there.http.post("/api/v1/step/blobs", content=b"a model").json()["digest"]
    assert store.blobs.get(made) == b"a model"


def test_a_pass_is_no_token_and_a_token_no_pass(
    machine: Callable[..., Machine], store: Store, url: str, kept: jobs.Job
) -> None:
    secret = create_token(store, "boss", role="admin").secret
    there = machine()
    for path in ("/api/v1/models.list_models", f"/api/v1/blobs/{store.blobs.put(b'x')}", "/"):
        assert there.http.get(path).status_code in (303, 403), path
    answer = httpx.get(f"{url}/api/v1/step", headers={"authorization": f"Bearer {secret}"})
    assert answer.status_code == 403 and code(answer) == "pass-invalid"
    assert code(httpx.get(f"{url}/api/v1/step")) == "pass-missing"
    assert (
        code(httpx.get(f"{url}/api/v1/step", headers={"authorization": f"Bearer {there.session.id}.x"}))
        == "pass-invalid"
    )


def test_what_a_machine_says_is_kept_once(
    machine: Callable[..., Machine], store: Store, url: str, kept: jobs.Job
) -> None:
    there = machine()
    for _ in range(2):  # the first answer was lost
        assert there.tell(seq=1, text="fitting\n").status_code == 200
    assert there.tell(seq=2, code=0, outputs={"model": {"MLmodel": ["d" * 64, 3]}}).status_code == 200
    said = jobs.heard(store, there.session, after=0)
    assert [(each.seq, each.text, each.code) for each in said] == [(1, "fitting\n", None), (2, "", 0)]
    assert jobs.heard(store, there.session, after=1) == said[1:]
    for nonsense in ({"seq": "one"}, {}, {"seq": 3, "journal": [["x"]]}):
        assert code(there.tell(**nonsense)) == "message-invalid"


@pytest.mark.parametrize("how", ["ended", "cancelled", "another keeper", "let go"])
def test_a_pass_ends_with_the_claim(
    machine: Callable[..., Machine], store: Store, url: str, kept: jobs.Job, how: str
) -> None:
    there = machine()
    if how == "ended":
        queue.finish(store, kept, {})
    elif how == "cancelled":
        queue.give_up(store, kept, {}, retry=False, cancelled=True)
    elif how == "let go":
        jobs.end_session(store, there.session.id)
    else:
        queue.beat(store, kept, lease_ms=-1)
        again = queue.claim(store, "another", ["train"])
        assert again is not None and jobs.earlier_sessions(store, again) == [there.session.id]
        with pytest.raises(jobs.LeaseLost):
            jobs.ask_session(store, there.session, {"reads": []})
    for answer in (
        there.get(),
        there.get("/runtime"),
        there.tell(seq=1, code=0, outputs={}),
        there.http.post("/api/v1/step/blobs", content=b"late"),
    ):
        assert answer.status_code == 403 and code(answer) == "pass-invalid"
    assert jobs.heard(store, there.session, after=0) == []


def test_two_machines_know_nothing_of_each_other(
    machine: Callable[..., Machine], store: Store, url: str, kept: jobs.Job
) -> None:
    mine = store.blobs.put(b"mine")
    first, second = machine({"reads": [mine]}), machine()
    assert first.get(f"/blobs/{mine}").status_code == 200
    assert code(second.get(f"/blobs/{mine}")) == "pass-scope"
    first.tell(seq=1, text="a")
    assert jobs.heard(store, second.session, after=0) == []
