"""The unit for systemd is one that systemd takes, with the settings in force and no secret in it."""

from __future__ import annotations

import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from stead.cli import cli
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
    assert sorted(systemd.withheld(settings)) == ["STEAD_DATABASE", "STEAD_INCIDENT_WEBHOOK"]
    if (analyze := shutil.which("systemd-analyze")) is not None:
        done = subprocess.run([analyze, "verify", str(path)], capture_output=True, text=True, check=False)
        assert str(path) not in done.stderr and "stead.service" not in done.stderr, done.stderr


def test_who_writes_the_unit_hears_what_it_does_not_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A webhook in stead.toml was silent under systemd, and a database with a password another, empty store: a comment in the unit told."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "stead.toml").write_text('[settings]\nincident_webhook = "https://hooks.example/s3cret"\n')
    done = CliRunner().invoke(cli, ["up", "--systemd", "units"], catch_exceptions=False)
    assert "STEAD_INCIDENT_WEBHOOK may hold a secret and is not in the unit: put it into /etc/stead.env" in done.stderr
    assert "s3cret" not in done.output + done.stderr
    done = CliRunner().invoke(cli, ["up", "--systemd", "-"], catch_exceptions=False)
    assert "put it into ~/.config/stead.env" in done.stderr and "WEBHOOK=" not in done.stdout


def test_a_service_manager_hears_the_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    systemd.notify("READY=1")  # nobody listens
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        systemd.notify("READY=1")
        assert listener.recv(64) == b"READY=1"
