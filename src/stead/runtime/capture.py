"""What is recorded about a run without asking: where its code came from, on what it runs, what it prints and uses.

Nothing here may stop a training: what cannot be found out is left out. Environment variables are taken from a list of
harmless names, arguments and addresses that look like secrets are masked.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Container, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

ENVIRONMENT = (
    "CONDA_DEFAULT_ENV",
    "CUBLAS_WORKSPACE_CONFIG",
    "CUDA_VISIBLE_DEVICES",
    "LANG",
    "LC_ALL",
    "LOCAL_RANK",
    "MKL_NUM_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "PYTHONHASHSEED",
    "RANK",
    "SLURM_JOB_ID",
    "TF_DETERMINISTIC_OPS",
    "TZ",
    "VIRTUAL_ENV",
    "WORLD_SIZE",
)
_SECRET = re.compile(r"(?i)(pass(word|wd)?|secret|token|api[-_]?key|credential|auth)")
DIFF_LIMIT = 1 << 20
FILE_LIMIT = 1 << 20
FILES_LIMIT = 500


def facts(environ: Mapping[str, str] | None = None) -> dict[str, Any]:
    """What is known at once: command, working folder, process, Python, machine, CPUs, harmless environment variables."""
    environ = os.environ if environ is None else environ
    return {
        "command": masked(_command()),
        "entry": _entry(),
        "cwd": os.getcwd(),
        "pid": os.getpid(),
        "python": platform.python_version(),
        "executable": sys.executable,
        "host": platform.node(),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "cpus_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": _memory_bytes(),
        "env": {name: environ[name] for name in ENVIRONMENT if name in environ},
    }


def masked(arguments: list[str]) -> list[str]:
    """Arguments without what follows a name that sounds like a secret, nor a password in an address.

    >>> masked(["train.py", "--api-key", "xyz", "--token=abc", "--lr=0.1", "http://me:pw@host/"])
    ['train.py', '--api-key', '***', '--token=***', '--lr=0.1', 'http://***@host/']
    """
    out: list[str] = []
    hide = False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        if hide and not argument.startswith("-"):
            argument = "***"
        elif equals and _SECRET.search(name):
            argument = f"{name}=***"
        hide = argument.startswith("-") and not equals and bool(_SECRET.search(argument))
        out.append(re.sub(r"://[^/@\s]+@", "://***@", argument))
    return out


def git(folder: Path | None = None) -> tuple[dict[str, Any], str]:
    """Commit, branch, remote, whether files differ from the commit, and the difference as text ("" where there is none)."""
    where = folder or Path.cwd()
    commit = _git(where, "rev-parse", "HEAD")
    if commit is None:
        return {}, ""
    found: dict[str, Any] = {"commit": commit, "branch": _git(where, "rev-parse", "--abbrev-ref", "HEAD")}
    if remote := _git(where, "config", "--get", "remote.origin.url"):
        found["remote"] = re.sub(r"://[^/@\s]+@", "://", remote)
    status = _git(where, "status", "--porcelain", "--untracked-files=normal") or ""
    found["dirty"] = any(not line.startswith("??") for line in status.splitlines())
    found["untracked"] = [line[3:] for line in status.splitlines() if line.startswith("??")][:100]
    diff = (_git(where, "diff", "HEAD", "--no-color", "--no-ext-diff") or "") if found["dirty"] else ""
    diff += "\n" if diff else ""
    if len(diff) > DIFF_LIMIT:
        diff = diff[:DIFF_LIMIT] + "\n… cut here: the difference is longer\n"
    return found, diff


def own_files(root: Path, *, started: Path | None = None, known: Container[str] = ()) -> dict[str, Path]:
    """Files under `root` that this process has loaded as modules, and the one that it was started with, by relative path, less the `known` ones.

    What is installed is not the project's own, nor is what lies in a folder whose name begins with a dot.
    """
    found: dict[str, Path] = {}
    installed = (os.path.join(sys.prefix, ""), os.path.join(sys.base_prefix, "lib", ""))
    loaded = [getattr(module, "__file__", None) or "" for module in list(sys.modules.values())]
    for name in [*loaded, str(started or "")]:
        if not name.endswith(".py") or name.startswith(installed) or "-packages" in name:
            continue
        with suppress(OSError, ValueError):
            path = Path(name).resolve()
            relative = path.relative_to(root)
            own = not any(part.startswith(".") for part in relative.parts) and relative.as_posix() not in known
            if own and path.stat().st_size <= FILE_LIMIT and len(found) < FILES_LIMIT:
                found[relative.as_posix()] = path
    return dict(sorted(found.items()))


def started_file() -> Path | None:
    """The file that this process was started with; it must be asked for before that has come to its end."""
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    with suppress(OSError):
        return Path(main).resolve() if main else None
    return None


def project_root(started: Path | None) -> Path:
    """The working folder, or the started file's where that lies elsewhere."""
    here = Path.cwd().resolve()
    return started.parent if started and not started.is_relative_to(here) else here


def tracked(root: Path) -> frozenset[str]:
    """Files under a folder that git knows; the commit and the difference tell of them."""
    said = _git(root, "ls-files", "-z")
    return frozenset((said or "").split("\0")) - {""}


def cells() -> str:
    """What was executed in this notebook or interactive session so far, in order; "" elsewhere."""
    ipython = sys.modules.get("IPython")
    with suppress(Exception):
        shell = ipython.get_ipython() if ipython is not None else None
        inputs = shell.history_manager.input_hist_raw if shell is not None else []
        return "".join(f"# In[{n}]\n{text.rstrip()}\n\n" for n, text in enumerate(inputs) if n and text.strip())
    return ""


