"""`stead data`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from stead import glance
from stead.cli import output
from stead.cli.common import MOMENT, connect, dataset_names, follow, model_names, settings
from stead.config import load_project, size_text
from stead.errors import Conflict, InvalidInput, NotFound

SHOWN = 20


@click.group()
def data() -> None:
    """Dataset versions by content."""


@data.command("list")
@output.json_option
def data_list(as_json: bool) -> Any:
    """Datasets and their newest versions."""
    found = connect().call("datasets.list_datasets")
    if as_json:
        return found
    rows = [
        (
            v.ref,
            v.rows,
            v.parts,
            size_text(v.bytes),
            output.when(v.time_min)[:10],
            output.when(v.time_max)[:10],
            output.when(v.created_at),
            len(v.marks) or None,
        )
        for v in found
    ]
    output.table(
        ("dataset", "rows", "parts", "size", "from", "to", "made", "erased keys"),
        rows,
        right=(1, 2, 3, 7),
        empty="no datasets yet (stead data add NAME FILE)",
    )
    return None


@data.command("show")
@click.argument("ref", metavar="NAME[@VERSION]", shell_complete=dataset_names)
@output.json_option
def data_show(ref: str, as_json: bool) -> Any:
    """Schema, counts and profile of a version."""
    caller = connect()
    found = caller.call("datasets.get_version", ref=ref, with_parts=True)
    if as_json:
        return found
    output.facts(
        [
            ("dataset", found.ref),
            ("rows", found.rows),
            ("parts", found.parts),
            ("size", size_text(found.bytes)),
            ("from", output.when(found.time_min)),
            ("to", output.when(found.time_max)),
            ("source", _source(found.source)),
            ("by", found.created_by),
        ]
    )
    rows = []
    for column in found.schema:
        profile = found.profile.get(column.name, {})
        show = output.when if column.type.startswith(("timestamp", "date")) else lambda value: value
        top = ", ".join(str(level[0]) for level in profile.get("top", [])[:3])
        rows.append(
            (
                column.name,
                column.type,
                profile.get("null"),
                show(profile.get("min")),
                profile.get("mean"),
                show(profile.get("max")),
                top or None,
            )
        )
    for mark in found.marks:
        held = ", ".join(f"{name} ({number})" for name, number in mark.rows.items())
        output.note(
            f"holds rows of the erased key {mark.key[:12]}, in {held}; marked {output.when(mark.at)} by {mark.by}"
        )
    output.table(
        ("column", "type", "null", "min", "mean", "max", "most often"),
        rows,
        right=(2, 3, 4, 5),
        empty="no columns: files, not tables",
    )
    return None


def _source(source: dict[str, Any]) -> str:
    """
    >>> _source({"kind": "ingest", "since": 1293840000000, "entry": "demand.py"})
    'kind ingest, since 2011-01-01 00:00:00, entry demand.py'
    >>> _source({"path": "a.csv", "kind": "files", "paths": ["a.csv"]})
    'files a.csv'
    """
    if paths := source.get("paths"):
        others = {name: value for name, value in source.items() if name not in ("path", "kind", "paths")}
        source = {"files": ", ".join(paths), **others}
    return ", ".join(
        f"{name} {output.when(value) if name in ('since', 'until') else value}" for name, value in source.items()
    )


@data.command("versions")
@click.argument("name")
@output.json_option
def data_versions(name: str, as_json: bool) -> Any:
    """All versions of a dataset."""
    found = connect().call("datasets.list_versions", name=name)
    if as_json:
        return found
    rows = [
        (
            v.ref,
            v.rows,
            v.parts,
            size_text(v.bytes),
            output.when(v.time_max)[:10],
            v.created_by,
            output.when(v.created_at),
            len(v.marks) or None,
        )
        for v in found
    ]
    output.table(("version", "rows", "parts", "size", "to", "by", "made", "erased keys"), rows, right=(1, 2, 3, 7))
    return None


@data.command("diff")
@click.argument("before", metavar="NAME[@VERSION]", shell_complete=dataset_names)
@click.argument("after", metavar="[NAME@VERSION]", required=False, shell_complete=dataset_names)
@click.option(
    "--key", multiple=True, help="Column that names a row; several times where one does not: tells which rows changed."
)
@click.option("--examples", default=5, show_default=True, help="Rows of each kind that are shown, with --key.")
@output.json_option
def data_diff(before: str, after: str | None, key: tuple[str, ...], examples: int, as_json: bool) -> Any:
    """What changed from one version to another: columns, distributions, files, rows by key.

    With one version alone: from the one before it to it.
    """
    caller = connect()
    if after is None:
        newest = caller.call("datasets.get_version", ref=before)
        before, after = f"{newest.dataset}@{newest.version - 1}", newest.ref
        if newest.version == 1:
            raise NotFound(
                "dataset-version-unknown", f"{after} is the first version", hint="stead data diff BEFORE AFTER"
            )
    found = caller.call("datasets.diff", before=before, after=after, key=list(key), examples=examples)
    if as_json:
        return found
    one, other = found.before, found.after
    ends = [
        ("from", one.time_min, other.time_min),
        ("to", one.time_max, other.time_max),
    ]
    output.facts(
        [
            ("", f"{one.ref} → {other.ref}"),
            ("rows", f"{one.rows if one.rows is not None else '–'} → {other.rows if other.rows is not None else '–'}"),
            ("size", f"{size_text(one.bytes)} → {size_text(other.bytes)}"),
            (
                "files",
                ", ".join(
                    f"{n} {word}"
                    for word in ("added", "removed", "changed")
                    if (n := sum(f.change == word for f in found.files))
                )
                or "the same",
            ),
            *((end, f"{output.when(then)} → {output.when(now)}") for end, then, now in ends if then != now),
        ]
    )
    output.table(
        ("column", "type", "apart", "null", "mean, or from – to", "most often"),
        [
            (
                c.name,
                _types(c),
                None if c.distance is None else f"{c.distance:.3f}",
                *(_pair(c, show) for show in (_null, _mean, _often)),
            )
            for c in found.by_change
        ],
        right=(2,),
        empty="no columns: files, not tables",
    )
    if (rows := found.rows) is not None:
        print(
            f"by {', '.join(rows.key)}: {rows.added} rows added, {rows.removed} removed, {rows.changed} changed, {rows.same} the same"
        )
        for name, number in sorted(rows.columns.items(), key=lambda each: -each[1]):
            print(f"  {name} changed in {number}")
        if rows.examples:
            output.table(
                ("", "key", "before", "after"),
                [(e.change, *(_row(each) for each in (e.key, e.before, e.after))) for e in rows.examples],
            )
    else:
        for file in found.files[:20]:
            print(f"{file.change}: {file.path}")
    return None


def _types(column: Any) -> str:
    if column.change == "changed":
        return f"{column.type_before} → {column.type_after}"
    return f"{column.change}: {column.type_before or column.type_after}" if column.change else str(column.type_after)


def _pair(column: Any, show: Callable[[dict[str, Any]], str]) -> str | None:
    """A figure of both; once where it is the same, or only one has the column."""
    if column.change in ("added", "removed"):
        return show(column.before or column.after) or None
    texts = [show(each) if each else "" for each in (column.before, column.after)]
    return (texts[0] if texts[0] == texts[1] else " → ".join(text or "–" for text in texts)) or None


def _null(profile: dict[str, Any]) -> str:
    return str(profile.get("null", ""))


def _mean(profile: dict[str, Any]) -> str:
    """The mean of numbers; of times, which have none, from when to when."""
    if profile.get("mean") is not None:
        return f"{profile['mean']:.4g}"
    return f"{output.when(profile['min'])} – {output.when(profile['max'])}" if "min" in profile else ""


def _often(profile: dict[str, Any]) -> str:
    return ", ".join(str(level)[:20] for level, count in profile.get("top", [])[:2] if count)


def _row(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {'null' if value is None else value}" for name, value in values.items())[:200]


def _here(what: str) -> Any:
    """The store, opened in this process."""
    from stead.api import Embedded

    caller = connect()
    if not isinstance(caller, Embedded):
        raise InvalidInput(
            "data-remote",
            f"data is {what} where the store is, not over HTTP",
            hint="run this on the server's machine, or set STEAD_DATABASE and STEAD_BLOBS",
        )
    return caller.store


@data.command("add")
@click.argument("name")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--append", is_flag=True, help="Add to the newest version instead of replacing it; nothing is copied again."
)
@click.option("--time", "time_column", help="Column of the event time.")
@click.option("--sql", "url", metavar="URL", help="Add the rows of --query on this database, not files.")
@click.option("--query", metavar="SELECT", help="What to ask of --sql.")
@click.option("--delta", metavar="URL", help="Refer to a Delta table, which stays where it is.")
@click.option("--table-version", type=int, help="The version of --delta; default the newest.")
@output.json_option
def data_add(
    name: str,
    files: tuple[Path, ...],
    append: bool,
    time_column: str | None,
    url: str | None,
    query: str | None,
    delta: str | None,
    table_version: int | None,
    as_json: bool,
) -> Any:
    """Store files, a folder or the rows of a query as a new version of NAME: Parquet, CSV and Arrow as tables, others as they are.

    What is stored already is not stored again, so one that was broken off goes on where it was.
    """
    from stead import datasets

    if (url is None) != (query is None) or (bool(files), bool(url), bool(delta)).count(True) != 1:
        raise InvalidInput(
            "source-missing",
            "one of files, --sql URL with --query SELECT, and --delta URL",
            hint="stead data add NAME FILE",
        )
    store = _here("added")
    source: Any = list(files) if len(files) > 1 else next(iter(files), None)
    origin = {"kind": "files", "paths": [str(f) for f in files]} if files else {}
    if url:
        source = datasets.Query(url, str(query))
    elif delta:
        source = datasets.Delta(delta, table_version)
    with output.Bar(only_bar=True) as bar:
        version = datasets.add(
            store,
            name,
            source,
            append=append,
            time_column=time_column,
            origin=origin,
            progress=lambda done, total: bar.show("storing", done, total, size_text(done)),
        )
    if as_json:
        return version
    print(
        f"{version.ref}: {version.rows if version.rows is not None else version.parts} {'rows' if version.rows is not None else 'files'}, {size_text(version.bytes)}"
    )
    return None


@data.command("status")
@click.argument("ref", metavar="NAME[@VERSION]", shell_complete=dataset_names)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@output.json_option
def data_status(ref: str, folder: Path, as_json: bool) -> Any:
    """How the files in FOLDER differ from a version. Files that were added from there and not touched since are not read."""
    found = glance.untouched(settings(), ref, folder)
    if found is None:
        from stead import datasets

        found = datasets.status(_here("compared"), ref, folder)
    if as_json:
        return found._asdict()
    for word, paths in (("new", found.new), ("changed", found.changed), ("gone", found.gone)):
        for path in paths[:SHOWN]:
            print(f"{word}: {path}")
        if len(paths) > SHOWN:
            print(f"{word}: {len(paths) - SHOWN} more")
    print(
        f"{found.ref}: {found.same} the same, {len(found.new)} new, {len(found.changed)} changed, {len(found.gone)} gone"
    )
    return None


@data.command("gc")
@click.option("--yes", is_flag=True, help="Free it.")
@output.json_option
def data_gc(yes: bool, as_json: bool) -> Any:
    """Say how many bytes belong to nothing any more, and with --yes free them. Whatever a version refers to stays.

    Such bytes are left by adds that were broken off and by versions that `stead prune` let go. What is younger than a day stays.
    Layers of images that no build used for a month are among them.
    """
    from stead import care

    made = connect().call("care.prune", rules=care.Rules(), dry_run=not yes)
    if as_json:
        return made
    print(f"{size_text(made.bytes)} {'freed' if yes else 'to free'}")
    if made.image_bytes:
        print(f"  {size_text(made.image_bytes)} of it: layers of images that no build used for a month")
    if not yes and made.bytes:
        output.note("next: stead data gc --yes")
    return None


@data.command("ingest")
@click.argument("model", shell_complete=model_names)
@click.option("--since", type=MOMENT, help="Where a new dataset begins; an existing one goes on where it ended.")
@click.option("--until", type=MOMENT, help="Rows before this time; default the model's now.")
@output.json_option
def data_ingest(model: str, since: int | None, until: int | None, as_json: bool) -> Any:
    """Call the project's `ingest` for MODEL and add what is new."""
    from stead.pipelines import pack

    caller = connect()
    spec = pack(load_project(), model, caller.put_blob)
    job = caller.call("pipelines.ingest", model=model, spec=spec, since=since, until=until)
    result = follow(caller, job).result or {}
    if as_json:
        return result
    print(
        f"{result['dataset']}@{result['version']}: {result['rows']} rows"
        + ("" if result["added"] else ", no new ones came")
    )
    return None


