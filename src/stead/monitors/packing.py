"""Histograms of many columns as a few bytes: integers in MessagePack, squeezed."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import msgspec

from stead.stats.histograms import Histogram

Columns = dict[str, Histogram]
"""By name: `features.NAME`, and `output` for what the model answers."""

_decode = msgspec.msgpack.Decoder(list[dict[str, tuple[tuple[int, ...], int, int]]]).decode


def pack(parts: Sequence[Mapping[str, Histogram]]) -> bytes:
    """
    >>> unpack(pack([{"a": Histogram((1, 0, 2), 5, 6)}]))
    [{'a': Histogram(counts=(1, 0, 2), total=5, squares=6)}]
    """
    plain = [{name: (h.counts, h.total, h.squares) for name, h in part.items()} for part in parts]
    return zlib.compress(msgspec.msgpack.encode(plain), 6)


def unpack(data: bytes) -> list[Columns]:
    return [
        {name: Histogram(counts, total, squares) for name, (counts, total, squares) in part.items()}
        for part in _decode(zlib.decompress(data))
    ]
