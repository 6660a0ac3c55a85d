"""What a pipeline works from, and what comparing two versions gives."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from stead.config import FACTS, GatesConfig
from stead.datasets import Contract
from stead.models import Version
from stead.store import Store

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Subject:
    """What every step is told: the column that is predicted, the one with the time, the loss, and the code by content."""

    target: str
    time: str | None
    loss: str
    entry: str = ""
    """Python file with the functions, relative to the project; none where only a stored model answers."""
    module: str = ""
    files: dict[str, str] = field(default_factory=dict)
    threads: int = 1
    seed: int = 0
    order: str = "time"


@dataclass(frozen=True)
class Spec:
    """A model's part of `stead.toml` with the code by content: all that a job needs, wherever it runs."""

    project: str
    model: str
    entry: str
    """Python file with the functions, relative to the project."""
    module: str
    files: dict[str, str]
    """Path → blob of the entry and the project's modules that it imports."""
    target: str
    time: str | None
    loss: str
    label_delay: str
    dataset: str
    timeout_s: int
    python: str | None
    requirements: list[str]
    requirements_file: dict[str, str] | None
    """{"name", "digest"} where the requirements stand in a file."""
    root: str
    """The project's folder where it was packed; `ingest` runs in it if it is there."""
    train_env: dict[str, str] = field(default_factory=dict)
    train_requirements: list[str] = field(default_factory=list)
    serve_env: dict[str, str] = field(default_factory=dict)
    serve_requirements: list[str] = field(default_factory=list)
    serve_fast: bool = True
    train_image: bool = False
    """Whether its steps run in containers of its environment's image."""
    serve_image: bool = False
    """Whether its versions serve from containers of their image."""
    window: str = ""
    """Length of the training window, or `all`; chosen on the last 28 days where it is empty."""
    gates: GatesConfig = field(default_factory=GatesConfig)
    ingest_overlap: str = ""
    """How far behind the watermark ingest asks again, for rows that came late."""
    contract: Contract | None = None
    """What each batch must hold to, where people wrote it down."""
    git: dict[str, Any] = field(default_factory=dict)
    """Commit, branch, whether files differed and how (`diff`, a blob), where the project is in a repository."""
    threads: int = 1
    """Threads on which arithmetic libraries compute in its steps."""
    seed: int = 0
    """What `random`, numpy and torch are seeded with."""
    order: str = "time"
    """In which order `train` gets its rows: `time`, `stored`, or `shuffled` by the seed."""
    executor: str = "local"
    """Where features, evaluation and training run: `local` or `ray`."""
    resources: dict[str, float] = field(default_factory=dict)
    """What a step takes of the cluster."""
    owner: str = ""
    importance: str = ""
    loss_value: float | None = None
    currency: str = ""

    @property
    def facts(self) -> dict[str, Any]:
        """Whose the model is, how much it matters and what its loss costs, as far as stead.toml says so."""
        said = {name: getattr(self, name) for name in FACTS}
        return {name: value for name, value in said.items() if value not in ("", None)}

    @property
    def recipe(self) -> str:
        """Digest of all that makes a version besides its rows: two trainings of the same recipe are a refresh."""
        facts: list[Any] = [
            self.files, self.entry, self.target, self.time, self.loss, self.python, self.requirements,
            self.requirements_file, self.train_env, self.train_requirements, self.window,
        ]  # fmt: skip
        if (self.threads, self.seed) != (1, 0):
            facts += [self.threads, self.seed]
        if self.order != "time":
            facts.append(self.order)
        return hashlib.blake2b(msgspec.json.encode(facts, order="sorted"), digest_size=16).hexdigest()

    @property
    def subject(self) -> Subject:
        return Subject(
            self.target, self.time, self.loss, self.entry, self.module, self.files, self.threads, self.seed, self.order
        )  # fmt: skip


@dataclass(frozen=True)
class Candidate:
    """A version that was just trained and registered, with what it is judged by before its training is over."""

    version: Version
    spec: Spec
    data: str
    """Dataset version that it learned from."""
    rows: str
    """Blob: the raw rows that it learned from, as Parquet."""
    holdouts: str
    """Blob: `split`, `row` (its place among the rows), `target`, `prediction`, `time`: what twins said of rows not seen."""
    metrics: dict[str, float]
    answers: Callable[[Version, str], NDArray[Any]]
    """What a stored version answers to raw rows (a blob), in its own environment."""
    say: Callable[[str], None]
    """Writes a line to the log of the training."""


Judge = Callable[[Store, Candidate], None]
"""A gate of a training: it keeps its verdict on a candidate, once."""


@dataclass(frozen=True)
class Compared:
    """Two versions on the same rows: losses, and the difference of the second to the first with its uncertainty."""

    model: str
    first: int
    second: int
    loss: str
    dataset: str
    rows: int
    days: int
    first_loss: float
    second_loss: float
    difference: float
    """second − first: negative where the second is better."""
    low: float | None
    high: float | None
    """95 % interval of the difference, clustered by day; None with rows of one day only."""
    in_sample: list[int]
    """Versions that were trained on some of these rows: their loss here is too good."""
    since: int | None
    until: int | None


@dataclass(frozen=True)
class Period:
    """A stretch of a backtest. The loss of a way is its sum / `weight`."""

    start: int
    until: int
    rows: int
    weight: float
    once: float
    """Sum of the losses of the model that was trained at the beginning and never again."""
    again: float
    """Sum of the losses of the model that was trained anew at the start of the period."""


@dataclass(frozen=True)
class Backtest:
    """What training once and training on a calendar would have lost on the same past rows."""

    model: str
    loss: str
    dataset: str
    every: str
    window_days: float | None
    """Length of the training window; None for all rows."""
    periods: list[Period]

    def total(self, way: str) -> float | None:
        """Loss over all periods of `once` or `again`."""
        weight = sum(period.weight for period in self.periods)
        return sum(getattr(period, way) for period in self.periods) / weight if weight else None


@dataclass(frozen=True)
class Reproduction:
    """A version that was made again from what was recorded of it, held against itself."""

    id: int
    model: str
    version: int
    verdict: str
    """`identical` to the last bit, within `tolerance`, or `different`."""
    difference: float | None
    """The largest relative difference of answers to golden rows, their features and losses of hold-outs; None where no number tells it."""
    tolerance: float
    evidence: dict[str, Any]
    """Both losses of each hold-out, what differed and by how much, files that differ, and on which data and environment."""
    job: str
    by: str
    at: int

    @property
    def said(self) -> str:
        """The verdict in words.

        >>> Reproduction(1, "m", 1, "different", 0.02, 1e-12, {"furthest": "golden rows", "rows": 24}, "", "", 0).said
        'different: golden rows are apart by 2.0e-02 relative, 1e-12 are allowed'
        """
        if self.verdict == "identical":
            return f"identical in {self.evidence.get('rows')} golden rows and {len(self.evidence.get('metrics') or {})} losses"
        apart = (
            "in kind or number"
            if self.difference is None
            else f"by {self.difference:.1e} relative, {self.tolerance:g} are allowed"
        )
        word = "within tolerance" if self.verdict == "tolerance" else "different"
        return f"{word}: {self.evidence.get('furthest')} are apart {apart}"
