"""Cutting by content: where bytes were put in or taken out only the pieces around them are other ones, all others stay the same.

FastCDC of 2020 (Xia et al., IEEE TPDS 31), by `pyfastcdc`. What a cut depends on is written here once: with other sizes the same
bytes would be cut elsewhere and stored again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

LEAST, USUAL, MOST = 16 << 10, 64 << 10, 256 << 10


def cut(data: bytes | memoryview, *, end: bool = True) -> Iterator[memoryview]:
    """The chunks of bytes as views of them; where they are cut depends on the bytes alone.

    Where the bytes are not the `end` of what is cut, the last chunk is left out: put before what comes next, it may go on there.

    >>> data = bytes(range(256)) * 4000
    >>> some = list(cut(data[:700_000], end=False))
    >>> done = sum(map(len, some))
    >>> [*some, *cut(data[done:])] == list(cut(data)), b"".join(cut(data)) == data
    (True, True)
    """
    from pyfastcdc import FastCDC

    cutter: Any = FastCDC(USUAL, min_size=LEAST, max_size=MOST, seed=0)
    last: memoryview | None = None
    for chunk in cutter.cut_buf(data):
        if last is not None:
            yield last
        last = chunk.data
    if last is not None and end:
        yield last
