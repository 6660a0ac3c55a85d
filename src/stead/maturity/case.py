"""The business case: hours of work by hand against those with stead, when building pays back, and which input decides.

Each figure is a product or a quotient of the inputs, so that a person can check it by hand: 2 to 4 hours a deployment and 50
deployments are 100 to 200 hours a model and year; half an hour of review a week is 25.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from stead.maturity.inputs import DEFAULTS
from stead.maturity.types import Case, Effect, Input, Line

NEEDLESS = 24 / 50
"""Of weekly challengers that are no better, the share that a higher score promotes by chance: 24 a year of 50."""
PAPER_HOURS = 1600
"""Hours of an engineer a year before meetings and leave: the other way to count, said beside the first."""
WHOLE = ("models", "retrains")
"""Inputs that are counted: the answer changes with the next whole one."""
HALVINGS = 14
"""By which the place is found where the answer changes: to a ten thousandth of the way."""


def payback(build: float, saved: float) -> float | None:
    """Months until `build` hours are back at `saved` hours a year; None where they never are, or where each year costs more.

    >>> round(payback(480, 175)), round(payback(480, 75)), payback(480, 0), payback(0, 10), payback(0, -10)
    (33, 77, None, 0.0, None)
    """
    if build <= 0 <= saved:
        return 0.0
    return build / saved * 12 if saved > 0 else None


def case_of(inputs: Sequence[Input]) -> Case:
    """The case that follows from the inputs, without its sensitivity."""
    at = {each.name: each for each in inputs}
    models, retrains, hours, review, weeks = (at[name] for name in ("models", "retrains", "hours", "review", "weeks"))
    manual = _product("Deployments by hand", "models × deployments × hours", models, retrains, hours)
    needless = Line(
        "Of it for versions that are no better",
        "24 of 50 challengers, where the higher score wins",
        *(NEEDLESS * end for end in _ends(manual)),
    )
    fleet = _product("Review of the fleet", f"{weeks.likely:g} weeks × {review.likely:g} min", review, weeks, per=60)
    each = _product(
        "Review of each model",
        f"{weeks.likely:g} weeks × {review.likely:g} min × models",
        review,
        weeks,
        models,
        per=60,
    )
    saved = [
        _without("Saved, reviewed as a fleet", manual, fleet),
        _without("Saved, reviewed one by one", manual, each),
    ]
    build, horizon = at["build"], at["horizon"].likely
    back = [(payback(build.low, line.high), payback(build.high, line.low)) for line in saved]
    net = saved[0].likely * horizon / 12 - build.likely
    return Case(
        inputs=list(inputs),
        manual=manual,
        needless=needless,
        automated=[fleet, each],
        saved=saved,
        fte=_engineers(manual, at["fte"].likely),
        payback=back[0],
        payback_each=back[1],
        net=net,
        said=_said(at, manual, saved[0], back[0]),
    )


def effects_of(case: Case, answer: Callable[[Sequence[Input]], str]) -> list[Effect]:
    """What each input moves, one at a time, and where the answer changes; the one that moves most first.

    An input without a range goes from half of it to its double.
    """
    out = []
    for each in case.inputs:
        low, high = _swept(each)

        def at(value: float, each: Input = each) -> list[Input]:
            moved = replace(each, low=value, likely=value, high=value)
            return [moved if other.name == each.name else other for other in case.inputs]

        nets = [case_of(at(end)).net for end in (low, high)]
        if low < high and nets[0] != nets[1]:
            flips = _flips(low, high, lambda value, at=at: answer(at(value)), whole=each.name in WHOLE)  # type: ignore[misc]
            out.append(Effect(each.name, each.label, low, high, nets[0], nets[1], flips))
    return sorted(out, key=lambda effect: -abs(effect.at_high - effect.at_low))


def pays(case: Case) -> str:
    """`surely` where it pays back within the horizon at worst, `perhaps` at best, `never`; `unknown` where it rests on defaults.

    How many models there are and how often they are deployed decide it: where nobody has said so, there is no case yet.
    """
    if any(case.input(name).source == "default" for name in ("models", "retrains")):
        return "unknown"
    best, worst = case.payback
    within = case.input("horizon").likely
    if worst is not None and worst <= within:
        return "surely"
    return "perhaps" if best is not None and best <= within else "never"


def months(back: tuple[float | None, float | None], digits: int = 0) -> str:
    """A pay-back in words.

    >>> months((33.2, 76.8)), months((10.1, None)), months((None, None)), months((0.0, 0.0))
    ('33 to 77 months', '10 months at best, never at worst', 'never', 'at once')
    """
    best, worst = back
    if best is None:
        return "never"
    if worst is None:
        return f"{best:,.{digits}f} months at best, never at worst"
    if worst < 1:
        return "at once" if worst == 0 else "less than a month"
    return f"{span(best, worst, f',.{digits}f')} months"


def when(back: tuple[float | None, float | None], digits: int = 0) -> str:
    """A pay-back as it stands in a sentence.

    >>> when((33.2, 76.8)), when((None, None)), when((0.0, 0.0))
    ('in 33 to 77 months', 'never', 'at once')
    """
    said = months(back, digits)
    return f"in {said}" if "month" in said else said


def span(low: float, high: float, form: str) -> str:
    """A range in words, or one figure where both ends read alike.

    >>> span(0.264, 0.264, ".2g"), span(1, 2, ".2g")
    ('0.26', '1 to 2')
    """
    ends = f"{low:{form}}", f"{high:{form}}"
    return ends[0] if ends[0] == ends[1] else " to ".join(ends)


def hours(line: Line) -> str:
    """A line's range in words.

    >>> hours(Line("", "", 100, 150, 200)), hours(Line("", "", 25, 25, 25))
    ('100 to 200 h', '25 h')
    """
    return f"{span(line.low, line.high, ',.0f')} h".replace("-", "−")


def _product(name: str, said: str, *inputs: Input, per: float = 1) -> Line:
    ends = [1 / per, 1 / per, 1 / per]
    for each in inputs:
        ends = [end * value for end, value in zip(ends, (each.low, each.likely, each.high), strict=True)]
    return Line(name, said, *ends)


def _without(name: str, manual: Line, review: Line) -> Line:
    ends = (manual.low - review.high, manual.likely - review.likely, manual.high - review.low)
    return Line(name, "work by hand without the review", *ends)


def _engineers(manual: Line, fte: float) -> Line:
    if fte <= 0:
        return Line("Engineers", "no productive hours are stated: nothing to divide by", 0, 0, 0)
    paper = span(manual.low / PAPER_HOURS, manual.high / PAPER_HOURS, ".3g")
    said = f"at {fte:,.0f} productive hours each; {paper} at {PAPER_HOURS:,}"
    return Line("Engineers", said, *(end / fte for end in _ends(manual)))


def _said(at: Mapping[str, Input], manual: Line, saved: Line, back: tuple[float | None, float | None]) -> str:
    if manual.high == 0:
        why = next((each.label.lower() for each in (at["models"], at["retrains"], at["hours"]) if each.high == 0), "")
        return f"There is no work by hand to save ({why}: 0): what is built is never paid back in hours."
    if saved.high <= 0:
        return f"The review takes as long as the work by hand ({hours(manual)} a year): what is built is never paid back in hours."
    rests = [each.label.lower() for each in (at["models"], at["retrains"]) if each.source == "default"]
    by = f"By stated defaults ({', '.join(rests)}): " if rests else ""
    return f"{by}{hours(saved)} a year are saved, of {hours(manual)} by hand; {at['build'].likely:,.0f} h of building are back {when(back)}."


def _ends(line: Line) -> tuple[float, float, float]:
    return line.low, line.likely, line.high


def _swept(each: Input) -> tuple[float, float]:
    if each.low < each.high:
        return each.low, each.high
    if each.likely == 0:
        return 0.0, DEFAULTS[each.name][0][2]
    return (1.0 if each.name == "models" and each.likely < 2 else each.likely / 2), each.likely * 2


def _flips(low: float, high: float, answer: Callable[[float], str], *, whole: bool) -> float | None:
    """Where on the way the answer changes; None where both ends have the same."""
    first = answer(low)
    if first == answer(high):
        return None
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if answer(middle) == first else (low, middle)
    if not whole:
        return high
    return math.floor(high) if answer(math.floor(high)) != first else math.ceil(high)
