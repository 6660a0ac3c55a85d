"""Charts as SVG text from pure functions: numbers in, one element out. x in per cent, y in pixels; text never scales.

The classes are those of `static/stead.css`: `c0` grey for what is compared with, `c1` the thing in question.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

Point = tuple[float, float | None]
_EDGE = 9.0
"""Per cent from either end at which a tick's label stands inside: on a phone half of one is as wide."""


@dataclass(frozen=True)
class Line:
    """One curve: points (x, y) in order of x; None breaks it. `colour` is `c0` … `c6`; `label` stands at its end."""

    points: Sequence[Point]
    colour: str = "c1"
    label: str = ""
    dashed: bool = False
    faint: bool = False
    """Behind a smoothed curve: as recorded."""


@dataclass(frozen=True)
class Mark:
    """A vertical line at x with a word on top: a deployment, now."""

    x: float
    label: str
    kind: str = "ev"


@dataclass(frozen=True)
class Axes:
    """The range of a chart and what its ticks say. None: from the data."""

    y_low: float | None = 0.0
    y_high: float | None = None
    y_format: str = "{:.3g}"
    x_ticks: Sequence[tuple[float, str]] = field(default_factory=tuple)
    log: bool = False
    most: int = 4
    """Intervals between y ticks, about."""
    span: tuple[float, float] | None = None
    """Of x, for charts above one another that share their time axis and its gutters."""
    unit: str = ""
    """Stands above the y axis."""


def line_chart(
    lines: Sequence[Line], *, label: str, height: int = 180, axes: Axes = Axes(), marks: Sequence[Mark] = ()
) -> str:
    """Curves over one x axis.

    >>> svg = line_chart([Line([(0, 1.0), (1, 3.0)])], label="loss by step")
    >>> svg.startswith('<svg class="chart') and 'aria-label="loss by step"' in svg
    True
    """
    points = [(x, y) for line in lines for x, y in line.points if _drawn(y, axes.log)]
    if not points:
        return f'<p class="mid small">{escape(label)}: nothing to draw yet</p>'
    x_low, x_high = axes.span or (min(x for x, _ in points), max(x for x, _ in points))
    scale = _Scale(points, axes, height)
    width = x_high - x_low or 1.0

    def px(x: float) -> float:
        return round((x - x_low) / width * 100, 2) if x_high > x_low else 50.0

    room = " tw" if axes.span else " gr" if any(line.label for line in lines) else ""
    room += " nox" if axes.span and not axes.x_ticks else ""
    out = [f'<svg class="chart{room}" height="{height}" role="img" aria-label="{escape(label)}">']
    for value, y in scale.ticks():
        kind = "ax" if y >= height - 0.5 else "g"
        out.append(
            f'<line class="{kind}" x2="100%" y1="{y:.1f}" y2="{y:.1f}"/><text class="ye" x="-8" y="{y + 3.5:.1f}">{escape(axes.y_format.format(value))}</text>'
        )
    if axes.unit:
        out.append(f'<text class="ye lab" x="-8" y="-14">{escape(axes.unit)}</text>')
    ticks = [
        (x, text) for x, text in axes.x_ticks if x_low <= x <= x_high
    ]  # what is drawn may end before what is asked for
    for number, (x, text) in enumerate(ticks):
        anchor = "" if px(x) < _EDGE else "end-a" if px(x) > 100 - _EDGE else "mid-a"
        wide = " wide-only" if number % 2 and len(ticks) > 4 else ""
        out.append(f'<text class="x {anchor}{wide}" x="{px(x)}%" y="{height + 16}">{escape(text)}</text>')
    out.append(f'<svg viewBox="0 0 1000 {height}" preserveAspectRatio="none" width="100%" height="{height}">')
    for line in lines:
        style = ' stroke-dasharray="4 3"' if line.dashed else ""
        faint = " raw" if line.faint else ""
        out.append(f'<path class="l {line.colour}{faint}" d="{_path(line.points, px, scale)}"{style}/>')
    out.append("</svg>")
    for mark in marks:
        if x_low <= mark.x <= x_high:
            x = px(mark.x)
            anchor = "" if x < 10 else "end-a" if x > 90 else "mid-a"
            out.append(
                f'<line class="{mark.kind}" x1="{x}%" x2="{x}%" y1="0" y2="{height}"/><text class="halo {anchor}" x="{x}%" y="-5">{escape(mark.label)}</text>'
            )
    out += [_end(line, px, scale) for line in lines if not line.faint]
    return "".join([*out, "</svg>"])


