"""kill -9 while an image is built or written out."""

from __future__ import annotations

import sys
from pathlib import Path

from dying import CONTRACT, Scenario, dies

from stead import images
from stead.images.layout import Layout
from tests.conftest import new_store

sys.path.append(str(CONTRACT / "images"))
from image_parts import built, make_base, register, thin_environment

_BUILD = """
import sys; from pathlib import Path; sys.path.append(sys.argv[1])
from image_parts import built; from tests.conftest import new_store; from stead import images
image = built(new_store(Path(sys.argv[2]) / "store"), Path(sys.argv[2]) / "base", Path(sys.argv[2]) / "pool")
images.export(image, Path(sys.argv[2]) / "out")
images.export(image, Path(sys.argv[2]) / "out")
"""


def _build(root: Path, point: str) -> None:
    store = new_store(root / "store")
    register(store, thin_environment(store))
    make_base(root / "base")
    dies(point, _BUILD, str(CONTRACT / "images"), str(root))
    pool = Layout(root / "pool")
    for path in (root / "pool" / "blobs" / "sha256").glob("[0-9a-f]*"):
        pool.read(f"sha256:{path.name}")  # each is what its name says
    assert (root / "out" / "index.json").is_file() == (point in ("images.export:after", "images.aside:before"))
    image = built(store, root / "base", root / "pool")
    assert image.digest == built(store, root / "base", root / "other").digest
    images.export(image, root / "out")
    assert built(store, root / "out", root / "again").base == image.digest
    store.close()


POINTS: dict[str, Scenario] = dict.fromkeys(("images.aside", "images.blob", "images.note", "images.export"), _build)
