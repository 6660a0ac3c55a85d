"""What is known of a version for those who read of it elsewhere: its task, its losses, the gates, how it did in service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stead import environments, gates, models, pipelines, predictions
from stead.environments import Environment
from stead.gates import Verdict
from stead.models import LoggedModel, Model, Version
from stead.pipelines import Reproduction
from stead.predictions import DayLoss
from stead.store import Store

CLASSIFYING = ("error", "log_loss", "brier")
"""Losses of models that tell classes or their probabilities."""
HOLD_OUTS = {
    "holdout_random": "hold-out at random",
    "holdout_time": "hold-out, newest rows",
    "holdout_recent": "hold-out, last 28 days",
}


@dataclass(frozen=True)
class Evaluated:
    """A version with all that judges it."""

    version: Version
    model: Model
    logged: LoggedModel
    environment: Environment
    verdicts: list[Verdict]
    """Of each gate the newest."""
    again: list[Reproduction]
    days: list[DayLoss]
    """On which it answered."""

    @property
    def task(self) -> str:
        return "classification" if self.model.loss in CLASSIFYING else "regression"

    @property
    def trained_on(self) -> dict[str, Any]:
        return dict(self.logged.info.get("trained_on") or {})

    @property
    def losses(self) -> dict[str, float]:
        """Its losses on rows that it had not seen, by what they were, and in service."""
        found = {told: self.logged.metrics[name] for name, told in HOLD_OUTS.items() if name in self.logged.metrics}
        weight = sum(day.weight_sum for day in self.days)
        if weight:
            found["in service"] = sum(day.loss_sum for day in self.days) / weight
        return found


def evaluated(store: Store, ref: str) -> Evaluated:
    """Raises NotFound."""
    version = models.get_version(store, ref)
    logged = models.get_logged_model(store, version.logged_model)
    verdicts: dict[str, Verdict] = {}
    for verdict in gates.list_verdicts(store, version.model, version=version.version):
        verdicts.setdefault(verdict.gate, verdict)
    return Evaluated(
        version,
        models.get_model(store, version.model),
        logged,
        environments.get(store, logged.environment),
        list(verdicts.values()),
        pipelines.list_reproductions(store, version.model, version=version.version),
        [day for day in predictions.performance(store, version.model) if day.version == version.version],
    )
