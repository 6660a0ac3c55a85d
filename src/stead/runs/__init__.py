"""Experiment tracking: experiments, runs, parameters, metrics, artifacts, console; what the SDK's journals bring.

A run's points lie packed in blocks with a summary beside them, so that lists and comparisons never read a point. The
entities are MLflow's: experiment, run, parameter, metric, tag, dataset input, artifact.
"""

from stead.runs.delivery import deliver
from stead.runs.experiments import (
    create_experiment,
    delete_experiment,
    get_experiment,
    list_experiments,
    rename_experiment,
    restore_experiment,
    set_experiment_tag,
)
from stead.runs.operations import (
    COUNTED,
    delete_run,
    end,
    end_silent,
    get_run,
    get_runs,
    list_runs,
    log,
    rename_run,
    restore_run,
    set_tag,
    start,
)
from stead.runs.reading import (
    compare,
    console,
    get_artifact,
    list_artifacts,
    metric_keys,
    read_artifact,
    series,
)
from stead.runs.types import Artifact, Comparison, ConsoleText, Experiment, MetricSummary, Receipt, Run, RunPage, Series

__all__ = [
    "COUNTED",
    "Artifact",
    "Comparison",
    "ConsoleText",
    "Experiment",
    "MetricSummary",
    "Receipt",
    "Run",
    "RunPage",
    "Series",
    "compare",
    "console",
    "create_experiment",
    "delete_experiment",
    "delete_run",
    "deliver",
    "end",
    "end_silent",
    "get_artifact",
    "get_experiment",
    "get_run",
    "get_runs",
    "list_artifacts",
    "list_experiments",
    "list_runs",
    "log",
    "metric_keys",
    "read_artifact",
    "rename_experiment",
    "rename_run",
    "restore_experiment",
    "restore_run",
    "series",
    "set_experiment_tag",
    "set_tag",
    "start",
]

OPERATIONS = {
    "read": (
        "compare",
        "console",
        "get_artifact",
        "get_experiment",
        "get_run",
        "get_runs",
        "list_artifacts",
        "list_experiments",
        "list_runs",
        "metric_keys",
        "series",
    ),
    "write": (
        "create_experiment",
        "delete_experiment",
        "delete_run",
        "deliver",
        "end",
        "log",
        "rename_experiment",
        "rename_run",
        "restore_experiment",
        "restore_run",
        "set_experiment_tag",
        "set_tag",
        "start",
    ),
}
"""What can be called by name, by role."""
