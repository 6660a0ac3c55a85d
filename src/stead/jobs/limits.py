"""What a process of a job or worker may take at most, and what it says when that was too little."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from stead.config import Settings
from stead.errors import Failed

_NO_MEMORY = re.compile(r"MemoryError|bad_alloc|bad allocation|[Cc]annot allocate memory|Out of memory")
_NO_FILES = re.compile(r"Too many open files")


KILLED = "step-killed"
"""Code of the error where a process was killed from outside: the job is tried again, as after the death of its keeper."""


@dataclass(frozen=True)
class Limits:
    """Limits of one process; 0 leaves what the system gives.

    Memory is what the process may write to and shares with nobody (RLIMIT_DATA). The size of its address space would
    count files and libraries that are only mapped, and the stacks and arenas that threads reserve and never touch.
    """

    memory_mb: int = 0
    open_files: int = 0

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        return cls(settings.memory_mb, settings.open_files)

    def around(self, command: Sequence[str]) -> list[str]:
        """The command with its limits: a shell sets them and becomes the command, so that nothing of it runs without.

        >>> Limits(open_files=64).around(["python", "x.py"])
        ['/bin/sh', '-c', 'ulimit -n 64 2>/dev/null; exec "$@"', 'sh', 'python', 'x.py']
        """
        set_ = [f"ulimit -d {self.memory_mb * 1024} 2>/dev/null"] if self.memory_mb else []
        set_ += [f"ulimit -n {self.open_files} 2>/dev/null"] if self.open_files else []
        return ["/bin/sh", "-c", "; ".join([*set_, 'exec "$@"']), "sh", *command] if set_ else list(command)

    def told(self, message: str, code: int, said: str) -> Failed | None:
        """The error of a command that ended with `code` for want of memory or files, by what it said last."""
        if _NO_FILES.search(said):
            allowed = (
                f"open_files is {self.open_files} in [settings] of stead.toml: raise it" if self.open_files else None
            )
            return Failed("step-files", f"{message}: it had too many files open", hint=allowed or "ulimit -n")
        if _NO_MEMORY.search(said) or code == -9:
            allowed = (
                f"memory_mb is {self.memory_mb} in [settings] of stead.toml: raise it, or use fewer rows (--since)"
            )
            hint = allowed if self.memory_mb else "use fewer rows (--since), or a machine with more memory"
            what = "it ran out of memory" if code != -9 else "perhaps the system did, to free memory"
            if code == -9 and not self.memory_mb:
                return Failed("step-killed", f"{message}: {what}", hint=hint)
            return Failed("step-memory", f"{message}: {what}", hint=hint)
        return None
