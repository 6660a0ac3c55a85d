"""The comparison of golden rows: which value, which column, which library."""

from __future__ import annotations

from typing import Any

import pytest

from stead.gates import compare_golden

GOLDEN: dict[str, Any] = {
    "inputs": {"t": ["a", "b", "c"]},
    "features": {"hour": [1, 2, 3], "temp": [0.1, None, 0.3], "name": ["x", "y", "z"]},
    "outputs": [1.5, 2.5, 3.5],
    "libraries": {"numpy": "2.0", "scikit-learn": "1.5"},
    "python": "3.11.7",
}


def judge(packages: dict[str, str] | None = None, worker: dict[str, str] | None = None, **served: Any) -> Any:
    same = {"features": GOLDEN["features"], "outputs": GOLDEN["outputs"], "python": "3.11.7"}
    return compare_golden(
        GOLDEN,
        same | served,
        environment_packages=GOLDEN["libraries"] if packages is None else packages,
        worker_libraries=GOLDEN["libraries"] if worker is None else worker,
    )


def test_the_same_passes() -> None:
    verdict = judge()
    assert (verdict.gate, verdict.outcome, verdict.summary) == (
        "parity",
        "passed",
        "3 stored rows answer as in training",
    )
    assert judge(outputs=[1.5 + 1e-13, 2.5, 3.5]).outcome == "passed"
    nan = float("nan")
    assert judge(features={**GOLDEN["features"], "temp": [0.1, nan, 0.3]}).outcome == "passed"


@pytest.mark.parametrize(
    ("features", "column", "row", "says"),
    [
        ({"hour": [1, 9, 9]}, "hour", 1, "the feature 'hour' is 9 in row 1, was 2 in training (2 of 3 rows differ)"),
        ({"temp": [0.1, 5.0, 0.3]}, "temp", 1, "the feature 'temp' is 5.0 in row 1, was missing in training"),
        ({"temp": [0.1 + 1e-6, None, 0.3]}, "temp", 0, "'temp'"),
        ({"name": ["x", "y", "Z"], "temp": [9, None, 0.3]}, "temp", 0, "'temp'"),
        ({"hour": [1, 2]}, "hour", 2, "is missing in row 2"),
        ({"hour": [True, 2, 3]}, "hour", 0, "is True in row 0"),
    ],
)
def test_the_first_feature_that_differs_is_named(features: dict[str, Any], column: str, row: int, says: str) -> None:
    verdict = judge(features={**GOLDEN["features"], **features}, outputs=[0.0, 0.0, 0.0])
    assert verdict.outcome == "failed"
    assert verdict.evidence["kind"] == "features"
    assert (verdict.evidence["column"], verdict.evidence["row"]) == (column, row)
    assert says in verdict.summary


def test_columns_that_come_or_go_are_named() -> None:
    assert "'hour' is missing" in judge(features={"temp": [0.1, None, 0.3], "name": ["x", "y", "z"]}).summary
    assert "'wind' was not there in training" in judge(features={**GOLDEN["features"], "wind": [1, 2, 3]}).summary
    assert "features in training only" in judge(features=None).summary


def test_the_output_is_named_where_features_agree() -> None:
    verdict = judge(outputs=[1.5, 2.6, 3.6])
    assert verdict.evidence["kind"] == "outputs"
    assert (verdict.evidence["training"], verdict.evidence["serving"], verdict.evidence["differing_rows"]) == (
        2.5,
        2.6,
        2,
    )
    assert "the prediction is 2.6 in row 1, was 2.5 in training although all features agree" in verdict.summary
    assert judge(outputs=[1.5]).outcome == "failed"
    assert judge(outputs=["1.5", 2.5, 3.5]).outcome == "failed"


def test_libraries_are_named_and_alone_fail_nothing() -> None:
    verdict = judge(worker={"numpy": "2.0", "scikit-learn": "1.6"})
    assert verdict.outcome == "passed"
    assert verdict.summary.endswith("although scikit-learn is 1.6 here, was 1.5")
    verdict = judge(worker={"numpy": "2.0"}, outputs=[0.0, 0.0, 0.0])
    assert verdict.evidence["libraries"] == {"scikit-learn": ["1.5", None]}
    assert verdict.summary.endswith("scikit-learn is absent here, was 1.5")
    assert judge(python="3.12.1").evidence["python"] == ["3.11.7", "3.12.1"]


def test_lists_of_probabilities() -> None:
    golden = {"inputs": [[1.0]], "features": None, "outputs": [[0.1, 0.9]]}
    for outputs, outcome in (([[0.1, 0.9]], "passed"), ([[0.2, 0.8]], "failed"), ([[0.1]], "failed")):
        served = {"features": None, "outputs": outputs}
        assert compare_golden(golden, served, environment_packages={}, worker_libraries={}).outcome == outcome
