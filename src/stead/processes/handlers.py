"""Who does which kind of job."""

from __future__ import annotations

from stead import deployments, pipelines
from stead.jobs import Handler

HANDLERS: dict[str, Handler] = {
    "train": pipelines.run_training,
    "ingest": pipelines.run_ingest,
    "compare": pipelines.run_compare,
    "deploy": deployments.run_deployment,
}

LANES: dict[str, tuple[str, ...]] = {"deploy": ("deploy",), "work": ("train", "ingest", "compare")}
"""Kinds that share one worker thread of the agent: a long training never keeps a deployment waiting."""
