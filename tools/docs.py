"""Write `docs/reference/` from the code: `python tools/docs.py` (`make docs`). A test holds that what is committed is this."""

from __future__ import annotations

import ast
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "stead"
FOLDER = ROOT / "docs" / "reference"
MADE = "<!-- made by tools/docs.py from the code: make docs -->\n\n"


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")
        print(FOLDER.relative_to(ROOT) / name)


def commands() -> str:
    """Each command as `--help` shows it."""
    from stead.cli import cli

    lines = [
        "# Commands\n",
        "Data goes to standard output, all else to standard error. `--json` prints one JSON document; an error is one, too:",
        '`{"error": {"kind", "code", "message", "hint", "details"}}`.\n',
        "Exit codes: 0 done, 1 failed, 2 misuse, 3 not found, 4 a gate did not pass, 5 something does not answer, 130 interrupted.\n",
        "Times are `2012-01-31`, `2012-01-31T13:00` (UTC) or with a zone; durations are `30s`, `15m`, `24h`, `7d`, `2w`.\n",
    ]
    for path, command in every_command():
        chosen = cli.context_settings | {"terminal_width": 100, "max_content_width": 100}
        context = click.Context(command, info_name=" ".join(path), **chosen)
        lines += [f"{'#' * len(path)} {' '.join(path)}\n", f"```text\n{command.get_help(context)}\n```\n"]
    return MADE + "\n".join(lines)


