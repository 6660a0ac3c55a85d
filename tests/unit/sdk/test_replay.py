"""Replay: what it refuses before anything is sent."""

from __future__ import annotations

import math
from typing import Any, cast

import pyarrow as pa
import pytest

from stead.errors import InvalidInput
from stead.sdk.replay import replay


@pytest.mark.parametrize("speed", [0.0, -1.0, math.nan])
def test_a_speed_is_more_than_nothing(speed: float) -> None:
    table = pa.table({"time": pa.array([0], pa.timestamp("ms")), "y": [1.0]})
    with pytest.raises(InvalidInput) as raised:
        replay(cast(Any, None), table, "m", gateway="", time_column="time", target="y", delay_ms=0, speed=speed)
    assert raised.value.code == "speed-invalid"
