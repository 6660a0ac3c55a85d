"""Container engines: which one is here, putting an image into it, and the command that runs one."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stead.config import SETTINGS, Settings
from stead.errors import Failed, InvalidInput
from stead.images.layout import write_archive
from stead.images.types import Image

KNOWN = ("podman", "docker")


@dataclass(frozen=True)
class Engine:
    """docker or podman, and how it is to be called."""

    command: tuple[str, ...]
    options: tuple[str, ...] = ()
    """For each container, from the setting `container_options`."""

    @property
    def name(self) -> str:
        return os.path.basename(self.command[0])

    def load(self, image: Image) -> str:
        """Put an image into the engine unless it is there; the name to run it by, which is its content's alone.

        Raises Failed (`engine-failed`).
        """
        name = own_name(image)
        if self._has(name):
            return name
        self._take(image, name)
        self._call("tag", name, image.name)
        return name

    def _has(self, name: str) -> bool:
        done = subprocess.run([*self.command, "image", "inspect", name], capture_output=True, check=False)
        return done.returncode == 0

    def _take(self, image: Image, name: str) -> None:
        from dataclasses import replace

        with subprocess.Popen(
            [*self.command, "load"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:
            assert process.stdin is not None and process.stdout is not None
            try:
                write_archive(replace(image, name=name), process.stdin)
                process.stdin.close()
            except BrokenPipeError:
                pass  # it has ended, and says why
            said = process.stdout.read().decode(errors="replace").strip()
        if process.returncode or not self._has(name):
            raise self._failed(f"take {image.name} in", said)

    def _call(self, *arguments: str) -> str:
        done = subprocess.run([*self.command, *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            raise self._failed(f"{arguments[0]} an image", done.stderr or done.stdout)
        return done.stdout.strip()

    def _failed(self, doing: str, said: str) -> Failed:
        last = said.strip().splitlines()[-1:] or ["it says nothing"]
        if "no space left" in said.lower():
            return Failed("disk-full", f"{self.name} could not {doing}: no space left", hint="free space and try again")
        return Failed("engine-failed", f"{self.name} could not {doing}: {last[0][:400]}", hint=f"{self.name} info")

    def run(
        self,
        image: str,
        arguments: Sequence[str],
        *,
        name: str,
        env: Sequence[str] = (),
        mounts: Sequence[str] = (),
        network: str = "none",
        limits: Mapping[str, int] | None = None,
        workdir: Path | None = None,
    ) -> list[str]:
        """The command that runs `arguments` by the image's Python: read-only, without privileges, gone when it ends.

        `env` are names of variables whose values the engine's own process has, so that no secret stands in a command line.
        `mounts` are host path, path inside, and `ro` or `rw`, with colons; `limits` are ulimits, of which 0 is none.
        """
        options = ["--rm", "--interactive", "--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
        options += [f"--name={name}", f"--network={network}", "--tmpfs=/tmp", *self._user()]
        options += [f"--workdir={workdir}"] if workdir else []
        options += [f"--env={each}" for each in env]
        options += [f"--volume={each}" for each in mounts]
        ulimits = [f"--ulimit={what}={value}:{value}" for what, value in (limits or {}).items() if value]
        python = "--entrypoint=/opt/stead/env/bin/python"
        return [*self.command, "run", *options, *self.options, *ulimits, python, image, *arguments]

    def _user(self) -> list[str]:
        """Who is in the container: who started it, so that files are theirs; for root the image's own user, who is nobody."""
        uid, gid = os.getuid(), os.getgid()
        if uid == 0:
            return []
        return [f"--user={uid}:{gid}", *(["--userns=keep-id"] if self.name == "podman" else [])]


def own_name(image: Image) -> str:
    """The name of an image that is its content's alone."""
    return f"{image.name}-{image.digest.partition(':')[2][:12]}"


def words(settings: Settings, name: str) -> tuple[str, ...]:
    """A setting that is part of a command. Raises InvalidInput (`setting-invalid`)."""
    text = str(getattr(settings, name))
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        said = f"{name} is no part of a command: {text!r}, {error}"
        raise InvalidInput("setting-invalid", said, hint=SETTINGS[name].help) from None


def engine(settings: Settings) -> Engine:
    """The engine of the settings, else podman or docker, whichever is here. Raises Failed (`engine-missing`)."""
    named = words(settings, "container_engine")
    command = named or next(((each,) for each in KNOWN if shutil.which(each)), ())
    if not command or shutil.which(command[0]) is None:
        what = named[0] if named else "neither podman nor docker"
        raise Failed(
            "engine-missing",
            f"{what} is not on this machine" if named else f"there is {what} on this machine",
            hint="apt-get install podman, or name another in the setting container_engine",
        )
    return Engine(command, words(settings, "container_options"))
