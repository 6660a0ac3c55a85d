"""Versions and steps in containers on this machine: their image is built where it is missing, put into the engine, and run."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from stead import environments
from stead.config import Settings
from stead.environments.uv import Progress
from stead.images import building
from stead.images.engines import KNOWN, Engine, engine, own_name, words
from stead.images.layout import spare, write_archive
from stead.images.reading import OfStore
from stead.images.types import Image, this_platform
from stead.jobs import Limits
from stead.runtime.node import FOLDER
from stead.runtime.step import FOLLOW
from stead.runtime.workfolder import work_folder
from stead.store import Store

_OUTSIDE = {
    "PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE", "PYTHONPATH",
}  # fmt: skip
"""Variables that say where things lie on this machine; in an image they lie elsewhere."""


@dataclass(frozen=True)
class Container:
    """An image that the engine has, ready to be run."""

    engine: Engine
    image: str
    digest: str

    def command(
        self,
        arguments: Sequence[str],
        *,
        name: str,
        variables: Mapping[str, str],
        mounts: Sequence[str],
        network: str,
        limits: Limits,
        workdir: Path | None = None,
    ) -> tuple[list[str], dict[str, str]]:
        """The command that runs `arguments` by the image's Python, and the variables that it is to be started with."""
        seen = {key: value for key, value in variables.items() if key not in _OUTSIDE}
        command = self.engine.run(
            self.image,
            arguments,
            name=name,
            env=sorted(seen),
            mounts=mounts,
            network=network,
            limits={"data": limits.memory_mb << 20, "nofile": limits.open_files},
            workdir=workdir,
        )
        return command, {**os.environ, **seen}

    def remove(self, name: str) -> None:
        """End a container that is still there, whatever it does."""
        command = [*self.engine.command, "rm", "--force", name]
        subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL, check=False)

    def own(self, folder: Path) -> None:
        """Give what lies in a folder to the user inside; where that is who we are, it is so already."""
        if os.getuid() == 0:
            user = int(building.USER.partition(":")[0])
            for path in (folder, *folder.rglob("*")):
                os.chown(path, user, user, follow_symlinks=False)


class Containers:
    """Containers as the settings in force have them. Raises what `engine`, `build` and `Engine.load` raise."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @cached_property
    def _engine(self) -> Engine:
        return engine(self._settings)

    def of_version(self, store: Store, ref: str, say: Progress | None = None) -> Container:
        """A version as it serves."""
        return self._made(store, building.of_version(OfStore(store), ref), say)

    def of_environment(self, store: Store, digest: str, say: Progress | None = None) -> Container:
        """What a training step runs in."""
        return self._made(store, building.of_environment(environments.get(store, digest)), say)

    def for_cluster(self, store: Store, digest: str, limits: Limits, say: Progress | None = None) -> dict[str, Any]:
        """What a training step runs in on a machine of a cluster, which has an engine of its own: the image as a blob.

        The command has places for what only that machine knows: `stead.runtime.node` names and fills them.
        """
        image = self._built(store, building.of_environment(environments.get(store, digest)), say)
        name = own_name(image)
        with work_folder("image") as folder, spare(folder):
            file = folder / "image.tar"
            with open(file, "wb") as out:
                write_archive(replace(image, name=name), out)
            archive = store.blobs.put(file)
        there = _There(("@engine@",), words(self._settings, "container_options"))
        command = there.run(
            name,
            ["-m", "stead.runtime.step", f"{FOLDER}/spec.json", FOLLOW],
            name="@container@",
            env=["@env@"],
            mounts=[f"{FOLDER}:{FOLDER}:rw"],
            network="host",
            limits={"data": limits.memory_mb << 20, "nofile": limits.open_files},
            workdir=Path(FOLDER),
        )
        named = list(words(self._settings, "container_engine"))
        return {
            "digest": image.digest,
            "name": name,
            "archive": archive,
            "engines": [named] if named else [[each] for each in KNOWN],
            "command": command,
            "user": int(building.USER.partition(":")[0]),
            "outside": sorted(_OUTSIDE),
        }

    def _built(self, store: Store, contents: building.Contents, say: Progress | None) -> Image:
        base, layout = str(self._settings.image_base), building.pool(store)
        return building.build(store, contents, layout=layout, base=base, platform=this_platform(), say=say)

    def _made(self, store: Store, contents: building.Contents, say: Progress | None) -> Container:
        chosen, image = self._engine, self._built(store, contents, say)
        if say:
            say(f"running in {image.name}, {image.digest[:19]}…")
        return Container(chosen, chosen.load(image), image.digest)


class _There(Engine):
    """The engine of a machine that is not this one."""

    def _user(self) -> list[str]:
        return ["@user@"]
