"""Building an image: layers of the base, the environment, stead's runtime and the model, and what says how it is run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from stead import __version__
from stead.environments import Environment
from stead.environments.uv import Progress
from stead.images import bases, bom, packages
from stead.images.documents import as_json
from stead.images.keeping import held
from stead.images.layers import CODEC, EPOCH, LEVEL, Entry, tree, write_layer
from stead.images.layout import Layout, moved, spare, used
from stead.images.packages import HOME
from stead.images.reading import OfStore, Reader
from stead.images.types import CONFIG, MANIFEST, Base, Image, Kind, Layer, Platform
from stead.models.logging import checked_path
from stead.runtime import secrets, typed
from stead.runtime.ids import new_id
from stead.runtime.variables import THREADS
from stead.runtime.workfolder import work_folder
from stead.store import Store

PORT = 8080
USER = "65532:65532"
FORMAT = 1
"""Of what this file writes: another number makes kept layers anew."""


@dataclass(frozen=True)
class Contents:
    """What an image holds besides its base: an environment, and of a version its model or, to train, its code."""

    kind: Kind
    environment: Environment
    model: str = ""
    version: int = 0
    files: Mapping[str, str] = field(default_factory=dict)
    """Path → blob."""
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    created_at: int = EPOCH * 1000

    @property
    def name(self) -> str:
        if not self.model:
            return f"localhost/stead/environment:{self.environment.digest[:12]}"
        return f"localhost/stead/{self.model.lower()}:{self.version}{'-train' if self.kind == 'train' else ''}"


def pool(store: Store) -> Layout:
    """The store's layout of images, where layers are kept for the next ones; it may be deleted at any time."""
    return Layout(store.root / "images")


def of_version(reader: Reader, ref: str, kind: Kind = "serve") -> Contents:
    """What the image of a version holds: as it serves, or to train it again. Raises NotFound."""
    version = reader.version(ref)
    logged = reader.logged_model(version.logged_model)
    labels = {
        "org.opencontainers.image.title": version.ref,
        "org.opencontainers.image.description": version.description or f"{version.ref}, made by stead",
        "org.opencontainers.image.version": str(version.version),
        "stead.model": version.model,
        "stead.version": str(version.version),
        "stead.logged-model": logged.id,
        "stead.flavor": logged.flavor,
        "stead.pickle": str(bool(logged.info.get("pickle"))).lower(),
    }
    if version.run_id:
        labels["stead.run"] = version.run_id
    if kind == "serve":
        files = {f"model/{checked_path(path)}": file.digest for path, file in logged.files.items()}
        environment, env = reader.environment(version.serving_environment), version.serving_env
    else:
        files = {f"code/{checked_path(path)}": digest for path, digest in _code(reader, logged.code).items()}
        environment, env = reader.environment(logged.environment), logged.info.get("train_env") or {}
    return Contents(
        kind=kind,
        environment=environment,
        model=version.model,
        version=version.version,
        files=files,
        env=env,
        labels=labels,
        created_at=version.created_at,
    )


def of_environment(environment: Environment) -> Contents:
    """What the image of a training step holds: the environment alone. Its code and rows are mounted."""
    return Contents(kind="train", environment=environment)


def _code(reader: Reader, digest: str | None) -> dict[str, str]:
    if digest is None:
        return {}
    with work_folder("image") as folder:
        reader.fetch(digest, folder / "files.json")
        found: dict[str, str] = msgspec.json.decode((folder / "files.json").read_bytes())
        return found


