"""A project as `stead.toml` states it: its models, and for each when to train, how to roll out, what to hold to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from stead.errors import NotFound, did_you_mean

Level = Literal["record", "train", "deploy", "manage"]
LEVELS: tuple[Level, ...] = ("record", "train", "deploy", "manage")
ORDERS = ("time", "stored", "shuffled")
LOSSES = ("wape", "mae", "mse", "error", "log_loss", "brier")
FILE = "stead.toml"


@dataclass(frozen=True)
class StageConfig:
    """How training or serving of a model differs from the rest: environment variables and other requirements."""

    env: Mapping[str, str] = field(default_factory=dict)
    """Environment variables that are set there, by name; `env:NAME` and `file:/path` name a secret, whose value is never stored."""
    requirements: tuple[str, ...] = ()
    """Requirement lines that are used there instead of the project's."""
    image: bool = False
    """Whether it runs in a container of its image instead of a process of this machine."""


@dataclass(frozen=True)
class TrainConfig(StageConfig):
    """`[models.NAME.train]`: on how many threads, from which seed, on what, and how its environment differs from the rest."""

    threads: int = 1
    """Threads on which arithmetic libraries compute: some sums come out another way on another number."""
    seed: int = 0
    """What `random`, numpy and torch are seeded with before each call of `train`."""
    order: str = "time"
    """In which order `train` gets its rows: that of their `time`, as they are `stored`, or `shuffled` by the seed."""
    executor: str = "local"
    """Where features, evaluation and training run: `local`, beside the agent, or `ray`, on a Ray cluster."""
    resources: Mapping[str, float] = field(default_factory=dict)
    """What a step takes of the cluster: `cpu` (by default `threads`), `gpu`, `memory_mb`, and any resource of its own."""


@dataclass(frozen=True)
class ServeConfig(StageConfig):
    """`[models.NAME.serve]`: how the environment that answers differs from the rest, and by which path it answers."""

    fast: bool = True
    """Whether a version goes its fast path, a model in ONNX, where that answers the same and sooner."""


EXECUTORS = ("local", "ray")
SIGNALS = ("schedule", "data", "age", "incident", "loss", "proxy")
"""What may make stead train again, by name."""
ROLLOUTS = ("swap", "canary", "shadow", "ab")


@dataclass(frozen=True)
class PolicyConfig:
    """`[models.NAME.policy]`: when stead trains by itself, and how often at most. What is None follows from the level."""

    ingest: str = ""
    """Cron line by which new rows are ingested; empty for only when something is trained."""
    train: str = "0 4 1 * *"
    """Cron line of the trigger `schedule`."""
    time_zone: str = "UTC"
    """Zone of the cron lines; the model's own clock is UTC."""
    triggers: tuple[str, ...] | None = None
    """Signals that train again; by default schedule and incident at `train`, proxy and incident at `deploy`."""
    new_rows: int = 0
    """Rows that make the trigger `data`; 0 for none."""
    max_age: str = ""
    """Age of the newest row that the champion learned from that makes the trigger `age`, such as `90d`."""
    max_loss: float | None = None
    """Loss of the last 28 days that makes the trigger `loss`."""
    retrain_price: float = 1.0
    """What a retraining costs, in days of the champion's loss; the trigger `proxy` asks for two prices."""
    rest: str = "28d"
    """Least time between two trainings that stead decides on by itself, the schedule's apart."""
    retrains_a_day: int = 1
    """Trainings a day, of the model's clock, beyond which stead asks."""
    deployments_a_week: int = 2
    """Deployments a week beyond which stead asks."""


@dataclass(frozen=True)
class RolloutConfig:
    """`[models.NAME.rollout]`: how a version takes over."""

    kind: str | None = None
    """`swap`, `canary`, `shadow` or `ab`; by default swap up to `train` and canary at `deploy`."""
    steps: tuple[float, ...] = (0.25,)
    """Shares of the traffic, one after the other; the last step is followed by the whole."""
    rows: int = 30
    """Labelled rows that the new version's arm must have at a step before the next begins."""
    days: int = 2
    """Days of the model's clock that a step lasts at least."""
    margin: float = 0.02
    """Harm that is still taken: a loss higher by this share of the champion's. An A/B test takes none."""
    guards: tuple[str, ...] = ("errors", "latency", "outputs", "shift", "loss")
    """What takes a canary back when it breaks."""
    judge_days: int = 28
    """Days for which the version that was displaced, or taken back for its loss, goes on scoring aside, so that the decision
    can be judged; 0 for none. A swap by hand at level `record` has none either."""


@dataclass(frozen=True)
class GatesConfig:
    """`[models.NAME.gates]`: what a version must hold to."""

    slices: tuple[str, ...] = ()
    """Raw columns; on no value of theirs may a version be clearly worse than the champion."""
    margin: float = 0.05
    """A refresh must be shown not to be worse than the champion by more than this share of its loss."""
    size: float = 4.0
    """So many times the champion's bytes and time to answer are allowed."""


@dataclass(frozen=True)
class ModelConfig:
    """`[models.NAME]`: one model of a project."""

    name: str
    code: str
    """Python file with `ingest`, `features`, `train`; relative to the project."""
    target: str
    """Column that is predicted; its true value comes later as the label."""
    time: str | None = None
    """Column with the event time of a row, or None for rows without one."""
    loss: str = "mae"
    """What is measured at training and against labels: `wape`, `mae`, `mse`, `error`, `log_loss`, `brier`."""
    dataset: str = ""
    """Dataset that `ingest` adds to; the model's name where none is given."""
    label_delay: str = "0h"
    """How long after the event a label is known: `24h`, `7d`."""
    timeout_s: int = 3600
    """Seconds after which a training is given up."""
    owner: str = ""
    """Who answers for it: a person or a team."""
    importance: str = ""
    """How much it matters: `low`, `normal` (where none is given) or `high`."""
    loss_value: float | None = None
    """Money that one unit of the summed loss costs: a day costs this times its `loss_sum`, the sum of loss × weight over its labelled rows (of `mae` and `wape` one unit that an answer is off, of `error` one wrong answer)."""
    currency: str = ""
    """What `loss_value` is in, by ISO 4217: `EUR`."""
    ingest_overlap: str = ""
    """How far behind the newest rows `ingest` asks again, such as `2d`: for rows that come late or are put right."""
    window: str = ""
    """How far back a training looks, such as `180d`, or `all`; by default 12 months, or all where that is clearly better."""
    train: TrainConfig = field(default_factory=TrainConfig)
    serve: ServeConfig = field(default_factory=ServeConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    gates: GatesConfig = field(default_factory=GatesConfig)


@dataclass(frozen=True)
class Project:
    """A project: the folder with `stead.toml`, its environment and its models."""

    name: str
    """Name of the project that runs are filed under; the folder's where none is given."""
    root: Path
    python: str | None
    """Version of Python for training and serving, such as `3.12`; this one's where none is given."""
    requirements: tuple[str, ...] | str
    """Requirement lines, or the name of a file beside stead.toml (`requirements.txt`, `pyproject.toml`, a script)."""
    models: Mapping[str, ModelConfig]
    settings: Mapping[str, Any]

    def model(self, name: str) -> ModelConfig:
        """The configuration of a model. Raises NotFound (`model-unknown`)."""
        try:
            return self.models[name]
        except KeyError:
            raise NotFound(
                "model-unknown",
                f"stead.toml has no model {name!r}",
                hint=did_you_mean(name, self.models)
                or (f"it has: {', '.join(self.models)}" if self.models else "write one: stead init, in another folder"),
            ) from None
