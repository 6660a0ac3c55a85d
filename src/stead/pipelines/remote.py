"""Steps on a Ray cluster: one job of the cluster's for the steps of one of ours; its machine fetches what it needs from stead's server.

The claim is the agent's. Where that moves on, by a cancel, a time-out or another agent, the cluster is told to stop, and
the machine's pass opens nothing any more, so that it stops by itself where nobody can tell it.
"""

from __future__ import annotations

import base64
import io
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from stead import environments, jobs
from stead.errors import Failed, InvalidInput, SteadError, Unreachable
from stead.jobs import Keeper, Ray, RayState, Session
from stead.runtime.node import PATIENCE_S
from stead.store import Store

ASK_S = 2.0
"""Between two questions to the cluster."""
SILENT_S = 60.0
"""A machine that has spoken and says nothing for so long is lost, unless the cluster says that it runs: it tells every five seconds that it lives."""
GRACE_S = 10.0
"""So long an outcome may come after the cluster says that the step has ended."""


class Elsewhere:
    """Steps of one job on a cluster: one machine does them, one by one, from the first until `close`."""

    def __init__(
        self,
        store: Store,
        keeper: Keeper,
        cluster: Ray,
        *,
        environment: str,
        image: Mapping[str, Any] | None,
        resources: Mapping[str, float],
        variables: Mapping[str, Any],
    ) -> None:
        self._store = store
        self._keeper = keeper
        self._cluster = cluster
        self._environment = environment
        self._image = image
        self._resources = resources
        self._variables = variables
        self._session: Session | None = None
        self._seq = 0
        for left in jobs.earlier_sessions(store, keeper.job):
            keeper.log(f"ending what an earlier try of the job left on the cluster ({left})\n")
            self._stop(left)

    @property
    def facts(self) -> dict[str, Any]:
        """What of the place a result depends on."""
        return {"executor": "ray"} | ({"image": self._image["digest"]} if self._image else {})

    def close(self) -> None:
        """Let the machine go, if it works for this job still."""
        if self._session is not None:
            jobs.end_session(self._store, self._session.id)

    def step(
        self,
        name: str,
        *,
        code: Mapping[str, str],
        inputs: Mapping[str, str],
        outputs: Sequence[str],
        spec: Mapping[str, Any],
        env: Mapping[str, str],
        journal: Path,
        on_tick: Callable[[], None],
    ) -> dict[str, Any]:
        """Run a step; its outputs as `jobs.Message` has them. What it logs comes to `journal` while it runs.

        Raises what `Keeper.follow` raises, Unreachable (`step-lost`) where its machine died, and what the cluster raises.
        """
        made: dict[str, Any] = {}

        def finish(hear: Callable[[str], None]) -> int:
            session = self._session or self._begin(hear)
            jobs.ask_session(self._store, session, self._request(code, inputs, outputs, spec, env))
            return self._follow(session, hear, journal, made)

        try:
            self._keeper.follow(name, finish, on_tick)
        except BaseException:
            if self._session is not None:
                self._stop(self._session.id)
            raise
        return made

    def _begin(self, hear: Callable[[str], None]) -> Session:
        """Have the cluster give a machine."""
        job = self._keeper.job
        session, secret = jobs.begin_session(self._store, job, runtime=self._store.blobs.put(_runtime()))
        self._session = session
        self._check(secret)
        self._cluster.submit(
            session.id,
            variables={"STEAD_STEP_URL": f"{self._cluster.server}/api/v1/step", "STEAD_STEP_PASS": secret},
            resources=self._resources,
            metadata={"stead_job": job.id, "stead_model": job.model or ""},
        )
        hear(f"given to the Ray cluster at {self._cluster.address} as {session.id}\n")
        return session

    def _request(
        self,
        code: Mapping[str, str],
        inputs: Mapping[str, str],
        outputs: Sequence[str],
        spec: Mapping[str, Any],
        env: Mapping[str, str],
    ) -> dict[str, Any]:
        given: dict[str, Any] = {
            "code": dict(code),
            "inputs": dict(inputs),
            "outputs": list(outputs),
            "spec": dict(spec),
            "env": dict(env),
            "variables": dict(self._variables),
            "around": self._keeper.limits.around([]),
            "image": dict(self._image) if self._image else None,
            "environment": None if self._image else self._described,
        }
        reads = {*code.values(), *inputs.values()}
        if self._image:
            reads.add(self._image["archive"])
        else:
            wanted = given["environment"]
            reads |= {wanted["lock"], wanted["uv"], *(digest for _, digest in wanted["wheels"])}
        return given | {"reads": sorted(reads)}

    @cached_property
    def _described(self) -> dict[str, Any]:
        """What a machine makes the environment from: the lock, uv, and the wheels that the store has."""
        import uv

        found = environments.get(self._store, self._environment)
        wheels = [*found.wheels, *environments.vendored(self._store, found)]
        return {
            "digest": found.digest,
            "python": found.python,
            "platform": found.platform,
            "lock": found.lock,
            "wheels": [[wheel.filename, wheel.digest] for wheel in wheels],
            "whole": found.packages.keys() <= {canonicalize_name(wheel.name) for wheel in wheels},
            "uv": self._store.blobs.put(Path(uv.find_uv_bin())),
        }

    def _check(self, secret: str) -> None:
        """Raise unless stead's server answers at the address that the machines are told, and for this store."""
        import httpx

        url = f"{self._cluster.server}/api/v1/step"
        try:
            answer = httpx.get(url, headers={"authorization": f"Bearer {secret}"}, timeout=30, trust_env=False)
        except httpx.TransportError as error:
            raise Unreachable(
                "server-unreachable",
                f"a step on Ray fetches what it needs from stead's server, and {self._cluster.server} does not answer: {error}",
                hint="stead up --background; server_url in [settings] is its address",
            ) from None
        if answer.status_code != 200:
            raise Failed(
                "server-other",
                f"{self._cluster.server} does not know this job: {answer.text[:200]}",
                hint="server_url in [settings] of stead.toml names the server of this store",
            )

    def _follow(self, session: Session, hear: Callable[[str], None], journal: Path, made: dict[str, Any]) -> int:
        """Hear what the machine says until it tells the outcome; the exit code."""
        spoke, asked, ended = time.monotonic() if self._seq else 0.0, time.monotonic(), 0.0
        state: RayState | None = None
        while True:
            for message in jobs.heard(self._store, session, after=self._seq):
                self._seq, spoke = message.seq, time.monotonic()
                _mirror(self._store, journal, message)
                hear(message.text)
                if message.code is not None:
                    made.update(message.outputs or {})
                    return message.code
            hear("")
            now = time.monotonic()
            if now - asked > ASK_S:
                asked = now
                before, state = state, None
                with suppress(Unreachable):  # its machine may be well all the same
                    state = self._cluster.state(session.id)
                if state and state.status == "PENDING" and not before:
                    hear("waiting for a place in the cluster\n")
                ended = ended or (now if state and state.ended else 0.0)
            if state and ended and now - ended > GRACE_S:
                return self._untold(session, state, hear)
            allowed = PATIENCE_S if state and state.status == "RUNNING" else SILENT_S
            if spoke and now - spoke > allowed:
                raise Unreachable("step-lost", f"the machine of the step has said nothing for {allowed:.0f} s")
            time.sleep(0.2)

    def _untold(self, session: Session, state: RayState, hear: Callable[[str], None]) -> int:
        """The work has ended for the cluster, and its machine told nothing of that."""
        said = ""
        with suppress(SteadError):
            said = self._cluster.said(session.id)
        hear(said[-8192:])
        if state.status == "STOPPED":
            hint = f"ray job logs {session.id}"
            raise Failed("step-stopped", "the step was stopped on the Ray cluster", hint=hint)
        if state.code and not self._seq:
            last = [line for line in said.splitlines() if line.strip()][-1:] or ["it says nothing"]
            raise Failed(
                "machine-unready",
                f"a machine of the cluster could not begin: {last[0].strip()[:300]}",
                hint=f"does it reach stead at {self._cluster.server} (the setting server_url), and has it python3?",
            )
        if state.code is not None:
            return state.code or 1
        raise Unreachable("step-lost", f"the cluster lost the step: {state.message.strip()[:400]}")

    def _stop(self, session: str) -> None:
        with suppress(SteadError):
            self._cluster.stop(session)
        jobs.end_session(self._store, session)


def _mirror(store: Store, journal: Path, message: jobs.Message) -> None:
    """Write to a folder here what was written to the journal there."""
    for name, digest in message.files:
        store.blobs.fetch(digest, _inside(journal, name))
    for name, at, data in message.journal:
        path = _inside(journal, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "r+b" if path.exists() else "wb") as file:
            file.seek(at)
            file.write(base64.b64decode(data))


def _inside(folder: Path, name: str) -> Path:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise InvalidInput("path-invalid", f"a step told of a file {name!r} outside of its journal")
    return path


@lru_cache(1)
def _runtime() -> bytes:
    """stead's runtime as a zip, the same bytes each time."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in environments.runtime_files().items():
            archive.writestr(zipfile.ZipInfo(name), data)
    return out.getvalue()
