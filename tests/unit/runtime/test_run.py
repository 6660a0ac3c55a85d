"""Logging to a run: what is taken, what is refused, and that a job's run is its executor's."""

from __future__ import annotations

import argparse
import math
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from stead.errors import InvalidInput, NotFound
from stead.runtime import journal as j
from stead.runtime import sdk


@pytest.fixture
def run(tmp_path: Path) -> sdk.Run:
    return sdk.Run(j.Journal(tmp_path / "r1"), project="p", watch=False)


def logged(run: sdk.Run) -> list[j.Record]:
    return [record for log in j.logs_of(run._journal.folder) for _, record in j.read(log)][1:]


def metrics(run: sdk.Run) -> list[tuple[int, dict[str, float]]]:
    return [(record.step, record.values) for record in logged(run) if isinstance(record, j.Metrics)]


def test_steps_count_or_are_given(run: sdk.Run) -> None:
    run.log({"a": 1})
    run.log({"a": 2.5})
    run.log({"a": 3}, step=10)
    run.log({"a": 4})
    run.log({"a": 5}, step=np.int64(3))
    run.log({})
    assert metrics(run) == [(0, {"a": 1.0}), (1, {"a": 2.5}), (10, {"a": 3.0}), (11, {"a": 4.0}), (3, {"a": 5.0})]


def test_numbers_of_any_kind(run: sdk.Run) -> None:
    run.log(
        {"int": 2, "bool": True, "np": np.float32(0.5), "zero_d": np.array(4.0), "val": {"loss": 1, "in": {"a": 2}}}
    )
    ((_, values),) = metrics(run)
    assert values == {"int": 2, "bool": 1, "np": 0.5, "zero_d": 4, "val/loss": 1, "val/in/a": 2}
    run.log({"nan": math.nan, "inf": -math.inf})
    assert math.isnan(metrics(run)[1][1]["nan"])
    assert metrics(run)[1][1]["inf"] == -math.inf