def build(
    store_or_reader: Store | Reader,
    contents: Contents,
    *,
    layout: Layout,
    base: str,
    platform: Platform,
    say: Progress | None = None,
) -> Image:
    """Build an image into a layout; what it consists of is kept there, so that the next one with the same parts is quick.

    The digest follows from base, contents, platform and this release of stead. Raises what `bases.find`, `packages.install`
    and `write_layer` raise.
    """
    reader = OfStore(store_or_reader) if isinstance(store_or_reader, Store) else store_or_reader
    say = say or (lambda _line: None)
    with held(layout):
        layout.tidy()
        found = bases.find(layout, base, python=contents.environment.python, platform=platform)
        compiler, exact = packages.interpreter(contents.environment.python)
        environment, parts = _environment_layer(
            reader, contents.environment, layout, found, platform, compiler, exact, say
        )
        layers = [environment, _runtime_layer(layout, contents.environment.python, compiler, exact)]
        created = datetime.fromtimestamp(contents.created_at // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        materials = bom.bill(
            name=contents.name,
            version=str(contents.version),
            created=created,
            python=parts,
            base=found,
            files=[(path, "BLAKE3", digest) for path, digest in contents.files.items()],
        )
        say(f"writing the {'model' if contents.kind == 'serve' else 'code'} of {contents.name.rpartition('/')[2]}")
        layers.append(_own_layer(reader, contents, layout, compiler, materials))
        return _written(layout, contents, found, layers, platform, created)


def _environment_layer(
    reader: Reader,
    environment: Environment,
    layout: Layout,
    base: Base,
    platform: Platform,
    compiler: str,
    exact: str,
    say: Progress,
) -> tuple[Layer, list[dict[str, Any]]]:
    key = [FORMAT, environment.digest, platform.architecture, base.python, exact, CODEC, LEVEL]
    if (known := _kept(layout, key)) is not None:
        return known[0], known[1]["packages"]
    with work_folder("image") as work, spare(work):
        say(f"installing {len(environment.packages)} packages for linux/{platform.architecture}")
        target = packages.install(reader, environment, platform, work, say)
        parts = packages.components(target, work / "lock.txt", environment, platform, work / "wheels")
        say("compiling and packing them")
        entries = packages.environment_entries(target, environment, base.python, compiler)
        layer = write_layer(layout, entries, f"environment {environment.digest[:12]}")
    _keep(layout, key, layer, {"packages": parts})
    return layer, parts


def _runtime_layer(layout: Layout, python: str, compiler: str, exact: str) -> Layer:
    entries = list(packages.runtime_entries(compiler))
    content = hashlib.sha256(b"".join(entry.path.encode() + _data(entry) for entry in entries)).hexdigest()
    key = [FORMAT, "runtime", content, python, exact, CODEC, LEVEL]
    if (known := _kept(layout, key)) is not None:
        return known[0]
    layer = write_layer(layout, entries, f"stead {__version__}")
    _keep(layout, key, layer, {})
    return layer


def _data(entry: Entry) -> bytes:
    return entry.data if isinstance(entry.data, bytes) else entry.data.read_bytes()


def _own_layer(
    reader: Reader, contents: Contents, layout: Layout, compiler: str, materials: Mapping[str, Any]
) -> Layer:
    with work_folder("image") as folder, spare(folder):
        for path, digest in contents.files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            reader.fetch(digest, folder / path)
        if contents.files:
            packages.compile_files(folder, f"/{HOME}", compiler)
        about = {"model": contents.model, "version": contents.version, "stead": __version__, "kind": contents.kind}
        about["environment"] = contents.environment.digest
        entries = [
            *tree(folder, HOME),
            Entry(f"{HOME}/image.json", as_json(about)),
            Entry(bom.PATH, as_json(materials)),
        ]
        return write_layer(layout, entries, contents.labels.get("org.opencontainers.image.title", "what it holds"))


