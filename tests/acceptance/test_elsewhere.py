"""The same commands with the metadata on PostgreSQL and the bytes on S3."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.life import Life
from tests.conftest import free_ports

pytestmark = pytest.mark.timeout(300)


def test_a_short_life_on_postgres_and_s3(
    tmp_path: Path, postgres: Callable[[], str], s3: Callable[[], dict[str, Any]]
) -> None:
    place = s3()
    first, second = free_ports(2)
    settings = {
        "STEAD_DATABASE": postgres(),
        "STEAD_BLOBS": place["location"],
        "AWS_ENDPOINT_URL": place["endpoint"],
        "AWS_ACCESS_KEY_ID": place["aws_access_key_id"],
        "AWS_SECRET_ACCESS_KEY": place["aws_secret_access_key"],
        "AWS_REGION": place["region"],
        "AWS_ALLOW_HTTP": "true",
    }
    life = Life(tmp_path / "far", (first, second), extra=settings)
    life.folder.mkdir()
    life.run("init", "--name", "far")
    try:
        for until in ("2026-02-01", "2026-03-01"):
            life.run("train", "far", "--since", "2026-01-01", "--until", until)
        life.run("deploy", "far@1")
        life.run("deploy", "far@2")
        row = {"time": "2026-03-01T12:00:00", "temperature": 5.0}
        answer = httpx.post(f"{life.gateway}/predict/far", json={"row": row}).json()
        assert answer["version"] == 2
        life.run("label", answer["prediction_id"], "100")
        assert life.json("rollback", "far")["version"] == 1
        assert not list((life.folder / ".stead").rglob("*.db")), "nothing of the store is left on this machine"
        assert not (life.folder / ".stead" / "blobs").exists()
        assert [entry["action"] for entry in life.json("decisions", "--limit", "1")] == ["route.rolled_back"]
        assert [v["version"] for v in life.json("data", "versions", "far")] == [2, 1]
    finally:
        life.run("down")
