"""Charts as text."""

from __future__ import annotations

import math
import re

import pytest

from stead.predictions import DayLoss
from stead.web import charts
from stead.web.charts import Axes, Bar, Line, Mark, Node
from stead.web.curves import How, chart, smoothed, x_ticks
from stead.web.deployments import loss_chart


def paths(svg: str) -> list[str]:
    return re.findall(r'<path class="l [^"]*" d="([^"]*)"', svg)


def ticks(svg: str) -> list[str]:
    return re.findall(r'<text class="ye"[^>]*>([^<]*)<', svg)


def test_a_line_goes_from_corner_to_corner() -> None:
    svg = charts.line_chart([Line([(0, 0.0), (5, 1.0), (10, 2.0)])], label="loss", height=100)
    assert paths(svg) == ["M0.0 100.0L500.0 50.0L1000.0 0.0"]
    assert ticks(svg) == ["0", "0.5", "1", "1.5", "2"]
    assert svg.count('role="img"') == 1 and 'aria-label="loss"' in svg


@pytest.mark.parametrize("gap", [None, math.nan, math.inf, -math.inf])
def test_what_is_no_number_breaks_the_line(gap: float | None) -> None:
    svg = charts.line_chart([Line([(0, 1.0), (1, 2.0), (2, gap), (3, 1.0)])], label="x", height=100)
    assert [path.count("M") for path in paths(svg)] == [2]
    assert "nan" not in svg and "inf" not in svg


def test_one_point_is_a_dot_in_the_middle() -> None:
    svg = charts.line_chart([Line([(7, 3.0)], label="v1")], label="x")
    assert '<circle class="c1" cx="50.0%"' in svg and ">v1<" in svg


@pytest.mark.parametrize("points", [[], [(0, None)], [(0, math.nan)]])
def test_nothing_to_draw_is_said(points: list[charts.Point]) -> None:
    assert (
        charts.line_chart([Line(points)], label="loss of <b>")
        == '<p class="mid small">loss of &lt;b&gt;: nothing to draw yet</p>'
    )


def test_equal_values_and_negative_ones() -> None:
    assert ticks(charts.line_chart([Line([(0, 0.0), (1, 0.0)])], label="x"))[0] == "0"
    svg = charts.line_chart([Line([(0, -2.0), (1, -1.0)])], label="x", height=100, axes=Axes(y_low=None))
    assert paths(svg) == ["M0.0 100.0L1000.0 0.0"]


def test_log_scale_leaves_out_what_has_no_logarithm() -> None:
    svg = charts.line_chart(
        [Line([(0, 100.0), (1, 0.0), (2, -1.0), (3, 1.0)])], label="x", height=100, axes=Axes(log=True)
    )
    assert paths(svg) == ["M0.0 0.0M1000.0 100.0"]
    assert ticks(svg) == ["1", "10", "100"]
    narrow = charts.line_chart([Line([(0, 0.2), (1, 0.3)])], label="x", axes=Axes(log=True))
    assert len(ticks(narrow)) >= 2


def test_marks_labels_and_text_are_escaped() -> None:
    svg = charts.line_chart(
        [Line([(0, 1.0), (1, 2.0)], label="<i>")],
        label='"',
        marks=[Mark(0.5, "<b>"), Mark(9, "outside")],
        axes=Axes(x_ticks=[(0, "<u>")]),
    )
    assert not re.search("<[ibu]>", svg) and "outside" not in svg
    assert svg.count('class="ev"') == 1


def test_a_faint_line_stands_behind_without_an_end() -> None:
    svg = charts.line_chart([Line([(0, 1.0), (1, 2.0)], faint=True), Line([(0, 1.0), (1, 1.5)])], label="x")
    assert svg.count("raw") == 1 and svg.count("<circle") == 1


def test_graph_goes_from_left_to_right() -> None:
    nodes = [
        Node("d", "data@1", "data", "/data/1"),
        Node("r", "run", "run"),
        Node("v", "v1", "version", kind="hot"),
        Node("e", "env", ""),
    ]
    svg = charts.graph(nodes, [("d", "r"), ("r", "v"), ("e", "v"), ("x", "v")], label="lineage")
    places = dict(re.findall(r'<rect x="(\d+)"[^>]*/><text class="n"[^>]*>([^<]*)<', svg))
    assert {name: int(x) for x, name in places.items()} == {"data@1": 0, "env": 210, "v1": 420} | {
        name: int(x) for x, name in places.items() if name == "run"
    }
    assert svg.count('class="arrow"') == 3 and '<a href="/data/1"' in svg
    assert charts.graph(nodes[:2], [("d", "r"), ("r", "d")], label="a circle ends").count("<rect") == 2


def test_sparks_bars_histograms_intervals() -> None:
    assert "path" not in charts.spark([1.0], label="x") and "path" in charts.spark([1.0, None, 2.0], label="x")
    svg = charts.bar_chart(
        [Bar("Q1", 0.5, "c1", "v1"), Bar("Q1", 1.0, "c0", "v2"), Bar("Q2", 0.0)], label="x", height=100
    )
    assert re.findall(r'<rect class="bar c\d"[^>]*height="([\d.]+)"', svg) == ["50.0", "100.0", "0.0"]
    assert svg.count(">Q1<") == 1
    assert charts.histogram([1, 1], [3], label="x") == "" and charts.histogram([0, 1], [0], label="x") == ""
    assert charts.histogram([0, 0, 10], [5, 5], label="x").count("<rect") == charts.BARS
    flags = charts.histogram([0, 1, 1], [75, 25], label="the values of a flag")
    assert re.findall(r'<rect x="([\d.]+)"[^>]*height="([\d.]+)"', flags) == [("0.0", "28.0"), ("115.0", "9.3")]
    assert 'cx="50.0%"' in charts.interval(-1, 0, 1, label="x")
    assert charts.bar_chart([], label="x").startswith("<p")


def test_smoothing_passes_over_gaps_and_keeps_the_level() -> None:
    assert smoothed([2.0, None, 2.0, math.inf, 2.0], 0.99) == [2.0, None, 2.0, math.inf, 2.0]
    wave = [float(n % 2) for n in range(100)]
    assert abs((smoothed(wave, 0.95)[-1] or 0) - 0.5) < 0.05


def test_ticks_of_curves_are_round() -> None:
    assert [text for _, text in x_ticks(0, 999, "step")] == ["0", "250", "500", "750"]
    assert [text for _, text in x_ticks(0, 1, "step")] == ["0", "1"]
    assert [text for _, text in x_ticks(5, 5, "step")] == ["5"]
    assert chart([], "loss", How()).startswith("<p")


def test_labels_of_ticks_stand_inside_where_later_days_have_no_loss() -> None:
    day = 86_400_000
    days = [
        DayLoss(
            "m",
            n * day,
            1,
            "mae",
            24,
            0,
            24 if n < 60 else 0,
            0.5 if n < 60 else None,
            12.0,
            24.0 if n < 60 else 0.0,
            0.0,
            0.0,
        )
        for n in range(400)
    ]
    found = re.findall(r'<text class="x ([^"]*)" x="([0-9.]+)%"', loss_chart("m", days, 1))
    assert [x for _, x in found] == ["0.0", "25.0", "50.0", "75.0", "100.0"] and found[-1][0].startswith("end-a")
    narrow = charts.line_chart(
        [Line([(0, 1.0), (10, 2.0)])], label="x", axes=Axes(x_ticks=[(0, "a"), (9.5, "b"), (30, "c")])
    )
    assert 'end-a" x="95.0%"' in narrow and ">c<" not in narrow