def every_command() -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Each command with its path, groups before what is in them."""
    from stead.cli import COMMANDS, cli

    def walk(path: tuple[str, ...], command: click.Command) -> Iterator[tuple[tuple[str, ...], click.Command]]:
        yield path, command
        if isinstance(command, click.Group):
            for name, inner in command.commands.items():
                yield from walk((*path, name), inner)

    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None, name
        yield from walk(("stead", name), command)


def settings() -> str:
    """Every setting, and every key of stead.toml."""
    from stead.config import SETTINGS

    lines = [
        "# Settings\n",
        "A setting comes from the environment, else from `[settings]` in `stead.toml`, else it is the default.\n",
        "| in stead.toml | variable | type | default | |",
        "|---|---|---|---|---|",
    ]
    lines += [
        f"| `{s.name}` | `{s.variable}` | {s.type.__name__} | {code(s.default)} | {cell(s.help)} |"
        for s in SETTINGS.values()
    ]
    lines += ["\n# stead.toml\n", "An unknown key is an error that names file, line and key.\n"]
    for table, keys in toml_tables():
        lines += [f"## `[{table}]`\n", "| key | type | default | |", "|---|---|---|---|"]
        lines += [f"| `{k.name}` | {cell(k.kind)} | {k.default} | {cell(k.help)} |" for k in keys]
        lines.append("")
    return MADE + "\n".join(lines)


@dataclass(frozen=True)
class Key:
    """A key of stead.toml."""

    name: str
    kind: str
    default: str
    help: str


def toml_tables() -> Iterator[tuple[str, list[Key]]]:
    """The tables of stead.toml, from the dataclasses that it is read into."""
    from stead import config

    helps = attribute_docstrings(SOURCE / "config" / "types.py")

    def keys(kind: Any, without: tuple[str, ...]) -> list[Key]:
        return [
            Key(
                f.name,
                str(f.type),
                default_of(f),
                next((helps[c.__name__, f.name] for c in kind.__mro__ if (c.__name__, f.name) in helps), ""),
            )
            for f in fields(kind)
            if f.name not in without
        ]

    yield "project", keys(config.Project, ("root", "models", "settings"))
    yield "models.NAME", keys(config.ModelConfig, ("name", "train", "serve", "policy", "rollout", "gates"))
    yield "models.NAME.train", keys(config.TrainConfig, ())
    yield "models.NAME.serve", keys(config.StageConfig, ())
    yield "models.NAME.policy", keys(config.PolicyConfig, ())
    yield "models.NAME.rollout", keys(config.RolloutConfig, ())
    yield "models.NAME.gates", keys(config.GatesConfig, ())


def default_of(found: Any) -> str:
    if found.default is not MISSING:
        return code(found.default)
    if found.default_factory is not MISSING:
        return code(found.default_factory())
    return "needed" if found.name in ("code", "target") else "–"


def attribute_docstrings(path: Path) -> dict[tuple[str, str], str]:
    """(class, field) → the text under the field."""
    found = {}
    for made in ast.parse(path.read_text(encoding="utf-8")).body:
        if not isinstance(made, ast.ClassDef):
            continue
        for first, second in zip(made.body, made.body[1:], strict=False):
            if isinstance(first, ast.AnnAssign) and isinstance(first.target, ast.Name) and is_text(second):
                found[made.name, first.target.id] = " ".join(text_of(second).split())
    return found


def operations() -> str:
    """The table of operations."""
    from stead.api.table import operations as table

    lines = [
        "# Operations\n",
        "What can be called by name: `POST /api/v1/NAME` with a JSON object of arguments (those with role `read` and plain",
        "arguments also by `GET`), or from Python, embedded and remote alike:\n",
        '```python\nfrom stead.api import connect\n\ncaller = connect()\nfor model in caller.call("models.list_models"):\n'
        "    print(model.name)\n```\n",
        "The server describes them as OpenAPI at `/api/docs`. Roles: `read` < `write` < `approve` < `admin`; each may do what",
        "the ones before it may. Times are milliseconds since 1970, UTC. Bytes travel by content: `PUT` and `GET",
        "/api/v1/blobs/DIGEST`, where the digest is BLAKE3.\n",
    ]
    part = ""
    for operation in sorted(table().values(), key=lambda o: o.name):
        here, _, _ = operation.name.partition(".")
        if here != part:
            part = here
            lines += [f"## {part}\n"]
        guarded = "".join(f", `{role}` with `{name}`" for name, role in operation.guarded.items())
        lines += [
            f"### {operation.name}\n",
            f"`{operation.role}`{guarded} · {first_line(operation.function)}\n",
            f"```python\n{signature(operation.name.partition('.')[2], operation.function, drop='store')}\n```\n",
        ]
    return MADE + "\n".join(lines)


def python() -> str:
    """The calls of `import stead`."""
    import stead
    from stead.runtime.sdk import Run as InJob
    from stead.sdk import data
    from stead.sdk.tracking import Run

    lines = [
        "# Python\n",
        "`import stead` loads nothing heavy; each name is bound when it is first used. The same calls work on the store of",
        "this machine and, with `STEAD_URL`, against a server. Inside a job of `stead train`, `init`, `log`, `log_artifact`",
        "and `finish` write to the job's run; the others are refused there.\n",
    ]
    for name in stead.__all__:
        if name.startswith("_"):
            continue
        lines += described(f"stead.{name}", getattr(stead, name))
    lines += ["## The run that `stead.init` returns\n", f"{inspect.getdoc(InJob)}\n"]
    for name, method in inspect.getmembers(Run, inspect.isfunction):
        if not name.startswith("_"):
            lines += described(f"run.{name}", method, drop="self", level=3)
    lines += [
        "## Data versions\n",
        "`from stead.sdk import data`. What is not here is called by name as any operation is:",
        '`stead.api.connect().call("datasets.list_datasets")`, `datasets.list_versions`, `datasets.get_version`, `datasets.diff`.\n',
    ]
    for name in ("add", "dataset_files", "status", "verify", "gc"):
        lines += described(f"data.{name}", getattr(data, name), level=3)
    return MADE + "\n".join(lines)


def described(name: str, function: Callable[..., Any], *, drop: str = "", level: int = 2) -> list[str]:
    text = inspect.getdoc(function) or ""
    return [
        f"{'#' * level} {name}\n",
        f"```python\n{signature(name, function, drop=drop)}\n```\n",
        *([f"{text}\n"] if text else []),
    ]


def signature(name: str, function: Callable[..., Any], *, drop: str = "") -> str:
    """A function's signature, a line or a line for each parameter."""
    found = inspect.signature(function)
    kept = found.replace(parameters=[p for p in found.parameters.values() if p.name != drop])
    text = name + bare(str(kept))
    if len(text) <= 110:
        return text
    parts, star = [], False
    for parameter in kept.parameters.values():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and not star:
            star = True
            parts.append("*")
        parts.append(bare(str(parameter)))
    end = bare(str(kept).rpartition(")")[2])
    return f"{name}(\n" + "".join(f"    {part},\n" for part in parts) + f"){end}"


def bare(text: str) -> str:
    """Annotations as they stand in the source, without quotes around them."""
    return re.sub(r"(: |-> )'([^']*)'", r"\1\2", text)


@dataclass
class Raised:
    """An error code, and where it is raised."""

    code: str
    kind: str
    places: list[str] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)


