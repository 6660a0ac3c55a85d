"""`stead predict`, `label`, `predictions`, `replay`."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import click

from stead.cli import output
from stead.cli.common import MOMENT, connect, gateway_url, model_names, project_or_none, read_text, split_ref
from stead.config import duration_ms
from stead.errors import Failed, Forbidden, InvalidInput, Unreachable, did_you_mean
from stead.runtime import keys

if TYPE_CHECKING:
    from stead.api import Caller


@click.command()
@click.argument("ref", metavar="MODEL[@VERSION]", shell_complete=model_names)
@click.option("--row", help="One row as JSON: '{\"sepal_length\": 5.1, …}'.")
@click.option("--file", "file", help="Rows as a JSON list, one JSON object a line, or CSV; - for standard input.")
@output.json_option
def predict(ref: str, row: str | None, file: str | None, as_json: bool) -> Any:
    """Ask MODEL through its gateway."""
    import httpx
    import msgspec

    from stead.sdk.models import finite_rows

    if (row is None) == (file is None):
        raise InvalidInput("rows-missing", "give either --row or --file", hint="stead predict MODEL --row '{\"a\": 1}'")
    model, version = split_ref(ref)
    rows = [_parsed(row, "--row")] if row is not None else _rows(str(file))
    caller = connect()
    path = f"/predict/{model}" + (f"/versions/{version}" if version else "")
    token = caller.settings.token
    headers = {"authorization": f"Bearer {token}"} if token else {}
    headers["content-type"] = "application/json"
    url = gateway_url(caller) + path
    content = msgspec.json.encode({"rows": finite_rows(rows)})  # not a number is null, as in `stead.predict`
    try:
        answer = httpx.post(url, content=content, headers=headers, timeout=60, trust_env=False)
    except httpx.TransportError as error:
        raise Unreachable("gateway-unreachable", f"{url} does not answer: {error}", hint="stead status") from None
    if answer.status_code >= 400:
        body = answer.json()
        from stead.errors import from_dict

        raise from_dict(body) if isinstance(body.get("error"), dict) else Failed("predict-failed", str(body))
    if as_json:
        return answer.json()
    for value in answer.json()["predictions"]:
        print(json.dumps(value))
    output.note(f"version {answer.json()['version']}, prediction id {answer.json()['prediction_id']}")
    return None


def _parsed(text: str, where: str) -> Any:
    try:
        return keys.parse(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput("json-invalid", f"{where} is not JSON: {error}") from None


def _rows(path: str) -> list[Any]:
    text = read_text(path)
    if path.endswith(".csv"):
        import io

        import pyarrow.csv

        alone = pyarrow.csv.ReadOptions(use_threads=False)  # a command that ends at once may not leave threads behind
        return list(pyarrow.csv.read_csv(io.BytesIO(text.encode()), read_options=alone).to_pylist())
    if text.lstrip().startswith("["):
        return list(_parsed(text, path))
    return [_parsed(line, f"{path}, line {number}") for number, line in enumerate(text.splitlines(), 1) if line.strip()]


@click.command()
@click.argument("prediction_id", required=False)
@click.argument("value", required=False)
@click.option(
    "--file",
    "file",
    help="Many: a JSON object {prediction_id, value} a line, or CSV with these columns; - for standard input.",
)
@output.json_option
def label(prediction_id: str | None, value: str | None, file: str | None, as_json: bool) -> Any:
    """Tell the truth about a prediction: stead label ID VALUE. Late, corrected and unknown ones are kept."""
    from stead.predictions import Label, check_labels

    if file is None:
        if prediction_id is None or value is None:
            raise InvalidInput(
                "label-missing", "give a prediction id and a value, or --file", hint="stead label ID VALUE"
            )
        labels = [Label(prediction_id=prediction_id, value=_label_value(value))]
    else:
        labels = [_label(row, number) for number, row in enumerate(_rows(file), 1)]
    check_labels(labels)  # a file is refused whole
    caller = connect()
    accepted = unknown = unusable = 0
    for start in range(0, len(labels), 5_000):
        receipt = caller.call("predictions.add_labels", labels=labels[start : start + 5_000])
        accepted, unknown = accepted + receipt.accepted, unknown + receipt.unknown
        unusable += receipt.unusable
    if as_json:
        return {"accepted": accepted, "unknown": unknown, "unusable": unusable}
    print(
        f"{accepted} {'label' if accepted == 1 else 'labels'} kept"
        + (f", {unknown} of predictions that are not known yet" if unknown else "")
    )
    if unusable:
        what = "1 value is a text" if unusable == 1 else f"{unusable} values are texts"
        output.note(f"warning: {what}, which the model's loss cannot use: it goes by numbers")
    return None


def _label_value(text: str) -> Any:
    """What a person means by it: JSON, a number, else the text itself.

    >>> _label_value("3"), _label_value("true"), _label_value("setosa"), _label_value("-inf")
    (3, True, 'setosa', -inf)
    """
    for read in (json.loads, float):
        with suppress(ValueError):
            return read(text)
    return text


def _label(row: Any, number: int) -> Any:
    from stead.predictions import Label

    names = ("prediction_id", "value", "event_time", "source")
    if not isinstance(row, dict) or not {"prediction_id", "value"} <= row.keys():
        raise InvalidInput("label-invalid", f"label {number} has no prediction_id and value", hint="stead label --help")
    if unknown := [name for name in row if name not in names]:
        raise InvalidInput(
            "label-invalid",
            f"label {number} has {unknown[0]!r}, which no label has",
            hint=did_you_mean(str(unknown[0]), names) or f"a label has {', '.join(names)}",
        )
    return Label(**{**row, "event_time": _event_time(row.get("event_time"), number)})


def _event_time(value: Any, number: int) -> Any:
    """A date or a time as everywhere else, in milliseconds; anything else is judged with the label."""
    from stead.runtime.clock import to_ms

    if not isinstance(value, str | date):
        return value
    try:
        return to_ms(value if isinstance(value, str | datetime) else value.isoformat())
    except InvalidInput as error:
        raise InvalidInput(
            "label-time-invalid", f"label {number}: {error.message}", hint=error.hint, position=number - 1
        ) from None


@click.group()
def predictions() -> None:
    """What was answered, and how good it was."""


@predictions.command("list")
@click.argument("model", shell_complete=model_names)
@click.option("--limit", default=20, show_default=True)
@click.option("--version", type=int)
@click.option("--since", type=MOMENT)
@click.option("--until", type=MOMENT)
@output.json_option
def predictions_list(
    model: str, limit: int, version: int | None, since: int | None, until: int | None, as_json: bool
) -> Any:
    """Predictions, newest first, with their labels."""
    found = _of_model(model).call(
        "predictions.list_predictions", model=model, limit=limit, version=version, since=since, until=until
    )
    if as_json:
        return found
    rows = [
        (
            p.id,
            output.when(p.event_time),
            f"v{p.version}",
            p.status,
            f"{p.latency_us / 1000:.1f} ms",
            json.dumps(p.output),
            json.dumps(p.label) if p.label is not None else None,
        )
        for p in found
    ]
    output.table(
        ("prediction", "event time", "version", "status", "took", "answer", "label"),
        rows,
        right=(4, 5, 6),
        empty="no predictions yet",
    )
    return None


@predictions.command("counts")
@click.argument("model", shell_complete=model_names)
@output.json_option
def predictions_counts(model: str, as_json: bool) -> Any:
    """How many were answered, logged, labelled."""
    found = _of_model(model).call("predictions.counts", model=model)
    if as_json:
        return found
    import msgspec

    output.facts(list(msgspec.to_builtins(found).items()))
    return None


@predictions.command("loss")
@click.argument("model", shell_complete=model_names)
@click.option("--since", type=MOMENT)
@click.option("--until", type=MOMENT)
@click.option("--by", type=click.Choice(["day", "month", "quarter", "year"]), default="month", show_default=True)
@output.json_option
def predictions_loss(model: str, since: int | None, until: int | None, by: str, as_json: bool) -> Any:
    """Realised loss by version over event time."""
    caller = _of_model(model)
    with suppress(Forbidden):  # who may only read sees what the agent has joined, at most a second old
        caller.call("predictions.refresh_performance")
    days = caller.call("predictions.performance", model=model, since=since, until=until)
    if as_json:
        return days
    sums: dict[tuple[str, int], list[float]] = {}
    for day in days:
        total = sums.setdefault((_period(day.day, by), day.version), [0, 0, 0.0, 0.0])
        total[0] += day.predictions
        total[1] += day.labelled
        total[2] += day.loss_sum
        total[3] += day.weight_sum
    rows = [
        (period, f"v{version}", int(t[0]), int(t[1]), t[2] / t[3] if t[3] else None)
        for (period, version), t in sorted(sums.items())
    ]
    output.table((by, "version", "predictions", "labelled", "loss"), rows, right=(2, 3, 4), empty="no predictions yet")
    return None


def _of_model(model: str) -> Caller:
    """The caller, for a model that there is. Raises NotFound (`model-unknown`)."""
    caller = connect()
    caller.call("models.get_model", name=model)
    return caller


def _period(day: int, by: str) -> str:
    date = output.when(day)[:10]
    year, month = date[:4], date[5:7]
    return {"day": date, "month": f"{year}-{month}", "quarter": f"{year} Q{(int(month) + 2) // 3}", "year": year}[by]


@click.command()
@click.argument("table")
@click.option("--model", help="Default: the project's only model.", shell_complete=model_names)
@click.option("--since", type=MOMENT, help="Rows at or after this time.")
@click.option("--until", type=MOMENT, help="Rows before this time.")
@click.option(
    "--speed", type=float, help="Event time over wall time (3600: an hour a second); default as fast as it goes."
)
@click.option(
    "--tick",
    default="1d",
    show_default=True,
    help="Rows of one tick go out side by side; labels come at its beginning.",
)
@click.option("--delay", help="When a label is known after its event (24h); default the model's label_delay.")
@click.option("--time", "time_column", help="Column of the event time; default the model's.")
@click.option("--target", help="Column of the label; default the model's.")
@click.option("--connections", type=click.IntRange(1, 256), default=24, show_default=True)
@click.option("--wait-for-people", is_flag=True, help="Let the clock stand still while a version waits for approval.")
@output.json_option
def replay(
    table: str,
    model: str | None,
    since: int | None,
    until: int | None,
    speed: float | None,
    tick: str,
    delay: str | None,
    time_column: str | None,
    target: str | None,
    connections: int,
    wait_for_people: bool,
    as_json: bool,
) -> Any:
    """Send the rows of TABLE (Parquet, CSV, or a dataset version) to MODEL in event-time order, labels after their delay.

    The model's clock stands where the replay is; it waits while a job that was triggered at an event time runs.
    """
    from stead.sdk.replay import Totals, read_table
    from stead.sdk.replay import replay as run

    caller = connect()
    name = model or _only_model()
    settings = caller.call("models.get_model", name=name).settings
    column = time_column or settings.get("time")
    if not column:
        raise InvalidInput("time-missing", f"{name} has no time column", hint="--time COLUMN")
    with output.Bar() as bar:

        def show(totals: Totals) -> None:
            speed_now = totals.answered / totals.seconds if totals.seconds else 0
            shown = (
                f"{totals.answered:,} answered, {totals.failed} failed, {totals.labels:,} labels, {speed_now:,.0f}/s"
            )
            doing = f"{output.when(totals.clock)[:10]} waits for a person: stead approvals"
            bar.show(
                doing if totals.waiting else f"replay {output.when(totals.clock)[:7]}", totals.sent, totals.rows, shown
            )

        totals = run(
            caller,
            read_table(caller, table),
            name,
            gateway=gateway_url(caller),
            time_column=str(column),
            target=target or settings.get("target"),
            delay_ms=duration_ms(delay or str(settings.get("label_delay") or "0h")),
            since=since,
            until=until,
            tick_ms=max(1000, duration_ms(tick)),
            speed=speed,
            connections=connections,
            wait_for_people=wait_for_people,
            on_progress=show,
        )
    if as_json:
        return totals
    print(
        f"{totals.sent} sent, {totals.answered} answered, {totals.failed} failed, {totals.labels} labelled in {totals.seconds:.1f} s"
    )
    if totals.first_error:
        output.note(f"the first failure: {totals.first_error}")
    return None


def _only_model() -> str:
    project = project_or_none()
    names = list(project.models) if project else []
    if len(names) != 1:
        raise InvalidInput("model-missing", "which model? name it", hint="--model NAME")
    return names[0]
