"""One step in the pinned environment, or its stored result where code and inputs are the same as before."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
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
from stead.pipelines.tables import step_results
from stead.pipelines.types import Subject
from stead.runtime import secrets
from stead.runtime.clock import now_ms
from stead.runtime.ids import new_id
from stead.runtime.journal import Courier, Record
from stead.runtime.step import FOLLOW
from stead.store import Store

FOLDERS = ("model",)


@dataclass
class Outputs:
    """Name → blob; a folder is a blob with a JSON object of path → [blob, bytes]."""

    digests: dict[str, str]
    cached: bool


class Workshop:
    """A folder of its own for the steps of one job; gone when the job ends.

    Its processes see the variables that `allow` names besides the basic ones, and `variables`. With `image` they run in
    containers of the environment's image.
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
    ) -> None:
        self.store = store
        self.keeper = keeper
        self.subject = subject
        self.environment = environment
        self.inside = self._inside() if image else None
        if self.inside is None:
            self.python = environments.ensure(store, environment, progress=self._say)
        self.run_id = run_id
        self.folder = Path(tempfile.mkdtemp(prefix="stead-job-"))
        self.code = self.folder / "code"
        for name, digest in subject.files.items():
            self.store.blobs.fetch(digest, self.code / name)
        self.set_variables = dict(variables)
        self.variables = environments.variables(allow=allow, extra=variables, threads=subject.threads)
        hide = self.variables.get(secrets.NAMES, "").split(",")
        keeper.secrets = tuple({*keeper.secrets, *(self.variables[name] for name in hide if name)})

    def __enter__(self) -> Workshop:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _say(self, text: str) -> None:
        self.keeper.log(text + "\n")

    def _inside(self) -> Inside:
        if self.keeper.contain is None:
            raise Failed("no-containers", "this process runs no containers", hint="stead up --background")
        return self.keeper.contain(self.store, self.environment, self._say)

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
        paths = {name: str(place / name) for name in outputs}
        read_from = {name: str(self.store.blobs.path(digest)) for name, digest in (inputs or {}).items()}
        read_from |= {name: str(path) for name, path in (folders or {}).items()}
        described = {
            "step": step,
            "entry": self.subject.entry,
            "module": self.subject.module,
            "code": str(self.code),
            "files": sorted(self.subject.files),
            "target": self.subject.target,
            "time": self.subject.time,
            "loss": self.subject.loss,
            "seed": self.subject.seed,
            "order": self.subject.order,
            "inputs": read_from,
            "outputs": paths,
            "params": dict(params or {}),
        }
        (place / "spec.json").write_text(json.dumps(described))
        journal = place / "journal"
        environ = self.variables | {
            "PYTHONPATH": str(environments.runtime_path(self.store)),
            "PYTHONUNBUFFERED": "1",
            "PYTHONHASHSEED": "0",
            "PYTHONSAFEPATH": "1",
        }
        request = {
            "spec": str(place / "spec.json"),
            "cwd": str(cwd or place),
            "env": {"STEAD_STEP": step, "STEAD_JOURNAL": str(journal)},
        }
        courier = self._courier(step, journal) if logs else None

        def carry() -> None:
            if courier is not None and journal.is_dir():
                courier.carry()

        if self.inside is None:
            command = [str(self.python), "-m", "stead.runtime.host"]
            self.keeper.step(step, command, request, env=environ, on_tick=carry)
        else:
            read = [Path(path) for path in read_from.values()]
            self._run_inside(self.inside, step, request, environ, [*read, *([cwd] if cwd else [])], carry)
        carry()
        digests = {name: self._keep(Path(path)) for name, path in paths.items()}
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
        } | ({"image": self.inside.digest} if self.inside else {})
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