def errors() -> str:
    """Every error code that the source raises."""
    from stead.errors import KINDS

    lines = [
        "# Errors\n",
        "Every error has a code that stays, a sentence and mostly a hint. Kinds, with the exit code of a command and the HTTP",
        "status:\n",
        "| kind | exit code | HTTP |",
        "|---|---|---|",
    ]
    lines += [f"| {kind.__name__} | {kind.exit_code} | {kind.http_status} |" for kind in KINDS.values()]
    lines += [
        "",
        "`…` stands for what depends on the case.\n",
        "| code | kind | exit | HTTP | raised in | hint |",
        "|---|---|---|---|---|---|",
    ]
    guide = (ROOT / "docs" / "runbook" / "errors.md").read_text(encoding="utf-8")
    described_ = set(re.findall(r"^## ([a-z-]+)$", guide, re.M))
    for found in every_error():
        kind = KINDS[found.kind]
        places = ", ".join(f"`{place}`" for place in found.places)
        hints = "<br>".join(cell(hint) for hint in found.hints)
        status = ", ".join(map(str, sorted(found.statuses)))
        name = f"[`{found.code}`](../runbook/errors.md#{found.code})" if found.code in described_ else f"`{found.code}`"
        lines.append(f"| {name} | {found.kind} | {kind.exit_code} | {status} | {places} | {hints} |")
    return MADE + "\n".join(lines) + "\n"


def every_error() -> list[Raised]:
    """All error codes in the source, by name: literal ones, patterns, and those handed to a function that raises them."""
    from stead.errors import KINDS

    found: dict[tuple[str, str], Raised] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        if "templates" in path.parts:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        narrower = narrower_kinds(tree)
        for code_, told, hint in errors_in(tree):
            kind, status = narrower.get(told, (told, KINDS[told].http_status if told in KINDS else 0))
            raised = found.setdefault((code_, kind), Raised(code_, kind))
            place = path.relative_to(SOURCE).as_posix()
            raised.places += [place] * (place not in raised.places)
            raised.hints += [hint] * (bool(hint) and hint not in raised.hints)
            raised.statuses += [status] * (status not in raised.statuses)
    return sorted(found.values(), key=lambda r: (r.code, r.kind))


def errors_in(tree: ast.Module) -> Iterator[tuple[str, str, str]]:
    """(code, kind, hint) of each error made in a module."""
    from stead.errors import KINDS

    narrower = narrower_kinds(tree)
    helpers: dict[str, tuple[int, str, str]] = {}  # function → position of the code, kind, hint
    for function in (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)):
        names = [a.arg for a in function.args.args if a.arg != "self"]
        for call in (n for n in ast.walk(function) if isinstance(n, ast.Call)):
            kind, first = name_of(call.func), call.args[0] if call.args else None
            if kind in KINDS and isinstance(first, ast.Name) and first.id in names:
                helpers[function.name] = (names.index(first.id), kind, hint_of(call))
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            entries = {k.value: v for k, v in zip(node.keys, node.values, strict=True) if isinstance(k, ast.Constant)}
            if "code" in entries and "message" in entries and (text := pattern(entries["code"])):
                yield text, pattern(entries.get("kind")) or "Failed", pattern(entries.get("hint"))
        if not isinstance(node, ast.Call):
            continue
        name = name_of(node.func)
        if (name in KINDS or name in narrower) and node.args and (text := pattern(node.args[0])):
            yield text, name, hint_of(node)
        elif name in helpers and len(node.args) > helpers[name][0] and (text := pattern(node.args[helpers[name][0]])):
            yield text, helpers[name][1], helpers[name][2]


def narrower_kinds(tree: ast.Module) -> dict[str, tuple[str, int]]:
    """Classes of a module that narrow a kind of error: the kind, and the HTTP status of their own."""
    from stead.errors import KINDS

    found = {}
    for made in (n for n in tree.body if isinstance(n, ast.ClassDef)):
        kind = next((name_of(base) for base in made.bases if name_of(base) in KINDS), None)
        if kind is not None:
            values = [
                n.value.value for n in made.body if isinstance(n, ast.Assign) and isinstance(n.value, ast.Constant)
            ]
            found[made.name] = (kind, next((v for v in values if isinstance(v, int)), KINDS[kind].http_status))
    return found


def hint_of(call: ast.Call) -> str:
    return next((pattern(k.value) for k in call.keywords if k.arg == "hint"), "")


def pattern(node: ast.expr | None) -> str:
    """A text, with … for what is put in when it runs; empty where nothing of it is literal."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(v.value if isinstance(v, ast.Constant) else "…" for v in node.values)  # type: ignore[misc]
    if isinstance(node, ast.BoolOp):
        return pattern(node.values[-1])
    return ""


def name_of(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def text_of(node: ast.stmt) -> str:
    return str(node.value.value)  # type: ignore[attr-defined]


def first_line(function: Callable[..., Any]) -> str:
    return (inspect.getdoc(function) or "").partition("\n")[0]


def code(value: Any) -> str:
    if value in ("", None, (), {}):
        return "–"
    return f"`{value}`"


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


PAGES: dict[str, Callable[[], str]] = {
    "commands.md": commands,
    "settings.md": settings,
    "operations.md": operations,
    "errors.md": errors,
    "python.md": python,
}

if __name__ == "__main__":
    os.environ["NO_COLOR"] = "1"
    sys.exit(main())
