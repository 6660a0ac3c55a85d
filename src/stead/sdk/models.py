"""From a fitted model in this process to a version in the registry, and from there to predictions."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from stead.config import checked_name
from stead.errors import KINDS, InvalidInput, SteadError, Unreachable, from_dict
from stead.runtime import computing, typed
from stead.runtime.sdk import tell
from stead.sdk import connection, tracking

if TYPE_CHECKING:
    from stead.api import Caller
    from stead.models import Version


def log_model(
    model: Any,
    name: str,
    *,
    input_example: Any = None,
    predict_fn: str = "predict",
    code: Sequence[str | Path] = (),
    features: str | None = None,
    metrics: Mapping[str, float] | None = None,
    loss: str | None = None,
    description: str = "",
    quiet: bool = False,
) -> Version:
    """Register a fitted model as the next version of `name`, with the environment that this interpreter is.

    `model` is the model itself, or the path of a folder that MLflow saved one to, or of an `.onnx` file. `input_example` are some rows as the
    model takes them: they give the signature, and a gate asks for the same answers where it serves. `features` is
    `module:function` from the files of `code`: the version then takes raw columns. The active run, where there is one,
    becomes the version's run. What this process computes with is kept, but of a saved model only in a run. Serving it is another step: `stead deploy NAME`.
    """
    from stead.runtime import formats

    checked_name(name)
    caller = connection.caller()
    run = tracking.active()
    with tempfile.TemporaryDirectory(prefix="stead-model-") as place:
        folder = Path(place) / "model"
        path = Path(model) if isinstance(model, (str, Path)) else None
        if path is not None and not (path.suffix == ".onnx" and path.is_file()):
            if predict_fn != "predict" or code or features:
                raise InvalidInput("model-invalid", "a saved model has its own predict_fn, code and features")
            info = formats.adopt(path, folder, input_example=input_example)
        else:
            info = formats.save(
                model if path is None else path,
                folder,
                input_example=input_example,
                predict_fn=predict_fn,
                code=[Path(file) for file in code],
                features=features,
                metadata={"run_id": run.id} if run else None,
            )
        if not quiet:
            tell("locking this environment; the first time takes a while")
        environment = _lock(caller, info.get("requires", ()), Path(place))
        files = {
            file.relative_to(folder).as_posix(): {"digest": caller.put_blob(file), "bytes": file.stat().st_size}
            for file in sorted(folder.rglob("*"))
            if file.is_file()
        }
    if path is None or run is not None:  # a saved model without a run may have been fitted anywhere
        info = {**info, "facts": computing.facts()}
    logged = caller.call(
        "models.log_files",
        files=_typed_files(files),
        name=name,
        run_id=run.id if run else None,
        environment=environment,
        metrics=dict(metrics) if metrics else None,
        info=info,
    )
    version: Version = caller.call(
        "models.register", model=name, logged_model=logged.id, loss=loss, description=description
    )
    if run is not None:
        run.log_environment(environment)
        run.set_tags({"stead.model": version.ref})
    if not quiet:
        tell(f"registered {version.ref}; next: stead deploy {name}")
    return version


def predict(name: str, rows: Any, *, timeout_s: float = 30.0) -> list[Any]:
    """Predictions of the deployed version of a model for rows: a frame, a list of mappings, one mapping, or an array.

    A missing value (None, NaN) is sent as null; infinity is refused, since JSON has no word for it (`rows-infinite`).
    """
    import httpx

    settings = connection.settings()
    checked_name(name)
    url = f"{_gateway(str(settings.url), settings.gateway_port)}/predict/{name}"
    try:
        body = msgspec.json.encode({"rows": finite_rows(as_rows(rows))}, enc_hook=_plain)
    except UnicodeEncodeError:
        raise InvalidInput("text-invalid", "a text has characters that cannot be sent") from None
    try:
        headers = {"content-type": "application/json"}
        if settings.token:
            headers["authorization"] = f"Bearer {settings.token}"
        answer = httpx.post(url, content=body, headers=headers, timeout=timeout_s, trust_env=False)
    except httpx.TransportError as error:
        raise Unreachable(
            "gateway-unreachable", f"the gateway {url} does not answer: {error}", hint=f"stead deploy {name}"
        ) from None
    if answer.status_code >= 400:
        raise _error(answer.content, f"{url} answered {answer.status_code}")
    predictions: list[Any] = msgspec.json.decode(answer.content)["predictions"]
    return predictions


def as_rows(rows: Any) -> list[Any]:
    """Rows as the gateway takes them.

    >>> as_rows({"hour": 8}), as_rows([{"hour": 8}])
    ([{'hour': 8}], [{'hour': 8}])
    """
    if isinstance(rows, Mapping):
        return [dict(rows)]
    if hasattr(rows, "to_dict") and hasattr(rows, "columns"):
        return list(rows.to_dict("records"))
    if hasattr(rows, "tolist"):
        rows = rows.tolist()
    if not isinstance(rows, Sequence) or isinstance(rows, (str, bytes)):
        raise InvalidInput("rows-invalid", f"rows are a frame, mappings or an array, not {type(rows).__name__}")
    return list(rows)


def finite_rows(rows: list[Any]) -> list[Any]:
    """The rows, where no value is infinite: it would go out as null. Raises InvalidInput (`rows-infinite`).

    >>> finite_rows([{"a": float("nan")}, [1, "x"]])
    [{'a': nan}, [1, 'x']]
    """
    for place, row in enumerate(rows):
        listed = row if isinstance(row, (list, tuple)) else ()
        values: Iterable[tuple[Any, Any]] = row.items() if isinstance(row, Mapping) else enumerate(listed)
        for name, value in values:
            if not isinstance(value, int) and isinstance(value, Real) and math.isinf(value):
                raise InvalidInput(
                    "rows-infinite",
                    f"row {place} has {value} in {name!r}, which JSON has no word for",
                    hint="send None where the value is missing, or a finite number",
                )
    return rows


def _lock(caller: Caller, requires: Sequence[str], place: Path) -> str:
    """The digest of the running environment's lock, in the store that the caller leads to."""
    from stead import environments
    from stead.api import Embedded

    if isinstance(caller, Embedded):
        return environments.lock_running(caller.store, extra=requires).digest
    draft = environments.draft_running(place / "lock", extra=requires)
    from stead.environments.locking import wheel_of

    wheels = [wheel_of(path, caller.put_blob(path)) for path in draft.wheels]
    lock = caller.put_blob(draft.lock.encode())
    kept = caller.call(
        "environments.add",
        lock=lock,
        python=draft.python,
        platform=draft.platform,
        wheels=wheels,
        source=draft.source,
    )
    return str(kept.digest)


def _typed_files(files: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    from stead.models.types import ModelFile

    return typed.convert(files, dict[str, ModelFile])


def _gateway(url: str, port: int) -> str:
    """The gateway stands beside the server.

    >>> _gateway("https://ml.example:7700", 7701), _gateway("", 7701)
    ('https://ml.example:7701', 'http://127.0.0.1:7701')
    """
    import httpx

    if not url:
        return f"http://127.0.0.1:{port}"
    return str(httpx.URL(url).copy_with(port=port, path="/", query=None)).rstrip("/")


def _error(body: bytes, otherwise: str) -> SteadError:
    try:
        told = msgspec.json.decode(body)
        if told["error"]["kind"] in KINDS:
            return from_dict(told)
    except (msgspec.DecodeError, KeyError, TypeError):
        pass
    return Unreachable("gateway-odd", f"{otherwise}: {body[:200].decode('utf-8', 'replace')}")


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "isoformat"):
        return value.isoformat()
    raise InvalidInput("rows-invalid", f"a row holds a {type(value).__name__}")
