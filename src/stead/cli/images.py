"""`stead image`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stead.cli import output
from stead.cli.common import connect, model_names, settings
from stead.config.units import size_text

if TYPE_CHECKING:
    from stead.api import Caller
    from stead.environments import Environment, Wheel
    from stead.images import Platform
    from stead.models import LoggedModel, Version

PLATFORM_NAMES = ("amd64", "arm64")


@click.group()
def image() -> None:
    """Container images: the same bytes each time, without a daemon."""


def _platform(named: str | None) -> Platform:
    """The one that is named, else this machine's."""
    from stead.images import PLATFORMS, this_platform

    return PLATFORMS[named] if named else this_platform()


def platform_option(function: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--platform",
        "architecture",
        type=click.Choice(PLATFORM_NAMES),
        help="Processor that the image is for; this machine's where none is named.",
    )(function)


@image.command("build")
@click.argument("ref", metavar="MODEL[@VERSION]", shell_complete=model_names)
@click.option("--train", is_flag=True, help="The image that trains the version: its training environment and code.")
@click.option(
    "-o", "--output", "target", type=click.Path(path_type=Path), help="Folder, or file .tar, for an OCI layout."
)
@click.option("--base", default=None, help="Image to build on: NAME@sha256:…, or a folder with an OCI layout.")
@platform_option
@click.option("--load", is_flag=True, help="Put it into podman or docker.")
@click.option("--push", metavar="REF", help="Send it to a registry, such as ghcr.io/team/demand:3.")
@click.option("--dockerfile", type=click.Path(path_type=Path), help="Folder for a Dockerfile that builds the same.")
@output.json_option
def image_build(
    ref: str,
    train: bool,
    target: Path | None,
    base: str | None,
    architecture: str | None,
    load: bool,
    push: str | None,
    dockerfile: Path | None,
    as_json: bool,
) -> Any:
    """Build the image of a version: it serves the version's predictions, read-only, as nobody, on port 8080.

    The same version on the same base has the same digest wherever, whenever and by whomever it is built.
    """
    from stead import images

    caller, platform = connect(), _platform(architecture)
    reader = _OfCaller(caller)
    contents = images.of_version(reader, ref, "train" if train else "serve")
    chosen = images.engine(caller.settings) if load else None  # what cannot be is told before anything is built
    if target is not None:
        images.check_target(target, contents.name)
    if dockerfile is not None:
        images.check_context(dockerfile)
    if push is not None:
        images.parse_tag(push)
    with output.Bar() as bar:
        built = images.build(
            reader,
            contents,
            layout=images.Layout(Path(caller.settings.store) / "images"),
            base=base or str(caller.settings.image_base),
            platform=platform,
            say=lambda text: bar.show(text, 0, None),
        )
        made: dict[str, Any] = {}
        if target is not None:
            bar.show(f"writing {target}", 0, None)
            images.export(built, target)
            made["written to"] = str(target)
        if dockerfile is not None:
            made["Dockerfile in"] = str(images.write_context(built, dockerfile))
        if chosen is not None:
            bar.show(f"loading it into {chosen.name}", 0, None)
            made["loaded as"] = chosen.load(built)
        if push is not None:
            made["pushed to"] = images.push(built, push, lambda text: bar.show(text, 0, None))
    if as_json:
        return {"image": built, **{what.partition(" ")[0].lower(): where for what, where in made.items()}}
    print(built.digest)
    output.note(f"{built.name} for {built.platform}, {size_text(built.bytes)}, base {built.base[:19]}…")
    for what, where in made.items():
        output.note(f"{what}: {where}")
    if not made:
        output.note(
            f"it lies in {built.layout}: -o FOLDER, --load, --push REF or --dockerfile FOLDER takes it from there"
        )
    return None


@image.command("base")
@click.option(
    "--python", "version", default=None, help="Version of Python, such as 3.11; this one's where none is named."
)
@platform_option
@click.option(
    "--mirror", default="", help="Debian archive to take packages from; one of a fixed day gives the same ever after."
)
@click.option(
    "-o", "--output", "target", type=click.Path(path_type=Path), help="Folder, or file .tar, for an OCI layout."
)
@output.json_option
def image_base(version: str | None, architecture: str | None, mirror: str, target: Path | None, as_json: bool) -> Any:
    """Make a base image of Debian's packages with mmdebstrap, where no registry is reachable; builds take it by default.

    It has Python, its libraries and certificates, no shell and no package manager. The same packages give the same digest.
    """
    from stead import images
    from stead.environments.locking import here
    from stead.images.bases import DEFAULT

    python, platform = version or here()[0], _platform(architecture)
    usual = Path(settings().store) / "images" / DEFAULT.format(python=python, architecture=platform.architecture)
    with output.Bar() as bar:
        made = images.make_base(
            target or usual,
            python=python,
            platform=platform,
            mirror=mirror,
            say=lambda text: bar.show(text, 0, None),
        )
    if as_json:
        return made
    print(made.digest)
    output.note(f"{made.name} for {made.platform}, {size_text(made.bytes)}, in {target or usual}")
    return None


class _OfCaller:
    """Reads the parts of an image through a caller: from the store here, or from a server."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def version(self, ref: str) -> Version:
        found: Version = self._caller.call("models.get_version", ref=ref)
        return found

    def logged_model(self, id: str) -> LoggedModel:  # noqa: A002
        found: LoggedModel = self._caller.call("models.get_logged_model", id=id)
        return found

    def environment(self, digest: str) -> Environment:
        found: Environment = self._caller.call("environments.get", digest=digest)
        return found

    def wheels(self, environment: Environment) -> list[Wheel]:
        return list(environment.wheels)

    def fetch(self, digest: str, target: Path) -> None:
        self._caller.fetch_blob(digest, target)
