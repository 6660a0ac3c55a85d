"""A champion that was displaced, or a canary that was taken back, and goes on scoring aside: logs and labels of both, no gateway."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa
from watched import DAY, START, Watched

from stead import deployments, jobs, models, predictions, serving
from stead.deployments import operations
from stead.deployments.tables import deployments as table
from stead.predictions import Label, Logged, PredictionLog
from stead.runtime.clock import now_ms
from stead.runtime.ids import new_id
from stead.store import Store


class Displaced(Watched):
    """Versions 1 and 2 of `m` at level train: 2 takes over by a swap on day 0, and 1 scores aside. Version 1 is off by about 1."""

    def __init__(self, store: Store, *, judge_days: int = 28, delay: str = "0h") -> None:
        super().__init__(store, delay=delay)
        for _ in range(2):
            self.live()
        rollout = {"judge_days": judge_days, "kind": "swap"}
        values = {
            "model": "m", "version": 1, "kind": "deploy", "state": "live", "overrides": [], "steps": [], "plan": {},
            "shares": [], "requested_by": "ada", "created_at": now_ms(), "event_time": START,
        }  # fmt: skip
        with store.db.write("deployments.request") as tx:
            models.set_level_in(tx, "m", "train")
            models.set_settings_in(tx, "m", rollout=rollout)
            tx.execute(sa.insert(table).values(values))
            serving.set_route(store.db, tx, "m", arms=[serving.Arm(1, 1.0)])
        self.hold(0)

    def swap(self, version: int = 2) -> deployments.Deployment:
        asked = deployments.deploy(self.store, "m", version=version)
        for job in jobs.open_jobs(self.store, kind="deploy"):
            jobs.cancel_job(self.store, job.id)
        with self.store.db.write("deployments.switch") as tx:
            operations.switch(tx, self.store, asked)
        return deployments.get_deployment(self.store, asked.id)

    def both(
        self,
        first: int,
        end: int,
        *,
        loss: float,
        answering: int = 2,
        late: bool = False,
        noise: float = 0.05,
        fails: int = 0,
        took: int = 900,
    ) -> list[Label]:
        """Days on which one version answers and the other scores aside; `loss` is version 2's, by that of version 1.

        Version 2 fails on one row of `fails` and takes `took` microseconds.
        """
        labels, answered, aside = [], [], []
        for place in range(first * 24, end * 24):
            usual = float(self.random.gamma(4, 0.25))
            scores = {1: 10.0 + usual, 2: 10.0 + loss * usual + float(self.random.normal(0, noise))}
            identity = new_id()
            for version, score in scores.items():
                failed = version == 2 and fails > 0 and place % fails == 0
                made = Logged(
                    id=identity, model="m", version=version, event_time=START + place * DAY // 24, received_at=now_ms(),
                    latency_us=took if version == 2 else 900, status=500 if failed else 200, protocol="stead", key=None,
                    header_length=0, body=b'{"row": {"x": 1.0}}' if version == answering else b"",
                    outputs=b"" if failed else msgspec.msgpack.encode([score]),
                )  # fmt: skip
                (answered if version == answering else aside).append(made)
            labels.append(Label(identity, 10.0))
        for kind, records in (("predictions", answered), ("shadows", aside)):
            log = PredictionLog(self.store, f"gateway-{kind}-{first}", kind=kind)
            log.append(records)
            log.close()
        if not late:
            predictions.add_labels(self.store, labels)
        self.hold(end)
        return labels

    def judge(self) -> int:
        """What the loop does at a turn; how much moved."""
        predictions.refresh_performance(self.store)
        return sum(deployments.judge(self.store, waiting) for waiting in deployments.judged_now(self.store))

    def shadow(self) -> list[int]:
        route = serving.get_route(self.store, "m")
        assert route is not None
        return route.shadow
