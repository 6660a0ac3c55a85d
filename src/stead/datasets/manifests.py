"""A manifest: the parts of a version in order, and the exact schema of its frames; its own bytes are in the blob store."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from stead.datasets.types import Part
from stead.errors import Failed
from stead.store import Store

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 1


@dataclass(frozen=True)
class Manifest:
    """What makes a version that version: the same content in the same order has the same digest."""

    parts: list[Part] = field(default_factory=list)
    time_column: str | None = None
    schema: str = ""
    """Arrow's IPC message of the schema, base64; empty for a version of files."""
    format: int = FORMAT


def put(store: Store, manifest: Manifest) -> str:
    return store.blobs.put(msgspec.json.encode(manifest, order="sorted"))


def get(store: Store, digest: str) -> Manifest:
    """Raises Failed (`manifest-unreadable`), and what `Blobs.get` raises."""
    try:
        manifest = msgspec.json.decode(store.blobs.get(digest), type=Manifest)
    except msgspec.DecodeError as error:
        raise Failed("manifest-unreadable", f"{digest[:12]} is no manifest of a dataset: {error}") from None
    if manifest.format != FORMAT:
        raise Failed(
            "manifest-unreadable",
            f"the manifest {digest[:12]} has format {manifest.format}",
            hint="pip install -U stead",
        )
    return manifest


def packed(schema: pa.Schema) -> str:
    return base64.b64encode(schema.serialize()).decode()


def unpacked(text: str) -> pa.Schema:
    import pyarrow as pa

    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))
