"""A package that is on no index, built by a backend of its own: no network, no build environment."""

from __future__ import annotations

import json
from pathlib import Path

BACKEND = """
import base64, hashlib, zipfile

NAME, VERSION, SOURCE = {name!r}, {version!r}, {source!r}

def build_wheel(folder, config_settings=None, metadata_directory=None):
    info = f"{{NAME}}-{{VERSION}}.dist-info"
    files = {{
        f"{{NAME}}.py": SOURCE,
        f"{{info}}/METADATA": f"Metadata-Version: 2.1\\nName: {{NAME}}\\nVersion: {{VERSION}}\\n",
        f"{{info}}/WHEEL": "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }}
    record = ""
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{{path}},sha256={{digest}},{{len(text)}}\\n"
    files[f"{{info}}/RECORD"] = record + f"{{info}}/RECORD,,\\n"
    wheel = f"{{NAME}}-{{VERSION}}-py3-none-any.whl"
    with zipfile.ZipFile(f"{{folder}}/{{wheel}}", "w") as archive:
        for path, text in files.items():
            archive.writestr(zipfile.ZipInfo(path), text)
    return wheel
"""


def make_package(folder: Path, name: str, version: str = "1.0", source: str = "VALUE = 1\n") -> Path:
    """A source tree that builds into a wheel of one module."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "backend.py").write_text(BACKEND.format(name=name, version=version, source=source))
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        f'[project]\nname = "{name}"\nversion = "{version}"\n'
    )
    return folder


def pretend_installed(site: Path, name: str, origin: dict[str, object] | None, version: str = "1.0") -> None:
    """What an installer leaves of a package, as far as locking reads it."""
    info = site / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "RECORD").write_text("")
    if origin is not None:
        (info / "direct_url.json").write_text(json.dumps(origin))
