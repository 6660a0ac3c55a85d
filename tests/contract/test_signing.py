"""Signatures of versions: made by a person, verified by the library of the specification, required before anything is loaded."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from stead import deployments, gates, ledger, models
from stead.api.undoing import undo
from stead.deployments.rollout import run_deployment
from stead.errors import InvalidInput, NotFound, Refused, SteadError
from stead.jobs.keeper import Keeper
from stead.jobs.operations import claim
from stead.store import Store
from tests.contract.test_registry import logged


def version(store: Store, tmp_path: Path, content: bytes = b"model") -> models.Version:
    return models.register(store, "bikes", logged(store, tmp_path, content).id)


def bundle(store: Store, made: models.Version, key: Path) -> str:
    return store.blobs.put(models.sign_folder(models.materialise(store, made.logged_model), key))


@pytest.fixture
def keys(tmp_path: Path) -> Callable[[str], tuple[Path, str]]:
    def pair(name: str) -> tuple[Path, str]:
        public = models.new_key(tmp_path / name)
        return tmp_path / name, public.read_text()

    return pair


def test_a_signature_holds_for_its_key_and_its_files_only(
    any_store: Store, tmp_path: Path, keys: Callable[[str], tuple[Path, str]]
) -> None:
    store = any_store
    (mine, public), (_, other) = keys("a.pem"), keys("b.pem")
    assert mine.stat().st_mode & 0o777 == 0o600
    made = version(store, tmp_path)
    assert not models.verify_signatures(store, "bikes@1", keys=[public]).valid
    signature = models.add_signature(store, "bikes", 1, bundle(store, made, mine))
    assert signature.key == models.fingerprint(public)
    assert models.verify_signatures(store, "bikes@1", keys=[public]).valid
    assert models.verify_signatures(store, "bikes@1", keys=[other, public]).valid
    assert not models.verify_signatures(store, "bikes@1", keys=[other]).valid
    assert ledger.list_entries(store)[0].action == "version.signed"
    again = version(store, tmp_path, b"other bytes")
    with pytest.raises(InvalidInput) as wrong:
        models.add_signature(store, "bikes", again.version, signature.bundle)
    assert wrong.value.code == "signature-mismatch" and "model.pkl differs" in wrong.value.message


def test_an_altered_bundle_or_altered_bytes_do_not_verify(
    store: Store, tmp_path: Path, keys: Callable[[str], tuple[Path, str]]
) -> None:
    mine, public = keys("a.pem")
    made = version(store, tmp_path)
    text = json.loads(store.blobs.get(bundle(store, made, mine)))
    payload = base64.b64decode(text["dsseEnvelope"]["payload"])
    text["dsseEnvelope"]["payload"] = base64.b64encode(payload.replace(b'"files"', b'"filEs"')).decode()
    models.add_signature(store, "bikes", 1, store.blobs.put(json.dumps(text).encode()))
    told = models.verify_signatures(store, "bikes@1", keys=[public])
    assert not told.valid and "does not hold" in told.said
    models.add_signature(store, "bikes", 1, bundle(store, made, mine))
    assert models.verify_signatures(store, "bikes@1", keys=[public]).valid
    blob = store.blobs.path(models.get_logged_model(store, made.logged_model).files["model.pkl"].digest)
    blob.chmod(0o600)
    blob.write_bytes(b"evil!")
    told = models.verify_signatures(store, "bikes@1", keys=[public])
    assert not told.valid and told.said == "a signature of bikes@1 does not hold: model.pkl was altered since"


def test_the_library_of_the_specification_reads_ours(
    store: Store, tmp_path: Path, keys: Callable[[str], tuple[Path, str]]
) -> None:
    from model_signing import verifying

    mine, _ = keys("a.pem")
    made = version(store, tmp_path)
    signature = models.add_signature(store, "bikes", 1, bundle(store, made, mine))
    (tmp_path / "bundle.json").write_bytes(store.blobs.get(signature.bundle))
    folder = models.materialise(store, made.logged_model)
    verifying.Config().use_elliptic_key_verifier(public_key=tmp_path / "a.pem.pub").verify(
        folder, tmp_path / "bundle.json"
    )


def test_what_no_trusted_key_signed_is_never_loaded(
    store: Store, tmp_path: Path, keys: Callable[[str], tuple[Path, str]]
) -> None:
    (mine, public), (stranger, _) = keys("a.pem"), keys("b.pem")
    made = version(store, tmp_path)
    models.require_signature(store, "bikes", keys=[public], reason="audit")
    models.add_signature(store, "bikes", 1, bundle(store, made, stranger))
    asked = deployments.deploy(store, "bikes")
    job = claim(store, "agent", ["deploy"])
    assert job is not None
    with pytest.raises(Refused) as refused:
        run_deployment(store, Keeper(store, job))
    assert refused.value.code == "signature-refused"
    ended = deployments.get_deployment(store, asked.id)
    assert ended.state == "refused" and [step.state for step in ended.steps] == ["requested", "refused"]
    assert [verdict.outcome for verdict in gates.list_verdicts(store, "bikes", gate="signature")] == ["failed"]
    entry = ledger.list_entries(store)[0]
    assert entry.action == "deployment.refused" and entry.summary.startswith("signature refused bikes@1")
    with pytest.raises(InvalidInput):
        deployments.deploy(store, "bikes", override=["signature"], reason="now")

    models.add_signature(store, "bikes", 1, bundle(store, made, mine))
    deployments.deploy(store, "bikes")
    job = claim(store, "agent", ["deploy"])
    assert job is not None
    with pytest.raises(SteadError, match="environment"):  # it went on: the lock of this model is of no real package
        run_deployment(store, Keeper(store, job))
    assert gates.list_verdicts(store, "bikes", gate="signature")[0].outcome == "passed"
    undo(store, next(each.id for each in ledger.list_entries(store) if each.action == "signature.required"))
    assert models.signers(store, "bikes") == []


def test_what_is_no_key_and_no_signature_is_said(store: Store, tmp_path: Path) -> None:
    made = version(store, tmp_path)
    private, public = tmp_path / "k.pem", models.new_key(tmp_path / "k.pem")
    with pytest.raises(InvalidInput) as there:
        models.new_key(private)
    assert there.value.code == "key-exists"
    with pytest.raises(NotFound) as missing:
        bundle(store, made, tmp_path / "none.pem")
    assert missing.value.code == "key-missing"
    with pytest.raises(InvalidInput) as wrong:
        bundle(store, made, public)
    assert wrong.value.code == "key-invalid"
    for text in ("", "hello", private.read_text()):
        with pytest.raises(InvalidInput) as bad:
            models.require_signature(store, "bikes", keys=[text])
        assert bad.value.code == "key-invalid"
    with pytest.raises(InvalidInput) as none:
        models.verify_signatures(store, "bikes@1")
    assert none.value.code == "key-missing"
    for junk in (b"", b"{}", b"[1]", b'{"dsseEnvelope":{"payload":"%%"}}', b'{"dsseEnvelope":{"payload":"bnVsbA=="}}'):
        with pytest.raises(InvalidInput) as broken:
            models.add_signature(store, "bikes", 1, store.blobs.put(junk))
        assert broken.value.code == "signature-invalid"
    assert models.list_signatures(store, "bikes@1") == []
