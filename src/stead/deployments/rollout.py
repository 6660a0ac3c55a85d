"""The state machine of a deployment: each state is stored before the next begins, so it resumes wherever a process died."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from stead import gates, ledger, serving
from stead.deployments import operations
from stead.deployments.canary import begin
from stead.deployments.types import BY_JOB, UNDER_WAY, Deployment
from stead.errors import Failed, Refused, SteadError, Unreachable
from stead.jobs import Keeper
from stead.store import Store

LOAD_S = 600
GATEWAY_S = 30


def run_deployment(store: Store, keeper: Keeper) -> dict[str, Any]:
    """The handler of `deploy` jobs."""
    number = keeper.job.payload["deployment"]
    rollout = _Rollout(store, keeper)
    try:
        while (deployment := operations.get_deployment(store, number)).state in BY_JOB:
            keeper.check()
            getattr(rollout, deployment.state)(deployment)
    except SteadError as error:
        if not isinstance(error, Unreachable) or keeper.job.attempt >= keeper.job.max_attempts:
            rollout.failed(operations.get_deployment(store, number), error)
        raise
    if deployment.state == "refused":
        told = deployment.error or {}
        raise Refused(told.get("code", "refused"), told.get("message", "refused by a gate"), hint=told.get("hint"))
    if deployment.state in ("live", "canary"):
        route = serving.get_route(store, deployment.model)
        assert route is not None
        serving.wait_applied(store, route.revision, timeout_s=GATEWAY_S)
        what = "answers" if deployment.state == "live" else "has its share: evidence decides what follows"
        keeper.report(f"{deployment.model}@{deployment.version} {what}", 4, 4)
    return {"deployment": number, "state": deployment.state}


class _Rollout:
    """One method a state: does the state's work, then writes the next state under the job's fence."""

    def __init__(self, store: Store, keeper: Keeper) -> None:
        self.store = store
        self.keeper = keeper

    def requested(self, deployment: Deployment) -> None:
        """Ask the gateways to keep the version warm, once it is known whose files these are, where the model requires that: loading runs code."""
        ref = f"{deployment.model}@{deployment.version}"
        if deployment.kind != "rollback":
            signed = gates.signature(self.store, ref, deployment=deployment.id)
            if signed is not None and signed.outcome == "failed":
                hint = f"stead sign {ref} --key KEY; stead models signers {deployment.model} tells which keys count"
                self._refuse(
                    deployment,
                    signed,
                    Refused("signature-refused", f"{ref} is not loaded: {signed.summary}", hint=hint),
                    [],
                )
                return
        self.keeper.report("asking the gateway to load the version", 0, 4)
        with self.keeper.write("deployments.prepare") as tx:
            wanted = self.keeper.job.payload.get("fast") is not False
            operations.warm_up(tx, self.store, deployment.model, deployment.version, fast=wanted)
            operations.advance(tx, deployment, "preparing", "environment and workers")

    def preparing(self, deployment: Deployment) -> None:
        """Wait until every gateway can answer with it."""
        self.keeper.report("loading the version in its environment", 1, 4)
        serving.served(self.store, deployment.model, deployment.version)
        self._wait_loaded(deployment)
        with self.keeper.write("deployments.check") as tx:
            operations.advance(tx, deployment, "checking", "loaded in every gateway")

    def checking(self, deployment: Deployment) -> None:
        """Ask the gates; a roll-back asks none, since its version answered before.

        A gateway that was started again since `preparing` has yet to load the version.
        """
        if deployment.kind == "rollback":
            with self.keeper.write("deployments.passed") as tx:
                operations.advance(tx, deployment, "switching", "was live before")
            return
        self.keeper.report("parity: stored rows through the endpoint", 2, 4)
        ref = f"{deployment.model}@{deployment.version}"
        verdict = gates.parity(self.store, ref, gateway_url=self._wait_loaded(deployment), deployment=deployment.id)
        self._say(f"parity {verdict.outcome}: {verdict.summary}")
        if verdict.outcome == "failed" and verdict.evidence.get("path") == "fast":
            self._by_usual_path(deployment, verdict)
            return
        if verdict.outcome != "failed":
            with self.keeper.write("deployments.passed") as tx:
                self._onward(tx, deployment, f"parity {verdict.outcome}: {verdict.summary}")
            return
        if "parity" in deployment.overrides:
            with self.keeper.write("deployments.overridden") as tx:
                operations.record_end(
                    tx,
                    deployment.requested_by,
                    deployment,
                    "gate.overridden",
                    f"parity was overridden for {ref}: {verdict.summary}",
                    deployment.reason,
                    verdict.evidence,
                )
                self._onward(tx, deployment, f"parity overridden: {verdict.summary}")
            return
        error = Refused(
            "parity-failed",
            f"{ref} does not answer as it was trained: {verdict.summary}",
            hint=f"stead env diff {ref}; or stead deploy {ref} --override parity --reason …",
        )
        self._refuse(deployment, verdict, error, ["parity"])

    def _refuse(self, deployment: Deployment, verdict: gates.Verdict, error: Refused, override: list[str]) -> None:
        """End it as refused by a gate; `override` names the gates that its undo would override."""
        forced: dict[str, Any] = {"model": deployment.model, "version": deployment.version}
        instead = "let a person override the gate, with a reason" if override else "let who holds a key sign it"
        with self.keeper.write("deployments.refuse") as tx:
            operations.let_go(tx, self.store, deployment)
            operations.advance(tx, deployment, "refused", verdict.summary, error=error.as_dict()["error"], ended=True)
            operations.record_end(
                tx,
                "agent",
                deployment,
                "deployment.refused",
                f"{verdict.gate} refused {deployment.model}@{deployment.version}: {verdict.summary}",
                None,
                verdict.evidence,
                undo=ledger.Undo("deployments.deploy", forced | ({"override": override} if override else {})),
                alternatives=[instead],
            )

    def _by_usual_path(self, deployment: Deployment, verdict: gates.Verdict) -> None:
        """Its fast path does not answer as it was trained after all: load it as before, and ask again."""
        with self.keeper.write("deployments.prepare") as tx:
            path = serving.fast_path_in(tx, deployment.model, deployment.version)
            if path is not None:
                found = {**path.evidence, **verdict.evidence}
                path = replace(path, state="different", said=verdict.summary, evidence=found)
                serving.keep_fast_path(self.store, tx, path)
            serving.set_fast_in(self.store, tx, deployment.model, deployment.version, False)
            operations.advance(tx, deployment, "preparing", f"by its usual path: {verdict.summary}")

    def _onward(self, tx: sa.Connection, deployment: Deployment, note: str) -> None:
        """From the gates to the whole traffic at once, or to the first step of the plan."""
        if deployment.plan.kind == "swap" or deployment.previous is None:
            operations.advance(tx, deployment, "switching", note)
        else:
            begin(tx, self.store, deployment, note)

    def switching(self, deployment: Deployment) -> None:
        """Move the route: the swap itself."""
        self.keeper.report("moving the route", 3, 4)
        with self.keeper.write("deployments.switch") as tx:
            operations.switch(tx, self.store, deployment, undoes=self.keeper.job.payload.get("undoes"))

    def failed(self, deployment: Deployment, error: SteadError) -> None:
        """It could not be done: the present version goes on answering."""
        if deployment.state not in UNDER_WAY:
            return
        with self.keeper.write("deployments.fail") as tx:
            operations.let_go(tx, self.store, deployment)
            operations.advance(tx, deployment, "failed", error.message, error=error.as_dict()["error"], ended=True)
            operations.record_end(
                tx,
                "agent",
                deployment,
                "deployment.failed",
                f"{deployment.model}@{deployment.version} could not be deployed: {error.message}",
                None,
                error.as_dict()["error"],
                undo=ledger.Undo("deployments.deploy", {"model": deployment.model, "version": deployment.version}),
                alternatives=["try again"],
            )

    def _wait_for_gateway(self) -> str:
        import time

        deadline = time.monotonic() + GATEWAY_S
        while True:
            alive = serving.gateways(self.store, alive=True)
            if alive:
                return alive[0].url
            self.keeper.check()
            if time.monotonic() > deadline:
                raise Failed("gateway-missing", "no gateway runs that could answer", hint="stead up")
            time.sleep(0.1)

    def _wait_loaded(self, deployment: Deployment) -> str:
        """The address of a gateway, when every one can answer with the version."""
        self._wait_for_gateway()
        serving.wait_loaded(self.store, deployment.model, deployment.version, timeout_s=LOAD_S, progress=self._say)
        return self._wait_for_gateway()

    def _say(self, text: str) -> None:
        self.keeper.check()
        self.keeper.log(text + "\n")
