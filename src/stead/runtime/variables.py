"""What a job's or worker's processes see of the environment of the machine that they run on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from stead.runtime import secrets

_BASIC = {
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE", "NO_PROXY", "no_proxy", "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "LD_LIBRARY_PATH",
}  # fmt: skip
_PROXIES = {"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"}
THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def variables(*, allow: Sequence[str] = (), extra: Mapping[str, str] | None = None, threads: int = 1) -> dict[str, str]:
    """The environment variables of a job or worker.

    Passed on are where things lie, the language, certificates, proxies without a password, and `allow` (a name, or a
    prefix with `*`); stead's own never are. The time zone is UTC and libraries compute on `threads` threads whatever
    the shell says, so that a job gives the same result from a terminal and from the agent. `extra` has the last word;
    where it names a secret (`env:NAME`, `file:/path`) the secret is looked up. `STEAD_SECRETS` lists the variables with one.
    Raises Failed (`secret-missing`).

    >>> variables(extra={"TZ": "Europe/Oslo"})["TZ"], variables()["TZ"]
    ('Europe/Oslo', 'UTC')
    """
    passed = {}
    for name, value in os.environ.items():
        if name.startswith("STEAD_"):
            continue
        basic = name in _BASIC or name.startswith("LC_") or (name in _PROXIES and "@" not in value)
        if basic or any(name == a or (a.endswith("*") and name.startswith(a[:-1])) for a in allow):
            passed[name] = value
    fixed = {"TZ": "UTC", "PYTHONUNBUFFERED": "1"} | dict.fromkeys(THREADS, str(threads))
    given = {k: secrets.looked_up(v, os.environ, what=k) for k, v in (extra or {}).items()}
    named = [k for k, v in (extra or {}).items() if secrets.is_reference(v)]
    hide = sorted({*named, *secrets.telling(passed)})
    return (
        {"LANG": "C.UTF-8"}
        | passed
        | {k: v for k, v in fixed.items() if k not in allow or k not in passed}
        | given
        | ({secrets.NAMES: ",".join(hide)} if hide else {})
    )
