from __future__ import annotations

import json
import math
import struct
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stead.errors import InvalidInput, NotFound
from stead.runtime import protocols, tensors
from stead.runtime.protocols import PROTOCOLS, Request, decode, encode, encode_error, read


def same(columns: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        return bool(columns == wanted)
    return bool(np.array_equal(columns, np.array(wanted)))


TABLE = [[1.5, 2.0], [3.0, 4.5]]
NAMED = {"a": [1.5, 3.0], "b": [2.0, 4.5]}
SPLIT = {"columns": ["a", "b"], "index": ["x", "y"], "data": TABLE}


@pytest.mark.parametrize(
    ("protocol", "body", "wanted"),
    [
        ("stead", {"row": {"a": 1, "b": None}}, {"a": [1], "b": [None]}),
        ("stead", {"row": [1, 2]}, [[1, 2]]),
        ("stead", {"rows": [{"a": 1}, {"b": 2}]}, {"a": [1, None], "b": [None, 2]}),
        ("stead", {"rows": TABLE}, TABLE),
        ("stead", {"columns": NAMED}, NAMED),
        ("invocations", {"dataframe_split": SPLIT}, NAMED),
        ("invocations", {"dataframe_split": {"data": TABLE}}, TABLE),
        ("invocations", {"dataframe_split": {"columns": [0, 1], "data": TABLE}}, TABLE),
        ("invocations", {"dataframe_records": [{"a": 1}]}, {"a": [1]}),
        ("invocations", {"instances": TABLE}, TABLE),
        ("invocations", {"instances": [1, 2]}, [[1], [2]]),
        ("invocations", {"inputs": NAMED, "params": {}}, NAMED),
        ("invocations", {"inputs": {"a": 1}}, {"a": [1]}),
        ("csv", "a,b,c\n1,1.5,x\n2,,\n", {"a": [1, 2], "b": [1.5, None], "c": ["x", None]}),
        ("csv", "\ufeffa\n1\n", {"a": [1]}),
    ],
)
def test_each_way_to_write_rows(protocol: str, body: Any, wanted: Any) -> None:
    text = body if isinstance(body, str) else json.dumps(body)
    assert same(decode(protocol, text.encode()), wanted)


@pytest.mark.parametrize(
    ("protocol", "body", "code"),
    [
        ("stead", b"", "body-invalid"),
        ("stead", b"\xff", "body-invalid"),
        ("stead", b"{}", "body-invalid"),
        ("stead", b'{"row": 1}', "body-invalid"),
        ("stead", b'{"row": {}, "rows": []}', "body-invalid"),
        ("stead", b'{"rows": []}', "rows-empty"),
        ("stead", b'{"rows": [{"a": 1}, [1]]}', "body-invalid"),
        ("stead", b'{"rows": [[1], [1, 2]]}', "columns-ragged"),
        ("stead", b'{"rows": [[], []]}', "rows-empty"),
        ("stead", b'{"columns": {"a": [1], "b": [1, 2]}}', "columns-ragged"),
        ("stead", b'{"columns": {}}', "rows-empty"),
        ("stead", b'{"row": ' + b"[" * 100_000, "body-invalid"),
        ("invocations", b"{}", "body-invalid"),
        ("invocations", b"[1]", "body-invalid"),
        ("invocations", b'{"inputs": [[1]], "instances": [[1]]}', "body-invalid"),
        ("invocations", b'{"inputs": [[1]], "params": {"t": 1}}', "params-unknown"),
        ("invocations", b'{"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}}', "columns-ragged"),
        ("invocations", b'{"dataframe_split": {"columns": ["a"], "data": []}}', "rows-empty"),
        ("csv", b"", "rows-empty"),
        ("csv", b"a,b\n", "rows-empty"),
        ("csv", b"a,b\n1\n", "columns-ragged"),
        ("csv", b"a\n\xff\n", "body-invalid"),
        ("v2", b"{}", "body-invalid"),
        ("v2", b'{"inputs": []}', "rows-empty"),
    ],
)
def test_what_makes_no_sense_is_refused(protocol: str, body: bytes, code: str) -> None:
    with pytest.raises(InvalidInput) as told:
        decode(protocol, body)
    assert told.value.code == code


TENSOR = '"name": "a", "shape": [1], "datatype": "INT64"'


@pytest.mark.parametrize(
    ("protocol", "body", "fine"),
    [
        ("stead", '{"row": {"a": 1, "a": 2}}', False),
        ("stead", '{"row": {"a": "12:30", "b": 1, "a": "12:31"}}', False),
        ("stead", '{"row" : {"a" : 1, "a" : 1}}', False),
        ("stead", '{"rows": [{"a": 1}, {"a": 2, "\\u0061": 3}]}', False),
        ("stead", '{"row": {"a": 1}, "row": {"a": 2}}', False),
        ("stead", '{"columns": {"a": [1], "a": [2]}}', False),
        ("stead", '{"row": {"a": {"x": 1, "x": 2}}}', False),
        ("stead", '{"row" : {"a" : "12:30", "b\\":" : ":\\":"}}', True),
        ("stead", '{"row": {"a": {"a": 1}}}', True),
        ("invocations", '{"dataframe_records": [{"a": 1, "a": 2}]}', False),
        ("invocations", '{"inputs": {"a": 1, "a": 2}}', False),
        ("invocations", '{"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}}', False),
        ("invocations", '{"dataframe_split": {"columns": ["a"], "data": [[1]], "data": [[2]]}}', False),
        ("invocations", '{"dataframe_split": {"columns": [0, 0], "data": [[1, 2]]}}', True),
        ("csv", "a,b,a\n1,2,3\n", False),
        ("v2", f'{{"inputs": [{{{TENSOR}, "data": [1], "data": [2]}}]}}', False),
        (
            "v2",
            f'{{"id": "7", "inputs": [{{{TENSOR}, "data": [1]}}], "outputs": [{{"name": "x"}}], "parameters": {{}}}}',
            True,
        ),
    ],
)
def test_a_key_that_is_there_twice_is_refused(protocol: str, body: str, fine: bool) -> None:
    """What it meant is not known; colons elsewhere do no harm."""
    if fine:
        decode(protocol, body.encode())
        return
    with pytest.raises(InvalidInput) as told:
        decode(protocol, body.encode())
    assert told.value.code == "key-repeated" and told.value.hint


def test_a_key_told_twice_among_many_is_found_in_one_pass() -> None:
    many = b",".join(b'"%d":1' % n for n in [*range(300_000), 299_999])
    with pytest.raises(InvalidInput) as told:
        protocols.decode("stead", b'{"row":{%s}}' % many)
    assert "'299999'" in told.value.message


def v2(*inputs: dict[str, Any], binary: bytes = b"", **rest: Any) -> tuple[bytes, int]:
    head = json.dumps({"inputs": list(inputs), **rest}).encode()
    return head + binary, len(head) if binary else 0


def test_v2_tensors_become_columns_or_a_table() -> None:
    a = {"name": "a", "shape": [2, 1], "datatype": "FP64", "data": [1.5, 3.0]}
    b = {"name": "b", "shape": [2], "datatype": "BYTES", "data": ["x", "y"]}
    assert decode("v2", *v2(a, b)) == {"a": [1.5, 3.0], "b": ["x", "y"]}
    table = decode("v2", *v2({"name": "t", "shape": [2, 2], "datatype": "FP32", "data": TABLE}))
    assert table.dtype == np.float32
    assert table.tolist() == TABLE


@pytest.mark.parametrize("datatype", tensors.FORMATS)
def test_v2_binary_tensors_of_every_type(datatype: str) -> None:
    values = [1, 0, 1] if datatype == "BOOL" else [1, 2, 3]
    data = struct.pack(f"<3{tensors.FORMATS[datatype]}", *values)
    described = {"name": "a", "shape": [3], "datatype": datatype, "parameters": {"binary_data_size": len(data)}}
    assert decode("v2", *v2(described, binary=data)) == {"a": values}


def test_v2_binary_strings() -> None:
    data = b"".join(struct.pack("<I", len(text)) + text for text in (b"", "ü".encode(), b"abc"))
    described = {"name": "a", "shape": [3], "datatype": "BYTES", "parameters": {"binary_data_size": len(data)}}
    assert decode("v2", *v2(described, binary=data)) == {"a": ["", "ü", "abc"]}


@pytest.mark.parametrize(
    ("described", "binary"),
    [
        ({"shape": [3], "data": [1, 2]}, b""),
        ({"shape": [-1], "data": []}, b""),
        ({"shape": [0], "data": []}, b""),
        ({"shape": [], "data": [1]}, b""),
        ({"shape": [1] * 9, "data": [1]}, b""),
        ({"shape": [10**18, 10**18], "data": [1]}, b""),
        ({"shape": [2], "data": [[1], 2]}, b""),
        ({"shape": [1], "datatype": "FP128", "data": [1]}, b""),
        ({"shape": [1], "parameters": {"binary_data_size": 8}}, b"1234"),
        ({"shape": [1], "parameters": {"binary_data_size": 4}}, b"1234"),
        ({"shape": [1], "parameters": {"binary_data_size": -1}}, b"1234"),
        ({"shape": [1], "parameters": {"binary_data_size": 8}}, b"123456789"),
        ({"shape": [1], "data": [1], "parameters": {"binary_data_size": 8}}, b"12345678"),
        ({"shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 8}}, b"\xff\xff\xff\x7fabcd"),
        ({"shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 3}}, b"abc"),
        ({"shape": [1], "data": [1], "parameters": {"shared_memory_region": "r"}}, b""),
    ],
)
def test_v2_sizes_that_do_not_fit_are_refused(described: dict[str, Any], binary: bytes) -> None:
    with pytest.raises(InvalidInput) as told:
        decode("v2", *v2({"name": "a", "datatype": "FP64"} | described, binary=binary))
    assert told.value.code == "tensor-invalid"


def test_v2_header_length_beyond_the_body() -> None:
    with pytest.raises(InvalidInput, match="exceeds the body"):
        decode("v2", b"{}", 10**12)


@given(st.sampled_from(PROTOCOLS), st.binary(max_size=200), st.integers(0, 300))
def test_no_body_does_anything_but_be_read_or_refused(protocol: str, body: bytes, header_length: int) -> None:
    with suppress(InvalidInput):
        assert read(protocol, body, header_length).rows > 0


_VALUES = st.one_of(st.none(), st.booleans(), st.integers(-(2**60), 2**60), st.floats(allow_nan=False), st.text())


@given(st.recursive(_VALUES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12))
def test_no_json_does_either(value: Any) -> None:
    keys = {
        "stead": ("row", "rows", "columns"),
        "invocations": ("instances", "inputs", "dataframe_records"),
        "v2": ("inputs",),
    }
    for protocol, names in keys.items():
        for name in names:
            with suppress(InvalidInput):
                assert read(protocol, json.dumps({name: value}).encode()).rows > 0


FLOATS = [0.5, 1.25]


@pytest.mark.parametrize(
    ("outputs", "datatype", "kind"),
    [
        (FLOATS, None, "FP64"),
        (FLOATS, "FP32", "FP32"),
        ([1, 2], "INT32", "INT32"),
        ([1, 2], "FP64", "INT64"),
        ([True, False], None, "BOOL"),
        (["x", "yü"], None, "BYTES"),
        ([[1.0, 2.0], [3.0, 4.0]], None, "FP64"),
        ([{"a": 1}, {"a": 2}], None, "BYTES"),
    ],
)
def test_v2_answers_read_back_the_same_in_json_and_in_binary(
    outputs: list[Any], datatype: str | None, kind: str
) -> None:
    for binary in (False, True):
        request = Request({}, len(outputs), "mine", ((None, binary),))
        body, length = encode(
            "v2", request, outputs, prediction_id="f" * 32, model="m", version=3, output_name="y", datatype=datatype
        )
        head = json.loads(body[:length] if length else body)
        assert (head["model_name"], head["model_version"], head["id"]) == ("m", "3", "mine")
        (output,) = head["outputs"]
        assert (output["name"], output["datatype"], output["shape"][0]) == ("y", kind, len(outputs))
        got = tensors.read(*_as_request(output, body[length:] if length else b"")).inputs[0]
        flat = [value for part in outputs for value in part] if isinstance(outputs[0], list) else outputs
        assert list(got.values) == [json.dumps(v, separators=(",", ":")) if isinstance(v, dict) else v for v in flat]


def _as_request(output: dict[str, Any], binary: bytes) -> tuple[bytes, int]:
    return v2(output, binary=binary)


def test_an_output_that_the_model_lacks() -> None:
    with pytest.raises(InvalidInput, match="no output 'z'"):
        encode("v2", Request({}, 1, None, (("z", False),)), [1], prediction_id="", model="m", version=1)


@pytest.mark.parametrize("protocol", ["stead", "invocations", "csv"])
def test_answers_hold_predictions_whatever_their_type(protocol: str) -> None:
    outputs = [np.float64(0.5), np.array([1, 2]), np.datetime64("2012-01-01"), None, {"a": 1}, math.nan]
    body, length = encode(protocol, Request({}, 6), outputs, prediction_id="i", model="m", version=1)
    assert length == 0
    assert json.loads(body)["predictions"] == [0.5, [1, 2], "2012-01-01", None, {"a": 1}, None]


def test_errors_in_the_words_of_each_protocol() -> None:
    error = NotFound("model-unknown", "no model 'x'", hint="stead deploy x")
    assert json.loads(encode_error("stead", error)) == error.as_dict()
    assert json.loads(encode_error("v2", error)) == {"error": "no model 'x' (stead deploy x)"}
    assert json.loads(encode_error("csv", error))["error_code"] == "BAD_REQUEST"


def test_the_order_of_protocols_is_part_of_the_frames() -> None:
    assert protocols.PROTOCOLS == ("stead", "invocations", "csv", "v2")