def packages() -> dict[str, str]:
    """Name and version of every installed distribution."""
    from importlib import metadata

    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        with suppress(Exception):
            found.setdefault(distribution.metadata["Name"], distribution.version)
    return dict(sorted(found.items(), key=lambda item: item[0].lower()))


class Console:
    """Copies what Python writes to stdout and stderr into `keep(text)`, in blocks; the streams go on as before.

    The streams' own `write` is wrapped, so that loggers made earlier are heard too. Output that C code writes past
    Python is left to whoever started the process. Of a line that overwrites itself (a progress bar) the last state stays.
    """

    LIMIT = 64_000

    def __init__(self, keep: Callable[[str], None]) -> None:
        self._keep = keep
        self._pieces: list[str] = []
        self._size = 0
        self._guard = threading.Lock()
        self._stopped = False
        self._wrapped: list[tuple[Any, Callable[[str], int]]] = []

    def start(self) -> None:
        for stream in {id(s): s for s in (sys.stdout, sys.stderr) if s is not None}.values():
            with suppress(AttributeError, TypeError):
                setattr(stream, "write", self._wrapper(stream.write))  # noqa: B010
                self._wrapped.append((stream, stream.write))

    def stop(self) -> None:
        for stream, wrapper in self._wrapped:
            if getattr(stream, "write", None) is wrapper:
                with suppress(AttributeError):
                    del stream.write
        self._wrapped = []
        self.flush(whole=False)
        self._stopped = True

    def flush(self, *, whole: bool = True) -> None:
        """Hand over the lines written since the last time; one that has not ended waits, so that no secret is cut in two."""
        with self._guard:
            text = "".join(self._pieces)
            end = max(text.rfind("\n"), text.rfind("\r")) + 1 if whole and self._size < self.LIMIT else len(text)
            text, rest = text[:end], text[end:]
            self._pieces, self._size = [rest] if rest else [], len(rest)
        if text and (text := settled(text)):
            self._keep(text)

    def forget(self) -> None:
        """In a forked child: what the parent has not handed over yet is the parent's."""
        self._guard = threading.Lock()
        self._pieces, self._size = [], 0

    def _wrapper(self, write: Callable[[str], int]) -> Callable[[str], int]:
        def tee(text: str) -> int:
            written = write(text)
            if self._stopped:
                return written
            with self._guard:
                self._pieces.append(str(text))
                self._size += len(text)
                full = self._size >= self.LIMIT
            if full:
                with suppress(Exception):
                    self.flush()
            return written

        return tee


def settled(text: str) -> str:
    r"""Text as a terminal would show it in the end: of a line rewritten with carriage returns the last state.

    >>> settled("10 %\r50 %\r100 %\ndone\n")
    '100 %\ndone\n'
    """
    if "\r" not in text:
        return text
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in lines)


class System:
    """Measures this process and its machine; each call covers the time since the call before."""

    def __init__(self) -> None:
        self._psutil: Any = None
        with suppress(ImportError):
            import psutil  # type: ignore[import-untyped]

            self._psutil = psutil
        self._last = self._counters()

    def measure(self) -> dict[str, float]:
        """Values by name: `system/cpu_percent` (of one CPU), `system/memory_mb`, disk and network MB/s where known."""
        before, now = self._last, self._counters()
        self._last = now
        seconds = max(now["at"] - before["at"], 1e-9)
        values = {"system/cpu_percent": 100 * (now["cpu"] - before["cpu"]) / seconds}
        if "memory" in now:
            values["system/memory_mb"] = now["memory"] / 1e6
        for name in ("disk_read", "disk_written", "net_received", "net_sent"):
            if name in now and name in before:
                values[f"system/{name}_mb_s"] = (now[name] - before[name]) / 1e6 / seconds
        for name in ("machine_memory_percent", "machine_load"):
            if name in now:
                values[f"system/{name}"] = now[name]
        return values

    def _counters(self) -> dict[str, float]:
        used = os.times()
        found = {"at": time.monotonic(), "cpu": used.user + used.system + used.children_user + used.children_system}
        with suppress(OSError, AttributeError):
            found["machine_load"] = os.getloadavg()[0]
        if self._psutil is None:
            with suppress(OSError, ValueError, IndexError):
                pages = int(Path("/proc/self/statm").read_text().split()[1])
                found["memory"] = float(pages * os.sysconf("SC_PAGE_SIZE"))
            return found
        with suppress(Exception):
            process = self._psutil.Process()
            found["memory"] = float(process.memory_info().rss)
            found["machine_memory_percent"] = float(self._psutil.virtual_memory().percent)
            disk, network = self._psutil.disk_io_counters(), self._psutil.net_io_counters()
            if disk is not None:
                found["disk_read"], found["disk_written"] = float(disk.read_bytes), float(disk.write_bytes)
            if network is not None:
                found["net_received"], found["net_sent"] = float(network.bytes_recv), float(network.bytes_sent)
        return found


def _command() -> list[str]:
    with suppress(AttributeError):
        return [os.path.basename(sys.orig_argv[0]), *sys.orig_argv[1:]]
    return list(sys.argv)


def _entry() -> str:
    """The file that was started, or where there is none: notebook, interpreter."""
    if "ipykernel" in sys.modules:
        return "notebook"
    main = sys.modules.get("__main__")
    return str(getattr(main, "__file__", None) or "interpreter")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            timeout=10,
            check=False,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace").rstrip("\n") if done.returncode == 0 else None


def _memory_bytes() -> int | None:
    with suppress(ValueError, OSError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return None
