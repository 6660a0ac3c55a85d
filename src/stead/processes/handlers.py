"""Who does which kind of job."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from stead import deployments, environments, gates, images, pipelines
from stead.config import Settings
from stead.jobs import Handler, Keeper, Ray
from stead.store import Store

LANES: dict[str, tuple[str, ...]] = {
    "deploy": ("deploy",),
    "work": ("train", "ingest", "compare", "backtest", "reproduce", "rerun", "vendor"),
    "spare": ("accelerate", "drill"),
}
"""Kinds that share one worker thread of the agent: a long training never keeps a deployment waiting."""


def handlers(settings: Settings) -> dict[str, Handler]:
    """The handler of each kind of job, as the settings in force have it."""
    allow = settings.names("env_allow")
    containers = images.Containers(settings)

    def equipped(handler: Handler, store: Store, keeper: Keeper) -> dict[str, Any]:
        keeper.contain, keeper.archive = containers.of_environment, containers.for_cluster
        keeper.cluster = partial(Ray.of, settings)
        return handler(store, keeper)

    made = _handlers(allow)
    return {kind: partial(equipped, handler) for kind, handler in made.items()}


def _handlers(allow: Sequence[str]) -> dict[str, Handler]:
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
        "drill": deployments.run_drill,
    }