def configuration(
    contents: Contents, base: Base, layers: list[Layer], platform: Platform, created: str
) -> dict[str, Any]:
    """What says how the image is run. Secrets stay out of it: their variables are listed, and given when it is run."""
    told = base.config.get("config") or {}
    env = dict(line.partition("=")[::2] for line in told.get("Env") or ())
    env["PATH"] = f"/{HOME}/env/bin:{env.get('PATH', '/usr/local/bin:/usr/bin:/bin')}"
    env |= {"LANG": "C.UTF-8", "TZ": "UTC", **dict.fromkeys(THREADS, "1"), "HOME": "/tmp"}
    env |= {
        "PYTHONPATH": f"/{HOME}/runtime",
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    env |= {name: value for name, value in contents.env.items() if not secrets.is_reference(value)}
    if hidden := sorted(name for name, value in contents.env.items() if secrets.is_reference(value)):
        env[secrets.NAMES] = ",".join(hidden)
    labels = {
        **(told.get("Labels") or {}),
        "org.opencontainers.image.created": created,
        "org.opencontainers.image.base.digest": base.digest,
        **({"org.opencontainers.image.base.name": base.name} if base.name else {}),
        "stead.release": __version__,
        "stead.environment": contents.environment.digest,
        "stead.python": contents.environment.python,
        "stead.sbom": f"/{bom.PATH}",
        **contents.labels,
    }
    run = ["-m", "stead.runtime.server", f"/{HOME}"] if contents.kind == "serve" else ["-m", "stead.runtime.step"]
    history = [entry for entry in base.config.get("history") or () if isinstance(entry, dict)]
    if sum(not entry.get("empty_layer") for entry in history) != len(base.layers):
        history = [{"created": created, "created_by": "base"} for _ in base.layers]
    return {
        "architecture": platform.architecture,
        "os": "linux",
        "created": created,
        "config": {
            "User": USER,
            "Env": [f"{name}={value}" for name, value in sorted(env.items())],
            "Entrypoint": [f"/{HOME}/env/bin/python", *run],
            "WorkingDir": "/tmp",
            "Labels": dict(sorted(labels.items())),
            "StopSignal": "SIGTERM",
            **({"ExposedPorts": {f"{PORT}/tcp": {}}} if contents.kind == "serve" else {}),
        },
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in (*base.layers, *layers)]},
        "history": [
            *history,
            *({"created": created, "created_by": "stead image build", "comment": layer.said} for layer in layers),
        ],
    }


def _written(
    layout: Layout, contents: Contents, base: Base, layers: list[Layer], platform: Platform, created: str
) -> Image:
    config = layout.put(as_json(configuration(contents, base, layers, platform, created)), CONFIG)
    every = [*base.layers, *layers]
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.as_dict(),
        "layers": [layer.blob.as_dict() for layer in every],
        "annotations": {
            "org.opencontainers.image.created": created,
            "org.opencontainers.image.base.digest": base.digest,
            **({"org.opencontainers.image.base.name": base.name} if base.name else {}),
        },
    }
    digest = layout.put(as_json(manifest), MANIFEST).digest
    return Image(
        name=contents.name,
        digest=digest,
        config=config.digest,
        platform=f"linux/{platform.architecture}",
        bytes=sum(layer.blob.size for layer in every),
        kind=contents.kind,
        model=contents.model,
        version=contents.version,
        base=base.digest,
        layout=str(layout.folder),
    )


# layers that were made before


def _note(layout: Layout, key: list[Any]) -> Path:
    return layout.folder / "layers" / f"{hashlib.sha256(as_json(key)).hexdigest()}.json"


def _kept(layout: Layout, key: list[Any]) -> tuple[Layer, dict[str, Any]] | None:
    with suppress(FileNotFoundError, ValueError, KeyError):
        told = json.loads(_note(layout, key).read_bytes())
        layer = typed.convert(told["layer"], Layer)
        if layout.has(layer.blob):
            used(_note(layout, key))
            return layer, told
    return None


def _keep(layout: Layout, key: list[Any], layer: Layer, more: Mapping[str, Any]) -> None:
    note = _note(layout, key)
    with spare(note):
        note.parent.mkdir(parents=True, exist_ok=True)
        building = note.with_name(f".{note.name}-{new_id()[-12:]}")
        building.write_bytes(as_json({"layer": msgspec.to_builtins(layer), **more}))
        moved(building, note, "images.note")
