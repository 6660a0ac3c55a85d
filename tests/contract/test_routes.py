"""Routes and gateways as rows, on every database."""

from __future__ import annotations

import os
import socket
import threading

import pytest

from stead import serving
from stead.errors import Failed, InvalidInput, NotFound, Unreachable
from stead.runtime.clock import now_ms
from stead.serving import Arm, Gateway, operations
from stead.store import Store


def change(store: Store, model: str, *arms: Arm, warm: tuple[int, ...] = ()) -> int:
    with store.db.write("deployments.switch") as tx:
        return serving.set_route(store.db, tx, model, arms=arms, warm=warm)


def gateway(**fields: object) -> Gateway:
    known = {"id": "g1", "url": "http://127.0.0.1:7701", "host": socket.gethostname(), "pid": os.getpid()}
    rest = {"revision": 0, "followed": {}, "loaded": {}, "stats": {}, "beat_at": now_ms()}
    return Gateway(**(known | rest | fields))  # type: ignore[arg-type]


def test_a_route_is_read_as_it_was_set(any_store: Store) -> None:
    assert serving.get_route(any_store, "bikes") is None
    assert serving.read_revision(any_store) == 0
    assert change(any_store, "bikes", Arm(1, 1.0), warm=(3, 1, 3)) == 1
    assert change(any_store, "air", Arm(1, 1.0)) == 2
    assert change(any_store, "bikes", Arm(2, 0.9), Arm(1, 0.1)) == 3
    route = serving.get_route(any_store, "bikes")
    assert route is not None
    assert (route.revision, route.arms, route.warm) == (3, [Arm(2, 0.9), Arm(1, 0.1)], [])
    assert [route.model for route in serving.list_routes(any_store)] == ["air", "bikes"]
    assert serving.read_revision(any_store) == 3


def test_warm_versions_are_those_without_traffic(any_store: Store) -> None:
    change(any_store, "bikes", Arm(1, 1.0), warm=(3, 1, 3))
    route = serving.get_route(any_store, "bikes")
    assert route is not None
    assert route.warm == [3]


@pytest.mark.parametrize("arms", [(Arm(1, 0.5),), (Arm(1, 0.5), Arm(1, 0.5)), (Arm(1, 1.5), Arm(2, -0.5))])
def test_shares_that_make_no_whole_are_refused(any_store: Store, arms: tuple[Arm, ...]) -> None:
    with pytest.raises(InvalidInput) as told:
        change(any_store, "bikes", *arms)
    assert told.value.code == "route-invalid"
    assert serving.read_revision(any_store) == 0


