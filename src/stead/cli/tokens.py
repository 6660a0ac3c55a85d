"""`stead tokens`."""

from __future__ import annotations

from typing import Any

import click

from stead.cli import output
from stead.cli.common import connect


@click.group()
def tokens() -> None:
    """Tokens of the API. While there is none, this machine's user may do everything; with the first, each request needs one."""


@tokens.command("create")
@click.argument("name")
@click.option("--role", type=click.Choice(["read", "write", "approve", "admin"]), default="write", show_default=True)
@output.json_option
def tokens_create(name: str, role: str, as_json: bool) -> Any:
    """Make a token and print it, once."""
    made = connect().call("tokens.create_token", name=name, role=role)
    if as_json:
        return made
    print(made.secret)
    output.note(f"token {name} may {role}; it is shown only now: export STEAD_TOKEN=…")
    return None


@tokens.command("list")
@output.json_option
def tokens_list(as_json: bool) -> Any:
    """All tokens, without their secrets."""
    found = connect().call("tokens.list_tokens")
    if as_json:
        return found
    rows = [(t.name, t.role, t.created_by, output.when(t.created_at), output.when(t.revoked_at)) for t in found]
    output.table(
        ("token", "role", "by", "made", "revoked"), rows, empty="no tokens: this machine's user may do everything"
    )
    return None


@tokens.command("revoke")
@click.argument("name")
def tokens_revoke(name: str) -> None:
    """From now on this token opens nothing."""
    connect().call("tokens.revoke_token", name=name)
    output.note(f"token {name} is revoked")