@data.command("get")
@click.argument("ref", metavar="NAME[@VERSION]", shell_complete=dataset_names)
@click.argument("folder", type=click.Path(path_type=Path))
def data_get(ref: str, folder: Path) -> None:
    """Write a version's files into FOLDER."""
    from stead.sdk.data import files_into

    for path in files_into(connect(), ref, folder)[1]:
        print(path)


@data.command("verify")
@click.argument("ref", metavar="NAME[@VERSION]", shell_complete=dataset_names)
@click.option(
    "--repair-from",
    "source",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Take what is damaged from there: a folder of backups, or of another store.",
)
@output.json_option
def data_verify(ref: str, source: Path | None, as_json: bool) -> Any:
    """Check each part's bytes against its name; which bytes of which part are damaged or missing is told.

    What is found damaged is stored anew when it is added again.
    """
    if source is not None:
        from stead import care

        repaired = care.repair(_here("repaired"), ref, source)
        if as_json:
            return repaired
        if repaired.manifest:
            print(f"the list of its parts: {size_text(repaired.manifest)} taken from {source}")
        for path, size in repaired.parts.items():
            print(f"{path}: {size_text(size)} taken from {source}")
        print(f"{repaired.ref}: as it was stored")
        return None
    found = connect().call("datasets.verify", ref=ref)
    if as_json:
        return {"dataset": ref, "parts": found}
    print(f"{ref}: {found} parts are as they were stored" if isinstance(found, int) else f"{ref}: as it was stored")
    return None


