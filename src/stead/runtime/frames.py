"""What gateway and worker say to each other: length-prefixed binary frames over a socket pair.

A frame is a head, then the name of the model version (`demand@3`), the prediction id, a part and a body:

    u32 bytes that follow · u8 format · u8 kind · u8 protocol · u8 flags · u64 number · u16 status · u16 name bytes ·
    u16 id bytes · u16 cost · u32 header length · u32 part bytes | name | id | part | body        (little endian)

`number` ties an answer to its request. `cost` is the processor time of the batch that it was in, in tenths of milliseconds. `protocol` is an index into `protocols.PROTOCOLS`. A worker answers frames of its
own format only; the gateway starts each worker from its own release, so the two agree, and a mismatch is told, not guessed.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from stead.errors import Failed

FORMAT = 1
MAX_FRAME = 1 << 30

# to the worker
LOAD = 1  # part: path of the MLmodel folder
UNLOAD = 2
PREDICT = 3  # body as the client sent it
EXPLAIN = 4  # the same, answered with features and outputs
# from the worker
HELLO = 16  # it listens; body: JSON facts about the interpreter
LOADED = 17  # body: JSON facts about the model
ANSWER = 18  # status, part: MessagePack list of outputs, body: what the client gets
ERROR = 19  # status, body: JSON of a SteadError

ALONE = 1
"""Flag of a PREDICT frame: answer it by itself, in no batch. A frame that was under way when a worker died carries it."""

_HEAD = struct.Struct("<IBBBBQHHHHII")
_SIZE = struct.Struct("<I")
_FIXED = _HEAD.size - _SIZE.size


class Frame(NamedTuple):
    kind: int
    number: int
    name: bytes
    id: bytes
    protocol: int
    flags: int
    status: int
    header_length: int
    cost: int
    part: bytes
    body: bytes


def pack(
    kind: int,
    number: int,
    name: bytes,
    *,
    prediction_id: bytes = b"",
    protocol: int = 0,
    flags: int = 0,
    status: int = 0,
    header_length: int = 0,
    cost: int = 0,
    part: bytes = b"",
    body: bytes = b"",
) -> bytes:
    """One frame as bytes.

    >>> frame, = Reader().feed(pack(PREDICT, 7, b"demand@3", body=b"{}"))
    >>> frame.number, frame.name, frame.body
    (7, b'demand@3', b'{}')
    """
    size = _FIXED + len(name) + len(prediction_id) + len(part) + len(body)
    head = _HEAD.pack(
        size,
        FORMAT,
        kind,
        protocol,
        flags,
        number,
        status,
        len(name),
        len(prediction_id),
        cost,
        header_length,
        len(part),
    )
    return b"".join((head, name, prediction_id, part, body))


class Reader:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._have = 0
        self._need = _HEAD.size

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are whole now. Raises Failed (`frame-invalid`) where the other side speaks another format."""
        if self._have:
            # A frame of megabytes comes in many pieces: they are joined once, when it is whole.
            self._pieces.append(data)
            self._have += len(data)
            if self._have < self._need:
                return []
            data = b"".join(self._pieces)
            self._pieces, self._have = [], 0
        frames: list[Frame] = []
        position, end, need = 0, len(data), _HEAD.size
        while end - position >= _HEAD.size:
            size, form, kind, protocol, flags, number, status, name, label, cost, header_length, part = (
                _HEAD.unpack_from(data, position)
            )
            if form != FORMAT or not _FIXED + name + label + part <= size <= MAX_FRAME:
                raise Failed("frame-invalid", f"a frame of format {form} and {size} bytes, where {FORMAT} is spoken")
            if end - position < size + _SIZE.size:
                need = size + _SIZE.size
                break
            at_name = position + _HEAD.size
            at_id = at_name + name
            at_part = at_id + label
            at_body = at_part + part
            position += size + _SIZE.size
            frames.append(
                Frame(
                    kind,
                    number,
                    data[at_name:at_id],
                    data[at_id:at_part],
                    protocol,
                    flags,
                    status,
                    header_length,
                    cost,
                    data[at_part:at_body],
                    data[at_body:position],
                )
            )
        if position < end:
            self._pieces = [data[position:] if position else data]
            self._have = end - position
            self._need = need
        return frames
