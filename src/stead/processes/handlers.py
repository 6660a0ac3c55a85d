"""Who does which kind of job."""

from __future__ import annotations

from functools import partial

from stead import deployments, environments, gates, pipelines
from stead.config import Settings
from stead.jobs import Handler

LANES: dict[str, tuple[str, ...]] = {
    "deploy": ("deploy",),
    "work": ("train", "ingest", "compare", "backtest", "reproduce", "rerun", "vendor", "accelerate"),
}
"""Kinds that share one worker thread of the agent: a long training never keeps a deployment waiting."""


def handlers(settings: Settings) -> dict[str, Handler]:
    """The handler of each kind of job, as the settings in force have it."""
    allow = settings.names("env_allow")
    return {
        "train": partial(pipelines.run_training, allow=allow, judges=gates.TRAINED),
        "ingest": partial(pipelines.run_ingest, allow=allow),
        "compare": partial(pipelines.run_compare, allow=allow),
        "backtest": partial(pipelines.run_backtest, allow=allow),
        "reproduce": partial(pipelines.run_reproduction, allow=allow),
        "rerun": partial(pipelines.run_rerun, allow=allow),
        "accelerate": partial(gates.run_accelerate, allow=allow),
        "vendor": environments.run_vendor,
        "deploy": deployments.run_deployment,
    }
