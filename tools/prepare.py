"""Prepare `.venv` from the lock: `python3 tools/prepare.py [test]`. Standard library only; safe to interrupt and repeat.

The environment is complete when `.venv/.ready` holds the digest of what it was made from.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"


def main() -> None:
    if sys.version_info < (3, 11):  # noqa: UP036, whoever runs this may have an older one
        stop(f"stead needs Python 3.11 or newer, this is {sys.version.split()[0]}", "make … PYTHON=python3.12")
    kind = sys.argv[1] if len(sys.argv) > 1 else "run"
    lock = ROOT / ("requirements-dev.lock" if kind == "test" else "requirements.lock")
    made_of = [lock, ROOT / "pyproject.toml", ROOT / "hatch_build.py", Path(__file__)]
    digest = hashlib.sha256(
        b"".join(file.read_bytes() for file in made_of if file.exists()) + sys.version.encode()
    ).hexdigest()
    ready = VENV / f".ready-{kind}"
    if ready.is_file() and ready.read_text() == digest and (VENV / "bin" / "stead").exists():
        return
    ready.unlink(missing_ok=True)
    say(f"preparing {VENV.name} from {lock.name}; needed once, a minute or two")
    python = VENV / "bin" / "python"
    if not works(python):
        make_venv()
    if not (VENV / "bin" / "uv").exists():
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as only_uv:
            only_uv.write(part_of(lock.read_text(), "uv"))
            only_uv.flush()
            run(
                python,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--require-hashes",
                "-r",
                only_uv.name,
            )
    uv = VENV / "bin" / "uv"
    run(uv, "pip", "install", "--quiet", "--python", python, "--require-hashes", "-r", lock)
    run(uv, "pip", "install", "--quiet", "--python", python, "--no-deps", "--editable", ROOT)
    ready.write_text(digest)


def works(python: Path) -> bool:
    """Whether there is a virtual environment of this very Python, with pip."""
    if not python.exists():
        return False
    asked = subprocess.run([python, "-c", "import sys, pip; print(sys.version)"], capture_output=True, text=True)
    return asked.returncode == 0 and asked.stdout.strip() == sys.version.strip()


def make_venv() -> None:
    shutil.rmtree(VENV, ignore_errors=True)
    made = subprocess.run([sys.executable, "-m", "venv", VENV], capture_output=True, text=True)
    if made.returncode:
        shutil.rmtree(VENV, ignore_errors=True)
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        if "ensurepip" in made.stdout + made.stderr:
            stop(
                "this Python cannot make virtual environments: ensurepip is missing",
                f"apt install python3-venv (or python{version}-venv)",
            )
        stop(
            f"python -m venv failed: {(made.stderr or made.stdout).strip()[-500:]}",
            "is the disk full, or the folder read-only?",
        )


def part_of(lock: str, name: str) -> str:
    """The lines of one package in a lock with hashes."""
    found = re.search(rf"^{name}==.*?(?=^\S|\Z)", lock, re.MULTILINE | re.DOTALL)
    if not found:
        stop(f"the lock has no {name}", "git checkout the lock file")
    return found[0]


def run(*command: object) -> None:
    environ = {
        key: value for key, value in os.environ.items() if key not in ("VIRTUAL_ENV", "PYTHONHOME", "PYTHONPATH")
    }
    if "SSL_CERT_FILE" not in environ and Path("/etc/ssl/certs/ca-certificates.crt").exists():
        environ["SSL_CERT_FILE"] = "/etc/ssl/certs/ca-certificates.crt"
    done = subprocess.run([str(part) for part in command], env=environ)
    if done.returncode:
        stop(
            f"{Path(str(command[0])).name} failed with {done.returncode}",
            "check the network and run make again: it goes on where it stopped",
        )


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def stop(what: str, hint: str) -> None:
    say(f"error: {what}\nhint: {hint}")
    sys.exit(1)


main()