def test_revisions_have_no_doubles_under_concurrency(any_store: Store) -> None:
    got: list[int] = []
    threads = [
        threading.Thread(target=lambda n=n: got.append(change(any_store, f"model-{n}", Arm(1, 1.0)))) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(got) == list(range(1, 9))


def test_gateways_that_are_gone_do_not_count(any_store: Store) -> None:
    operations.write_gateway(any_store, gateway(), first=True)
    operations.write_gateway(any_store, gateway(id="old", url="http://b", beat_at=now_ms() - 60_000))
    operations.write_gateway(any_store, gateway(id="dead", url="http://c", pid=2**22 - 1))
    operations.write_gateway(any_store, gateway(id="elsewhere", url="http://d", pid=2**22 - 1, host="another-machine"))
    assert {g.id for g in serving.gateways(any_store)} == {"g1", "elsewhere"}
    assert len(serving.gateways(any_store, alive=False)) == 4
    operations.write_gateway(any_store, gateway(id="g2"), first=True)
    assert {g.id for g in serving.gateways(any_store)} == {"g2", "elsewhere"}
    operations.remove_gateway(any_store, "g2")
    assert {g.id for g in serving.gateways(any_store)} == {"elsewhere"}


def test_waiting_for_a_revision(any_store: Store) -> None:
    first = change(any_store, "bikes", Arm(1, 1.0))
    serving.wait_applied(any_store, first, timeout_s=0)  # no gateway, nothing to wait for
    operations.write_gateway(any_store, gateway())
    with pytest.raises(Unreachable, match="does not follow"):
        serving.wait_applied(any_store, first, timeout_s=0.1)
    operations.write_gateway(any_store, gateway(followed={"bikes": first}))
    serving.wait_applied(any_store, first, timeout_s=0)
    second = change(any_store, "bikes", Arm(2, 1.0))
    error = NotFound("blob-missing", "the store has no bytes").as_dict()
    operations.write_gateway(
        any_store, gateway(followed={"bikes": first}, loaded={"bikes@2": error | {"revision": second}})
    )
    with pytest.raises(Failed, match="bikes@2 could not be loaded: the store has no bytes"):
        serving.wait_applied(any_store, second, timeout_s=5)
    operations.write_gateway(any_store, gateway(revision=second))
    change(any_store, "bikes", Arm(1, 1.0))
    serving.wait_applied(any_store, second, timeout_s=0)  # replaced meanwhile: the gateway has been past it


def test_waiting_until_a_version_is_loaded(any_store: Store) -> None:
    with pytest.raises(Unreachable) as told:
        serving.wait_loaded(any_store, "bikes", 1, timeout_s=0)
    assert told.value.code == "gateway-none"
    revision = change(any_store, "bikes", Arm(1, 1.0))
    error = NotFound("blob-missing", "the store has no bytes").as_dict()
    operations.write_gateway(any_store, gateway(loaded={"bikes@1": error | {"revision": revision - 1}}))
    with pytest.raises(Unreachable, match="was not loaded"):  # an older failure is being tried again
        serving.wait_loaded(any_store, "bikes", 1, timeout_s=0.1)
    operations.write_gateway(any_store, gateway(loaded={"bikes@1": error | {"revision": revision}}))
    with pytest.raises(Failed, match="no bytes") as failed:
        serving.wait_loaded(any_store, "bikes", 1, timeout_s=5)
    assert failed.value.code == "blob-missing"
    operations.write_gateway(any_store, gateway(loaded={"bikes@1": "ready"}))
    with pytest.raises(Unreachable, match="was not loaded"):  # of an earlier route, so it may be let go of just now
        serving.wait_loaded(any_store, "bikes", 1, timeout_s=0.1)
    said: list[str] = []
    operations.write_gateway(any_store, gateway(followed={"bikes": revision}, loaded={"bikes@1": "ready"}))
    serving.wait_loaded(any_store, "bikes", 1, timeout_s=0, progress=said.append)
    assert said == ["bikes@1 ready at http://127.0.0.1:7701"]


def test_status_of_a_model_whose_only_deployment_was_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its version was loaded beside nothing, and let go."""
    from click.testing import CliRunner

    from stead.cli import cli

    monkeypatch.setenv("STEAD_STORE", str(store.root))
    change(store, "bikes")
    operations.write_gateway(store, gateway(), first=True)
    told = CliRunner().invoke(cli, ["status"]).output
    assert "not deployed" in told and "loading" not in told, told


def test_status_says_of_a_version_that_it_does_not_load_and_why(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    from stead.cli import cli

    monkeypatch.setenv("STEAD_STORE", str(store.root))
    revision = change(store, "bikes", Arm(2, 0.9), Arm(1, 0.1))
    error = NotFound("blob-missing", "the store has no bytes").as_dict()
    for loaded, word in (
        ({"bikes@2": "ready", "bikes@1": "ready"}, "answers"),
        ({"bikes@2": "ready", "bikes@1": "loading"}, "loading"),
        ({"bikes@2": "ready", "bikes@1": error | {"revision": revision}}, "does not load"),
    ):
        operations.write_gateway(store, gateway(loaded=loaded), first=True)
        told = CliRunner().invoke(cli, ["status"]).output
        (row,) = (line for line in told.splitlines() if line.startswith("bikes"))
        assert row.endswith(word), told
    assert "  bikes@1 does not load: the store has no bytes\n" in told
