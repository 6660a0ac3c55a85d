"""Comparing what a model answered in training with what it answers where it serves. Pure: values in, verdict out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from stead.gates.types import Verdict
from stead.runtime.formats.sameness import EXACT, Tolerance, same


def compare_golden(
    golden: Mapping[str, Any],
    served: Mapping[str, Any],
    *,
    environment_packages: Mapping[str, str],
    worker_libraries: Mapping[str, str],
) -> Verdict:
    """The parity verdict: `passed` where features and outputs of the golden rows are what they were in training.

    Else it names the first feature column that differs, in the order of the columns, with the row and both values, or
    the output where all features agree. Libraries whose versions differ are told in any case; alone they fail nothing.

    >>> golden = {"inputs": {"t": ["12:00"]}, "features": {"hour": [12]}, "outputs": [1.0]}
    >>> served = {"features": {"hour": [13]}, "outputs": [2.0]}
    >>> compare_golden(golden, served, environment_packages={}, worker_libraries={}).summary
    "the feature 'hour' is 13 in row 0, was 12 in training (1 of 1 rows differ)"
    """
    libraries = differing_libraries(golden.get("libraries") or {}, environment_packages, worker_libraries)
    versions = "; ".join(f"{name} is {now or 'absent'} here, was {then}" for name, (then, now) in libraries.items())
    python = (golden.get("python"), served.get("python"))
    rows = len(golden["outputs"])
    evidence: dict[str, Any] = {"rows": rows, "libraries": {name: list(pair) for name, pair in libraries.items()}}
    if all(python) and python[0] != python[1]:
        evidence["python"] = list(python)
    found = _first_feature(golden.get("features"), served.get("features")) or _output(golden, served)
    if found is None:
        summary = f"{rows} stored rows answer as in training" + (f", although {versions}" if versions else "")
        return Verdict("parity", "passed", summary, evidence)
    summary = str(found.pop("summary")) + (f"; {versions}" if versions else "")
    return Verdict("parity", "failed", summary, evidence | found)


def _first_feature(golden: Any, served: Any) -> dict[str, Any] | None:
    if golden is None and served is None:
        return None
    if golden is None or served is None:
        where = "in training only" if served is None else "in serving only"
        return {"kind": "features", "summary": f"the model makes features {where}"}
    missing = [name for name in golden if name not in served]
    further = [name for name in served if name not in golden]
    if missing or further:
        name, what = (missing[0], "is missing") if missing else (further[0], "was not there in training")
        return {
            "kind": "features",
            "column": name,
            "summary": f"the feature {name!r} {what}",
            "missing": missing,
            "further": further,
        }
    differing = {name: rows for name in golden if (rows := _differing(golden[name], served[name]))}
    if not differing:
        return None
    name, rows = next(iter(differing.items()))
    then, now = _at(golden[name], rows[0]), _at(served[name], rows[0])
    total = len(golden[name])
    return {
        "kind": "features",
        "column": name,
        "row": rows[0],
        "training": then,
        "serving": now,
        "differing_rows": len(rows),
        "differing_columns": list(differing),
        "summary": f"the feature {name!r} is {_said(now)} in row {rows[0]}, was {_said(then)} in training "
        f"({len(rows)} of {total} rows differ)",
    }


def _output(golden: Mapping[str, Any], served: Mapping[str, Any]) -> dict[str, Any] | None:
    then, now = golden["outputs"], served.get("outputs") or []
    rows = _differing(then, now, Tolerance(*golden.get("tolerance", ())))
    if not rows:
        return None
    a, b = _at(then, rows[0]), _at(now, rows[0])
    same = " although all features agree" if golden.get("features") is not None else ""
    return {
        "kind": "outputs",
        "column": None,
        "row": rows[0],
        "training": a,
        "serving": b,
        "differing_rows": len(rows),
        "summary": f"the prediction is {_said(b)} in row {rows[0]}, was {_said(a)} in training{same} "
        f"({len(rows)} of {len(then)} rows differ)",
    }


def _differing(then: Sequence[Any], now: Sequence[Any], within: Tolerance = EXACT) -> list[int]:
    """Rows whose values differ; a row that only one side has differs."""
    common = min(len(then), len(now))
    rows = [row for row in range(common) if not same(then[row], now[row], within)]
    return rows + list(range(common, max(len(then), len(now))))


def differing_libraries(
    recorded: Mapping[str, str], environment: Mapping[str, str], worker: Mapping[str, str]
) -> dict[str, tuple[str, str | None]]:
    """Version in training and where it serves, of each library that the model uses and that differs.

    >>> differing_libraries({"numpy": "1.0"}, {"numpy": "2.0", "rich": "1"}, {"numpy": "2.1"})
    {'numpy': ('2.0', '2.1')}
    """
    then = {name: environment.get(name, version) for name, version in recorded.items()}
    then |= {name: environment[name] for name in worker if name in environment}
    return {name: (version, worker.get(name)) for name, version in sorted(then.items()) if worker.get(name) != version}


def _at(values: Sequence[Any], row: int) -> Any:
    return values[row] if row < len(values) else None


def _said(value: Any) -> str:
    text = repr(value) if value is not None else "missing"
    return text if len(text) <= 80 else text[:79] + "…"
