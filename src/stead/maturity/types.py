"""What is said of a team's maturity and of what it is worth."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Clock = Literal["model", "wall"]
Kind = Literal["share", "most", "median", "count"]
"""How rows become a figure: a share that must be at least its bound, one that must be at most, a median that must be at
most, a number of rows that must be at least."""
Source = Literal["record", "interview", "default"]
IMPORTANCE = {"low": 1.0, "normal": 2.0, "high": 4.0}
"""How much a model weighs where a team's rows are put together."""
STAGES = {
    1: "manual",
    2: "automated training with approval",
    3: "automated deployment with gates and monitoring triggers",
    4: "self-managing",
}


@dataclass(frozen=True)
class Row:
    """One record that a check looked at."""

    model: str
    subject: str
    """`bikes@3`, `deployment 12`, `incident 4`: what it is, as pages and commands call it."""
    said: str
    href: str
    """Its page; empty where it has none."""
    moment: int | None
    """Milliseconds, on the clock of the check."""
    good: bool
    """Whether it counts for the check (a share), or against it (`most`)."""
    value: float | None = None
    """What a median is taken of."""
    weight: float = 1.0
    """Of its model's importance, in the figure of the team."""


@dataclass(frozen=True)
class Result:
    """What one check found, of a model or of the team."""

    check: str
    stage: int
    title: str
    why: str
    """Why it counts, and where it differs from the house's list of checks, why."""
    clock: Clock
    days: int
    """Length of the window."""
    kind: Kind
    bound: float
    met: bool | None
    """None without evidence: then it does not hold."""
    value: float | None
    said: str
    """`11 % (6 of 54)`, `median 10 h of 54`, `never`."""
    low: float | None
    high: float | None
    """95 % interval of a share by Wilson (1927); of other figures None."""
    sure: bool
    """Whether the whole interval lies on the right side of the bound, or the figure has no doubt."""
    good: int
    rows: int
    mend: str = ""
    """Command or setting that mends it; empty where nothing has to be done."""
    cost: str = ""
    """What that takes: `5 min`, `a training`."""


@dataclass(frozen=True)
class Stage:
    """Where a model stands, or the team: the highest stage of which all checks hold, with those of the stages before."""

    model: str
    """Empty for the team."""
    stage: int
    recorded: bool
    """Whether the checks of stage 1 hold: without them no higher stage counts."""
    now: int
    """Its clock, milliseconds; of the team the wall clock."""
    as_of: str
    """Why that moment: `now`, or `the end of its last replay`."""
    importance: str
    weight: float
    level: str
    """What it is set to; empty for the team."""
    checks: list[Result]
    sure: bool
    """Whether all checks that carry the stage are sure."""
    since: str | None
    """The month in which this stage began, `2026-07`; None where it is not known."""
    left_out: int = 0
    """Records that lie after its clock."""


@dataclass(frozen=True)
class Month:
    """A stage in a month, by the clock of what it is about."""

    model: str
    month: str
    stage: int


@dataclass(frozen=True)
class Step:
    """One thing to do next."""

    model: str
    check: str
    title: str
    said: str
    command: str
    cost: str


@dataclass(frozen=True)
class Fit:
    """What stage the models justify."""

    justified: int
    overhead: bool
    """Whether the stage that the team has, or works towards, is higher than that."""
    said: str


@dataclass(frozen=True)
class Figure:
    """A figure of the page's head: now, and at the beginning of the window before."""

    name: str
    value: str
    beside: str


@dataclass(frozen=True)
class Maturity:
    """Where the team and its models stand, and what the next step is."""

    at: int
    team: Stage
    models: list[Stage]
    verdict: str
    """The answer in a sentence."""
    steps: list[Step]
    """The failing checks of the next stage, the one that is worth most first; never of the stage after that."""
    only: str
    """Why there is nothing about the stage after the next."""
    fit: Fit
    history: list[Month]
    figures: list[Figure]
    notes: list[str]
    """What is not counted, or could not be told, and why."""


@dataclass(frozen=True)
class Checked:
    """A check with the rows behind it."""

    result: Result
    model: str
    rows: list[Row]


@dataclass(frozen=True)
class Work:
    """Something that a person did by hand, and how long it took."""

    entry: int | None
    """Of the ledger; None for a deployment outside stead."""
    kind: str
    """`deploy`, `review`, `train`, `rollback`, `outside`, `other`."""
    model: str
    subject: str
    said: str
    deployment: int | None
    """That it was for."""
    by: str
    at: int
    """Wall clock, milliseconds."""
    moment: int
    """The model's clock."""
    minutes: float
    source: Literal["measured", "default", "corrected", "said"]
    """`measured` from the first look to the decision; `default` a command at the stated time; `corrected` and `said` by a person."""


@dataclass(frozen=True)
class Question:
    """A question of the interview."""

    name: str
    text: str
    kind: Literal["yes", "number"]
    unit: str = ""
    low: float = 0.0
    high: float = 1e9
    help: str = ""


@dataclass(frozen=True)
class Input:
    """A figure of the business case: visible, changeable, and where it comes from."""

    name: str
    label: str
    unit: str
    low: float
    likely: float
    high: float
    source: Source
    said: str
    """From where: `12 deployments of 365 days`, `you, 3 Sep 2026`, `a stated default`."""


@dataclass(frozen=True)
class Condition:
    """One of the four conditions for and the four against."""

    name: str
    speaks: Literal["for", "against"]
    text: str
    holds: bool | None
    """None where neither records nor answers say."""
    source: Source | None
    said: str


@dataclass(frozen=True)
class Line:
    """A gain or a cost of the business case, hours a year."""

    name: str
    said: str
    low: float
    likely: float
    high: float


@dataclass(frozen=True)
class Effect:
    """What the hours a year come to when one input goes from its low end to its high one."""

    name: str
    label: str
    low: float
    high: float
    decides: bool
    """Whether the answer changes on the way."""


@dataclass(frozen=True)
class Case:
    """The business case: hours a year of work by hand beside those with stead, and when building it pays back."""

    inputs: list[Input]
    lines: list[Line]
    manual: Line
    automated: list[Line]
    """With half an hour of review a week for the fleet, and for each model."""
    saved: Line
    fte: Line
    """Engineers that the work by hand takes, at the stated productive hours."""
    payback: tuple[float | None, float | None]
    """Months until the hours of building are back: at best and at worst; None where they never are."""
    effects: list[Effect]
    """The input that moves most first."""


@dataclass(frozen=True)
class Measured:
    """A figure that stead measured itself, beside the case."""

    name: str
    value: str
    said: str


@dataclass(frozen=True)
class Worth:
    """Whether MLOps pays, with the first step or the condition that would change the answer."""

    answer: Literal["yes", "not yet", "no"]
    said: str
    """The answer in a sentence."""
    todo: str
    """The first step; the condition that would change it; or what to do instead."""
    stage: int
    """What stage to aim at."""
    conditions: list[Condition]
    case: Case
    measured: list[Measured]
    contradictions: list[str]
    """Answers that do not go together, or not with the records."""
    questions: list[Question] = field(default_factory=list)
    """What is not known yet."""
    answers: dict[str, Any] = field(default_factory=dict)
