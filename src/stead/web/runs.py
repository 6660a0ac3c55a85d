"""Runs: a table that is filtered, ordered and selected from; only the columns that differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from stead import runs
from stead.config.units import number, took
from stead.errors import InvalidInput
from stead.runs import Run
from stead.web import charts
from stead.web.frame import here, render, store_of

PAGE = 100
METRICS = 4
"""Metrics shown where none is chosen."""
COLUMNS = 10
"""Parameters shown; the rest is counted below the table."""
SPARK_POINTS = 40
VALUES = ("last", "min", "max")
CHIPS = {"running": "active", "finished": "ok", "failed": "bad", "killed": "warn"}


@dataclass(frozen=True)
class Cell:
    text: str
    kind: str = ""


@dataclass(frozen=True)
class Row:
    """One run of the table."""

    run: Run
    chip: str
    metrics: list[Cell]
    curve: str
    others: list[Cell]
    took: str


@dataclass(frozen=True)
class Column:
    """A column's head: `order` sorts by it, `sorted` is what `aria-sort` says."""

    name: str
    order: str
    sorted: str = ""
    href: str = ""


def listed(request: Request) -> Response:
    """`/runs`"""
    store, asked = store_of(request), request.query_params
    project, value = asked.get("project") or None, asked.get("value", "last")
    if value not in VALUES:
        raise InvalidInput("value-unknown", f"{value!r} is no value of a metric", hint=f"one of {', '.join(VALUES)}")
    order = asked.get("order") or "started desc"
    problem, page = None, runs.RunPage([], None)
    try:
        page = runs.list_runs(
            store,
            project=project,
            filter=asked.get("filter", ""),
            order=order,
            limit=PAGE,
            after=asked.get("after") or None,
        )
    except InvalidInput as error:
        if error.code not in ("filter-invalid", "order-invalid"):
            raise
        problem = error
    keys = metric_columns(page.runs)
    metric = asked.get("metric") or ""
    shown = [metric] if metric else keys[:METRICS]
    differ, same = differing(page.runs)
    curves = sparks(store, page.runs, metric or (shown[0] if shown else "")) if asked.get("curves") else {}
    return render(
        request,
        "runs.html",
        title="Runs",
        status=400 if problem else 200,
        data=page if problem is None else problem.as_dict(),
        problem=problem,
        rows=rows(page.runs, shown, value, list(differ)[:COLUMNS], differ, curves),
        projects=[each.name for each in runs.list_experiments(store)],
        project=project,
        filter=asked.get("filter", ""),
        order=order,
        orders=orders(order, shown),
        value=value,
        values=VALUES,
        metric=metric,
        metrics=sorted({*keys, metric} - {""}),
        columns=[column(request, f"{key}, {value}", ordered(key, value), order) for key in shown],
        others=[column(request, name, order_of(name), order) for name in list(differ)[:COLUMNS]],
        hidden=list(differ)[COLUMNS:],
        same=same,
        curves=bool(asked.get("curves")),
        curve_of=metric or (shown[0] if shown else ""),
        head=[column(request, name, what, order) for name, what in (("Name", "name"), ("Started", "started"))],
        next=here(request, after=page.next) if page.next else None,
        total=page.total,
        uncounted=page.total >= runs.COUNTED,
        first=here(request, after=None) if asked.get("after") else None,
    )


def metric_columns(found: list[Run]) -> list[str]:
    """Names of metrics, those that most runs have first; measurements of the machine last."""
    count: dict[str, int] = {}
    for run in found:
        for key in run.metrics:
            count[key] = count.get(key, 0) + 1
    return sorted(count, key=lambda key: (key.startswith("system/"), -count[key], key))


def differing(found: list[Run]) -> tuple[dict[str, list[str | None]], dict[str, str]]:
    """Parameters and facts whose values differ between these runs, by column; and those that all share."""
    table: dict[str, list[str | None]] = {}
    for name in sorted({name for run in found for name in run.params}):
        table[name] = [run.params.get(name) for run in found]
    facts: dict[str, list[str | None]] = {
        "data": [", ".join(run.inputs) or None for run in found],
        "environment": [run.environment[:8] if run.environment else None for run in found],
        "project": [run.experiment for run in found],
        "by": [run.user for run in found],
    }
    table |= {name: values for name, values in facts.items() if any(values)}
    differ = {name: values for name, values in table.items() if len(set(values)) > 1}
    return differ, {name: str(values[0]) for name, values in table.items() if len(set(values)) == 1}


def rows(
    found: list[Run],
    shown: list[str],
    value: str,
    names: list[str],
    differ: dict[str, list[str | None]],
    curves: dict[str, str],
) -> list[Row]:
    """The table's rows; where the least or greatest value is shown, the best of it is marked."""
    best: dict[str, float] = {}
    if value != "last" and len(found) > 1:
        for key in shown:
            numbers = [v for run in found if (v := value_of(run, key, value)) is not None]
            if numbers:
                best[key] = min(numbers) if value == "min" else max(numbers)
    out = []
    for at, run in enumerate(found):
        metrics = []
        for key in shown:
            v = value_of(run, key, value)
            metrics.append(Cell(number(v), "best" if v is not None and best.get(key) == v else ""))
        others = [Cell(_short(differ[name][at])) for name in names]
        ended = None if run.ended_at is None else run.ended_at - run.started_at
        out.append(Row(run, CHIPS[run.status], metrics, curves.get(run.id, ""), others, took(ended)))
    return out


def value_of(run: Run, key: str, value: str) -> float | None:
    summary = run.metrics.get(key)
    return None if summary is None else getattr(summary, value)


def sparks(store: Any, found: list[Run], key: str) -> dict[str, str]:
    """A small curve for each run that has more than one point."""
    if not key:
        return {}
    series = runs.series(store, [run.id for run in found], key, points=SPARK_POINTS)
    return {each.run_id: charts.spark(each.values, label=f"{key} by step", width=84) for each in series}


def ordered(key: str, value: str) -> str:
    """How `list_runs` names the value of a metric."""
    name = f'metrics."{key}"' if not _plain(key) else f"metrics.{key}"
    return name if value == "last" else f"{value}({name})"


def order_of(name: str) -> str:
    if name in ("project", "environment"):
        return name
    if name == "by":
        return "user"
    if name == "data":
        return ""
    return f"params.{name}" if _plain(name) else f'params."{name}"'


def column(request: Request, name: str, order: str, now: str) -> Column:
    """A head that orders by its column, first down, then up."""
    if not order:
        return Column(name, order)
    down = now == f"{order} desc"
    sorted_ = "descending" if down else "ascending" if now in (order, f"{order} asc") else ""
    return Column(name, order, sorted_, here(request, order=order if down else f"{order} desc", after=None))


def orders(now: str, shown: list[str]) -> list[tuple[str, str]]:
    """Choices of the order box: what it says and what it means."""
    choices = [("newest first", "started desc"), ("oldest first", "started"), ("by name", "name")]
    for key in shown:
        choices += [(f"{key}, lowest", ordered(key, "last")), (f"{key}, highest", f"{ordered(key, 'last')} desc")]
    if now not in [meaning for _, meaning in choices]:
        choices.append((now, now))
    return choices


def _plain(key: str) -> bool:
    return bool(key) and key[0].isalpha() and all(c.isascii() and (c.isalnum() or c in "._/-") for c in key)


def _short(text: str | None, most: int = 40) -> str:
    return "–" if text is None else text if len(text) <= most else text[: most - 1] + "…"


ROUTES = [("/runs", listed, ["GET"])]
