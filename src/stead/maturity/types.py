"""What is said of a team's maturity and of what it is worth."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

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
    """Recorded that lie after its clock."""


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


Value = bool | tuple[float, float, float]
"""Of a yes-or-no question, or of a figure: its low end, what is likely, its high end."""


@dataclass(frozen=True)
class Question:
    """A question of the interview; records answer the same questions where they can."""

    name: str
    text: str
    kind: Literal["yes", "number"]
    unit: str = ""
    low: float = 0.0
    high: float = 1e6
    """Bounds of what is taken for an answer."""
    help: str = ""
    detail: bool = False
    """Whether it is asked only where all are: a stated default serves otherwise."""


@dataclass(frozen=True)
class Answer:
    """What a person answered."""

    question: str
    value: Value
    by: str
    at: int
    """Wall clock, milliseconds."""


@dataclass(frozen=True)
class Fact:
    """What records say to a question, and which ones."""

    value: Value
    said: str


@dataclass(frozen=True)
class Recorded:
    """What a store's records say of its team."""

    facts: dict[str, Fact] = field(default_factory=dict)
    """By question."""
    stage: int = 1
    """Where the team stands: everybody starts at 1."""
    step: Step | None = None
    """What the records say is next, as the page of maturity does."""
    models: tuple[str, ...] = ()
    """Those that stead serves."""


@dataclass(frozen=True)
class Known:
    """The answer that counts, whoever gave it."""

    value: Value
    source: Source
    said: str


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
    """From where: `12 deployments of 365 days`, `ada, 3 Sep 2026`, `a stated default`."""


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
    """What is won within the horizon when one input goes from its low end to its high one; the others stay at what is likely."""

    name: str
    label: str
    low: float
    high: float
    """Ends of the input: of its range, or half and double where it has none."""
    at_low: float
    at_high: float
    """Hours that are won or lost within the horizon, after building."""
    flips_at: float | None
    """Where on the way the answer changes; None where it stays."""

    @property
    def decides(self) -> bool:
        return self.flips_at is not None


@dataclass(frozen=True)
class Case:
    """The business case: hours a year of work by hand beside those with stead, and when building it pays back."""

    inputs: list[Input]
    manual: Line
    needless: Line
    """Part of `manual`: promotions of versions that are no better."""
    automated: list[Line]
    """The half hour of review a week for the fleet, and for each model."""
    saved: list[Line]
    """`manual` without the one and without the other."""
    fte: Line
    """Engineers that the work by hand takes, at the stated productive hours."""
    payback: tuple[float | None, float | None]
    """Months until the hours of building are back, at best and at worst, reviewed for the fleet; None where they never are."""
    payback_each: tuple[float | None, float | None]
    """The same, reviewed for each model."""
    net: float
    """Hours won within the horizon, after building, at what is likely."""
    said: str
    effects: list[Effect] = field(default_factory=list)
    """The input that moves most first."""

    def input(self, name: str) -> Input:
        return next(each for each in self.inputs if each.name == name)


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
    """Why, in a sentence or two."""
    todo: str
    """The first step; the condition that would change it; or what to do instead."""
    command: str
    """What to type next; empty where there is nothing to."""
    stage: int
    """What stage to aim at."""
    stage_said: str
    """Why that one."""
    conditions: list[Condition]
    case: Case
    measured: list[Measured] = field(default_factory=list)
    contradictions: list[str] = field(default_factory=list)
    """Answers that do not go together, or not with the records, and which of them counts."""
    questions: list[Question] = field(default_factory=list)
    """What is worth asking: neither records nor answers say it."""
    known: dict[str, Known] = field(default_factory=dict)
    """By question, the answer that counts."""
    answers: list[Answer] = field(default_factory=list)
    """Those that people gave."""