class _Scale:
    """y values to pixels from the top."""

    def __init__(self, points: Sequence[tuple[float, float | None]], axes: Axes, height: int) -> None:
        values = [y for _, y in points if y is not None]
        self.log = axes.log
        low = min(values) if axes.y_low is None or axes.log else min(axes.y_low, min(values))
        high = max(values) if axes.y_high is None else axes.y_high
        if high <= low:
            high = low + (abs(low) or 1.0) * (9 if self.log else 1)
        self.height = height
        self.step = nice_step((high - low) / axes.most)
        if self.log:
            self.low, self.high = math.log10(low), math.log10(high)
        else:
            self.low = math.floor(low / self.step + 1e-9) * self.step
            self.high = math.ceil(high / self.step - 1e-9) * self.step

    def __call__(self, value: float) -> float:
        value = math.log10(value) if self.log else value
        return round(self.height - (value - self.low) / (self.high - self.low) * self.height, 1)

    def ticks(self) -> list[tuple[float, float]]:
        if not self.log:
            count = round((self.high - self.low) / self.step)
            return [(self.low + i * self.step, self(self.low + i * self.step)) for i in range(count + 1)]
        powers = range(math.floor(self.low), math.ceil(self.high) + 1)
        for parts in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
            found = [n * 10.0**e for e in powers for n in parts]
            inside = [v for v in found if self.low - 1e-9 <= math.log10(v) <= self.high + 1e-9]
            if len(inside) > 2:
                return [(value, self(value)) for value in inside]
        return [(value, self(value)) for value in (10**self.low, 10**self.high)]


def nice_step(rough: float) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten.

    >>> nice_step(0.13), nice_step(30)
    (0.2, 50)
    """
    power = 10 ** math.floor(math.log10(rough)) if rough > 0 else 1.0
    return next(n * power for n in (1, 2, 2.5, 5, 10) if n * power >= rough * (1 - 1e-9))


def _drawn(y: float | None, log: bool) -> bool:
    return y is not None and math.isfinite(y) and (not log or y > 0)


def _path(points: Sequence[Point], px: object, scale: _Scale) -> str:
    out: list[str] = []
    pen = "M"
    for x, y in points:
        if not _drawn(y, scale.log) or y is None:
            pen = "M"
            continue
        out.append(f"{pen}{px(x) * 10:.1f} {scale(y)}")  # type: ignore[operator]
        pen = "L"
    return "".join(out)


def _end(line: Line, px: object, scale: _Scale) -> str:
    last = next(((x, y) for x, y in reversed(line.points) if _drawn(y, scale.log)), None)
    if last is None or last[1] is None:
        return ""
    x, y = px(last[0]), scale(last[1])  # type: ignore[operator]
    text = f'<text class="lab halo" x="{x}%" dx="10" y="{y + 4:.1f}">{escape(line.label)}</text>' if line.label else ""
    return f'<circle class="{line.colour}" cx="{x}%" cy="{y}" r="3"/>{text}'


def spark(values: Sequence[float | None], *, label: str, width: int = 100, height: int = 24) -> str:
    """A small curve for a table cell; the last value is a dot."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return '<span class="dim">–</span>'
    low, high = min(known), max(known)
    span = high - low or 1.0
    step = (width - 4) / (len(values) - 1)
    points = [
        (2 + i * step, height - 3 - (v - low) / span * (height - 6)) for i, v in enumerate(values) if v is not None
    ]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    x, y = points[-1]
    return f'<svg class="spark" width="{width}" height="{height}" role="img" aria-label="{escape(label)}"><path d="{path}"/><circle cx="{x:.1f}" cy="{y:.1f}" r="2"/></svg>'


