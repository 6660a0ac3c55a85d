"""A server that others may reach: everybody needs a token, also at the gateway, and stead's own processes have theirs."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.acceptance.life import Life
from tests.conftest import free_ports

pytestmark = pytest.mark.timeout(300)


def test_with_tokens_a_model_is_deployed_and_asked(tmp_path: Path) -> None:
    first, second = free_ports(2)
    life = Life(
        tmp_path / "team", (first, second), extra={"STEAD_HOST": "127.0.0.2"}
    )  # not this machine's usual address
    life.folder.mkdir()
    life.run("init", "--name", "team")
    assert "no token" in life.run("up", "--background", code=1)
    secret = life.run("tokens", "create", "ada", "--role", "admin").strip()
    life.run("train", "team", "--since", "2026-01-01", "--until", "2026-02-01")
    life.run("up", "--background")
    try:
        life.run("deploy", "team")
        url = f"http://127.0.0.2:{second}/predict/team"
        row = {"time": "2026-03-01T12:00:00", "temperature": 5.0}
        assert httpx.post(url, json={"row": row}).status_code == 403
        assert httpx.post(url, json={"row": row}, headers={"authorization": f"Bearer {secret}"}).status_code == 200
        remote = Life(life.folder, life.ports, extra={"STEAD_URL": f"http://127.0.0.2:{first}", "STEAD_TOKEN": secret})
        assert remote.json("models", "list")[0]["name"] == "team"
        said = Life(life.folder, life.ports, extra={"STEAD_URL": f"http://127.0.0.2:{first}"}).run(
            "models", "list", code=1
        )
        assert "wants a token" in said
        pages = f"http://127.0.0.2:{first}/"
        asked = httpx.get(pages, headers={"accept": "text/html"})
        assert asked.status_code == 303 and asked.headers["location"] == "/login"
        stale = httpx.get(
            f"{pages}login", headers={"accept": "text/html", "cookie": "stead_token=stead-000000000000-x"}
        )
        assert stale.status_code == 200
        shown = httpx.get(f"{pages}api/v1/serving.gateways", headers={"authorization": f"Bearer {secret}"}).json()
        assert "secret" not in shown[0]
        writer = life.run("tokens", "create", "dana", "--role", "write").strip()
        dana = Life(life.folder, life.ports, extra={"STEAD_URL": f"http://127.0.0.2:{first}", "STEAD_TOKEN": writer})
        reader = life.run("tokens", "create", "rita", "--role", "read").strip()
        label = {"prediction_id": "0" * 32, "value": 1}
        for given, status in ((reader, 403), ("\xfc", 403), (writer, 200)):
            head = {"authorization": f"Bearer {given}".encode("latin-1")}
            assert httpx.post(f"http://127.0.0.2:{second}/labels", json=label, headers=head).status_code == status
        assert httpx.post(url, json={"row": row}, headers={"authorization": f"Bearer {reader}"}).status_code == 200
        rita = Life(life.folder, life.ports, extra={"STEAD_URL": f"http://127.0.0.2:{first}", "STEAD_TOKEN": reader})
        assert "hint: who has the role admin" in rita.run("deploy", "team", code=1)
        forced = ("--override", "parity", "--reason", "x")
        assert "needs the role 'approve'" in dana.run("deploy", "team@1", *forced, code=1)
        assert dana.run("undeploy", "team", "--reason", "it harms").startswith("team is out of service")
        refused = httpx.post(url, json={"row": row}, headers={"authorization": f"Bearer {secret}"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model-not-deployed")
        assert "team is back at version 1" in dana.run("rollback", "team")
        assert httpx.post(url, json={"row": row}, headers={"authorization": f"Bearer {secret}"}).status_code == 200
    finally:
        life.run("down")
