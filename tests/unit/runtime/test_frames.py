from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stead.errors import Failed
from stead.runtime import frames

FIELDS = st.fixed_dictionaries(
    {
        "prediction_id": st.binary(max_size=40),
        "protocol": st.integers(0, 255),
        "flags": st.integers(0, 255),
        "status": st.integers(0, 65_535),
        "header_length": st.integers(0, 2**32 - 1),
        "cost": st.integers(0, 65_535),
        "part": st.binary(max_size=300),
        "body": st.binary(max_size=3000),
    }
)


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.binary(max_size=60), FIELDS), max_size=6), st.data())
def test_frames_come_out_as_they_went_in_however_the_stream_is_cut(sent: list, data: st.DataObject) -> None:
    stream = b"".join(frames.pack(frames.PREDICT, number, name, **fields) for number, name, fields in sent)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    reader, got = frames.Reader(), []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        got += reader.feed(stream[start:end])
    assert [(frame.number, frame.name) for frame in got] == [(number, name) for number, name, _ in sent]
    for frame, (_, _, fields) in zip(got, sent, strict=True):
        told = frame._asdict()
        told["prediction_id"] = told.pop("id")
        assert {name: told[name] for name in fields} == fields


def test_a_large_frame_in_small_pieces() -> None:
    body = bytes(8_000_000)
    stream = frames.pack(frames.PREDICT, 1, b"m@1", body=body)
    reader, got = frames.Reader(), []
    for start in range(0, len(stream), 10_000):
        got += reader.feed(stream[start : start + 10_000])
    assert [len(frame.body) for frame in got] == [len(body)]


@pytest.mark.parametrize(
    "bad", [struct.pack("<IB", 100, 2) + bytes(60), struct.pack("<IB", 2**31, 1) + bytes(60), bytes(60)]
)
def test_another_format_is_told_and_not_guessed(bad: bytes) -> None:
    with pytest.raises(Failed, match="a frame of format"):
        frames.Reader().feed(bad)
