"""`stead train`, `compare`, `backtest`, `jobs`, `wait`."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import click

from stead.cli import output
from stead.cli.common import MOMENT, connect, follow, looks_at, model_names, project_or_none, push_project, split_ref
from stead.config import load_project
from stead.errors import Failed, InvalidInput
from stead.runtime import typed


@click.command()
@click.argument("model", shell_complete=model_names)
@click.option("--since", type=MOMENT, help="Learn from rows at or after this time.")
@click.option("--until", type=MOMENT, help="Ingest and learn from rows before this time; default the model's now.")
@click.option("--data", metavar="DATASET@N", help="Learn from this dataset version instead of ingesting.")
@click.option("--no-wait", is_flag=True, help="Return when the job is queued; an agent does it.")
@output.json_option
def train(model: str, since: int | None, until: int | None, data: str | None, no_wait: bool, as_json: bool) -> Any:
    """Train a new version of MODEL in its pinned environment.

    ingest → features → train → evaluate → register; a step whose code and inputs are unchanged is not run again.
    """
    caller = connect()
    spec = push_project(caller, model).spec
    job = caller.call("pipelines.train", model=model, spec=spec, since=since, until=until, data=data)
    if no_wait:
        output.note(f"job {job.id[-12:]} waits: stead jobs log --follow {job.id[-12:]}")
        return job
    result = follow(caller, job).result or {}
    if as_json:
        return result
    print(f"{result['model']}@{result['version']} is registered; trained on {result['data']}")
    metrics = result["metrics"]
    for name, value in metrics.items():
        print(f"  {name:24} {value:.4f}")
    if {"holdout_random", "holdout_time"} <= metrics.keys():
        ratio = metrics["holdout_time"] / metrics["holdout_random"] if metrics["holdout_random"] else float("nan")
        output.note(
            f"The last fifth in time scores {ratio:.2f} times the loss of a random fifth: the random one has neighbours of its rows "
            "in training and tells how well the model fits; the one in time tells what to expect after today."
        )
    verdicts = caller.call("gates.list_verdicts", model=result["model"], version=result["version"])
    for verdict in reversed(verdicts):
        if verdict.outcome != "skipped":
            print(f"  gate {verdict.gate} {verdict.outcome}: {verdict.summary}")
    level = caller.call("models.get_model", name=result["model"]).level
    refused = [verdict.gate for verdict in reversed(verdicts) if verdict.outcome == "failed"]
    output.note(f"next: {_next(level, result['model'], result['version'], refused)}")
    return None


def _next(level: str, model: str, version: int, refused: Sequence[str]) -> str:
    """What may follow a training: at `record` gates advise, above it a version that they refused needs a person's word.

    >>> _next("record", "m", 2, ["challenger"]), _next("train", "m", 2, [])
    ('stead deploy m', 'stead approve m@2, or stead reject m@2 --reason …')
    >>> _next("deploy", "m", 2, ["challenger"])
    'stead models show m@2; or stead deploy m@2 --override challenger --reason …'
    """
    ref = f"{model}@{version}"
    if level == "record":
        return f"stead deploy {model}"
    if refused:
        overrides = " ".join(f"--override {gate}" for gate in refused)
        return f"stead models show {ref}; or stead deploy {ref} {overrides} --reason …"
    if level == "train":
        return f"stead approve {ref}, or stead reject {ref} --reason …"
    return f"stead explain {model}; it is rolled out by itself inside the bounds"


@click.command()
@click.argument("first", shell_complete=model_names)
@click.argument("second", shell_complete=model_names)
@click.option(
    "--data", metavar="DATASET@N", help="Rows to compare on; default the newest version of the model's dataset."
)
@click.option("--since", type=MOMENT, help="Rows at or after this time.")
@click.option("--until", type=MOMENT, help="Rows before this time.")
@output.json_option
def compare(first: str, second: str, data: str | None, since: int | None, until: int | None, as_json: bool) -> Any:
    """Two versions of a model (demand@1 demand@2) on the same rows, with the uncertainty of the difference."""

    from stead.pipelines import Compared

    for ref in (first, second):
        if split_ref(ref)[1] is None:
            raise InvalidInput(
                "version-missing",
                f"{ref!r} names no version",
                hint=f"stead compare {split_ref(first)[0]}@1 {split_ref(first)[0]}@2",
            )
    caller = connect()
    job = caller.call("pipelines.compare", first=first, second=second, data=data, since=since, until=until)
    found = typed.convert(follow(caller, job).result, Compared)
    if as_json:
        return found
    looks_at(caller, found.model, [found.first, found.second])
    a, b = f"{found.model}@{found.first}", f"{found.model}@{found.second}"
    print(f"{found.rows} rows of {found.dataset} on {found.days} days, {found.loss}:")
    print(f"  {a:20} {found.first_loss:.4f}")
    print(f"  {b:20} {found.second_loss:.4f}")
    sure = "no interval: rows of one day only"
    if found.low is not None and found.high is not None:
        sure = f"95 %: {found.low:+.4f} to {found.high:+.4f}, clustered by day"
    print(f"  difference           {found.difference:+.4f}  ({sure})")
    if found.in_sample:
        names = " and ".join(f"{found.model}@{n}" for n in found.in_sample)
        whose = "its" if len(found.in_sample) == 1 else "their"
        output.note(
            f"warning: {names} learned from some of these rows, so {whose} loss here is too good; compare on rows after {whose} training (--since)"
        )
    print(_better(a, b, found.low, found.high, bool(found.in_sample)))
    return None


def _better(first: str, second: str, low: float | None, high: float | None, learned: bool) -> str:
    """Which of two versions is better by the interval of the second's loss above the first's; what one has learned from it knows too well.

    >>> _better("demand@1", "demand@2", 0.1, 0.3, False), _better("demand@1", "demand@2", -0.1, 0.3, True)
    ('demand@1 is better.', 'These rows do not tell which is better.')
    >>> _better("demand@1", "demand@2", -0.3, -0.1, True)
    'demand@2 is better on rows that were learned from, which says little.'
    """
    better = second if high is not None and high < 0 else first if low is not None and low > 0 else None
    if better is None:
        return "These rows do not tell which is better."
    return f"{better} is better{' on rows that were learned from, which says little' if learned else ''}."


@click.command()
@click.argument("model", shell_complete=model_names)
@click.option("--since", type=MOMENT, required=True, help="Where the first period begins.")
@click.option("--until", type=MOMENT, required=True, help="Where the last period ends.")
@click.option("--every", default="month", show_default=True, help="`month`, or a duration as 7d.")
@click.option("--window", default="365d", show_default=True, help="Rows to learn from each time, or `all`.")
@click.option("--data", metavar="DATASET@N", help="Rows; default the newest version of the model's dataset.")
@output.json_option
def backtest(model: str, since: int, until: int, every: str, window: str, data: str | None, as_json: bool) -> Any:
    """What MODEL would have lost on past rows: trained once, and trained anew every month.

    A yardstick without gates and canaries, on rows that the project's dataset has. Nothing is registered.
    """

    from stead.pipelines import Backtest

    caller = connect()
    spec = push_project(caller, model).spec
    job = caller.call(
        "pipelines.backtest", model=model, spec=spec, since=since, until=until, every=every, window=window, data=data
    )
    found = typed.convert(follow(caller, job).result, Backtest)
    if as_json:
        return found
    learned = "all rows" if found.window_days is None else f"the last {found.window_days:g} days"
    print(f"{found.loss} on {sum(p.rows for p in found.periods):,} rows of {found.dataset}, learned from {learned}:")
    each = "every month" if every == "month" else f"every {every}"
    rows = [
        (
            output.when(p.start)[:10],
            p.rows,
            p.once / p.weight if p.weight else None,
            p.again / p.weight if p.weight else None,
        )
        for p in found.periods
    ]
    rows.append(("in all", sum(p.rows for p in found.periods), found.total("once"), found.total("again")))
    output.table(("from", "rows", "trained once", each), rows, right=(1, 2, 3))
    return None


@click.group()
def jobs() -> None:
    """Work that waits, runs or has ended."""


@jobs.command("list")
@click.option("--model", shell_complete=model_names)
@click.option("--state", type=click.Choice(["queued", "running", "succeeded", "failed", "cancelled"]))
@click.option("--limit", default=20, show_default=True)
@output.json_option
def jobs_list(model: str | None, state: str | None, limit: int, as_json: bool) -> Any:
    """Jobs, newest first."""
    found = connect().call("jobs.list_jobs", model=model, state=state, limit=limit)
    if as_json:
        return found
    rows = []
    for job in found:
        took = (
            f"{((job.ended_at or job.started_at) - job.started_at) / 1000:.1f} s"
            if job.started_at and job.ended_at
            else None
        )
        what = (
            (job.error or {}).get("message") if job.state == "failed" else job.progress.doing if job.progress else None
        )
        rows.append(
            (job.id[-12:], job.kind, job.model, job.state, job.attempt, output.when(job.created_at), took, what)
        )
    output.table(
        ("job", "kind", "model", "state", "tries", "asked", "took", "last"), rows, right=(4, 6), empty="no jobs"
    )
    return None


@jobs.command("show")
@click.argument("job_id")
@output.json_option
def jobs_show(job_id: str, as_json: bool) -> Any:
    """One job."""
    caller = connect()
    job = _job(caller, job_id)
    if as_json:
        return job
    error = job.error or {}
    output.facts(
        [
            ("job", job.id),
            ("kind", job.kind),
            ("model", job.model),
            ("state", f"{job.state}, attempt {job.attempt} of {job.max_attempts}"),
            ("asked by", f"{job.requested_by}, {output.when(job.created_at)}"),
            ("event time", output.when(job.event_time)),
            ("result", job.result),
            ("error", error.get("message")),
            ("hint", error.get("hint")),
        ]
    )
    return None


@jobs.command("log")
@click.argument("job_id")
@click.option("--follow", "-f", "following", is_flag=True, help="Go on until the job has ended.")
@output.json_option
def jobs_log(job_id: str, following: bool, as_json: bool) -> Any:
    """What a job printed."""
    caller = connect()
    job = _job(caller, job_id)
    if as_json:
        return [{"at": at, "text": text} for _, at, text in caller.call("jobs.job_log", job_id=job.id)]
    after = 0
    while True:
        ended = caller.call("jobs.get_job", job_id=job.id).ended_at is not None
        for seq, _, text in caller.call("jobs.job_log", job_id=job.id, after=after):
            after = seq
            click.echo(text, nl=False)
        if ended or not following:
            return None
        time.sleep(0.2)


@jobs.command("cancel")
@click.argument("job_id")
def jobs_cancel(job_id: str) -> None:
    """Ask a job to stop."""
    caller = connect()
    job = caller.call("jobs.cancel_job", job_id=_job(caller, job_id).id)
    output.note(f"job {job.id[-12:]}: {'stops within seconds' if job.state == 'running' else job.state}")


@jobs.command("retry")
@click.argument("job_id")
@click.option("--no-wait", is_flag=True, help="Return when the job is queued; an agent does it.")
@output.json_option
def jobs_retry(job_id: str, no_wait: bool, as_json: bool) -> Any:
    """Do a job that failed or was cancelled again, as a new one. Steps that were finished are not run again."""
    caller = connect()
    job = caller.call("jobs.retry_job", job_id=_job(caller, job_id).id)
    if not no_wait:
        job = follow(caller, job)
    if as_json:
        return job
    output.note(f"job {job.id[-12:]}: {job.state}")
    return None


def _job(caller: Any, job_id: str) -> Any:
    """A job by its id, or by the end of it that lists show."""
    if len(job_id) == 32:
        return caller.call("jobs.get_job", job_id=job_id)
    near = [job for job in caller.call("jobs.list_jobs", limit=1000) if job.id.endswith(job_id)]
    return near[0] if len(near) == 1 else caller.call("jobs.get_job", job_id=job_id)


@click.command()
@click.option("--until", required=True, help="`idle`, or a time that the model's clock must reach.")
@click.option("--model", help="Only this model's jobs; needed for a time.", shell_complete=model_names)
@click.option("--timeout", default=3600.0, show_default=True, help="Seconds.")
def wait(until: str, model: str | None, timeout: float) -> None:
    """Wait until nothing runs or waits (`--until idle`), or until MODEL's clock has come to a time."""
    from stead.runtime.clock import to_ms

    if model is None and project_or_none() is not None and until != "idle":
        names = list(load_project().models)
        model = names[0] if len(names) == 1 else None
    if until != "idle" and model is None:
        raise InvalidInput(
            "model-missing", "whose clock? name the model", hint=f"stead wait --until {until} --model NAME"
        )
    moment = None if until == "idle" else to_ms(until)
    caller = connect()
    deadline = time.monotonic() + timeout
    while True:
        if moment is None:
            if not caller.call("jobs.open_jobs", model=model):
                return
        elif caller.call("jobs.model_now", model=model) >= moment:
            return
        if time.monotonic() > deadline:
            raise Failed("wait-timeout", f"not {until} after {timeout:.0f} s", hint="stead jobs list")
        time.sleep(0.1)
