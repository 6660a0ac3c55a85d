"""Records of a model as a year of work leaves them: rows of the tables, some days ago on the wall clock or at a moment of a replay."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from stead.config import PolicyConfig, RolloutConfig
from stead.deployments.tables import deployments, outside
from stead.environments.tables import environments
from stead.gates.tables import verdicts
from stead.jobs.tables import jobs
from stead.ledger.tables import judgements, ledger
from stead.maturity.clocks import DAY_MS
from stead.models.tables import logged_models, models, versions
from stead.monitors.tables import incidents, monitor_days
from stead.pipelines.tables import reproductions
from stead.policies.tables import retrainings, standing
from stead.predictions.tables import performance
from stead.runtime.clock import now_ms
from stead.runtime.ids import new_id
from stead.store import Store


class Told:
    """A model whose records are told one by one; days are counted back from `now`."""

    def __init__(self, store: Store, name: str = "bikes", *, now: int | None = None, **facts: Any) -> None:
        self.store, self.name = store, name
        self.now = now_ms() if now is None else now
        self.replayed = now is not None
        settings = {key: value for key, value in facts.items() if key != "level"}
        old = now_ms() - 400 * DAY_MS
        self.put(
            models, name=name, description="", level=facts.get("level", "record"), loss="mae", settings=settings,
            created_at=now_ms() if self.replayed else old, updated_at=old,
        )  # fmt: skip
        with store.db.engine.begin() as tx:
            known = tx.execute(sa.select(environments.c.digest)).first()
        if known is None:
            self.put(
                environments, digest="e" * 64, python="3.11", platform="l", lock="a" * 64, packages=[], wheels=[],
                source={}, created_at=0,
            )  # fmt: skip

    def put(self, table: sa.Table, **values: Any) -> Any:
        with self.store.db.engine.begin() as tx:
            key = tx.execute(sa.insert(table).values(**values)).inserted_primary_key
        return key[0] if key else None

    def at(self, ago: float) -> int:
        return int(self.now - ago * DAY_MS)

    def when(self, ago: float) -> dict[str, int | None]:
        """Both clocks: of a replay the wall's is now."""
        return {
            "at": now_ms() if self.replayed else self.at(ago),
            "event_time": self.at(ago) if self.replayed else None,
        }

    def version(
        self, number: int, ago: float, *, trigger: str = "proxy", pipeline: bool = True, lacks: tuple[str, ...] = (),
        gated: str = "passed",
    ) -> str:  # fmt: skip
        job = new_id()
        time = self.when(ago)
        if pipeline:
            by = "person:ada" if trigger == "person" else "agent"
            self.put(
                jobs, id=job, kind="train", model=self.name, payload={}, state="succeeded", run_after=0, requested_by=by,
                created_at=time["at"], ended_at=time["at"], event_time=time["event_time"], result={"version": number},
            )  # fmt: skip
            if trigger != "person":
                self.put(
                    retrainings, model=self.name, trigger=trigger, state="done", level="deploy", standing=1, job=job,
                    version=number, reason="", evidence={}, alternatives=[], **time,
                )  # fmt: skip
        info = {} if "data" in lacks else {"trained_on": {"dataset": "rows@1"}}
        self.put(
            logged_models, id=f"m-{job}", name=self.name, run_id=job, status="ready", flavor="sklearn", files={},
            environment="e" * 64, code=None if "code" in lacks else "c" * 64, metrics={}, info=info, created_at=time["at"],
        )  # fmt: skip
        self.put(
            versions, model=self.name, version=number, logged_model=f"m-{job}", run_id=job, description="",
            serving_environment="e" * 64, serving_env={}, serving_image=False, created_by="agent", created_at=time["at"],
            event_time=time["event_time"],
        )  # fmt: skip
        if gated:
            self.verdict(number, ago, gated)
        return job

    def verdict(self, version: int, ago: float, outcome: str) -> None:
        at = now_ms() if self.replayed else self.at(ago)
        self.put(
            verdicts,
            model=self.name,
            version=version,
            gate="challenger",
            outcome=outcome,
            summary="said",
            evidence={},
            at=at,
        )

    def entry(
        self, action: str, ago: float, *, by: str = "agent", evidence: Any = None, undo: bool = True, **more: Any
    ) -> int:
        values: dict[str, Any] = (
            {"model": self.name, "subject": "s", "policy": f"{self.name} 1"} | self.when(ago) | more
        )
        undoing = {"operation": "x.y", "arguments": {}} if undo else None
        made = {"evidence": {"said": "why"} if evidence is None else evidence, "undo": undoing, "alternatives": []}
        return int(self.put(ledger, actor=by, action=action, summary=f"did {action}", **made, **values))

    def deployed(
        self,
        version: int,
        ago: float,
        *,
        by: str = "agent",
        state: str = "replaced",
        back: bool = False,
        waited: float = 0.0,
    ) -> int:
        """Asked for, and live `waited` days after it."""
        at = now_ms() if self.replayed else self.at(ago)
        steps = [{"state": "requested", "at": at, "note": ""}, {"state": "live", "at": at, "note": ""}]
        number = self.put(
            deployments, model=self.name, version=version, kind="rollback" if back else "deploy", state=state, overrides=[],
            steps=steps, requested_by=by, created_at=at, plan={}, shares=[], event_time=self.when(ago)["event_time"],
        )  # fmt: skip
        self.entry(
            "deployment.requested",
            ago,
            by=by,
            evidence={"deployment": number, "kind": "rollback" if back else "deploy"},
        )
        action = "route.rolled_back" if back else "route.changed"
        self.entry(action, ago, by=by, evidence={"deployment": number})
        return int(number)

    def outside(
        self, ago: float, *, version: int | None = None, hours: float | None = None, place: str = "srv"
    ) -> None:
        self.put(
            outside, model=self.name, version=version, place=place, hours=hours, note="", by="person:ada",
            recorded_at=now_ms(), **self.when(ago),
        )  # fmt: skip

    def judged(self, entry: int, ago: float, verdict: str, kind: str = "promotion", deployment: int = 1) -> None:
        self.put(
            judgements, entry=entry, model=self.name, kind=kind, deployment=deployment, since=self.at(ago + 28),
            until=self.at(ago), closed=True, verdict=verdict, said="said", rows=9, days=28, seen=0, refresh=0, at=0,
        )  # fmt: skip

    def incident(self, ago: float, *, by: str = "agent", severity: str = "page", found_by: int | None = None) -> int:
        cause = "loss" if by == "agent" else f"person: it is odd {ago}"
        return int(
            self.put(
                incidents, model=self.name, cause=cause, kind="performance", state="resolved", severity=severity, summary="odd",
                evidence={} if by == "agent" else {"reported_by": "eve", "found_by": found_by}, opened_by=by,
                opened_at=self.at(ago), event_time=self.at(ago), updated_at=0, resolved_event_time=self.at(ago - 1),
            )
        )  # fmt: skip

    def days(self, first: float, last: float, *, labelled: float = 0.9, looked: bool = True, version: int = 1) -> None:
        """Days with requests, from so many days ago to so many."""
        sums = dict.fromkeys(("failed", "loss_sum", "weight_sum", "prediction_sum", "label_sum", "refresh"), 0)
        rows, looks = [], []
        for ago in range(int(first), int(last) - 1, -1):
            day = self.at(ago) // DAY_MS * DAY_MS
            at = now_ms() if self.replayed else day + DAY_MS
            mine = {"model": self.name, "day": day, "version": version}
            asked = {
                "role": "",
                "measure": "mae",
                "predictions": 100,
                "labelled": int(100 * labelled),
                "updated_at": at,
            }
            rows.append(mine | asked | sums)
            looks.append(mine | {"monitor": "requests", "outcome": "ok", "evidence": {}, "state": {}})
        with self.store.db.engine.begin() as tx:
            tx.execute(sa.insert(performance), rows)
            if looked:
                tx.execute(sa.insert(monitor_days), looks)

    def looked(self, ago: float, *, monitor: str = "requests", outcome: str = "ok", version: int = 1) -> None:
        self.put(
            monitor_days, model=self.name, version=version, monitor=monitor, day=self.at(ago) // DAY_MS * DAY_MS,
            outcome=outcome, evidence={}, state={},
        )  # fmt: skip

    def again(self, version: int, ago: float, verdict: str = "identical") -> None:
        at = now_ms() - int(ago * DAY_MS)
        self.put(
            reproductions, model=self.name, version=version, verdict=verdict, tolerance=0.01, evidence={}, job=new_id(),
            by="agent", at=at,
        )  # fmt: skip

    def policy(self, ago: float) -> None:
        self.put(
            standing, model=self.name, spec={}, policy={"rest": PolicyConfig().rest}, rollout={"days": RolloutConfig().days},
            recipe="r", number=1, at=self.at(ago), by="person:ada",
        )  # fmt: skip

    def backtest(self, ago: float) -> None:
        self.put(
            jobs, id=new_id(), kind="backtest", model=self.name, payload={}, state="succeeded", run_after=0,
            requested_by="person:ada", created_at=self.at(ago), ended_at=self.at(ago),
        )  # fmt: skip
