from __future__ import annotations

from stead.serving.metrics import BUCKETS, Metrics


def test_a_histogram_counts_up_to_infinity() -> None:
    metrics = Metrics()
    for seconds in (0.0005, BUCKETS[0], 0.0011, 100.0):
        metrics.answered("bikes", 1, 200, seconds)
    metrics.refused['strange"code\n'] += 1
    lines = metrics.text([("stead_workers", "Workers.", {}, 2)]).splitlines()
    told = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    labels = 'model="bikes",version="1",status="200"'
    assert told[f'stead_prediction_seconds_bucket{{{labels},le="0.001"}}'] == "2"
    assert told[f'stead_prediction_seconds_bucket{{{labels},le="10.0"}}'] == "3"
    assert told[f'stead_prediction_seconds_bucket{{{labels},le="+Inf"}}'] == "4"
    assert told[f"stead_prediction_seconds_count{{{labels}}}"] == "4"
    assert told['stead_refused_total{code="strange\\"code\\n"}'] == "1"
    assert told["stead_workers"] == "2"
    assert metrics.total() == 4
