"""A base without a registry: Python and what it needs of Debian, unpacked by mmdebstrap, nothing configured, no shell.

Nothing in it is run while it is made, so it can be made for another processor, and its bytes follow from its packages alone.
It has neither logs, caches, manuals nor the names of the machine that made it.
"""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

from stead.environments.uv import Progress
from stead.errors import Failed, InvalidInput, Unreachable
from stead.images.documents import as_json
from stead.images.layers import EPOCH, Entry, folder, link, write_layer
from stead.images.layout import Layout, check_target, export
from stead.images.types import CONFIG, MANIFEST, Image, Platform
from stead.runtime.workfolder import work_folder

SUITES = {"3.11": "bookworm", "3.13": "trixie"}
"""Which Debian has which Python."""
PACKAGES = ("base-files", "ca-certificates", "libgomp1", "libstdc++6", "tzdata")
USER = 65532
_LEFT = (
    "dev/", "run/", "proc/", "sys/", "boot/", "home/", "media/", "mnt/", "opt/", "srv/", "root/", "etc/apt/", "etc/cron", "etc/hostname", "etc/resolv.conf",
    "etc/logrotate.d", "etc/passwd", "etc/group", "etc/shadow", "etc/ssl/certs/", "lib/systemd/", "usr/lib/systemd/",
    "usr/share/bash-completion", "usr/share/debconf", "usr/share/info", "usr/share/lintian", "usr/share/locale", "usr/share/man",
    "usr/share/perl5", "usr/share/polkit", "var/",
)  # fmt: skip
_STATUS = "var/lib/dpkg/status"
_HOOK = (
    'cd "$1/var/cache/apt/archives" && for deb in *.deb; do dpkg-deb -f "$deb"; echo "Status: install ok installed"; '
    'echo "SHA256: $(sha256sum "$deb" | cut -c -64)"; echo; done > "$1/var/lib/dpkg/status"'
)


def make(target: Path, *, python: str, platform: Platform, mirror: str = "", say: Progress | None = None) -> Image:
    """Make a base as an OCI layout in `target`. The same packages give the same digest.

    `mirror` is the address of an archive, by default Debian's own; one of a fixed day gives the same packages ever after.
    Raises InvalidInput (`base-python`), Failed (`mmdebstrap-missing`, `base-failed`), Unreachable (`archive-unreachable`).
    """
    if python not in SUITES:
        raise InvalidInput(
            "base-python",
            f"no Debian has Python {python}, but {' and '.join(SUITES)}",
            hint=f"name an image that has it: stead image build … --base docker.io/library/python:{python}-slim@sha256:…",
        )
    name = f"stead/base:python{python}"
    check_target(target, name)
    with work_folder("base") as folder:
        tar = folder / "root.tar"
        _bootstrap(tar, python, platform, mirror, say)
        pool = Layout(folder / "pool")
        layer = write_layer(pool, _entries(tar), f"Debian {SUITES[python]} with Python {python}")
        config = {
            "architecture": platform.architecture,
            "os": "linux",
            "created": "1980-01-01T00:00:00Z",
            "config": {
                "Env": ["PATH=/usr/local/bin:/usr/bin:/bin", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt", "LANG=C.UTF-8"],
                "User": f"{USER}:{USER}",
            },
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
            "history": [{"created": "1980-01-01T00:00:00Z", "created_by": "stead image base", "comment": layer.said}],
        }  # fmt: skip
        described = pool.put(as_json(config), CONFIG)
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": described.as_dict(),
            "layers": [layer.blob.as_dict()],
        }
        digest = pool.put(as_json(manifest), MANIFEST).digest
        image = Image(
            name=name,
            digest=digest,
            config=described.digest,
            platform=f"linux/{platform.architecture}",
            bytes=layer.blob.size,
            kind="serve",
            model="",
            version=0,
            base="",
            layout=str(pool.folder),
        )
        return export(image, target)


def _bootstrap(tar: Path, python: str, platform: Platform, mirror: str, say: Progress | None) -> None:
    if shutil.which("mmdebstrap") is None:
        hint = "apt-get install mmdebstrap, or name a base that is there already: --base"
        raise Failed("mmdebstrap-missing", "a base is made by mmdebstrap, and it is not here", hint=hint)
    packages = ",".join((f"python{python}-minimal", f"libpython{python}-stdlib", *PACKAGES))
    command = ["mmdebstrap", "--variant=extract", f"--include={packages}", f"--architectures={platform.architecture}"]
    command += [f"--extract-hook={_HOOK}", '--aptopt=Acquire::Check-Valid-Until "false"', SUITES[python], str(tar)]
    command += [mirror] if mirror else []
    said: list[str] = []
    environ = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "SOURCE_DATE_EPOCH": str(EPOCH), "LC_ALL": "C.UTF-8"}
    import os

    environ |= {
        name: value for name, value in os.environ.items() if name.lower().endswith("_proxy") or name == "TMPDIR"
    }
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            said.append(line.strip())
            if say and line.startswith("I: ") and "hook" not in line:
                say(line[3:].strip())
    if process.returncode:
        told = "\n".join(said)
        why = next((line.removeprefix("E: ") for line in said if line.startswith("E: ")), said[-1] if said else "")
        if "No space left" in told:
            raise Failed("disk-full", "could not make the base: no space left", hint="free space and try again")
        if any(
            sign in told for sign in ("Could not resolve", "Could not connect", "Failed to fetch", "Connection refused")
        ):
            raise Unreachable(
                "archive-unreachable", f"Debian's archive does not answer: {why}", hint="check the network, or --mirror"
            )
        raise Failed("base-failed", f"mmdebstrap: {why[:300]}", hint="stead image base shows what it does")


def _entries(tar: Path) -> Iterator[Entry]:
    certificates: list[bytes] = []
    held: dict[str, Entry] = {}
    with tarfile.open(tar) as archive:
        for member in archive:
            path = member.name.removeprefix("./").rstrip("/")
            if path == _STATUS:
                held[path] = Entry(path, _read(archive, member))
            if (
                path in ("", ".")
                or f"{path}/".startswith(_LEFT)
                or (path.startswith("usr/share/doc/") and not (member.isdir() or path.endswith("/copyright")))
            ):
                continue
            if member.issym():
                held[path] = link(path, member.linkname)
            elif member.isdir():
                held[path] = folder(path)
            elif member.islnk():
                held[path] = held[member.linkname.removeprefix("./")]
                held[path] = Entry(path, held[path].data, held[path].mode)
            elif member.isfile():
                held[path] = Entry(path, _read(archive, member), member.mode & 0o755)
                if path.startswith("usr/share/ca-certificates/") and path.endswith(".crt"):
                    certificates.append(path.encode())
    bundle = b"".join(_bytes(held[path.decode()]) for path in sorted(certificates))
    yield from held.values()
    yield Entry("etc/ssl/certs/ca-certificates.crt", bundle)
    yield Entry(
        "etc/passwd", f"root:x:0:0:root:/:/sbin/nologin\nstead:x:{USER}:{USER}:stead:/tmp:/sbin/nologin\n".encode()
    )
    yield Entry("etc/group", f"root:x:0:\nstead:x:{USER}:\n".encode())
    for path in ("dev", "proc", "sys", "run", "root", "home"):
        yield folder(path)
    yield folder("tmp", 0o1777)
    yield folder("var/tmp", 0o1777)


def _read(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    assert file is not None
    return file.read()


def _bytes(entry: Entry) -> bytes:
    assert isinstance(entry.data, bytes)
    return entry.data
