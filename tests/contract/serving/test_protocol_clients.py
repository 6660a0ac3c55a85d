"""The protocols as other people's clients speak them: NVIDIA's tritonclient and MLflow's scoring client, unchanged."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from gateway_process import COLUMNS, ROWS, Running

from stead import predictions

EXPECTED = [0, 2, 1]


@pytest.fixture
def triton(gateway: Running) -> Iterator[Any]:
    import tritonclient.http as triton_http

    client = triton_http.InferenceServerClient(f"127.0.0.1:{gateway.port}")
    yield client
    client.close()


def columns_as_inputs(*, binary: bool, dtype: str = "float64", kind: str = "FP64") -> list[Any]:
    import tritonclient.http as triton_http

    inputs = []
    for name in COLUMNS:
        values = np.array([[row[name]] for row in ROWS], dtype=dtype)
        inputs.append(triton_http.InferInput(name, list(values.shape), kind))
        inputs[-1].set_data_from_numpy(values, binary_data=binary)
    return inputs


def test_triton_finds_server_and_models_ready(gateway: Running, triton: Any) -> None:
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready("flower")
    assert triton.is_model_ready("flower", "1")
    assert not triton.is_model_ready("flower", "2")
    assert triton.get_server_metadata()["name"] == "stead"
    about = triton.get_model_metadata("flower")
    assert about["versions"] == ["1"]
    assert [tensor["name"] for tensor in about["inputs"]] == COLUMNS
    assert {tensor["datatype"] for tensor in about["inputs"]} == {"FP64"}
    assert [(tensor["datatype"], tensor["shape"]) for tensor in about["outputs"]] == [("INT64", [-1])]


@pytest.mark.parametrize("binary_in", [False, True])
@pytest.mark.parametrize("binary_out", [False, True])
def test_triton_infers_in_json_and_in_binary(gateway: Running, triton: Any, binary_in: bool, binary_out: bool) -> None:
    import tritonclient.http as triton_http

    name = triton.get_model_metadata("flower")["outputs"][0]["name"]
    result = triton.infer(
        "flower",
        columns_as_inputs(binary=binary_in),
        request_id="r-7",
        outputs=[triton_http.InferRequestedOutput(name, binary_data=binary_out)],
    )
    assert result.as_numpy(name).tolist() == EXPECTED
    assert result.get_response()["id"] == "r-7"
    assert result.get_response()["model_version"] == "1"


def test_triton_as_it_comes_asks_for_all_outputs_in_binary(gateway: Running, triton: Any) -> None:
    result = triton.infer("flower", columns_as_inputs(binary=True, dtype="float32", kind="FP32"), model_version="1")
    output = result.get_response()["outputs"][0]
    assert output["parameters"]["binary_data_size"] == 24
    assert output["datatype"] == "INT64"
    assert result.as_numpy(output["name"]).tolist() == EXPECTED


def test_triton_sends_a_table_without_names(gateway: Running, triton: Any) -> None:
    import tritonclient.http as triton_http

    table = triton_http.InferInput("input", [3, 4], "FP64")
    table.set_data_from_numpy(np.array([list(row.values()) for row in ROWS]))
    result = triton.infer("flower", [table])
    assert result.as_numpy(result.get_response()["outputs"][0]["name"]).tolist() == EXPECTED


def test_triton_gets_our_errors(gateway: Running, triton: Any) -> None:
    from tritonclient.utils import InferenceServerException

    with pytest.raises(InferenceServerException, match="column 'petal_width' is missing"):
        triton.infer("flower", columns_as_inputs(binary=True)[:3])
    with pytest.raises(InferenceServerException, match="no model 'flowr' is deployed here"):
        triton.infer("flowr", columns_as_inputs(binary=True))
    with pytest.raises(InferenceServerException, match="deployments only"):
        triton.load_model("flower")
    with pytest.raises(InferenceServerException, match="deployments only"):
        triton.unload_model("flower")
    with pytest.raises(InferenceServerException, match="deployments only"):
        triton.register_system_shared_memory("region", "/region", 16)


def test_binary_requests_are_logged_so_that_their_rows_can_be_read(gateway: Running, triton: Any) -> None:
    triton.infer("flower", columns_as_inputs(binary=True))
    last = predictions.list_predictions(gateway.store, "flower", limit=3)
    assert sorted(prediction.output for prediction in last) == [0, 1, 2]
    assert {prediction.features["sepal_length"] for prediction in last} == {row["sepal_length"] for row in ROWS}


def test_mlflows_own_client(gateway: Running) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow warns about its own type hints
        from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    client = ScoringServerClient("127.0.0.1", gateway.port)
    client.wait_server_ready(timeout=10)
    assert client.get_version()
    with pytest.raises(Exception, match="X-Stead-Model"):
        client.invoke(pd.DataFrame(ROWS))  # two models are deployed here
    client.url_prefix += "/models/flower"
    for data in (pd.DataFrame(ROWS), np.array([list(row.values()) for row in ROWS])):
        assert client.invoke(data).get_predictions()[0].tolist() == EXPECTED
    with pytest.raises(Exception, match="petal_width"):
        client.invoke(pd.DataFrame(ROWS).drop(columns="petal_width"))


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": COLUMNS, "index": [7, 8, 9], "data": [list(row.values()) for row in ROWS]}},
        {"dataframe_records": ROWS},
        {"instances": ROWS},
        {"instances": [list(row.values()) for row in ROWS]},
        {"inputs": {name: [row[name] for row in ROWS] for name in COLUMNS}},
    ],
)
def test_each_way_of_mlflows_scoring_protocol(gateway: Running, body: Any) -> None:
    answer = gateway.http.post("/invocations", json=body, headers={"X-Stead-Model": "flower"})
    assert answer.json() == {"predictions": EXPECTED}


def test_csv_invocations(gateway: Running) -> None:
    text = pd.DataFrame(ROWS).to_csv(index=False)
    answer = gateway.http.post("/models/flower/invocations", content=text, headers={"Content-Type": "text/csv"})
    assert answer.json() == {"predictions": EXPECTED}


@pytest.mark.parametrize("body", [{}, {"instances": [[1]], "inputs": [[1]]}, {"inputs": [[1]], "params": {"a": 1}}, []])
def test_mlflows_errors_are_in_mlflows_words(gateway: Running, body: Any) -> None:
    answer = gateway.http.post("/models/flower/invocations", json=body)
    assert answer.status_code == 400
    assert answer.json()["error_code"] == "BAD_REQUEST"
    assert answer.json()["message"]
