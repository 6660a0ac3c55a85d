"""`stead init`, `doctor`, `sync`."""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import re
import shutil
import sqlite3
import sys
from pathlib import Path
from typing import Any

import click

from stead.cli import output
from stead.cli.common import project_or_none, settings
from stead.config import FILE, Settings, checked_name
from stead.errors import Conflict, Failed, NotFound, SteadError, did_you_mean


def _templates() -> dict[str, Any]:
    """Name → folder of each template that a part of stead brings."""
    found = {}
    for part in importlib.resources.files("stead").iterdir():
        folder = part / "templates"
        if part.is_dir() and folder.is_dir():
            found.update({place.name: place for place in folder.iterdir() if (place / FILE).is_file()})
    return found


@click.command()
@click.argument("folder", required=False, type=click.Path(path_type=Path), default=Path("."))
@click.option("--template", default="default", show_default=True, help="What to begin with.")
@click.option("--name", help="Name of project and model; default the folder's, or the template's.")
def init(folder: Path, template: str, name: str | None) -> None:
    """Write stead.toml and a Python file that works as it stands."""
    templates = _templates()
    if template not in templates:
        raise NotFound(
            "template-unknown",
            f"there is no template {template!r}",
            hint=did_you_mean(template, templates) or f"templates: {', '.join(templates)}",
        )
    source = templates[template]
    default = folder.resolve().name if template == "default" else template
    name = checked_name(name or re.sub(r"[^A-Za-z0-9._-]+", "-", default).strip("-._") or "model")
    module = re.sub(r"\W", "_", name)
    if module[0].isdigit():
        module = f"model_{module}"
    files = {
        FILE: (source / FILE).read_text(encoding="utf-8"),
        f"{module}.py": (source / "module.py").read_text(encoding="utf-8"),
    }
    for file in files:
        if (folder / file).exists():
            raise Conflict(
                "project-exists", f"{folder / file} exists already", hint="stead init in another folder, or with --name"
            )
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in files.items():
        (folder / file).write_text(text.replace("{name}", name).replace("{module}", module), encoding="utf-8")
        print(folder / file)
    inside = "" if folder.resolve() == Path.cwd() else f"cd {folder} && "
    output.note(f"next: {inside}stead train {name}")


@click.command()
def sync() -> None:
    """Deliver what runs have logged and not yet sent: after a crash, or when the server was away."""
    from stead.api import connect
    from stead.sdk import sync_journals

    chosen = settings()
    count = sync_journals(connect(chosen), Path(chosen.store).expanduser())
    print(f"{count} records delivered")


@click.command()
@click.option("--store", "whole", is_flag=True, help="Hold all bytes of the store against what its rows say.")
@output.json_option
def doctor(whole: bool, as_json: bool) -> Any:
    """What is installed, what is missing, and what each missing thing would be for."""
    if whole:
        return _store_checked(as_json)
    rows = [*_programs(), *_packages(), *_places()]
    if as_json:
        return [
            {"name": n, "ok": ok, "found": found, "purpose": purpose, "hint": hint}
            for n, ok, found, purpose, hint in rows
        ]
    output.table(
        ("", "what", "found", "for"),
        [
            ("ok" if ok else "–", n, found, purpose if ok else f"{purpose}: {hint}")
            for n, ok, found, purpose, hint in rows
        ],
    )
    return None


def _store_checked(as_json: bool) -> Any:
    from stead.api import connect

    problems = connect(settings()).call("care.check", contents=True)
    if as_json:
        return {"problems": problems}
    if problems:
        for problem in problems:
            print(f"{problem.what}: {problem.why}")
        raise Failed("store-incomplete", f"{len(problems)} things are missing or altered", hint="stead backups FOLDER")
    print("the store has everything that its rows name, as it was stored")
    return None


Check = tuple[str, bool, str | None, str, str]


def _programs() -> list[Check]:
    python = ".".join(map(str, sys.version_info[:3]))
    git = shutil.which("git")
    try:
        from uv import find_uv_bin

        uv: str | None = find_uv_bin()
    except (ImportError, FileNotFoundError):
        uv = None
    return [
        ("python", sys.version_info >= (3, 11), python, "stead itself", "Python 3.11 or newer"),
        (
            "sqlite",
            sqlite3.sqlite_version_info >= (3, 35),
            sqlite3.sqlite_version,
            "the store on one machine",
            "a newer Python",
        ),
        (
            "uv",
            uv is not None,
            importlib.metadata.version("uv") if uv else None,
            "locked environments",
            "pip install uv",
        ),
        ("git", git is not None, git, "commit and diff recorded with each run", "install git"),
    ]


PACKAGES = (
    ("psycopg", "PostgreSQL as database", "pip install 'psycopg[binary]'"),
    ("pandas", "ingest and features in a notebook here; jobs have their own", "pip install pandas"),
    ("scikit-learn", "stead.log_model of its models from this interpreter", "pip install scikit-learn"),
    ("xgboost", "the same", "pip install xgboost-cpu"),
    ("lightgbm", "the same", "pip install lightgbm"),
    ("cloudpickle", "stead.log_model of plain Python functions", "pip install cloudpickle"),
)


def _packages() -> list[Check]:
    rows: list[Check] = []
    for name, purpose, hint in PACKAGES:
        version = None
        for candidate in (name, f"{name}-cpu"):
            try:
                version = importlib.metadata.version(candidate)
                break
            except importlib.metadata.PackageNotFoundError:
                continue
        rows.append((name, version is not None, version, purpose, hint))
    return rows


def _places() -> list[Check]:
    rows: list[Check] = []
    try:
        project = project_or_none()
        rows.append(
            (
                "project",
                project is not None,
                str(project.root) if project else None,
                "training by `stead train`",
                "stead init",
            )
        )
    except SteadError as error:
        rows.append(("project", False, error.message, "training by `stead train`", error.hint or ""))
    try:
        rows += _store(settings())
    except SteadError as error:
        rows.append(("store", False, error.message, "everything", error.hint or ""))
    return rows


def _store(chosen: Settings) -> list[Check]:
    from stead.api import connect
    from stead.store import is_made, open_store

    if chosen.url:
        connect(chosen).call("serving.gateways")
        return [("store", True, f"the server {chosen.url}", "everything", "")]
    if not is_made(chosen):
        return [("store", True, f"none yet; the first change makes {chosen.store}", "everything", "")]
    store = open_store(chosen)
    store.db.check()
    store.blobs.has("0" * 64)
    kind = "SQLite" if store.db.is_sqlite else "PostgreSQL"
    found: list[Check] = [
        ("store", True, f"{kind}, {store.root}", "everything", ""),
        ("bytes", True, store.blobs.location, "models, data, artifacts", ""),
    ]
    store.close()
    return found
