"""Cutting by content: where bytes were put in or taken out only the pieces around them are other ones, all others stay the same.

FastCDC of 2020 (Xia et al., IEEE TPDS 31), by `pyfastcdc`. What a cut depends on is written here once: with other sizes the same
bytes would be cut elsewhere and stored again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

LEAST, USUAL, MOST = 16 << 10, 64 << 10, 256 << 10
WINDOW = 32 << 20
"""So much is held at once."""


def cut(pieces: Iterable[bytes]) -> Iterator[memoryview]:
    """The chunks of bytes that come in pieces of any size; where they are cut depends on the bytes alone.

    A chunk is a view of all that was read with it: keep a copy.

    >>> data = bytes(range(256)) * 4000
    >>> chunks = [bytes(chunk) for chunk in cut([data])]
    >>> b"".join(chunks) == data, chunks == [bytes(chunk) for chunk in cut([data[:70_000], data[70_000:]])]
    (True, True)
    """
    from pyfastcdc import FastCDC

    cutter: Any = FastCDC(USUAL, min_size=LEAST, max_size=MOST, seed=0)
    held = b""
    for piece in pieces:
        held = held + piece if held else piece
        if len(held) < WINDOW:
            continue
        *whole, last = cutter.cut_buf(held)
        for chunk in whole:
            yield chunk.data
        held = held[last.offset :]  # it may go on in what comes next
    for chunk in cutter.cut_buf(held) if held else ():
        yield chunk.data
