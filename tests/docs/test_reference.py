"""The reference is what the code gives; commands, settings and operations explain themselves; operations can be reached."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
import httpx
import msgspec
import pytest

from stead.api import Embedded, Remote
from stead.api.table import Operation, operations
from stead.config import SETTINGS, Settings, load_settings
from stead.errors import SteadError
from tests.conftest import free_ports, new_store
from tools import docs

OPERATIONS = sorted(operations().values(), key=lambda o: o.name)


@pytest.mark.parametrize("name", docs.PAGES)
def test_committed_pages_are_what_the_code_gives(name: str) -> None:
    assert (docs.FOLDER / name).read_text(encoding="utf-8") == docs.PAGES[name](), "make docs"


def test_each_command_has_help() -> None:
    for path, command in docs.every_command():
        assert command.help and command.help.strip(), path


def test_each_option_whose_name_does_not_say_it_has_help() -> None:
    plain = {"model", "project", "limit", "version", "since", "until", "state", "by", "reason", "connections", "role"}
    for path, command in docs.every_command():
        for option in command.params:
            if isinstance(option, click.Option) and option.name not in plain:
                assert option.help, (*path, option.name)


def test_each_setting_and_key_has_help() -> None:
    assert all(setting.help for setting in SETTINGS.values())
    assert [(table, key.name) for table, keys in docs.toml_tables() for key in keys if not key.help] == []


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: o.name)
def test_operation_explains_itself(operation: Operation) -> None:
    assert docs.first_line(operation.function).endswith((".", ":", ")"))
    assert next(iter(inspect.signature(operation.function).parameters)) == "store"


def test_a_hint_that_is_a_command_can_be_run() -> None:
    leaves = {path[1:] for path, command in docs.every_command() if runs_alone(command)} | {("--help",)}
    for error in docs.every_error():
        for hint in error.hints:
            words = tuple(hint.split(";")[0].split(" ")) if hint.startswith("stead ") else ()
            assert not words or words[1:3] in leaves or words[1:2] in leaves or words[1] == "…", (error.code, hint)


def runs_alone(command: click.Command) -> bool:
    return not isinstance(command, click.Group) or command.invoke_without_command


def test_each_command_that_reads_has_json() -> None:
    changes = {"init", "migrate", "sync", "up", "down", "demo", "undo", "wait", "cancel", "delete", "restore", "alias"}
    changes |= {"card", "bom"}  # these print a document of a form of its own
    changes |= {"sign", "get", "revoke", "undeploy", "freeze", "thaw", "contract"}
    for path, command in docs.every_command():
        if runs_alone(command) and path[-1] not in changes and path[1] != "demo":
            assert any(option.name == "as_json" for option in command.params), path


def test_error_codes_are_words() -> None:
    found = docs.every_error()
    assert len(found) > 200
    assert [e.code for e in found if not e.code.replace("…", "x").replace("-", "x").isalnum()] == []


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """A real server on a store of its own; the settings of a client."""
    root = tmp_path_factory.mktemp("reference")
    new_store(root).close()
    port = free_ports(1)[0]
    script = Path(__file__).parent.parent / "support" / "api_server.py"
    process = subprocess.Popen([sys.executable, str(script), str(port)], env=os.environ | {"STEAD_STORE": str(root)})
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 60
    while True:
        try:
            httpx.get(f"{url}/health", trust_env=False)
            break
        except httpx.TransportError:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
    yield load_settings(environ={"STEAD_STORE": str(root), "STEAD_URL": url})
    process.terminate()
    process.wait(10)


def timeless(answer: object) -> object:
    """An answer as JSON has it, without the moment at which it was given."""
    plain = msgspec.to_builtins(answer)
    if isinstance(plain, dict) and plain.get("team"):  # of `maturity.assess`
        plain = plain | {"at": None, "team": plain["team"] | {"now": None}}
    return plain


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: o.name)
def test_operation_is_reached_over_http_and_through_the_caller(operation: Operation, server: Settings) -> None:
    needed = [p.name for p in operation.parameters.values() if p.default is inspect.Parameter.empty]
    here = Embedded(new_store(Path(server.store)), server)
    there = Remote(server)
    try:
        if operation.reads and not needed:
            assert timeless(there.call(operation.name)) == timeless(here.call(operation.name))
        elif needed:
            with pytest.raises(SteadError) as refused:
                there.call(operation.name)
            assert refused.value.code == "arguments-invalid" and needed[0] in refused.value.message
            with pytest.raises(TypeError, match=needed[0]):
                here.call(operation.name)
        else:
            there.call(operation.name)
            here.call(operation.name)
    finally:
        here.close()
        there.close()
