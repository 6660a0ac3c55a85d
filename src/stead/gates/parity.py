"""The parity gate: rows stored in training go through the real endpoint before any traffic does."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from stead import environments, models, serving
from stead.errors import Failed, Unreachable
from stead.gates.golden import compare_golden
from stead.gates.types import Verdict
from stead.gates.verdicts import keep_verdict
from stead.runtime.formats.converting import RELATIVE
from stead.runtime.formats.sameness import near
from stead.store import Store

TIMEOUT_S = 60.0


def parity(store: Store, version_ref: str, *, gateway_url: str, deployment: int | None = None) -> Verdict:
    """Send a version's golden rows through a gateway that has loaded it, compare, and keep the verdict. Raises what `ask_golden` raises."""
    version = models.get_version(store, version_ref)
    verdict = ask_golden(store, version_ref, gateway_url=gateway_url)
    keep_verdict(store, version.model, version.version, verdict, deployment=deployment)
    return verdict


def ask_golden(store: Store, version_ref: str, *, gateway_url: str) -> Verdict:
    """How a version that a gateway has loaded answers its golden rows there.

    A version without such rows is `skipped`; one that cannot answer them at all has `failed` with the worker's own words.
    Raises Unreachable (`gateway-unreachable`) where no gateway answers, Failed (`version-not-loaded`).
    """
    version = models.get_version(store, version_ref)
    logged = models.get_logged_model(store, version.logged_model)
    file = logged.files.get("stead/golden.json")
    if file is None:
        return Verdict("parity", "skipped", "the model was saved without rows to compare")
    golden = json.loads(store.blobs.get(file.digest))
    gateway_url = gateway_url.rstrip("/")
    secret = serving.gateway_secret(store, gateway_url)
    answered = _ask(f"{gateway_url}/explain/{version.model}/versions/{version.version}", golden, secret)
    if isinstance(answered, Verdict):
        return answered
    packages = environments.get(store, logged.environment).packages
    libraries = answered.get("libraries") or {}
    route = serving.get_route(store, version.model)
    fast = route is not None and version.version in route.fast
    if fast:  # what the model itself needed is not there, and not needed
        known = {name: number for name, number in golden["libraries"].items() if name in libraries}
        golden |= {"libraries": known, "tolerance": near(golden["outputs"], RELATIVE)}
        libraries = {name: number for name, number in libraries.items() if name in known}
    verdict = compare_golden(golden, answered, environment_packages=packages, worker_libraries=libraries)
    if fast:
        said = f"{verdict.summary}, by its fast path within {RELATIVE:g}"
        verdict = replace(verdict, summary=said, evidence=verdict.evidence | {"path": "fast"})
    return verdict


def as_rows(inputs: Any) -> list[Any]:
    """Golden inputs as the rows of a request.

    >>> as_rows({"a": [1, 2], "b": ["x", "y"]})
    [{'a': 1, 'b': 'x'}, {'a': 2, 'b': 'y'}]
    """
    if not isinstance(inputs, dict):
        return list(inputs)
    return [dict(zip(inputs, values, strict=True)) for values in zip(*inputs.values(), strict=True)]


def _ask(url: str, golden: dict[str, Any], secret: str | None) -> Any:
    """The gateway's explanation of the golden rows, or the verdict that there is none."""
    import httpx

    headers = {"authorization": f"Bearer {secret}"} if secret else {}
    try:
        # Straight to our own gateway: a proxy for the internet has no business between.
        with httpx.Client(timeout=TIMEOUT_S, trust_env=False, headers=headers) as client:
            answer = client.post(url, json={"rows": as_rows(golden["inputs"])})
    except httpx.HTTPError as error:
        raise Unreachable(
            "gateway-unreachable", f"the gateway did not answer the parity check: {error}", hint="stead status"
        ) from None
    try:
        body = answer.json()
    except ValueError:
        body = {}
    if answer.status_code == 200:
        return body
    told = body.get("error") if isinstance(body, dict) else None
    problem: dict[str, Any] = (
        told if isinstance(told, dict) else {"code": "unknown", "message": str(told or answer.text[:200])}
    )
    if answer.status_code in (404, 503):
        raise Failed(
            str(problem.get("code")), f"the version cannot be asked: {problem.get('message')}", hint="stead status"
        )
    return Verdict(
        "parity",
        "failed",
        f"the stored rows got no answer: {problem.get('message')}",
        {
            "kind": "answer",
            "status": answer.status_code,
            "error": problem,
            "column": problem.get("details", {}).get("column"),
        },
    )