@data.command("contract")
@click.argument("model", shell_complete=model_names)
@click.option("--force", is_flag=True, help="Write over a file that is there.")
def data_contract(model: str, force: bool) -> None:
    """Write down what the rows of MODEL hold to, as NAME.contract.toml beside stead.toml; from then on each batch must.

    Without the file each batch is held against the rows before it.
    """
    from stead.datasets import contract_text
    from stead.pipelines import CONTRACT

    project = load_project()
    name = project.model(model).dataset
    path = project.root / f"{name}{CONTRACT}"
    if path.exists() and not force:
        raise Conflict(
            "contract-exists",
            f"{path.name} is there already",
            hint=f"stead data contract {model} --force writes it anew",
        )
    caller = connect()
    version = caller.call("datasets.get_version", ref=name)
    path.write_text(
        contract_text(caller.call("datasets.infer_contract", ref=version.ref), version.ref), encoding="utf-8"
    )
    print(path)


@data.command("quarantine")
@click.option("--dataset", help="Only this one's.")
@click.option("--limit", default=20, show_default=True)
@output.json_option
def data_quarantine(dataset: str | None, limit: int, as_json: bool) -> Any:
    """Batches that broke the contract of their dataset: no version has them, and nothing learned from them."""
    found = connect().call("datasets.list_quarantine", dataset=dataset, limit=limit)
    if as_json:
        return found
    rows = [
        (
            each.dataset,
            output.when(each.since)[:16],
            output.when(each.until)[:16],
            each.rows,
            each.times,
            "; ".join(each.problems),
            each.digest[:12],
        )
        for each in found
    ]
    output.table(
        ("dataset", "from", "to", "rows", "came", "what is wrong", "bytes"),
        rows,
        right=(3, 4),
        empty="no batch was put aside",
    )
    return None
