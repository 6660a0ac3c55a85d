"""One version of a model: how good it was when it was made, what it takes, what it passed, where it came from."""

from __future__ import annotations

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from stead import deployments, environments, gates, lineage, models, pipelines, serving
from stead.config.units import figure
from stead.environments import Difference
from stead.errors import NotFound
from stead.models import LoggedModel, Version
from stead.store import Store
from stead.web.frame import day, render, store_of
from stead.web.lineage import lineage_of, picture
from stead.web.models import VERDICTS, state_of

EXAMPLE = "input_example.json"
EXAMPLE_CHARS = 1_500
AGAIN = {"identical": "ok", "tolerance": "ok", "different": "bad"}


def one(request: Request) -> Response:
    """`/models/{model}/versions/{version}`"""
    store, name = store_of(request), request.path_params["model"]
    version = models.get_version(store, f"{name}@{request.path_params['version']}")
    logged = models.get_logged_model(store, version.logged_model)
    model = models.get_model(store, name)
    made = [d for d in deployments.list_deployments(store, model=name, limit=200) if d.version == version.version]
    origin = lineage.trace(store, f"version:{version.ref}")
    again = pipelines.list_reproductions(store, name, version=version.version)
    chip, state = state_of(version, made[0] if made else None)
    differences, same = apart_and_same(store, version, logged)
    return render(
        request,
        "version.html",
        title=f"{name} v{version.version}",
        crumbs=[("Models", "/models"), (name, f"/models/{name}")],
        crumb=f"v{version.version}",
        data={"version": version, "logged_model": logged, "lineage": origin, "reproductions": again},
        version=version,
        model=model,
        logged=logged,
        chip=chip,
        state=state,
        why=hold_outs(logged.metrics, model.loss),
        trained_on=trained_on(logged),
        inputs=(logged.signature or {}).get("inputs", []),
        describe=describe,
        outputs=[describe(each) for each in (logged.signature or {}).get("outputs", [])],
        example=example(store, logged),
        verdicts=gates.list_verdicts(store, name, version=version.version),
        verdict_chips=VERDICTS,
        again=again,
        again_chips=AGAIN,
        signatures=models.list_signatures(store, version.ref),
        deployments=made,
        differences=differences,
        same=same,
        environment=environments.get(store, logged.environment),
        libraries=logged.info.get("libraries", {}),
        lineage=picture(origin, but=("decision",)),
        lineage_href=lineage_of(origin.start),
        fast=serving.get_fast_path(store, name, version.version),
        taken=(route := serving.get_route(store, name)) is not None and version.version in route.fast,
        size=sum(file.bytes for file in logged.files.values()),
        pickle=bool(logged.info.get("pickle")),
    )


def hold_outs(metrics: dict[str, float], loss: str) -> tuple[str, str] | None:
    """Both hold-outs in a sentence, and why they differ; None where they were not made."""
    random, time = metrics.get("holdout_random"), metrics.get("holdout_time")
    if random is None or time is None:
        return None
    told = f"On rows held out at random its {loss} is {figure(random)}, on the newest rows {figure(time)}."
    if time > random * 1.05:
        return told, (
            "A random row has neighbours from the same days among those it learned from; the newest rows have none, as in service, "
            "so expect the second."
        )
    if time < random * 0.95:
        return told, "The newest rows happen to be easier than the rest; in service expect neither to hold for sure."
    return told, "Both agree: nothing here says that its rows change with time."


def trained_on(logged: LoggedModel) -> str:
    """Dataset and times that it learned from."""
    found = logged.info.get("trained_on") or {}
    if not found:
        return ""
    since, until = found.get("since"), found.get("until")
    span = "".join(
        [f", from {day(since)}" if since is not None else "", f", before {day(until)}" if until is not None else ""]
    )
    return f"{found.get('dataset', '')}{span}"


def describe(spec: dict[str, object], *, named: bool = True) -> str:
    """One input or output of the signature: name and type, or the type and shape of a tensor."""
    tensor = spec.get("tensor-spec")
    if isinstance(tensor, dict):
        return f"{tensor.get('dtype')} {tensor.get('shape')}"
    return " ".join(str(spec[key]) for key in (("name", "type") if named else ("type",)) if spec.get(key))


def example(store: Store, logged: LoggedModel) -> str:
    """The input example as text, cut where it is long."""
    file = logged.files.get(EXAMPLE)
    if file is None or file.bytes > 1 << 20:
        return ""
    try:
        text = msgspec.json.format(store.blobs.get(file.digest), indent=1).decode()
    except (msgspec.DecodeError, UnicodeDecodeError, NotFound):
        return ""
    return text if len(text) <= EXAMPLE_CHARS else text[:EXAMPLE_CHARS] + "\n…"


def apart_and_same(store: Store, version: Version, logged: LoggedModel) -> tuple[list[Difference], list[Difference]]:
    """What differs between training and serving, then packages that this machine's interpreter has in another version; and the rest of what training had."""
    found = environments.compare(
        store,
        [logged.environment, version.serving_environment],
        here=True,
        variables=[logged.info.get("train_env", {}), version.serving_env],
        equal=True,
        facts=[logged.info.get("facts", {})],
    )
    told = [row for row in found if row.matters and (row.kind != "variable" or row.values[0] != row.values[1])]
    same = [row for row in found if row not in told and row.values[0] is not None]
    return sorted(told, key=lambda row: row.values[0] == row.values[1]), same


ROUTES = [("/models/{model}/versions/{version:int}", one, ["GET"])]
