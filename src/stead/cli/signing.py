"""`stead sign` and `stead verify`: who vouches for a version's files."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click

from stead.cli import output
from stead.cli.common import connect, model_names
from stead.errors import InvalidInput, NotFound, Refused
from stead.runtime.journal import clean_path

FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("ref", metavar="MODEL[@VERSION]", required=False, shell_complete=model_names)
@click.option("--key", type=FILE, help="The private key to sign with; it stays on this machine.")
@click.option("--new-key", "new", type=FILE, help="Make a key pair first: FILE and FILE.pub.")
def sign(ref: str | None, key: Path | None, new: Path | None) -> None:
    """Sign a version's files: a Sigstore bundle that names the SHA-256 of each, kept with the version."""
    from stead import models

    if new is not None:
        print(models.new_key(new))
        output.note(f"{new} is the private key: keep it to yourself; the other one is for those who verify")
    if ref is None:
        if new is None:
            raise InvalidInput("usage", "name a version, or --new-key FILE", hint="stead sign MODEL@N --key team.pem")
        return
    chosen = key or new
    if chosen is None:
        raise InvalidInput("key-missing", "a signature takes a private key", hint=f"stead sign {ref} --key team.pem")
    caller = connect()
    version = caller.call("models.get_version", ref=ref)
    logged = caller.call("models.get_logged_model", id=version.logged_model)
    with tempfile.TemporaryDirectory(prefix="stead-sign-") as place:
        folder = Path(place) / version.model
        for path, file in logged.files.items():
            caller.fetch_blob(file.digest, folder / clean_path(path))
        bundle = caller.put_blob(models.sign_folder(folder, chosen))
    made = caller.call("models.add_signature", model=version.model, version=version.version, bundle=bundle)
    print(f"{version.ref} is signed with the key {made.key[:12]}")


@click.command()
@click.argument("ref", metavar="MODEL[@VERSION]", shell_complete=model_names)
@click.option(
    "--key",
    "keys",
    type=FILE,
    multiple=True,
    help="A public key that may have signed; by default those that the model requires.",
)
@click.option(
    "-o",
    "--output",
    "bundle",
    type=FILE,
    help="Write the newest signature as a Sigstore bundle, for `model_signing verify`.",
)
@output.json_option
def verify(ref: str, keys: tuple[Path, ...], bundle: Path | None, as_json: bool) -> Any:
    """Whether a trusted key signed a version's files as they are in the store now; exit code 4 where none did."""
    caller = connect()
    if bundle is not None:
        found = caller.call("models.list_signatures", ref=ref)
        if not found:
            raise NotFound("signature-missing", f"{ref} is not signed", hint=f"stead sign {ref} --key team.pem")
        bundle.write_bytes(caller.get_blob(found[0].bundle))
        print(bundle)
        return None
    verified = caller.call("models.verify_signatures", ref=ref, keys=[_read(file) for file in keys])
    if not verified.valid:
        hint = f"stead sign {verified.ref} --key team.pem"
        if "does not hold" in verified.said:
            hint = "stead doctor --store tells which bytes were altered: restore them from a backup, and sign nothing before"
        raise Refused("signature-refused", verified.said, hint=hint)
    if as_json:
        return verified
    print(f"{verified.ref}: {verified.said}")
    return None


@click.command("signers")
@click.argument("model", shell_complete=model_names)
@click.option(
    "--require",
    "keys",
    type=FILE,
    multiple=True,
    help="Only versions that one of these public keys signed may be deployed.",
)
@click.option("--none", "lift", is_flag=True, help="Any version may be deployed again.")
@click.option("--reason", help="Kept in the ledger.")
@output.json_option
def signers(model: str, keys: tuple[Path, ...], lift: bool, reason: str | None, as_json: bool) -> Any:
    """Whose signature a model's versions need before they are loaded; look, require or lift."""
    from stead import models

    caller = connect()
    if keys and lift:
        raise InvalidInput("usage", "--require and --none say opposite things")
    if keys or lift:
        texts = [_read(file) for file in keys]
        caller.call("models.require_signature", model=model, keys=texts, reason=reason)
    found = caller.call("models.get_model", name=model).settings.get("signers") or []
    if as_json:
        return found
    if not found:
        print(f"versions of {model} need no signature")
    for key in found:
        print(models.fingerprint(key))
    return None


def _read(file: Path) -> str:
    if not file.is_file():
        raise NotFound("key-missing", f"there is no key {file}", hint="the public key of who signs: team.pem.pub")
    return file.read_text(errors="replace")