@pytest.mark.parametrize("bad", [{"a": "0.5"}, {"a": None}, {"a": object()}, {"": 1.0}, {"a\nb": 1}, {"x" * 300: 1.0}])
def test_what_is_no_number_is_refused_and_nothing_is_logged(run: sdk.Run, bad: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        run.log({"good": 1.0, **bad})
    assert logged(run) == []


@pytest.mark.parametrize("values", ["x", None, 5, [("a", 1)]])
def test_metrics_are_a_mapping(run: sdk.Run, values: object) -> None:
    with pytest.raises(InvalidInput, match="metrics are a mapping"):
        run.log(values)  # type: ignore[arg-type]


@pytest.mark.parametrize("step", ["x", 1.5, 1e300, 2**64, math.nan])
def test_bad_steps(run: sdk.Run, step: object) -> None:
    with pytest.raises(InvalidInput, match="a step is a whole number"):
        run.log({"a": 1.0}, step=step)  # type: ignore[arg-type]


def test_many_points_at_once(run: sdk.Run) -> None:
    run.log({"a": [1, 2, 3], "b": np.array([0.5, math.nan, 1.5]), "last": 9}, step=[10, 20, 30])
    run.log({"a": range(2)})
    a, b, last, more = logged(run)
    assert isinstance(a, j.Points)
    assert isinstance(b, j.Points)
    assert isinstance(more, j.Points)
    assert isinstance(last, j.Metrics)
    assert struct.unpack("<3q", a.steps) == (10, 20, 30)
    assert struct.unpack("<3d", a.values) == (1, 2, 3)
    assert math.isnan(struct.unpack("<3d", b.values)[1])
    assert (last.step, last.values) == (30, {"last": 9.0})
    assert struct.unpack("<2q", more.steps) == (31, 32)
    for columns, steps in (({"a": [1, 2], "b": [1]}, None), ({"a": [1, 2]}, [1])):
        with pytest.raises(InvalidInput, match=r"length|steps"):
            run.log(columns, step=steps)


def test_parameters_from_whatever_holds_them(run: sdk.Run) -> None:
    @dataclass
    class Config:
        lr: float = 0.1
        layers: tuple[int, ...] = (64, 32)

    run.log_params(Config())
    run.log_params(argparse.Namespace(depth=3, name=None))
    run.log_params({"net": {"act": "relu"}, "empty": {}})
    assert run.config == {
        "lr": 0.1,
        "layers": (64, 32),
        "depth": 3,
        "name": None,
        "net": {"act": "relu"},
        "empty": {},
    }
    with pytest.raises(InvalidInput):
        run.log_params(3)


def test_a_changed_parameter_is_told(run: sdk.Run, capsys: pytest.CaptureFixture[str]) -> None:
    run.log_params({"lr": 0.1})
    run.log_params({"lr": 0.2})
    assert run.config == {"lr": 0.1}
    assert "'lr' has a value already" in capsys.readouterr().err


def test_a_folder_of_artifacts(run: sdk.Run, tmp_path: Path) -> None:
    (tmp_path / "out" / "deep").mkdir(parents=True)
    (tmp_path / "out" / "a.txt").write_text("a")
    (tmp_path / "out" / "deep" / "b.txt").write_text("b")
    run.log_artifact(tmp_path / "out")
    run.log_artifact(b"bytes", "c.bin")
    paths = [record.path for record in logged(run) if isinstance(record, j.File)]
    assert paths == ["out/a.txt", "out/deep/b.txt", "c.bin"]
    with pytest.raises(InvalidInput, match="need a name"):
        run.log_artifact(b"x")
    with pytest.raises(NotFound):
        run.log_artifact(tmp_path / "none")


def test_an_error_in_the_block_ends_the_run_as_failed(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), sdk.Run(j.Journal(tmp_path / "r"), watch=False) as run:
        run.log({"a": 1 / 0})
    end = logged(run)[-1]
    assert isinstance(end, j.Ended)
    assert (end.status, end.error) == ("failed", "ZeroDivisionError: division by zero")
    with pytest.raises(InvalidInput, match="has ended"):
        run.log({"a": 1.0})
    run.finish()
    assert run.status == "failed"


def test_a_watched_run_keeps_its_console(tmp_path: Path) -> None:
    with sdk.Run(j.Journal(tmp_path / "r")):
        print("hello from training")
    records = [record for log in j.logs_of(tmp_path / "r") for _, record in j.read(log)]
    assert "hello from training\n" in "".join(r.text for r in records if isinstance(r, j.Text))
    assert any(isinstance(r, j.File) and r.path == "stead/packages.txt" for r in records)
    assert any(isinstance(r, j.Facts) for r in records)


def test_odd_text_stops_nothing(run: sdk.Run) -> None:
    run.log_params({"path": "caf\udce9\0"})
    run._keep_text("caf\udce9\n")
    run.finish("failed", "caf\udce9")
    params, text, ended = logged(run)
    assert isinstance(params, j.Params)
    assert params.values == {"path": "caf?\ufffd"}
    assert isinstance(text, j.Text)
    assert text.text == "caf?\n"
    assert isinstance(ended, j.Ended)
    assert ended.error == "caf?"


def test_inside_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdk, "_active", None)
    with pytest.raises(NotFound):
        sdk.log({"a": 1.0})
    monkeypatch.setenv("STEAD_JOURNAL", str(tmp_path / "journal"))
    run = sdk.init(project="ignored", config={"lr": 0.1}, tags={"a": "b"})
    sdk.log({"loss": 1.0})
    (tmp_path / "x.txt").write_text("x")
    sdk.log_artifact(tmp_path / "x.txt")
    sdk.finish()
    assert run.status == "finished"
    kinds = [type(record) for log in j.logs_of(tmp_path / "journal") for _, record in j.read(log)]
    assert j.Started not in kinds
    assert j.Ended not in kinds
    assert {j.Params, j.Tags, j.Metrics, j.File} <= set(kinds)
    for refused in (lambda: sdk.dataset("a@1"), lambda: sdk.log_model(None, "a"), lambda: sdk.predict("a", [])):
        with pytest.raises(InvalidInput, match="a job"):
            refused()
