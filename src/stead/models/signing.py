"""Signatures of versions: who vouches for its files, and whether they still are what was signed.

A signature is a Sigstore bundle with a DSSE envelope around an in-toto statement that lists the SHA-256 of every file, as the OpenSSF
model signing specification 1.0 has it; the `model-signing` library (extra `stead[sign]`) makes and verifies it, so `model_signing verify` does, too.
The private key stays with who signs: only the bundle comes to the store.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from stead import ledger
from stead.errors import Failed, InvalidInput, NotFound
from stead.ledger import Undo
from stead.models.logging import checked_path, get_logged_model
from stead.models.registry import get_model, get_version, set_settings_in
from stead.models.tables import models, signatures
from stead.models.types import ModelFile, Signature, Verified
from stead.runtime.clock import now_ms
from stead.store import Store, from_row

LARGEST = 8 << 20
PEM = "-----BEGIN PUBLIC KEY-----"


def sign_folder(folder: Path, key: Path) -> bytes:
    """The bundle of a model's folder, signed with a private key (P-256, P-384 or P-521 in a PEM file).

    Raises Failed (`sign-extra-missing`), InvalidInput (`key-invalid`), NotFound (`key-missing`).
    """
    signing = _library("signing")
    if not key.is_file():
        raise NotFound("key-missing", f"there is no key {key}", hint=f"stead sign --new-key {key} makes one")
    with tempfile.TemporaryDirectory(prefix="stead-sign-") as place:
        made = Path(place) / "bundle.json"
        try:
            signing.Config().use_elliptic_key_signer(private_key=key).sign(folder, made)
        except Exception as error:
            raise InvalidInput(
                "key-invalid",
                f"{key} does not sign: {error}",
                hint="an elliptic curve private key in PEM, without a password",
            ) from None
        return made.read_bytes()


def new_key(file: Path) -> Path:
    """Make a P-256 key pair: the private key in `file`, readable by its owner alone, the public one beside it; returns the path of that.

    Raises Failed (`sign-extra-missing`), InvalidInput (`key-exists`).
    """
    _library("signing")
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec

    public = file.with_name(f"{file.name}.pub")
    if file.exists() or public.exists():
        raise InvalidInput("key-exists", f"{file} is there already", hint="name another file")
    key = ec.generate_private_key(ec.SECP256R1())
    secret = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        out.write(secret)
    public.write_bytes(key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo))
    return public


def add_signature(store: Store, model: str, version: int, bundle: str) -> Signature:
    """Keep a signature with a version; `bundle` is the blob of a Sigstore bundle whose statement names exactly the version's files.

    Whose it is shows when it is verified against a key. Raises NotFound, InvalidInput (`signature-invalid`, `signature-mismatch`).
    """
    found = get_version(store, f"{model}@{version}")
    files = get_logged_model(store, found.logged_model).files
    signed, key = _signed(store, bundle)
    if differing := sorted(_differing(store, files, signed)):
        raise InvalidInput(
            "signature-mismatch",
            f"the signature is not of {found.ref}: {', '.join(differing[:5])}",
            hint=f"stead sign {found.ref}",
        )
    row = {"model": model, "version": version, "bundle": bundle, "key": key, "by": store.actor, "at": now_ms()}
    with store.db.write("models.sign") as tx:
        same = (signatures.c.model == model) & (signatures.c.version == version) & (signatures.c.bundle == bundle)
        if tx.execute(sa.select(signatures.c.id).where(same)).first() is None:
            tx.execute(sa.insert(signatures).values(row))
            ledger.record(
                tx,
                actor=store.actor,
                action="version.signed",
                model=model,
                subject=found.ref,
                summary=f"signed {found.ref} with the key {key[:12]}",
                evidence={"key": key, "bundle": bundle, "files": len(files)},
            )
    return next(each for each in list_signatures(store, found.ref) if each.bundle == bundle)


def list_signatures(store: Store, ref: str) -> list[Signature]:
    """Signatures of a version, newest first. Raises NotFound."""
    version = get_version(store, ref)
    query = sa.select(signatures).where(signatures.c.model == version.model, signatures.c.version == version.version)
    with store.db.read() as tx:
        return [from_row(row, Signature) for row in tx.execute(query.order_by(signatures.c.id.desc())).mappings()]


def verify_signatures(store: Store, ref: str, *, keys: Sequence[str] = ()) -> Verified:
    """Whether one of some public keys (PEM; by default those that the model requires) signed the version's files as they are in the store now.

    Raises NotFound, InvalidInput (`key-invalid`, `key-missing`: no key is given and none required), Failed (`sign-extra-missing`, `blob-corrupt`).
    """
    version = get_version(store, ref)
    trusted = [*keys] or signers(store, version.model)
    if not trusted:
        raise InvalidInput(
            "key-missing",
            f"{version.model} requires no signature, and no key is given",
            hint=f"stead verify {ref} --key team.pem.pub",
        )
    for key in trusted:
        _checked_key(key)
    verifying = _library("verifying")
    from cryptography.exceptions import InvalidSignature

    found = list_signatures(store, ref)
    if not found:
        return Verified(version.ref, False, "", f"{version.ref} is not signed")
    said = f"{version.ref} is signed by none of {len(trusted)} keys"
    try:
        with _files(store, get_logged_model(store, version.logged_model).files) as folder:
            for signature in found:
                bundle = folder.parent / "bundle.json"
                bundle.write_bytes(store.blobs.get(signature.bundle))
                for place, key in enumerate(trusted):
                    public = folder.parent / f"{place}.pub"
                    public.write_text(key)
                    try:
                        verifying.Config().use_elliptic_key_verifier(public_key=public).verify(folder, bundle)
                    except (ValueError, InvalidSignature) as error:
                        if "Key mismatch" not in str(error) and "does not hold" not in said:
                            why = str(error).partition("\n")[0][:200] or "it does not fit its key"
                            said = f"a signature of {version.ref} does not hold: {why}"
                        continue
                    return Verified(
                        version.ref, True, signature.key, f"signed by {signature.by} with the key {signature.key[:12]}"
                    )
    except _Altered as altered:
        said = f"a signature of {version.ref} does not hold: {altered}"
    return Verified(version.ref, False, "", said)


def require_signature(
    store: Store, model: str, *, keys: Sequence[str] = (), reason: str | None = None, undoes: int | None = None
) -> None:
    """Let only versions be deployed that one of some public keys (PEM) has signed; without keys any may again.

    Asked before a version is loaded anywhere; a roll-back is not asked. Raises NotFound, InvalidInput (`key-invalid`).
    """
    before = signers(store, model)
    for key in keys:
        _checked_key(key)
    with store.db.write("models.require") as tx:
        tx.execute(sa.select(models.c.name).where(models.c.name == model).with_for_update())
        set_settings_in(tx, model, signers=list(keys))
        named = ", ".join(fingerprint(key)[:12] for key in keys)
        ledger.record(
            tx,
            actor=store.actor,
            action="signature.required",
            model=model,
            subject=f"signature {model}",
            summary=f"versions of {model} need a signature by {named}"
            if keys
            else f"versions of {model} need no signature",
            reason=reason,
            evidence={"keys": [fingerprint(key) for key in keys]},
            undo=Undo("models.require_signature", {"model": model, "keys": before}),
            undoes=undoes,
        )


def signers(store: Store, model: str) -> list[str]:
    """Public keys of which a version needs a signature before it is deployed; empty where it needs none."""
    return list(get_model(store, model).settings.get("signers") or [])


def fingerprint(key: str) -> str:
    """The SHA-256 of a public key as its bundles name it: of the PEM text that OpenSSL writes."""
    return hashlib.sha256(_checked_key(key)).hexdigest()


def _checked_key(key: str) -> bytes:
    """The PEM of a public key in its usual form. Raises InvalidInput (`key-invalid`)."""
    _library("verifying")
    from cryptography.hazmat.primitives import serialization as form
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        public = form.load_pem_public_key(key.encode())
    except ValueError:
        public = None
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise InvalidInput("key-invalid", "this is no public key of an elliptic curve", hint=f"a PEM file with {PEM}")
    return public.public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)


def _signed(store: Store, bundle: str) -> tuple[dict[str, str], str]:
    """What a bundle names, path → SHA-256, and its key. Raises InvalidInput (`signature-invalid`)."""
    if store.blobs.size(bundle) > LARGEST:
        raise InvalidInput("signature-invalid", "a bundle is not that large")
    try:
        read: dict[str, Any] = msgspec.json.decode(store.blobs.get(bundle))
        statement = msgspec.json.decode(base64.b64decode(read["dsseEnvelope"]["payload"], validate=True))
        resources = statement["predicate"]["resources"]
        files = {str(each["name"]): str(each["digest"]) for each in resources if each["algorithm"] == "sha256"}
        return files, str(read["verificationMaterial"]["publicKey"]["hint"])
    except (msgspec.DecodeError, binascii.Error, KeyError, TypeError, ValueError) as error:
        raise InvalidInput(
            "signature-invalid",
            f"this is no signature of a model by a key: {type(error).__name__}",
            hint="stead sign MODEL@N --key team.pem",
        ) from None


def _differing(store: Store, files: Mapping[str, ModelFile], signed: Mapping[str, str]) -> Iterator[str]:
    """Files that only one of both has, or that differ."""
    for path in files.keys() | signed.keys():
        if path not in files:
            yield f"{path} is not in it"
        elif path not in signed:
            yield f"{path} is not signed"
        else:
            hasher = hashlib.sha256()
            for piece in store.blobs.stream(files[path].digest):
                hasher.update(piece)
            if hasher.hexdigest() != signed[path]:
                yield f"{path} differs"


class _Altered(Exception):
    """A file of a version is not as it was stored."""


@contextmanager
def _files(store: Store, files: Mapping[str, ModelFile]) -> Iterator[Path]:
    """A version's files in a folder of their own for a while. Raises _Altered."""
    with tempfile.TemporaryDirectory(prefix="stead-verify-") as place:
        folder = Path(place) / "model"
        for path, file in files.items():
            try:
                store.blobs.fetch(file.digest, folder / checked_path(path))
            except Failed as failed:
                if failed.code != "blob-corrupt":
                    raise
                raise _Altered(f"{path} was altered since") from None
        yield folder


def _library(part: str) -> Any:
    try:
        import importlib

        return importlib.import_module(f"model_signing.{part}")
    except ImportError:
        raise Failed(
            "sign-extra-missing", "signatures need the package model-signing", hint="pip install 'stead[sign]'"
        ) from None
