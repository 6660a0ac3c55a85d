"""The unit for systemd is one that systemd takes, with the settings in force and no secret in it."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from stead.config import load_settings
from stead.errors import Conflict
from stead.processes import systemd


def test_the_unit_is_valid_and_says_the_settings(tmp_path: Path) -> None:
    settings = load_settings(
        environ={
            "STEAD_STORE": str(tmp_path / "a store 100%"),
            "STEAD_PORT": "7777",
            "STEAD_INCIDENT_WEBHOOK": "https://hooks.example/s3cret",
            "STEAD_HEARTBEAT_URL": "env:PING",
            "STEAD_DATABASE": "postgresql://ada:geheim@db/stead",
        }
    )
    path = systemd.write_unit(settings, tmp_path / "units")
    text = path.read_text()
    assert "Environment=STEAD_PORT=7777\n" in text and "Environment=STEAD_HEARTBEAT_URL=env:PING\n" in text
    assert f'"STEAD_STORE={tmp_path}/a store 100%%"' in text
    assert "s3cret" not in text and "geheim" not in text and "# STEAD_DATABASE may hold a secret" in text
    assert systemd.write_unit(settings, tmp_path / "units") == path
    with pytest.raises(Conflict) as raised:
        systemd.write_unit(load_settings(environ={"STEAD_STORE": str(tmp_path)}), tmp_path / "units")
    assert raised.value.code == "unit-exists"
    if (analyze := shutil.which("systemd-analyze")) is not None:
        done = subprocess.run([analyze, "verify", str(path)], capture_output=True, text=True, check=False)
        assert str(path) not in done.stderr and "stead.service" not in done.stderr, done.stderr


def test_a_service_manager_hears_the_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    systemd.notify("READY=1")  # nobody listens
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        systemd.notify("READY=1")
        assert listener.recv(64) == b"READY=1"