@dataclass(frozen=True)
class Node:
    """A box of a graph: two lines of text, where it leads, and its class: `hot` for the thing in question."""

    id: str
    name: str
    more: str
    href: str = ""
    kind: str = ""


def graph(nodes: Sequence[Node], arrows: Sequence[tuple[str, str]], *, label: str) -> str:
    """A lineage from left to right: a node stands one column right of the furthest node that leads to it."""
    column = _columns(nodes, arrows)
    wide, tall, gap_x, gap_y = 160, 40, 50, 16
    rows: dict[int, int] = {}
    place: dict[str, tuple[int, int]] = {}
    for node in nodes:
        at = column[node.id]
        place[node.id] = (at * (wide + gap_x), rows.get(at, 0) * (tall + gap_y))
        rows[at] = rows.get(at, 0) + 1
    width = (max(column.values(), default=0) + 1) * (wide + gap_x) - gap_x + 2
    height = max(rows.values(), default=1) * (tall + gap_y) - gap_y + 2
    out = [
        f'<svg class="graph" width="{width}" height="{height}" viewBox="-1 -1 {width} {height}" role="group" aria-label="{escape(label)}">'
    ]
    for source, target in arrows:
        if source in place and target in place:
            x1, y1 = place[source][0] + wide, place[source][1] + tall // 2
            x2, y2 = place[target][0], place[target][1] + tall // 2
            middle = (x1 + x2) / 2
            out.append(
                f'<path d="M{x1} {y1}C{middle} {y1} {middle} {y2} {x2 - 6} {y2}"/><path class="arrow" d="M{x2} {y2}l-7 -3.5v7z"/>'
            )
    for node in nodes:
        x, y = place[node.id]
        box = (
            f'<rect x="{x}" y="{y}" width="{wide}" height="{tall}"/><text class="n" x="{x + 10}" y="{y + 17}">{escape(_short(node.name))}</text>'
            f'<text class="m" x="{x + 10}" y="{y + 32}">{escape(_short(node.more))}</text>'
        )
        out.append(
            f'<a href="{escape(node.href)}" class="{node.kind}">{box}</a>'
            if node.href
            else f'<g class="{node.kind}">{box}</g>'
        )
    return "".join([*out, "</svg>"])


def _columns(nodes: Sequence[Node], arrows: Sequence[tuple[str, str]]) -> dict[str, int]:
    column = {node.id: 0 for node in nodes}
    for _ in nodes:  # longest path; a circle ends after as many rounds as there are nodes
        moved = False
        for source, target in arrows:
            if source in column and target in column and column[target] < column[source] + 1 <= len(nodes):
                column[target] = column[source] + 1
                moved = True
        if not moved:
            break
    led_to = {target for _, target in arrows}
    for node in nodes:  # what nothing leads to stands right before what it leads to
        nexts = [column[target] for source, target in arrows if source == node.id and target in column]
        if node.id not in led_to and nexts:
            column[node.id] = max(0, min(nexts) - 1)
    return column


def _short(text: str, most: int = 22) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


BARS = 24


def histogram(edges: Sequence[float], counts: Sequence[int], *, label: str, width: int = 120, height: int = 28) -> str:
    """Bars of equal width from bins of any; a bin's rows are spread evenly over it. Where the last edge stands twice, each is a
    value of few, and its rows stand where it is.

    >>> histogram([0, 1, 4], [4, 4], label="x").count("<rect")
    24
    >>> histogram([0, 1, 1], [6, 2], label="x").count("<rect")
    2
    """
    if len(edges) < 2 or edges[-1] <= edges[0] or not any(counts):
        return ""
    low, span = edges[0], edges[-1] - edges[0]
    heights = [0.0] * BARS
    values = edges[-1] == edges[-2]
    for count, a, b in zip(counts, edges, edges[1:], strict=False):
        if values:
            heights[round((a - low) / span * (BARS - 1))] += count
            continue
        first, last = (a - low) / span * BARS, (b - low) / span * BARS
        for bar in range(min(int(first), BARS - 1), min(BARS, math.ceil(last) or 1)):
            share = (min(last, bar + 1) - max(first, bar)) / (last - first) if last > first else 1.0
            heights[bar] += count * max(0.0, share)
    top, wide = max(heights) or 1.0, width / BARS
    out = [f'<svg class="bars" width="{width}" height="{height}" role="img" aria-label="{escape(label)}">']
    for at, rows in enumerate(heights):
        if rows:
            h = max(1.0, rows / top * height)
            out.append(f'<rect x="{at * wide:.1f}" y="{height - h:.1f}" width="{wide - 0.5:.1f}" height="{h:.1f}"/>')
    return "".join([*out, "</svg>"])


