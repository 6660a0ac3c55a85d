"""One step in the pinned environment, or its stored result where code and inputs are the same as before."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import blake3
import msgspec
import sqlalchemy as sa

from stead import __version__, environments, runs
from stead.errors import Failed
from stead.jobs import Inside, Keeper
from stead.pipelines.remote import Elsewhere
from stead.pipelines.tables import step_results
from stead.pipelines.types import Subject
from stead.runtime import secrets
from stead.runtime.clock import now_ms
from stead.runtime.ids import new_id
from stead.runtime.journal import Courier, Record
from stead.runtime.node import FOLDER
from stead.runtime.step import FOLLOW
from stead.runtime.workfolder import work_folder
from stead.store import Store

ON_CLUSTER = ("features", "evaluate", "train", "backtest")
"""Steps that compute, and need nothing but blobs. The others are short, or read from where only the agent reaches."""


FIXED = {"PYTHONUNBUFFERED": "1", "PYTHONHASHSEED": "0", "PYTHONSAFEPATH": "1"}


@dataclass
class Outputs:
    """Name → blob; a folder is a blob with a JSON object of path → [blob, bytes]."""

    digests: dict[str, str]
    cached: bool


class Workshop:
    """A folder of its own for the steps of one job; gone when the job ends.

    Its processes see the variables that `allow` names besides the basic ones, and `variables`. With `image` they run in
    containers of the environment's image. With `executor` "ray" those that compute run on a Ray cluster, each with
    `resources` of it, in the environment or its image.
    """

    def __init__(
        self,
        store: Store,
        keeper: Keeper,
        subject: Subject,
        *,
        environment: str,
        variables: Mapping[str, str],
        allow: Sequence[str],
        run_id: str | None,
        image: bool = False,
        executor: str = "local",
        resources: Mapping[str, float] | None = None,
    ) -> None:
        self.store = store
        self.keeper = keeper
        self.subject = subject
        self.environment = environment
        self.inside = self._inside() if image and executor == "local" else None
        if self.inside is None:
            self.python = environments.ensure(store, environment, progress=self._say)
        self.run_id = run_id
        self.allow = tuple(allow)
        self.set_variables = dict(variables)
        self.variables = environments.variables(allow=allow, extra=variables, threads=subject.threads)
        hide = self.variables.get(secrets.NAMES, "").split(",")
        keeper.secrets = tuple({*keeper.secrets, *(self.variables[name] for name in hide if name)})
        with ExitStack() as stack:
            self.folder = stack.enter_context(work_folder("job"))
            self.code = self.folder / "code"
            for name, digest in subject.files.items():
                self.store.blobs.fetch(digest, self.code / name)
            self.elsewhere = self._elsewhere(resources or {}, image) if executor == "ray" else None
            self._left = stack.pop_all()

    def __enter__(self) -> Workshop:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._left:
            if self.elsewhere is not None:
                self.elsewhere.close()

    def _say(self, text: str) -> None:
        self.keeper.log(text + "\n")

    def _inside(self) -> Inside:
        if self.keeper.contain is None:
            raise Failed("no-containers", "this process runs no containers", hint="stead up --background")
        return self.keeper.contain(self.store, self.environment, self._say)

    def _elsewhere(self, resources: Mapping[str, float], image: bool) -> Elsewhere:
        keeper = self.keeper
        if keeper.cluster is None or keeper.archive is None:
            raise Failed("no-cluster", "this process gives no steps to a cluster", hint="stead up --background")
        threads = self.subject.threads
        archive = keeper.archive(self.store, self.environment, keeper.limits, self._say) if image else None
        return Elsewhere(
            self.store,
            keeper,
            keeper.cluster(),
            environment=self.environment,
            image=archive,
            resources={"cpu": threads, **resources},
            variables={"allow": list(self.allow), "set": self.set_variables, "threads": threads},
        )

    def run(
        self,
        step: str,
        *,
        inputs: Mapping[str, str] | None = None,
        outputs: Sequence[str],
        params: Mapping[str, Any] | None = None,
        folders: Mapping[str, Path] | None = None,
        cache: bool = True,
        logs: bool = True,
        cwd: Path | None = None,
    ) -> Outputs:
        """Run a step on `inputs` (name → blob) and `folders`, and store its `outputs`; with `logs`, the run gets what it logs."""
        key = self._key(step, inputs or {}, params or {})
        if cache and (stored := self._stored(key)) is not None:
            self.keeper.log(f"{step}: same code and inputs as before, not run again\n")
            self._deliver_stored(step, stored.get("journal"))
            return Outputs(stored, cached=True)
        place = self.folder / step
        place.mkdir()
        started = time.monotonic()
        journal = place / "journal"
        courier = self._courier(step, journal) if logs else None

        def carry() -> None:
            if courier is not None and journal.is_dir():
                courier.carry()

        if self.elsewhere is not None and step in ON_CLUSTER:
            digests = self._run_elsewhere(self.elsewhere, step, inputs or {}, outputs, params or {}, journal, carry)
        else:
            digests = self._run_here(
                step, place, inputs or {}, outputs, params or {}, folders or {}, journal, carry, cwd
            )
        carry()
        if logs and journal.is_dir() and any(journal.iterdir()):
            digests["journal"] = self._keep(journal)
        with self.keeper.write("pipelines.step") as tx:
            values = {
                "step": step,
                "outputs": digests,
                "seconds": time.monotonic() - started,
                "job_id": self.keeper.job.id,
                "at": now_ms(),
            }
            self.store.db.upsert(tx, step_results, {"key": key} | values, ["key"])
        return Outputs(digests, cached=False)

    def _run_here(
        self,
        step: str,
        place: Path,
        inputs: Mapping[str, str],
        outputs: Sequence[str],
        params: Mapping[str, Any],
        folders: Mapping[str, Path],
        journal: Path,
        carry: Callable[[], None],
        cwd: Path | None,
    ) -> dict[str, str]:
        """Run a step on this machine; its outputs as blobs."""
        paths = {name: str(place / name) for name in outputs}
        read_from = {name: str(self.store.blobs.path(digest)) for name, digest in inputs.items()}
        read_from |= {name: str(path) for name, path in folders.items()}
        spec = self._spec(step, params) | {"code": str(self.code), "inputs": read_from, "outputs": paths}
        (place / "spec.json").write_text(json.dumps(spec))
        environ = self.variables | {"PYTHONPATH": str(environments.runtime_path(self.store)), **FIXED}
        request = {
            "spec": str(place / "spec.json"),
            "cwd": str(cwd or place),
            "env": {"STEAD_STEP": step, "STEAD_JOURNAL": str(journal)},
        }
        if self.inside is None:
            command = [str(self.python), "-m", "stead.runtime.host"]
            self.keeper.step(step, command, request, env=environ, on_tick=carry)
        else:
            read = [Path(path) for path in read_from.values()]
            self._run_inside(self.inside, step, request, environ, [*read, *([cwd] if cwd else [])], carry)
        return {name: self._keep(Path(path)) for name, path in paths.items()}

    def _run_elsewhere(
        self,
        elsewhere: Elsewhere,
        step: str,
        inputs: Mapping[str, str],
        outputs: Sequence[str],
        params: Mapping[str, Any],
        journal: Path,
        carry: Callable[[], None],
    ) -> dict[str, str]:
        """Run a step on the cluster; its outputs as blobs."""
        paths = {name: f"{FOLDER}/out/{name}" for name in outputs}
        read_from = {name: f"{FOLDER}/in/{name}" for name in inputs}
        made = elsewhere.step(
            step,
            code=self.subject.files,
            inputs=inputs,
            outputs=outputs,
            spec=self._spec(step, params) | {"code": f"{FOLDER}/code", "inputs": read_from, "outputs": paths},
            env={**FIXED, "STEAD_STEP": step, "STEAD_JOURNAL": f"{FOLDER}/journal"},
            journal=journal,
            on_tick=carry,
        )
        return {
            name: self.store.blobs.put(msgspec.json.encode(files)) if isinstance(files, dict) else files
            for name, files in made.items()
        }

    def _spec(self, step: str, params: Mapping[str, Any]) -> dict[str, Any]:
        """What a step is told, wherever it runs."""
        subject = self.subject
        return {
            "step": step,
            "entry": subject.entry,
            "module": subject.module,
            "files": sorted(subject.files),
            "target": subject.target,
            "time": subject.time,
            "loss": subject.loss,
            "seed": subject.seed,
            "order": subject.order,
            "params": dict(params),
        }

    def _run_inside(
        self,
        inside: Inside,
        step: str,
        request: Mapping[str, Any],
        environ: Mapping[str, str],
        read: Sequence[Path],
        carry: Callable[[], None],
    ) -> None:
        """Run a step in a container: the job's folder and what it reads lie at the same places as outside."""
        name = f"stead-step-{new_id()}"
        inside.own(self.folder)
        outside = sorted({path for path in read if not path.is_relative_to(self.folder)})
        command, env = inside.command(
            ["-m", "stead.runtime.step", request["spec"], FOLLOW],
            name=name,
            variables={**environ, **request["env"]},
            mounts=[f"{self.folder}:{self.folder}:rw", *(f"{path}:{path}:ro" for path in outside)],
            network="host",
            limits=self.keeper.limits,
            workdir=Path(request["cwd"]),
        )
        try:
            self.keeper.run(
                step, command, cwd=self.folder, env=env, on_tick=carry, limited=False, stdin=subprocess.PIPE
            )
        except BaseException:
            inside.remove(name)
            raise

    def _key(self, step: str, inputs: Mapping[str, str], params: Mapping[str, Any]) -> str:
        facts = {
            "stead": __version__,
            "step": step,
            "files": self.subject.files,
            "module": self.subject.module,
            "target": self.subject.target,
            "time": self.subject.time,
            "loss": self.subject.loss,
            "environment": self.environment,
            "variables": self.set_variables,
            "threads": self.subject.threads,
            "seed": self.subject.seed,
            "order": self.subject.order,
            "inputs": dict(inputs),
            "params": dict(params),
        }
        if self.inside:
            facts["image"] = self.inside.digest
        elif self.elsewhere and step in ON_CLUSTER:
            facts |= self.elsewhere.facts
        return blake3.blake3(msgspec.json.encode(facts, order="sorted")).hexdigest()

    def _stored(self, key: str) -> dict[str, str] | None:
        with self.store.db.read() as tx:
            outputs = tx.execute(sa.select(step_results.c.outputs).where(step_results.c.key == key)).scalar()
        if outputs is None or not all(self.store.blobs.has(digest) for digest in outputs.values()):
            return None
        return dict(outputs)

    def _keep(self, path: Path) -> str:
        if not path.is_dir():
            return self.store.blobs.put(path)
        files = {}
        for file in sorted(p for p in path.rglob("*") if p.is_file() and "__pycache__" not in p.parts):
            files[file.relative_to(path).as_posix()] = [self.store.blobs.put(file), file.stat().st_size]
        return self.store.blobs.put(msgspec.json.encode(files))

    def _courier(self, step: str, journal: Path) -> Courier | None:
        """Carries what a step logs to the run.

        A step that is run again after a crash counts on where it was: its writers are numbered, so nothing is doubled.
        """
        run_id = self.run_id
        if run_id is None:
            return None
        writers: dict[str, str] = {}

        def deliver(writer: str, first: int, records: Sequence[Record]) -> int:
            name = writers.setdefault(writer, f"{step}-{len(writers)}")
            return runs.deliver(self.store, run_id, writer=name, first=first, records=records).seq

        return Courier(journal, deliver, self.store.blobs.put)

    def _deliver_stored(self, step: str, digest: str | None) -> None:
        """What a step logged that is not run again belongs to this run, too."""
        if digest is not None:
            place = self.folder / f"{step}-journal"
            restore(self.store, digest, place)
            if courier := self._courier(step, place):
                courier.carry()


def restore(store: Store, digest: str, folder: Path) -> None:
    """Write a stored folder to disk."""
    for name, (blob, _) in msgspec.json.decode(store.blobs.get(digest)).items():
        target = (folder / name).resolve()
        if not target.is_relative_to(folder.resolve()):
            raise ValueError(f"{name!r} escapes its folder")
        store.blobs.fetch(blob, target)
