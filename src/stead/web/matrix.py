"""Feature by week as a matrix, who was live and was trained below it, and two distributions on one axis; as SVG text.

All that shares the weeks is drawn on one time axis: what happened together stands above one another.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from unicodedata import east_asian_width

from stead.config.units import percent
from stead.monitors.folding import DIFFERS
from stead.web.charts import nice_step

TALL = 22
"""Pixels of a row."""
LEVELS = (0.08, 0.15, 0.25, 0.35, 0.5)
"""Distances from which on a cell is darker; less than the first one is a trifle, however sure."""
NUMBERED = 20
"""Up to so many weeks a cell has room for its number."""
LONGEST = 13
BARS = 24
LONGEST_NAME, GAP, TURNED = 72, 8, 16
"""Pixels that a name below a bar may have, between two names, and between two bars whose names are turned."""


@dataclass(frozen=True)
class Cell:
    """One column in one week; `level` is its lightness, 0 to 5, or -1 where its data is broken."""

    level: int
    text: str
    title: str
    href: str
    chosen: bool = False


def level_of(distance: float | None, p_value: float | None) -> int:
    """Lightness of a distance, at most 1 where a week of the reference itself could be as far (p over 1 %), else 2 or more.

    >>> level_of(0.05, 0.5), level_of(0.3, 0.4), level_of(0.3, 0.001), level_of(0.1, 0.001)
    (0, 1, 3, 2)
    """
    if distance is None:
        return 0
    level = sum(distance >= bound for bound in LEVELS)
    return max(level, 2) if p_value is not None and p_value <= DIFFERS else min(level, 1)


def heat(rows: Sequence[tuple[str, Sequence[Cell | None]]], heads: Sequence[str], *, label: str) -> str:
    """Cells by row and week, each a link; None where there was nothing to look at.

    >>> svg = heat([("temp", [Cell(3, ".44", "temp W37: 0.44", "?w=37"), None])], ["W37", "W38"], label="drift")
    >>> svg.count("<a ") , svg.count('class="none"')
    (1, 1)
    """
    wide, height = 100 / max(len(heads), 1), len(rows) * TALL
    out = [f'<svg class="chart heat tw nox" height="{height}" role="group" aria-label="{escape(label)}">']
    open_at: tuple[float, int] | None = None
    for at, (name, cells) in enumerate(rows):
        y = at * TALL
        shown = name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"
        out.append(f'<text class="ye lab mono" x="-8" y="{y + 15}">{escape(shown)}<title>{escape(name)}</title></text>')
        for place, cell in enumerate(cells):
            x = place * wide
            box = f'x="{x:.2f}%" y="{y}" width="{wide:.2f}%" height="{TALL}"'
            if cell is None:
                out.append(f'<rect class="none" {box}/>')
                continue
            out.append(_cell(cell, box, x + wide / 2, y + 15, numbered=len(heads) <= NUMBERED))
            open_at = (x, y) if cell.chosen else open_at
    if open_at is not None:
        out.append(f'<rect class="open" x="{open_at[0]:.2f}%" y="{open_at[1]}" width="{wide:.2f}%" height="{TALL}"/>')
    every = math.ceil(len(heads) / NUMBERED)
    for place, head in enumerate(heads):
        if place % every == 0:
            few = "" if place % (2 * every) == 0 or len(heads) <= 12 else " wide-only"
            out.append(f'<text class="mid-a{few}" x="{(place + 0.5) * wide:.2f}%" y="-6">{escape(head)}</text>')
    return "".join([*out, "</svg>"])


def _cell(cell: Cell, box: str, x: float, y: int, *, numbered: bool) -> str:
    kind = f' class="q{cell.level}"' if cell.level > 0 else ""
    rest = "" if cell.level > 1 or cell.level < 0 else ' tabindex="-1"'
    text = ""
    if cell.level < 0:
        text = f'<text class="mid-a broken" x="{x:.2f}%" y="{y}">✕</text>'
    elif cell.level >= 3 and numbered:
        text = f'<text class="mid-a q{cell.level}" x="{x:.2f}%" y="{y}">{escape(cell.text)}</text>'
    return f'<a href="{escape(cell.href)}"{rest}><rect{kind} {box}><title>{escape(cell.title)}</title></rect>{text}</a>'


@dataclass(frozen=True)
class Live:
    """A version from its first day to its last."""

    name: str
    since: float
    until: float


@dataclass(frozen=True)
class Trained:
    """A retraining; `took` tells whether its version went live."""

    name: str
    at: float
    took: bool
    href: str = ""


def lanes(live: Sequence[Live], trained: Sequence[Trained], span: tuple[float, float], *, label: str) -> str:
    """Which version was live when, and when stead trained: a triangle, hollow where its version did not go live.

    >>> lanes([Live("v1", 0, 5)], [Trained("v2", 4, True, "/x")], (0, 10), label="x").count("<rect")
    1
    """
    low, width = span[0], (span[1] - span[0]) or 1.0

    def px(x: float) -> float:
        return round((min(max(x, low), span[1]) - low) / width * 100, 2)

    out = [
        f'<svg class="chart lanes tw nox" height="46" role="group" aria-label="{escape(label)}">'
        '<text class="ye lab" x="-8" y="14">retrained</text><text class="ye lab" x="-8" y="38">live</text>'
    ]
    for at, each in enumerate(live):
        x, wide = px(each.since), px(each.until) - px(each.since)
        kind = ' class="cur"' if at == len(live) - 1 else ""
        out.append(
            f'<rect{kind} x="{x}%" width="{max(wide - 0.3, 0.2):.2f}%" y="26" height="16"><title>{escape(each.name)} live</title></rect>'
        )
        if wide >= 6:
            out.append(f'<text class="lab" x="{x}%" dx="6" y="38">{escape(each.name)}</text>')
    last = -100.0
    for one in trained:
        if low <= one.at <= span[1]:
            x = px(one.at)
            kind = "tri" if one.took else "tri no"
            tag = "a" if one.href else "g"
            link = f' href="{escape(one.href)}"' if one.href else ""
            out.append(
                f'<{tag}{link}><title>{escape(one.name)} trained</title><svg x="{x}%" y="4" width="12" height="12" '
                f'overflow="visible"><path class="{kind}" d="M-5 10L0 1L5 10z"/></svg>'
            )
            if x - last >= 5:
                out.append(f'<text class="wide-only" x="{x}%" dx="8" y="14">{escape(one.name)}</text>')
                last = x
            out.append(f"</{tag}>")
    return "".join([*out, "</svg>"])


def density(
    edges: Sequence[float],
    reference: Sequence[int],
    week: Sequence[int],
    *,
    label: str,
    name: str,
    height: int = 150,
    ends: tuple[str, str] | None = None,
) -> str:
    """Two distributions of a number as shares of their rows in bars of equal width; a bin's rows are spread evenly over it.

    `ends` stand below it in place of numbers.

    >>> density([0, 1, 4], [4, 4], [8, 0], label="x", name="W1").count("<path")
    2
    """
    low, high = _ends(edges)
    both = [_spread(edges, counts, low, high) for counts in (reference, week)]
    top = _top(max(max(shares, default=0.0) for shares in both))
    wide = 1000 / BARS

    def y(share: float) -> float:
        return round(height - share / top * height, 1)

    steps = [
        "".join(f"L{at * wide:.1f} {y(share)}L{(at + 1) * wide:.1f} {y(share)}" for at, share in enumerate(shares))
        for shares in both
    ]
    out = [_frame(label, height, top)]
    told = {0: f"{low:.4g}", 50: f"{(low + high) / 2:.4g}", 100: f"{high:.4g}"}
    for part, text in told.items() if ends is None else zip((0, 100), ends, strict=True):
        anchor = "" if part == 0 else "end-a" if part == 100 else "mid-a"
        out.append(f'<text class="x {anchor}" x="{part}%" y="{height + 16}">{escape(text)}</text>')
    out.append(
        f'<svg viewBox="0 0 1000 {height}" preserveAspectRatio="none" width="100%" height="{height}">'
        f'<path class="fillb" d="M0 {height}{steps[0]}L1000 {height}z"/><path class="l c1" d="M{steps[1][1:]}"/></svg>'
    )
    return "".join([*out, "</svg>"])


def levels(
    names: Sequence[str],
    reference: Sequence[int],
    week: Sequence[int],
    *,
    label: str,
    height: int = 150,
    room: int = 290,
    ordered: bool = False,
) -> str:
    """Two distributions over levels, or over the few values of a number: the reference wide and grey, the week before it.

    `room` is how many pixels wide it is where it has least: names that do not fit there are turned, of `ordered` ones some are left out.

    >>> levels(["a", "b"], [1, 3], [2, 2], label="x").count("<rect")
    4
    """
    shares = [[count / (sum(counts) or 1) for count in counts] for counts in (reference, week)]
    order = list(range(len(names)))
    if len(order) > BARS:
        order = sorted(sorted(order, key=lambda at: -max(shares[0][at], shares[1][at]))[:BARS])
    top = _top(max((max(shares[0][at], shares[1][at]) for at in order), default=0.0))
    wide = 100 / max(len(order), 1)
    shown = [names[at] for at in order]
    fit = all(_pixels(name) + GAP <= room / len(order) for name in shown)
    turned = not fit and not ordered and len(order) > 2
    out = [_frame(label, height, top, "chart turned" if turned else "chart")]
    for place, at in enumerate(order):
        for kind, part, share in (("c0", 0.8, shares[0][at]), ("c1", 0.4, shares[1][at])):
            tall = round(share / top * height, 1)
            x = (place + (1 - part) / 2) * wide
            out.append(
                f'<rect class="bar {kind}" x="{x:.2f}%" width="{part * wide:.2f}%" y="{height - tall:.1f}" height="{tall}">'
                f"<title>{escape(names[at])}: {percent(share)}</title></rect>"
            )
    out += _turned(shown, height, room) if turned else _beside(shown, height, room)
    return "".join([*out, "</svg>"])


def _beside(names: Sequence[str], height: int, room: int) -> Iterator[str]:
    """The names of bars side by side, without those that would stand upon the one before them or reach beyond the ends."""
    wide, free = room / max(len(names), 1), -math.inf
    for place, name in enumerate(names):
        shown = _shortened(name, max(LONGEST_NAME, wide - GAP))
        middle, half = (place + 0.5) * wide, _pixels(shown) / 2
        if middle - half >= free and (len(names) == 1 or middle + half <= room + GAP):
            free = middle + half + GAP
            yield f'<text class="x mid-a" x="{middle / room:.2%}" y="{height + 16}">{_text(shown, name)}</text>'


def _turned(names: Sequence[str], height: int, room: int) -> Iterator[str]:
    """The names of bars that end below them, as many as do not stand upon one another."""
    wide = room / len(names)
    parts = _apart(names)
    for place in range(0, len(names), math.ceil(TURNED / wide)):
        shown = _shortened(parts[place], LONGEST_NAME)
        yield (
            f'<svg x="{(place + 0.5) * wide / room:.2%}" y="{height + 10}" width="1" height="1" overflow="visible">'
            f'<text class="x end-a" transform="rotate(-45)" x="3" y="3">{_text(shown, names[place])}</text></svg>'
        )


def _text(shown: str, name: str) -> str:
    return escape(shown) + (f"<title>{escape(name)}</title>" if shown != name else "")


def _apart(names: Sequence[str]) -> list[str]:
    """What tells names from one another: without what all of them begin and end with, where that is long.

    >>> _apart(["line 12 (north)", "line 7 (north)"]), _apart(["east", "west"])
    (['…12…', '…7…'], ['east', 'west'])
    """
    head = _common(names)
    tail = _common([name[head:][::-1] for name in names])
    return [f"{'…' * bool(head)}{name[head : len(name) - tail]}{'…' * bool(tail)}" for name in names]


def _common(names: Sequence[str]) -> int:
    """With how many characters all names begin, in whole words; 0 where they are few."""
    low, high = min(names), max(names)
    pairs = enumerate(zip(low, high, strict=False))
    same = next((at for at, (one, other) in pairs if one != other), min(len(low), len(high)))
    while same and low[same - 1].isalnum():
        same -= 1
    return same if same > 3 else 0


def _shortened(name: str, pixels: float) -> str:
    """A name without its middle where it is longer than that: how it begins and ends tells it from others.

    >>> _shortened("north", 60), _shortened("SKU-2026-0017", 60)
    ('north', 'SKU-…017')
    """
    cut, kept = name, len(name)
    while _pixels(cut) > pixels and kept > 2:
        kept -= 1
        cut = f"{name[: kept - kept // 2]}…{name[len(name) - kept // 2 :]}"
    return cut


def _pixels(text: str) -> float:
    """How wide a text of a chart is at most, nearly."""
    return sum(
        12 if each in "MWmw%@" or east_asian_width(each) in "WF" else 8 if each.isupper() else 7 for each in text
    )


def _frame(label: str, height: int, top: float, kind: str = "chart") -> str:
    out = [f'<svg class="{kind}" height="{height}" role="img" aria-label="{escape(label)}">']
    parts = 2 if top == 1 else 3
    for part in range(parts + 1):
        y = height - part / parts * height
        kind = "ax" if part == 0 else "g"
        out.append(f'<line class="{kind}" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/>')
        out.append(f'<text class="ye" x="-8" y="{y + 3.5:.1f}">{part / parts * top * 100:.3g} %</text>')
    return "".join(out)


def _top(share: float) -> float:
    """Where the axis of shares ends: at 100 % at most."""
    return min(1.0, 3 * nice_step(share / 3)) if share > 0 else 0.03


def _ends(edges: Sequence[float]) -> tuple[float, float]:
    """The range that is shown: without the outermost bins where they are most of it, as with a long tail.

    >>> _ends([0, 1, 2, 3]), _ends([0, 1, 2, 3, 1000])
    ((0, 3), (0, 3))
    """
    low, high = edges[0], edges[-1]
    if len(edges) > 4 and edges[-2] - edges[1] < 0.4 * (high - low):
        inner = edges[-2] - edges[1]
        low = low if edges[1] - low <= inner else edges[1]
        high = high if high - edges[-2] <= inner else edges[-2]
    return low, high


def _spread(edges: Sequence[float], counts: Sequence[int], low: float, high: float) -> list[float]:
    """Shares in bars of equal width.

    >>> [round(x, 3) for x in _spread([0, 1], [5], 0, 1)][:2]
    [0.042, 0.042]
    """
    rows, span, bars = sum(counts) or 1, (high - low) or 1.0, [0.0] * BARS
    for count, a, b in zip(counts, edges, edges[1:], strict=False):
        first, last = (min(max((x - low) / span * BARS, 0.0), BARS) for x in (a, b))
        if first == last:  # a bin of one value, or one beyond what is shown
            bars[min(int(first), BARS - 1)] += count / rows
            continue
        for bar in range(int(first), min(BARS, math.ceil(last) or 1)):
            part = (min(last, bar + 1) - max(first, bar)) / (last - first)
            bars[bar] += count / rows * max(0.0, part)
    return bars
