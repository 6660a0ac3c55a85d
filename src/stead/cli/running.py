"""`stead up`, `down`, `status`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from stead.cli import output
from stead.cli.common import settings as settings_here
from stead.cli.common import settings_anyway, where_it_is
from stead.config import PROCESSES, SETTINGS, Settings
from stead.config.units import percent
from stead.errors import InvalidInput


def _with(base: Settings, **given: Any) -> Settings:
    chosen = {name: value for name, value in given.items() if value is not None}
    for name, value in chosen.items():
        if problem := SETTINGS[name].problem(value):
            raise InvalidInput("setting-invalid", f"--{name.replace('_', '-')} {problem}", hint="stead up --help")
    return Settings({**base.values, **chosen}, {**base.where, **dict.fromkeys(chosen, "option")})


@click.command()
@click.option("--background", "-b", is_flag=True, help="Return when everything is ready.")
@click.option("--host", help="Address to listen on; anything but this machine needs tokens.")
@click.option("--port", type=int, help="Port of pages and API (7700).")
@click.option("--gateway-port", type=int, help="Port of the gateway (7701).")
@click.option(
    "--only", multiple=True, type=click.Choice(PROCESSES), help="Start only this one of the three; may be given twice."
)
@click.option("--workers", type=int, help="Worker processes for each environment that serves (2).")
@click.option(
    "--systemd",
    "folder",
    type=click.Path(path_type=Path, allow_dash=True),
    help="Start nothing; write a unit for systemd that does into this folder, such as ~/.config/systemd/user (- prints it).",
)
def up(
    background: bool,
    host: str | None,
    port: int | None,
    gateway_port: int | None,
    only: tuple[str, ...],
    workers: int | None,
    folder: Path | None,
) -> None:
    """Start server, gateway and agent, and keep them running until Ctrl-C."""
    from stead.processes.supervisor import Supervisor, start_in_background

    settings = _with(
        settings_here(),
        host=host,
        port=port,
        gateway_port=gateway_port,
        workers=workers,
        processes=",".join(only) or None,
    )
    if folder is not None:
        _write_unit(settings, folder)
        return
    if background:
        state = start_in_background(settings)
        output.note(f"stead is up: {where_it_is(state)}")
        return
    supervisor = Supervisor(settings, say=output.note)

    def ready() -> None:
        output.note(f"stead is up: {where_it_is(supervisor.state)}")
        output.note(f"store {supervisor.root}; Ctrl-C ends it")

    supervisor.run(on_ready=ready)
    output.note("stead is down")


def _write_unit(settings: Settings, folder: Path) -> None:
    from stead.processes import systemd

    place = folder.expanduser()
    shown = str(folder) == "-"
    own = shown or place.resolve().is_relative_to(Path.home())
    if shown:
        print(systemd.unit(settings, user=True), end="")
    else:
        print(systemd.write_unit(settings, place))
    for variable in systemd.withheld(settings):
        secrets = f"~/{systemd.USER_SECRETS}" if own else systemd.SECRETS
        output.note(
            f"{variable} may hold a secret and is not in the unit: put it into {secrets}, or it is not in force"
        )
    if shown:
        return
    word = "systemctl --user" if own else "systemctl"
    output.note(f"next: {word} daemon-reload && {word} enable --now stead")
    if word.endswith("--user"):
        output.note("a user's units end with the last session, unless: loginctl enable-linger")


@click.command()
def down() -> None:
    """End what `stead up` started for this store."""
    from stead.processes.supervisor import stop

    output.note("stead is down" if stop(settings_anyway()) else "stead was not up")


@click.command()
@output.json_option
def status(as_json: bool) -> Any:
    """What runs, what is live, what is under way, what waits for a person, what is frozen."""
    from stead.api import connect
    from stead.processes import lifeline
    from stead.serving import standing

    settings = settings_anyway()
    caller = connect(settings)
    state = lifeline.read_state(Path(settings.store).expanduser()) if not settings.url else None
    gateways = caller.call("serving.gateways", alive=True)
    routes = caller.call("serving.list_routes")
    open_jobs = caller.call("jobs.open_jobs")
    canaries = caller.call("deployments.canaries")
    incidents = caller.call("monitors.list_incidents", state="open")
    approvals = caller.call("policies.list_approvals")
    freezes = caller.call("policies.list_freezes")
    age = caller.call("jobs.loop_age")
    result = {
        "loop_age_s": age,
        "up": state is not None,
        "store": settings.store if not settings.url else settings.url,
        "processes": state,
        "gateways": gateways,
        "routes": routes,
        "canaries": canaries,
        "jobs": open_jobs,
        "incidents": incidents,
        "approvals": approvals,
        "freezes": freezes,
    }
    if as_json:
        return result
    where = settings.url or settings.store
    print(f"store {where}: {'up' if state or gateways else 'not up (stead up)'}")
    if state:
        for name, process in state["processes"].items():
            again = f", started again {process['restarts']} times" if process["restarts"] else ""
            print(f"  {name:8} process {process['pid']}{again}")
        print(f"  {where_it_is(state)}")
    if age is not None:
        print(f"  the loop came around {age:.1f} s ago" + ("" if age < 60 else ": it hangs (run/agent.log)"))
    elif gateways:
        print("  no loop turns: nothing is watched, trained or rolled back by itself (run/agent.log)")
    rows, failing = [], []
    for route in routes:
        live = (
            ", ".join(f"v{arm.version}" + (f" {percent(arm.share, 0)}" if arm.share < 1 else "") for arm in route.arms)
            or "–"
        )
        refs = [f"{route.model}@{arm.version}" for arm in route.arms]
        health, why = standing(gateways, refs) if refs else ("not deployed", "")
        failing += [why] if why else []
        rows.append((route.model, live, ", ".join(f"v{v}" for v in route.warm) or "–", health))
    output.table(("model", "live", "kept warm", "state"), rows, empty="no model is deployed (stead deploy MODEL)")
    for why in failing:
        print(f"  {why}")
    if canaries:
        from stead.deployments import telling

        for each in canaries:
            print(f"  deployment {each.id} {each.model}, {telling.kind(each)}: {telling.stands(each)}")
    for each in freezes:
        thaw = f"stead thaw {each.model}".rstrip()
        print(f"  {each.model or 'every model'} is {each.said} ({thaw})")
    for each in approvals:
        ref = f"{each.model}@{each.version}"
        print(f"  {ref} waits for approval: stead approve {ref}")
    for incident in incidents:
        print(f"  incident {incident.id} {incident.model}, {incident.severity}: {incident.summary}")
    for job in open_jobs:
        print(f"  job {job.id[-12:]} {job.kind} {job.model or ''}: {job.progress.doing if job.progress else job.state}")
    return None
