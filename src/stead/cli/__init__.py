"""The command line. Each command's file is loaded when it is named, so that `stead --version` costs nothing."""

from __future__ import annotations

import importlib
import io
import sys
from contextlib import suppress
from typing import Any, NoReturn

import click

from stead import __version__
from stead.errors import Failed, InvalidInput, SteadError, did_you_mean

COMMANDS: dict[str, tuple[str, str]] = {
    # name: its module, one line for `stead --help`
    "init": ("stead.cli.project", "Write stead.toml and a Python file that works as it stands."),
    "doctor": ("stead.cli.project", "Say what is installed, what is missing and what it would be for."),
    "backup": ("stead.cli.caring", "Copy the store, while everything runs."),
    "backups": ("stead.cli.caring", "The backups in a folder."),
    "restore": ("stead.cli.caring", "Bring a backup back into an empty place."),
    "erase": ("stead.cli.caring", "Take a person's rows out of a model's log, by their key."),
    "prune": (
        "stead.cli.caring",
        "What is old by the rules of stead.toml and needed by nothing: say it, or let it go.",
    ),
    "migrate": ("stead.cli.caring", "Bring the store's tables to this version, after a backup."),
    "sync": ("stead.cli.project", "Deliver what runs have logged and not yet sent."),
    "up": ("stead.cli.running", "Start server, gateway and agent, and keep them running."),
    "down": ("stead.cli.running", "End what `stead up` started."),
    "status": ("stead.cli.running", "What runs, what is live, what is under way."),
    "train": ("stead.cli.training", "Train a new version of a model."),
    "backtest": ("stead.cli.training", "What retraining on a calendar would have lost on past rows."),
    "reproduce": ("stead.cli.again", "Make a version again from its records: is it the same, and if not, why?"),
    "rerun": ("stead.cli.again", "Train once more what a run trained, with other data, code or environment."),
    "compare": ("stead.cli.training", "Two versions of a model on the same rows."),
    "jobs": ("stead.cli.training", "Work that waits, runs or has ended; logs; cancel, retry."),
    "wait": ("stead.cli.training", "Wait until nothing runs, or until a model's clock has come to a time."),
    "runs": ("stead.cli.tracking", "Runs: list, show, compare, delete."),
    "data": ("stead.cli.data", "Datasets: add, ingest, list, show, get, verify."),
    "models": ("stead.cli.models", "Models and versions: list, show, get, alias."),
    "lineage": ("stead.cli.lineage", "What led to a thing and what came of it, from data to decision."),
    "sign": ("stead.cli.signing", "Sign a version's files, so that others can tell whose they are."),
    "verify": ("stead.cli.signing", "Whether a trusted key signed a version's files."),
    "env": ("stead.cli.environments", "Environments: list, show, diff, check, build, vendor."),
    "image": ("stead.cli.images", "Container images: build one of a version, make a base."),
    "deploy": ("stead.cli.deploying", "Let a version take over the model's route."),
    "rollback": ("stead.cli.deploying", "Go back to the last good version, at once."),
    "undeploy": ("stead.cli.deploying", "Take a model out of service."),
    "deployments": ("stead.cli.deploying", "Deployments: list, show, cancel; tell of those outside stead."),
    "level": ("stead.cli.deciding", "Who acts for a model: look, or go one step up or down."),
    "push": ("stead.cli.deciding", "Hand a model's code and policy over, for trainings that nobody starts."),
    "explain": ("stead.cli.deciding", "What a model's policy sees now, and what it would do next and why."),
    "schedules": ("stead.cli.deciding", "What stead does by the clock: next fire, missed ones, what came of the last."),
    "retrainings": ("stead.cli.deciding", "Trainings and what became of their versions: list, show, cancel."),
    "approvals": ("stead.cli.deciding", "Versions that wait for a person."),
    "approve": ("stead.cli.deciding", "Let the version that waits take over."),
    "reject": ("stead.cli.deciding", "Do not deploy the version that waits."),
    "freeze": ("stead.cli.deciding", "Stop all automatic action at once."),
    "thaw": ("stead.cli.deciding", "Let automatic action go on."),
    "monitors": ("stead.cli.watching", "What a model's monitors see: loss, broken data, drift, rows a day."),
    "drift": ("stead.cli.watching", "A model's columns by week against its reference, and the loss beside them."),
    "incidents": ("stead.cli.watching", "What is wrong with models: list, show, open, resolve; a link for users."),
    "runbook": ("stead.cli.runbook", "What to do about a kind of incident, or about an error by its code."),
    "decisions": ("stead.cli.deploying", "The ledger: who changed what, when, why."),
    "undo": ("stead.cli.deploying", "Take a decision back."),
    "work": ("stead.cli.working", "What people did by hand, and how long it took: look, correct."),
    "predict": ("stead.cli.predicting", "Ask a model."),
    "label": ("stead.cli.predicting", "Tell the truth about predictions."),
    "predictions": ("stead.cli.predicting", "What was answered, and how good it was."),
    "replay": ("stead.cli.predicting", "Send a table's rows in event-time order, labels after their delay."),
    "worth": ("stead.cli.worth", "Whether MLOps pays for this team: from records, and a short interview."),
    "maturity": (
        "stead.cli.maturity",
        "At which stage a team and its models stand, by their records, and the next step.",
    ),
    "tokens": ("stead.cli.tokens", "Tokens of the API: create, list, revoke."),
    "demo": ("stead.demo.command", "The whole way on real data, in a few minutes."),
}


