"""Running uv: with a chosen environment, progress line by line, and its failures told in our words."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from stead.errors import Failed, SteadError, Unreachable

Progress = Callable[[str], None]

_PASSED = (
    "HOME",
    "USER",
    "PATH",
    "TMPDIR",
    "LANG",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "ALL_PROXY",
    "NETRC",
    "SYSTEMROOT",
)
_PASSED_PREFIXES = ("UV_", "XDG_", "LC_", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
_OWN = {"UV_PROJECT_ENVIRONMENT", "UV_PYTHON", "UV_NO_CACHE", "UV_REQUIRE_HASHES", "UV_SYSTEM_PYTHON"}
_NO_NETWORK = (
    "error sending request",
    "dns error",
    "tcp connect error",
    "network is unreachable",
    "failed to lookup address",
    "operation timed out",
    "when network was disabled",
)


class UvFailed(Exception):
    """uv ended with an error; `text` is what it said."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


def run_uv(arguments: Sequence[str], *, cwd: Path | None = None, progress: Progress | None = None) -> str:
    """Run uv and return its standard output. Raises UvFailed, or Unreachable (`index-unreachable`) without a network."""
    import uv

    with subprocess.Popen(
        [uv.find_uv_bin(), "--no-progress", "--color", "never", *arguments],
        cwd=cwd,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT if progress else subprocess.PIPE,
        text=True,
        errors="replace",
    ) as process:
        try:
            out, said = process.communicate() if progress is None else ("", _followed(process, progress))
        except BaseException:
            process.kill()
            raise
    if process.returncode == 0:
        return out
    lowered = said.lower()
    if any(sign in lowered for sign in _NO_NETWORK):
        raise Unreachable(
            "index-unreachable",
            f"the package index does not answer: {_first_cause(said)}",
            hint="check the network, a proxy (HTTPS_PROXY) or another index (UV_DEFAULT_INDEX), and try again",
        )
    raise UvFailed(said)


def _followed(process: subprocess.Popen[str], progress: Progress) -> str:
    lines = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line)
        if (text := line.strip()) and not text.startswith(("+ ", "warning")):
            progress(text)
    return "".join(lines)


def failed(error: UvFailed, doing: str, *, hint: str | None = None) -> NoReturn:
    """Raise uv's failure as one of ours."""
    raise as_failed(error, doing, hint=hint) from None


def as_failed(error: UvFailed, doing: str, *, hint: str | None = None) -> SteadError:
    if any(sign in error.text for sign in ("No space left", "os error 28", "File too large", "os error 27")):
        return Failed("disk-full", f"could not {doing}: no space left", hint="free space and try again")
    return Failed("environment-failed", f"could not {doing}: {last_words(error.text)}", hint=hint)


def last_words(text: str) -> str:
    """What uv said, without its warnings and layout, in at most 600 characters."""
    lines = [re.sub(r"^[\s│├╰─▶×✗]+", "", line).strip() for line in text.splitlines()]
    keep = [line for line in lines if line and not line.startswith(("warning:", "Resolved", "Prepared", "Using"))]
    joined = " ".join(keep)
    return joined if len(joined) <= 600 else "…" + joined[-600:]


def _first_cause(text: str) -> str:
    for line in text.splitlines():
        if match := re.search(r"(?:error|×)[:\s]+(.+)", line):
            # An index's address may carry a password.
            return re.sub(r"://[^@/\s]*@", "://", match[1].strip())
    return last_words(text)


def _environment() -> dict[str, str]:
    """What uv and the build backends it starts may see: where things lie, certificates, proxies and uv's own settings."""
    passed = {
        name: value
        for name, value in os.environ.items()
        if (name in _PASSED or name.upper().startswith(_PASSED_PREFIXES)) and name not in _OWN
    }
    # Wheels built from the same source are the same bytes, so that the same environment keeps its digest.
    return passed | {"SOURCE_DATE_EPOCH": "315532800"}