@dataclass(frozen=True)
class Bar:
    """A bar of a category; `note` is what stands on it."""

    category: str
    value: float
    colour: str = "c0"
    note: str = ""


def bar_chart(bars: Sequence[Bar], *, label: str, height: int = 180, y_format: str = "{:.3g}") -> str:
    """Bars beside one another, in order; a category's name stands under its first bar.

    >>> bar_chart([Bar("2012 Q1", 0.3), Bar("2012 Q2", 0.4)], label="error").count('class="bar')
    2
    """
    if not bars:
        return f'<p class="mid small">{escape(label)}: nothing to draw yet</p>'
    scale = _Scale([(0.0, bar.value) for bar in bars], Axes(), height)
    wide = 100 / len(bars)
    out = [f'<svg class="chart" height="{height}" role="img" aria-label="{escape(label)}">']
    for value, y in scale.ticks():
        kind = "ax" if y >= height - 0.5 else "g"
        text = escape(y_format.format(value))
        out.append(
            f'<line class="{kind}" x2="100%" y1="{y}" y2="{y}"/><text class="ye" x="-8" y="{y + 3.5}">{text}</text>'
        )
    before = ""
    for at, bar in enumerate(bars):
        x, top = at * wide, scale(bar.value)
        middle = round(x + wide / 2, 2)
        out.append(
            f'<rect class="bar {bar.colour}" x="{x + wide * 0.14:.2f}%" width="{wide * 0.72:.2f}%" y="{top}" height="{height - top:.1f}">'
            f"<title>{escape(bar.category)} {escape(bar.note)}: {escape(y_format.format(bar.value))}</title></rect>"
        )
        if bar.note:
            out.append(f'<text class="mid-a lab" x="{middle}%" y="{top - 5}">{escape(bar.note)}</text>')
        if bar.category != before:
            out.append(f'<text class="x mid-a" x="{middle}%" y="{height + 16}">{escape(bar.category)}</text>')
        before = bar.category
    return "".join([*out, "</svg>"])


def interval(
    low: float | None,
    value: float | None,
    high: float | None,
    *,
    label: str,
    bound: float | None = None,
    span: tuple[float, float] | None = None,
) -> str:
    """A value with its interval on an axis that shows zero, and its bound; an end that is None is open.

    With a `span` several of them above one another share their axis.

    >>> interval(None, 1.0, 2.0, label="x", bound=3.0).count("<line")
    4
    """
    known = [x for x in (low, value, high, bound, 0.0, *(span or ())) if x is not None]
    room = (max(known) - min(known)) * 0.1 or 1.0
    left, span = min(known) - room, max(known) - min(known) + 2 * room

    def px(x: float) -> str:
        return f"{(x - left) / span * 100:.1f}%"

    begin, end = "0%" if low is None else px(low), "100%" if high is None else px(high)
    red = "" if bound is None else f'<line class="bound" x1="{px(bound)}" x2="{px(bound)}" y1="0" y2="20"/>'
    dot = "" if value is None else f'<circle class="pt" cx="{px(value)}" cy="10" r="4"/>'
    return (
        f'<svg class="ci" role="img" aria-label="{escape(label)}"><line x1="0" x2="100%" y1="10" y2="10"/>'
        f'<line x1="{px(0)}" x2="{px(0)}" y1="0" y2="20"/><line class="iv" x1="{begin}" x2="{end}" y1="10" y2="10"/>'
        f"{dot}{red}</svg>"
    )
