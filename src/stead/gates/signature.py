"""The signature gate: where a model requires it, only files that a trusted key has signed are loaded anywhere."""

from __future__ import annotations

from stead import models
from stead.gates.types import Verdict
from stead.gates.verdicts import keep_verdict
from stead.store import Store


def signature(store: Store, version_ref: str, *, deployment: int | None = None) -> Verdict | None:
    """Verify a version's signatures against the keys that its model requires, and keep the verdict; None where it requires none.

    Raises NotFound, Failed (`sign-extra-missing`, `blob-corrupt`).
    """
    version = models.get_version(store, version_ref)
    keys = models.signers(store, version.model)
    if not keys:
        return None
    found = models.verify_signatures(store, version.ref, keys=keys)
    evidence = {"key": found.key, "required": [models.fingerprint(key) for key in keys]}
    verdict = Verdict("signature", "passed" if found.valid else "failed", found.said, evidence)
    keep_verdict(store, version.model, version.version, verdict, deployment=deployment)
    return verdict
