"""Logged models: a folder in the MLmodel layout, kept by content, with or without a place in the registry."""

from __future__ import annotations

import math
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from stead import environments
from stead.config import checked_name
from stead.errors import Failed, InvalidInput, NotFound
from stead.models.tables import logged_models, versions
from stead.models.types import LoggedModel, ModelFile
from stead.runtime.clock import now_ms
from stead.runtime.failpoints import check_registered, failpoint
from stead.runtime.formats import checks
from stead.runtime.formats.predicting import config_of_texts
from stead.runtime.ids import new_id
from stead.store import Store, checked_limit, digest_of, from_row

LARGEST_DESCRIPTION = 8 << 20
LARGEST_PICKLE = 64 << 20
"""A larger one is looked through only where it is loaded."""


def log_model(
    store: Store,
    folder: Path,
    *,
    name: str,
    environment: str,
    run_id: str | None = None,
    code: str | None = None,
    metrics: Mapping[str, float] | None = None,
    info: Mapping[str, Any] | None = None,
    model_id: str | None = None,
) -> LoggedModel:
    """Store the files of a folder and log it as a model; `environment` is the digest of the one it was made in.

    With `model_id` the same call twice logs once. Raises InvalidInput (`path-invalid`, `model-invalid`, `name-invalid`),
    NotFound (`model-missing`, `environment-unknown`).
    """
    folder = Path(folder)
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise InvalidInput("path-invalid", f"{path.relative_to(folder)} is a link; a model holds files only")
        if path.is_file() and "__pycache__" not in path.parts:
            files[path.relative_to(folder).as_posix()] = ModelFile(store.blobs.put(path), path.stat().st_size)
    return log_files(
        store,
        files,
        name=name,
        environment=environment,
        run_id=run_id,
        code=code,
        metrics=metrics,
        info=info,
        model_id=model_id,
    )


def log_files(
    store: Store,
    files: Mapping[str, ModelFile],
    *,
    name: str,
    environment: str,
    run_id: str | None = None,
    code: str | None = None,
    metrics: Mapping[str, float] | None = None,
    info: Mapping[str, Any] | None = None,
    model_id: str | None = None,
) -> LoggedModel:
    """Log a model whose files are in the blob store already. Raises as `log_model` does, and NotFound (`blob-missing`)."""
    checked_name(name)
    if model_id is not None and not re.fullmatch(r"m-[0-9a-f]{32}", model_id):
        raise InvalidInput("model-id-invalid", f"{model_id!r} is not m- and 32 hexadecimal digits")
    sizes = {checked_path(path): ModelFile(file.digest, store.blobs.size(file.digest)) for path, file in files.items()}
    if "MLmodel" not in sizes:
        raise NotFound(
            "model-missing", "the files are no model: there is no MLmodel", hint="stead.log_model(model, name)"
        )
    config = _description(store, sizes)
    row = {
        "id": model_id or f"m-{new_id()}",
        "name": name,
        "run_id": run_id,
        "status": "ready",
        "flavor": config["flavor"],
        "files": msgspec.to_builtins(dict(sorted(sizes.items()))),
        "signature": config["signature"],
        "environment": environments.get(store, environment).digest,
        "code": code,
        "metrics": {key: float(value) for key, value in (metrics or {}).items() if math.isfinite(value)},
        "info": msgspec.json.decode(msgspec.json.encode({**(info or {}), "pickle": config["pickle"]})),
        "created_at": now_ms(),
    }
    with store.db.write("models.log") as tx:
        store.db.upsert(tx, logged_models, row, ["id"], update=[])
    return get_logged_model(store, row["id"])


def _description(store: Store, files: Mapping[str, ModelFile]) -> dict[str, Any]:
    texts = {}
    for path in ("MLmodel", "stead/model.json"):
        if path in files:
            if files[path].bytes > LARGEST_DESCRIPTION:
                raise InvalidInput("model-invalid", f"{path} has {files[path].bytes} bytes, which is no description")
            texts[path] = store.blobs.get(files[path].digest).decode(errors="replace")
    config = config_of_texts(texts, files)
    if (file := files.get(str(config["data"]))) is not None:
        _check_data(store, str(config["data"]), file, config)
    return config


