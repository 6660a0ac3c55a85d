"""Counts and latencies of a gateway in Prometheus' text format."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Upper bounds in seconds."""


class Metrics:
    """What is counted while requests pass.

    >>> metrics = Metrics()
    >>> metrics.answered("demand", 3, 200, 0.002)
    >>> print(metrics.text([]).splitlines()[2])
    stead_predictions_total{model="demand",version="3",status="200"} 1
    """

    def __init__(self) -> None:
        self.refused: Counter[str] = Counter()
        """Requests that no version saw, by the code of the error."""
        self._series: dict[tuple[str, int, int], list[int]] = {}
        self._seconds: dict[tuple[str, int, int], float] = {}

    def answered(self, model: str, version: int, status: int, seconds: float) -> None:
        key = (model, version, status)
        counts = self._series.get(key)
        if counts is None:
            counts = self._series[key] = [0] * (len(BUCKETS) + 1)
            self._seconds[key] = 0.0
        counts[bisect_left(BUCKETS, seconds)] += 1
        self._seconds[key] += seconds

    def total(self) -> int:
        return sum(sum(counts) for counts in self._series.values())

    def text(self, gauges: Iterable[tuple[str, str, dict[str, str], float]]) -> str:
        """All of it; `gauges` are (name, help, labels, value), those of a name together."""
        lines = _head("stead_predictions_total", "counter", "Predictions answered, by status.")
        for (model, version, status), counts in sorted(self._series.items()):
            labels = _labels({"model": model, "version": str(version), "status": str(status)})
            lines.append(f"stead_predictions_total{labels} {sum(counts)}")
        lines += _head("stead_prediction_seconds", "histogram", "Time from the request's arrival to its answer.")
        for (model, version, status), counts in sorted(self._series.items()):
            told = {"model": model, "version": str(version), "status": str(status)}
            running = 0
            for bound, count in zip((*map(str, BUCKETS), "+Inf"), counts, strict=True):
                running += count
                lines.append(f"stead_prediction_seconds_bucket{_labels(told | {'le': bound})} {running}")
            lines.append(f"stead_prediction_seconds_sum{_labels(told)} {self._seconds[model, version, status]:.6f}")
            lines.append(f"stead_prediction_seconds_count{_labels(told)} {running}")
        lines += _head("stead_refused_total", "counter", "Requests that reached no version, by the error's code.")
        lines += [f"stead_refused_total{_labels({'code': code})} {n}" for code, n in sorted(self.refused.items())]
        last = ""
        for name, text, told, value in gauges:
            if name != last:
                lines += _head(name, "gauge", text)
                last = name
            lines.append(f"{name}{_labels(told)} {value:g}")
        return "\n".join(lines) + "\n"


def _head(name: str, kind: str, text: str) -> list[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    inner = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{inner}}}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