class Commands(click.Group):
    """Loads a command's module when the command is named."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name][0])
        command: click.Command = getattr(module, cmd_name.replace("-", "_"))
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise InvalidInput(
                "command-unknown",
                f"there is no command {args[0]!r}",
                hint=did_you_mean(args[0], COMMANDS) or "stead --help",
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="stead")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def cli(debug: bool) -> None:
    """stead: train, register, gate, deploy, predict, observe, decide.

    Shell completion: eval "$(_STEAD_COMPLETE=bash_source stead)" (or zsh_source, fish_source).
    """


def main() -> NoReturn:
    """The entry of `stead`: errors as a sentence, a hint and an exit code."""
    debug = "--debug" in sys.argv
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: a file's name may be no text
    try:
        code = cli.main(standalone_mode=False)
        sys.stdout.flush()
        sys.exit(code if isinstance(code, int) else 0)
    except SteadError as error:
        if debug:
            raise
        _tell(error)
        sys.exit(error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        sys.exit(2)
    except click.ClickException as error:
        _tell(InvalidInput("usage", error.format_message(), hint=_usage_hint(error)))
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt, EOFError):
        print("\nstopped", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        if debug:
            raise
        if isinstance(error, UnicodeEncodeError):
            _tell(InvalidInput("text-invalid", "a text has characters that cannot be stored or sent"))
            sys.exit(2)
        if isinstance(error, OSError) and error.filename is not None:
            _tell(Failed("file-failed", f"{error.filename}: {error.strerror}"))
            sys.exit(1)
        _tell(
            Failed(
                "bug",
                f"{type(error).__name__}: {error}",
                hint="a mistake in stead: try again with --debug and report it",
            )
        )
        sys.exit(1)


def _tell(error: SteadError) -> None:
    if error.code == "model-unknown" and _in_project(str(error.details.get("model", ""))):
        error.hint = f"stead train {error.details['model']}"
    if "--json" in sys.argv:
        import json

        print(json.dumps(error.as_dict(), default=str))
    print(f"error: {error.message}", file=sys.stderr)
    if error.hint:
        print(f"hint: {error.hint}", file=sys.stderr)
    from stead.cli.runbook import has_entry

    if has_entry(error.code):
        print(f"more: stead runbook {error.code}", file=sys.stderr)


def _in_project(model: str) -> bool:
    """Whether this folder's stead.toml has the model: it is unknown only until it is trained."""
    from stead.cli.common import project_or_none

    with suppress(SteadError):
        project = project_or_none()
        return project is not None and model in project.models
    return False


def _usage_hint(error: click.ClickException) -> str | None:
    context: Any = getattr(error, "ctx", None)
    return f"{context.command_path} --help" if context is not None else "stead --help"