def _check_data(store: Store, name: str, file: ModelFile, config: Mapping[str, Any]) -> None:
    """Refuse a file of another format than the description says, and a pickle that would start programs.

    Its bytes are looked at; nothing of them is executed. One that is cut off is told where it is loaded.
    """
    try:
        if config["format"] not in ("pickle", "cloudpickle"):
            checks.check_bytes(name, config["format"], next(store.blobs.stream(file.digest), b"")[:8])
        elif file.bytes <= LARGEST_PICKLE:
            checks.check_pickled(name, store.blobs.get(file.digest))
    except checks.CutOff:
        return
    except checks.NotAsSaid as error:
        raise InvalidInput(
            "model-invalid", str(error), hint="save the model again, from where it was trained"
        ) from None


def checked_path(path: str) -> str:
    """A relative path that stays inside its folder. Raises InvalidInput (`path-invalid`).

    >>> checked_path("code/demand.py")
    'code/demand.py'
    """
    parts = path.split("/")
    if (
        not path
        or len(path) > 1000
        or any(part in ("", ".", "..") for part in parts)
        or any(c in path for c in "\\\0\r\n")
        or re.match(r"[A-Za-z]:", path)
    ):
        raise InvalidInput(
            "path-invalid", f"{path!r} is not a path inside a model", hint="a relative path, such as code/a.py"
        )
    return path


def get_logged_model(store: Store, id: str) -> LoggedModel:  # noqa: A002
    """A logged model by its id. Raises NotFound (`logged-model-unknown`)."""
    with store.db.read() as tx:
        row = tx.execute(sa.select(logged_models).where(logged_models.c.id == id)).mappings().first()
    if row is None:
        raise NotFound("logged-model-unknown", f"there is no logged model {id!r}", hint="stead models list")
    return from_row(row, LoggedModel)


def list_logged_models(
    store: Store, *, run_id: str | None = None, model: str | None = None, limit: int = 100
) -> list[LoggedModel]:
    """Logged models, newest first; of one run, with `run_id`; with `model`, what its versions were registered from."""
    query = (
        sa.select(logged_models)
        .order_by(logged_models.c.created_at.desc(), logged_models.c.id.desc())
        .limit(checked_limit(limit))
    )
    if run_id is not None:
        query = query.where(logged_models.c.run_id == run_id)
    if model is not None:
        registered = sa.select(versions.c.logged_model).where(versions.c.model == model)
        query = query.where(logged_models.c.id.in_(registered))
    with store.db.read() as tx:
        return [from_row(row, LoggedModel) for row in tx.execute(query).mappings()]


def materialise(store: Store, id: str) -> Path:  # noqa: A002
    """The MLmodel folder of a logged model on this machine, made whole or not at all, and kept.

    Raises NotFound (`logged-model-unknown`, `blob-missing`), Failed (`blob-corrupt`, `disk-full`).
    """
    if not re.fullmatch(r"m-[0-9a-f]{32}", id):
        raise NotFound("logged-model-unknown", f"there is no logged model {id!r}", hint="stead models list")
    target = store.root / "cache" / "models" / id
    return target if target.is_dir() else write_folder(store, get_logged_model(store, id).files, target)


def write_folder(store: Store, files: Mapping[str, ModelFile], target: Path) -> Path:
    """Write stored files as a folder, whole or not at all; one that is there stays. Raises as `materialise` does."""
    if target.is_dir():
        return target
    building = target.parent / f".{target.name}-{new_id()[-12:]}"
    check_registered("models.materialise")
    try:
        for path, file in files.items():
            place = building / checked_path(path)
            store.blobs.fetch(file.digest, place)
            if digest_of(place) != file.digest:
                raise Failed(
                    "blob-corrupt",
                    f"the bytes of {path} of {target.name} are not what was logged",
                    hint="restore them from a backup",
                )
        failpoint("models.materialise:before")
        try:
            os.rename(building, target)
        except OSError:
            if not target.is_dir():  # else another process was quicker
                raise
        failpoint("models.materialise:after")
    except OSError as error:
        raise Failed(
            "disk-full", f"could not write {target}: {error.strerror}", hint="free space and try again"
        ) from None
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return target
