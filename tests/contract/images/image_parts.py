"""Versions, bases and builds for the tests beside this file."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import sys
import tarfile
from pathlib import Path
from typing import Any

from stead import environments, images, models
from stead.images.documents import as_json
from stead.images.layers import Entry, write_layer
from stead.images.layout import Layout
from stead.images.types import CONFIG, INDEX, MANIFEST
from stead.store import Store

AMD64 = images.PLATFORMS["amd64"]
PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
STATUS = """Package: libc6
Status: install ok installed
Version: 2.36-9
Architecture: amd64
SHA256: {0}

Package: gone
Status: deinstall ok config-files
Version: 1
Architecture: amd64
"""


def thin_environment(store: Store) -> str:
    return environments.lock(store, ["msgspec", "threadpoolctl"]).digest


def register(
    store: Store, environment: str, *, env: dict[str, str] | None = None, image: bool = False
) -> models.Version:
    """A version `demand@N` whose model is plain text: it is packed, not run."""
    folder = store.root / "demand-model"
    (folder / "code").mkdir(parents=True, exist_ok=True)
    (folder / "MLmodel").write_text("flavors:\n  python_function:\n    loader_module: demand\n")
    (folder / "code" / "demand.py").write_text("def load():\n    return 42\n")
    code = store.blobs.put(as_json({"demand.py": store.blobs.put(b"def train(X, y):\n    return 1\n")}))
    logged = models.log_model(store, folder, name="demand", environment=environment, code=code)
    return models.register(store, "demand", logged.id, serving_env=env, serving_image=image)


def make_base(
    target: Path,
    *,
    python: str = PYTHON,
    files: tuple[Entry, ...] = (),
    architectures: tuple[str, ...] = ("amd64",),
    config: Any = None,
    layer_size: Any = None,
) -> Path:
    """An OCI layout as another tool would write it; or as none would, with another configuration or a wrong size."""
    layout = Layout(target)
    manifests = []
    for architecture in architectures:
        entries = [Entry(f"usr/bin/python{python}", b"#!interpreter", 0o755), *files]
        entries.append(Entry("var/lib/dpkg/status", STATUS.format("a" * 64).encode()))
        layer = write_layer(layout, entries, "base")
        usual = {
            "architecture": architecture,
            "os": "linux",
            "config": {"Env": ["PATH=/usr/bin", "GREETING=hello"], "Cmd": ["sh"], "Labels": {"vendor": "us"}},
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
        }
        told = usual | config if isinstance(config, dict) else config or usual
        told = json.dumps(told).encode() if not isinstance(told, bytes) else told
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": layout.put(told, CONFIG).as_dict(),
            "layers": [layer.blob.as_dict() | ({"size": layer_size} if layer_size is not None else {})],
        }
        entry = layout.put(as_json(manifest), MANIFEST).as_dict()
        manifests.append(entry | {"platform": {"os": "linux", "architecture": architecture}})
    (target / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (target / "index.json").write_bytes(as_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}))
    return target


def plain(base: Path) -> images.Image:
    """A base as an image, to send it somewhere."""
    (entry,) = json.loads((base / "index.json").read_text())["manifests"]
    return images.Image("base", entry["digest"], "", "linux/amd64", 0, "serve", "", 1, "", str(base))


def built(store: Store, base: Path | str, pool: Path, ref: str = "demand@1", *, kind: Any = "serve") -> images.Image:
    """Build into a folder of its own, so that nothing is taken from an earlier build."""
    contents = images.of_version(images.OfStore(store), ref, kind)
    return images.build(store, contents, layout=images.Layout(pool), base=str(base), platform=AMD64)


def document(image: images.Image, digest: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(blob(image, digest))
    return found


def blob(image: images.Image, digest: str) -> bytes:
    data = (Path(image.layout) / "blobs" / digest.replace(":", "/")).read_bytes()
    assert f"sha256:{hashlib.sha256(data).hexdigest()}" == digest
    return data


def files(image: images.Image, *, above: int = 1) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    """What lies in the layers above the base, by path; each layer's tar is what the configuration says."""
    layers = document(image, image.digest)["layers"]
    diff_ids = document(image, image.config)["rootfs"]["diff_ids"]
    found = {}
    for layer, diff_id in list(zip(layers, diff_ids, strict=True))[above:]:
        data = gzip.decompress(blob(image, layer["digest"]))
        assert f"sha256:{hashlib.sha256(data).hexdigest()}" == diff_id
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            for member in tar:
                file = tar.extractfile(member) if member.isfile() else None
                found[member.name] = (member, file.read() if file else b"")
    return found
