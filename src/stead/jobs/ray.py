"""Ray as an executor: its Jobs API, over HTTP. A Ray of any version since 2.9 is talked to, and none is installed here.

See https://docs.ray.io/en/latest/cluster/running-applications/job-submission/api.html
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stead.config import Settings
from stead.errors import Failed, InvalidInput, Unreachable

ENTRY = (
    "import os,sys,tempfile,urllib.request as r;"
    "q=r.Request(os.environ['STEAD_STEP_URL']+'/runtime',headers={'authorization':'Bearer '+os.environ['STEAD_STEP_PASS']});"
    "f=tempfile.NamedTemporaryFile(suffix='.zip');f.write(r.build_opener(r.ProxyHandler({})).open(q,timeout=60).read());f.flush();"
    "sys.path.insert(0,f.name);from stead.runtime import node;sys.exit(node.main(f.name))"
)
"""What a machine of the cluster runs: it fetches stead's runtime, which does the steps one by one."""


@dataclass(frozen=True)
class State:
    """What the cluster says of a job of its own."""

    status: str
    """`PENDING`, `RUNNING`, `SUCCEEDED`, `FAILED` or `STOPPED`."""
    message: str

    @property
    def ended(self) -> bool:
        return self.status in ("SUCCEEDED", "FAILED", "STOPPED")

    @property
    def code(self) -> int | None:
        """Exit code of its command; None where its machine was lost, or it never began.

        >>> State("FAILED", "Job entrypoint command failed with exit code 1, last available logs: …").code
        1
        """
        found = re.search(r"exit code (-?\d+)", self.message)
        return 0 if self.status == "SUCCEEDED" else int(found[1]) if found else None


class Ray:
    """A cluster, by the address of its dashboard, and the address at which its machines reach stead's server.

    The token is the cluster's own, from where Ray itself looks for it: `RAY_AUTH_TOKEN`, the file that
    `RAY_AUTH_TOKEN_PATH` names, `~/.ray/auth_token`. Every method raises Unreachable (`ray-unreachable`) where the
    cluster does not answer, and Failed (`ray-refused`) where it refuses.
    """

    def __init__(self, address: str, server: str) -> None:
        self.address = address.rstrip("/")
        self.server = server.rstrip("/")

    @classmethod
    def of(cls, settings: Settings) -> Ray:
        """The cluster of the settings. Raises InvalidInput (`ray-address`) where they name none."""
        if not settings.ray_address:
            raise InvalidInput(
                "ray-address",
                "a model is to be trained on Ray, and no setting says where that is",
                hint='ray_address = "http://127.0.0.1:8265" in [settings] of stead.toml, or STEAD_RAY_ADDRESS',
            )
        host = str(settings.host)
        here = socket.getfqdn() if host in ("0.0.0.0", "::") else f"[{host}]" if ":" in host else host
        return cls(str(settings.ray_address), str(settings.server_url) or f"http://{here}:{settings.port}")

    def submit(
        self, name: str, *, variables: Mapping[str, str], resources: Mapping[str, float], metadata: Mapping[str, str]
    ) -> None:
        """Have the cluster start a machine's work on steps under a name of ours. `resources` are `cpu`, `gpu`, `memory_mb`, and any of the cluster's own."""
        own = dict(resources)
        body: dict[str, Any] = {
            "submission_id": name,
            "entrypoint": f'python3 -c "{ENTRY}"',
            "runtime_env": {"env_vars": dict(variables)},
            "metadata": dict(metadata),
            "entrypoint_num_cpus": own.pop("cpu", 1),
            "entrypoint_num_gpus": own.pop("gpu", 0),
        }
        if memory := own.pop("memory_mb", 0):
            body["entrypoint_memory"] = int(memory) << 20
        if own:
            body["entrypoint_resources"] = own
        self._ask("POST", "/api/jobs/", body)

    def state(self, name: str) -> State:
        """How a step stands."""
        found = self._ask("GET", f"/api/jobs/{name}")
        return State(str(found.get("status")), str(found.get("message") or ""))

    def said(self, name: str) -> str:
        """What its command has printed on its machine so far."""
        return str(self._ask("GET", f"/api/jobs/{name}/logs").get("logs") or "")

    def stop(self, name: str) -> None:
        """End a step, whether it runs, waits or has ended; one that the cluster does not know is no error."""
        self._ask("POST", f"/api/jobs/{name}/stop", missing={})

    def _ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, missing: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        import httpx

        headers = {"authorization": f"Bearer {token}"} if (token := _token()) else {}
        try:
            answer = httpx.request(method, self.address + path, json=body, headers=headers, timeout=30, trust_env=False)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise Unreachable(
                "ray-unreachable",
                f"the Ray cluster at {self.address} does not answer: {error}",
                hint="ray_address is the address of the dashboard of its head",
            ) from None
        if answer.status_code == 404 and missing is not None:
            return missing
        if answer.status_code in (401, 403):
            raise Failed(
                "ray-refused",
                f"the Ray cluster at {self.address} refuses: {answer.text[:200]}",
                hint="export RAY_AUTH_TOKEN=…, where stead up is started",
            )
        if answer.status_code in (502, 503, 504):
            raise Unreachable("ray-unreachable", f"the Ray cluster at {self.address} answers {answer.status_code}")
        try:
            if answer.status_code >= 400:
                raise ValueError
            found = answer.json()
            return found if isinstance(found, dict) else {}
        except ValueError:
            last = answer.text.strip().splitlines()[-1:] or ["nothing"]
            raise Failed(
                "ray-refused",
                f"the Ray cluster at {self.address} answers {answer.status_code} to {method} {path}: {last[0][:300]}",
            ) from None


def _token() -> str:
    if token := os.environ.get("RAY_AUTH_TOKEN", "").strip():
        return token
    named = os.environ.get("RAY_AUTH_TOKEN_PATH", "")
    path = Path(named) if named else Path.home() / ".ray" / "auth_token"
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
