"""What numbers depend on besides code, data and packages: processor, arithmetic libraries with their threads, Python, system.

Facts are texts by name, so that two machines are compared row by row. Nothing is loaded that the process has not loaded:
threadpoolctl, which scikit-learn brings, tells which kernel a BLAS computes with; without it numpy tells what it was built with.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

SETTINGS = re.compile(
    r"(OMP|OPENBLAS|MKL|BLIS|KMP|GOMP|NUMEXPR|VECLIB|NPY)_[A-Z0-9_]+|PYTHONHASHSEED|TZ|LANG|LC_[A-Z]+"
)
"""Names of variables that change how is computed; none of them holds a secret."""
WIDE = re.compile(r"(avx|amx|fma|sse4|ssse3|neon|asimd|sve|bf16|i8mm)\w*")
"""Flags of a processor by which libraries choose their code."""


def facts(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """What this process computes with.

    >>> facts({"OMP_NUM_THREADS": "2", "TOKEN": "geheim"})["OMP_NUM_THREADS"]
    '2'
    """
    environ = os.environ if environ is None else environ
    cpu, flags = _processor()
    found = {
        "interpreter": f"{platform.python_implementation()} {platform.python_version()}",
        "os": _system(),
        "cpu": cpu,
        "cpu flags": flags,
    }
    with suppress(Exception):
        found |= _libraries()
    found |= {name: environ[name] for name in sorted(environ) if SETTINGS.fullmatch(name)}
    return {name: value for name, value in found.items() if value}


def rows(frame: Any) -> dict[str, str]:
    """Two digests of a frame: of its rows whatever their order, and of their order."""
    import numpy as np
    import pandas as pd

    with suppress(TypeError):  # a cell that cannot be hashed, such as a list
        hashes = pd.util.hash_pandas_object(frame, index=False).to_numpy()
        columns = "\0".join(map(str, frame.columns)).encode()
        return {"rows": _digest(columns, np.sort(hashes).tobytes()), "row order": _digest(columns, hashes.tobytes())}
    return {}


def _digest(*parts: bytes) -> str:
    hasher = hashlib.blake2b(digest_size=8)
    for part in parts:
        hasher.update(part)
    return hasher.hexdigest()


def _system() -> str:
    libc = " ".join(platform.libc_ver()) if sys.platform == "linux" else ""
    return ", ".join(filter(None, [f"{platform.system()} {platform.release()} {platform.machine()}", libc]))


def _processor() -> tuple[str, str]:
    """Its name and the flags that matter."""
    name, flags = platform.processor() or platform.machine(), ""
    with suppress(OSError):
        text = Path("/proc/cpuinfo").read_text()
        for line in text[: text.find("\n\n")].splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                name = value.strip()
            elif key.strip() in ("flags", "Features"):
                flags = " ".join(sorted(flag for flag in value.split() if WIDE.fullmatch(flag)))
    return name, flags


def _libraries() -> dict[str, str]:
    """BLAS and OpenMP of this process: their versions, kernels and threads."""
    if "numpy" not in sys.modules:
        return {}
    try:
        from threadpoolctl import threadpool_info  # type: ignore[import-untyped]
    except ImportError:
        import numpy as np

        built: Any = np.show_config(mode="dicts")
        blas = built["Build Dependencies"]["blas"]
        return {"blas": f"{blas['name']} {blas['version']}"}
    found = threadpool_info()
    told = {}
    for api in ("blas", "openmp"):
        pools = [pool for pool in found if pool["user_api"] == api]
        told[api] = _each(f"{pool['internal_api']} {pool['version'] or ''}".strip() for pool in pools)
        told[f"{api} kernel"] = _each(pool.get("architecture") for pool in pools)
        told[f"{api} threads"] = _each(pool["num_threads"] for pool in pools)
    return told


def _each(values: Iterable[Any]) -> str:
    return ", ".join(sorted({str(value) for value in values if value}))
