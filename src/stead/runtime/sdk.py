"""The run as a training process sees it: what it logs goes to a journal, and it never waits for a network.

Inside a job `import stead` is bound to this module: the executor made the run and the journal's folder (`STEAD_JOURNAL`),
delivers it and says how the run ended. Outside a job `stead.sdk` builds on the same `Run`.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, is_dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import msgspec

from stead.errors import InvalidInput, NotFound, SteadError
from stead.runtime import capture
from stead.runtime.clock import now_ms
from stead.runtime.journal import (
    Beat,
    Ended,
    Facts,
    Input,
    Journal,
    Metrics,
    Params,
    Points,
    Record,
    Started,
    Tags,
    Text,
    checked_key,
    clean_path,
    clean_text,
)

FLUSH_S = 1.0
MEASURE_S = 15.0
MAX_STEP = 2**63 - 1

__all__ = ["Run", "current", "dataset", "finish", "init", "log", "log_artifact", "log_model", "predict"]


class Run:
    """A run that is being made. A context manager: an error in the block ends it as failed.

    >>> import tempfile
    >>> with Run(Journal(Path(tempfile.mkdtemp()) / "r1"), project="p", config={"lr": 0.1}, watch=False) as run:
    ...     run.log({"loss": 0.5})
    >>> run.status
    'finished'
    >>> run
    <run r1 of p, finished>
    """

    def __init__(
        self,
        journal: Journal,
        *,
        project: str = "",
        name: str = "",
        config: Any = None,
        tags: Mapping[str, Any] | None = None,
        user: str = "",
        parent: str | None = None,
        in_job: bool = False,
        watch: bool = True,
    ) -> None:
        self.id = journal.folder.name
        self.project = project
        self.name = name or self.id[-8:]
        self.config: dict[str, Any] = {}
        self._params: dict[str, str] = {}
        self.status = "running"
        self._journal = journal
        self._in_job = in_job
        self._guard = threading.Lock()
        self._finishing = threading.Lock()
        self._step = -1
        self._pid = os.getpid()
        self._began = now_ms()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        params, labels = flat_texts(config), flat_texts(tags)
        first: list[Record] = []
        if not in_job:
            source = capture.facts() if watch else {}
            first.append(Started(self._began, project, self.name, user, parent, None, source))
        if params:
            first.append(Params(self._began, params))
        if labels:
            first.append(Tags(self._began, labels))
        journal.append(*first)
        self.config |= as_mapping(config)
        self._params |= params
        self._console = capture.Console(self._keep_text)
        self._system = capture.System() if watch else None
        self._started = capture.started_file()
        self._root = capture.project_root(self._started)
        self._code: set[str] = set()
        self._cells = ""
        _runs.add(self)
        if watch:
            self._watch()

    def __repr__(self) -> str:
        return f"<run {self.id[-12:]} of {self.project or 'Default'}, {self.status}>"

    def log(self, values: Mapping[str, Any], step: int | Sequence[int] | None = None) -> None:
        """Record numbers. Without `step` each call is the next one; nested mappings give names such as `val/loss`.

        A sequence of numbers is many points at once: `log({"loss": [0.5, 0.4]}, step=[10, 20])`.
        When it returns, the values survive a kill -9 of this process.
        """
        if not isinstance(values, Mapping):
            raise InvalidInput(
                "metrics-invalid",
                f"metrics are a mapping, not {type(values).__name__}",
                hint='stead.log({"loss": 0.5})',
            )
        at = now_ms()
        singles: dict[str, float] = {}
        columns: dict[str, Sequence[Any]] = {}
        _sort_out(values, "", singles, columns)
        records: list[Record] = []
        with self._guard:
            if columns:
                records += self._columns(columns, step, at)
            elif step is None:
                self._step += 1
            else:
                self._step = step if type(step) is int and -MAX_STEP <= step <= MAX_STEP else checked_step(step)
            if singles:
                records.append(Metrics(at, self._step, singles))
        if records:
            self._write(*records)

    def log_params(self, values: Any) -> None:
        """Record parameters: a mapping, a dataclass or parsed arguments. A parameter keeps its first value."""
        params = flat_texts(values)
        changed = [key for key, value in params.items() if self._params.get(key, value) != value]
        if changed:
            tell(f"parameter {changed[0]!r} has a value already and keeps it; the new one is kept beside it as a tag")
        if params:
            self._write(Params(now_ms(), params))
            self._params = params | self._params
            self.config = as_mapping(values) | self.config

    def set_tags(self, values: Mapping[str, Any]) -> None:
        """Set tags; unlike a parameter a tag may change."""
        self._write(Tags(now_ms(), flat_texts(values)))

    def log_artifact(self, source: str | Path | bytes, name: str | None = None) -> None:
        """Keep a file, a folder or bytes under a name (a path with `/`); later changes of the file do not matter."""
        self._must_run()
        if isinstance(source, bytes):
            if name is None:
                raise InvalidInput("name-missing", "bytes need a name", hint='log_artifact(data, name="plots/a.png")')
            self._journal.add_file(source, name, now_ms())
            return
        path = Path(source)
        if path.is_dir():
            for file in sorted(p for p in path.rglob("*") if p.is_file()):
                self._journal.add_file(file, f"{name or path.name}/{file.relative_to(path).as_posix()}", now_ms())
        else:
            self._journal.add_file(path, clean_path(name or path.name), now_ms())

    def log_input(self, dataset: str, version: int, context: str = "training") -> None:
        """Record that the run read a dataset version."""
        self._write(Input(now_ms(), dataset, version, context))

    def log_environment(self, digest: str) -> None:
        """Record the lock of the environment that the run works in."""
        self._write(Facts(now_ms(), {}, digest))

    def finish(self, status: str = "finished", error: str | None = None) -> None:
        """End the run. Later calls of `log` are refused."""
        with self._finishing:
            if self.status != "running" or os.getpid() != self._pid:
                return
            self._stop.set()
            for thread in self._threads:
                thread.join(10)
            self._console.stop()
            if self._system is not None and not self._in_job:
                self._keep_code()
                self._keep_cells()
                self._keep_facts()
            with suppress(SteadError):
                if self._system is not None and now_ms() - self._began > 5_000:
                    self._measure()
            if not self._in_job:
                self._journal.append(Ended(now_ms(), status, error and clean_text(error)))
            self.status = status
            self._journal.close()
        _runs.discard(self)

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish(*how_it_ended(error))

    def _columns(self, columns: Mapping[str, Sequence[Any]], step: int | Sequence[int] | None, at: int) -> list[Record]:
        """Many points at once, in columns; in the caller's lock."""
        from array import array

        length = len(next(iter(columns.values())))
        if any(len(column) != length for column in columns.values()):
            raise InvalidInput("metric-lengths", "sequences logged in one call must be of one length")
        if step is None or not _is_column(step):
            first = self._step + 1 if step is None else checked_step(step)
            steps = array("q", range(first, first + length))
        else:
            steps = array("q", (checked_step(s) for s in step))  # type: ignore[union-attr]
            if len(steps) != length:
                raise InvalidInput("metric-lengths", f"{length} values but {len(steps)} steps")
        if not length:
            return []
        self._step = max(self._step, max(steps))
        times = array("q", [at]) * length
        records: list[Record] = []
        for key, column in columns.items():
            values = array("d", [number(key, value) for value in column])
            records.append(Points(at, key, _little(steps), _little(times), _little(values)))
        return records

    def _write(self, *records: Record) -> None:
        self._must_run()
        self._journal.append(*records)

    def _must_run(self) -> None:
        if self.status != "running":
            raise InvalidInput("run-ended", f"run {self.name} has ended", hint="run = stead.init(project=…)")

    def _watch(self) -> None:
        self._console.start()
        targets = [self._pulse] if self._in_job else [self._pulse, self._look_around]
        self._threads = [threading.Thread(target=target, daemon=True, name="stead-run") for target in targets]
        for thread in self._threads:
            thread.start()

    def _pulse(self) -> None:
        """Keeps the console and, every 15 s, what the machine does; these also are the run's signs of life."""
        ticks = 0
        while not self._stop.wait(FLUSH_S):
            ticks += 1
            try:
                self._console.flush()
                self._keep_cells()
                if ticks % round(MEASURE_S / FLUSH_S) == 0:
                    self._measure()
            except Exception as error:  # what watches a run must not end it
                tell(f"the run is not watched any more: {error}")
                return

    def _measure(self) -> None:
        at = now_ms()
        values = self._system.measure() if self._system is not None else {}
        step = (at - self._began) // 1000
        self._journal.append(Metrics(at, step, values) if values else Beat(at))

    def _look_around(self) -> None:
        """Git and packages: they take long enough not to make `init` wait for them."""
        with suppress(Exception):
            found, diff = capture.git(self._root)
            self._code |= capture.tracked(self._root) if found else set()
            self._keep_code()
            packages = capture.packages()
            text = "".join(f"{name}=={version}\n" for name, version in packages.items())
            self._journal.append(Facts(now_ms(), {"git": found} if found else {}))
            self._journal.add_file(text.encode(), "stead/packages.txt", now_ms())
            if diff:
                self._journal.add_file(_without_secrets(diff.encode()), "stead/git.diff", now_ms())

    def _keep_facts(self) -> None:
        """What it was computed on, known best when all libraries are loaded."""
        with suppress(Exception):
            from stead.runtime import computing

            self._journal.append(Facts(now_ms(), {"facts": computing.facts()}))

    def _keep_code(self) -> None:
        """The project's own files that were loaded since the last time, where git does not tell of them."""
        with suppress(Exception):
            for name, path in capture.own_files(self._root, started=self._started, known=self._code).items():
                self._code.add(name)
                self._journal.add_file(_without_secrets(path.read_bytes()), f"stead/code/{name}", now_ms())

    def _keep_cells(self) -> None:
        """What the notebook has executed so far, when there is more of it than the last time."""
        if self._in_job or "IPython" not in sys.modules:
            return
        with suppress(Exception):
            if (told := capture.cells()) != self._cells:
                self._cells = told
                self._journal.add_file(_without_secrets(told.encode()), "stead/cells.py", now_ms())

    def _keep_text(self, text: str) -> None:
        with suppress(SteadError):
            self._journal.append(Text(now_ms(), _without_secrets(clean_text(text).encode()).decode()))

    def _forked(self) -> None:
        """In a forked child the run goes on under the child's own writer; its end is its parent's affair."""
        self._guard = threading.Lock()
        self._finishing = threading.Lock()
        self._console.forget()


def init(
    *,
    project: str | None = None,
    name: str | None = None,
    config: Any = None,
    tags: Mapping[str, Any] | None = None,
    **_: Any,
) -> Run:
    """The run of this job; `config` and `tags` are added to it. Project and name are the executor's."""
    run = current()
    if config is not None:
        run.log_params(config)
    if tags:
        run.set_tags(tags)
    return run


def current() -> Run:
    """The run of this job."""
    global _active
    with _opening:
        if _active is None or _active.status != "running":
            folder = os.environ.get("STEAD_JOURNAL")
            if not folder:
                raise NotFound("run-missing", "this process has no run", hint="run = stead.init(project=…)")
            _active = Run(Journal(Path(folder)), in_job=True)
            atexit.register(_active.finish)
        return _active


def log(values: Mapping[str, Any], step: int | Sequence[int] | None = None) -> None:
    """Record numbers of the job's run."""
    current().log(values, step)


def log_artifact(source: str | Path | bytes, name: str | None = None) -> None:
    """Keep a file with the job's run."""
    current().log_artifact(source, name)


def finish(status: str = "finished", error: str | None = None) -> None:
    """Write what is still held back; the executor ends the run."""
    if _active is not None:
        _active.finish(status, error)


def dataset(ref: str, **_: Any) -> NoReturn:
    raise InvalidInput(
        "not-in-a-job", f"a job does not fetch {ref!r}: it is given its data", hint="take it as the step's argument"
    )


def log_model(model: Any, name: str, **_: Any) -> NoReturn:
    raise InvalidInput("not-in-a-job", f"a job does not register {name!r} itself", hint="return the model from train")


def predict(name: str, rows: Any) -> NoReturn:
    raise InvalidInput("not-in-a-job", f"a job does not ask {name!r} for predictions")


def tell(text: str) -> None:
    """A line for the person before the screen."""
    with suppress(Exception):
        print(f"stead: {text}", file=sys.stderr)


def how_it_ended(error: BaseException | None) -> tuple[str, str | None]:
    """Status and error of a run after the exception that ended it.

    >>> how_it_ended(ValueError("no data")), how_it_ended(KeyboardInterrupt()), how_it_ended(SystemExit(0))
    (('failed', 'ValueError: no data'), ('killed', 'KeyboardInterrupt'), ('finished', None))
    """
    if error is None or type(error).__name__ == "GeneratorExit":
        return "finished", None
    if isinstance(error, SystemExit) and error.code in (None, 0):
        return "finished", None
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return ("killed" if isinstance(error, KeyboardInterrupt) else "failed"), text[:10_000]


def _without_secrets(data: bytes) -> bytes:
    from stead.runtime import secrets

    return secrets.hidden(data, secrets.mine())


def flat_texts(values: Any) -> dict[str, str]:
    """Parameters or tags as texts; nested ones with dots in their names.

    >>> flat_texts({"lr": 0.1, "net": {"layers": [64, 32], "bias": True}})
    {'lr': '0.1', 'net.layers': '[64,32]', 'net.bias': 'True'}
    """
    flat: dict[str, str] = {}
    for key, value in as_mapping(values).items():
        if isinstance(value, Mapping) and value:
            flat |= {f"{key}.{inner}": text for inner, text in flat_texts(value).items()}
        else:
            flat[checked_key(str(key))] = _text(value)
    return flat


def as_mapping(values: Any) -> dict[str, Any]:
    """A config as a mapping, its values as they were given. Raises InvalidInput (`config-invalid`).

    >>> as_mapping({"depth": 3})
    {'depth': 3}
    """
    if values is None:
        return {}
    if is_dataclass(values) and not isinstance(values, type):
        return asdict(values)
    if isinstance(values, Mapping):
        return {str(key): value for key, value in values.items()}
    try:
        return dict(vars(values))
    except TypeError:
        raise InvalidInput(
            "config-invalid", f"a config is a mapping, a dataclass or parsed arguments, not {type(values).__name__}"
        ) from None


def number(key: str, value: Any) -> float:
    """A metric's value as a float; NaN and infinities stay. Raises InvalidInput (`metric-invalid`).

    >>> number("loss", True)
    1.0
    >>> number("loss", float("nan"))
    nan
    """
    if type(value) is float:
        return value
    if not isinstance(value, (str, bytes)):
        with suppress(TypeError, ValueError, OverflowError):
            return float(value)
    shown = repr(value[:80]) if isinstance(value, str) else f"of type {type(value).__name__}"
    raise InvalidInput(
        "metric-invalid",
        f"metric {key!r} must be a number, not {shown}",
        hint="texts are parameters or tags: run.log_params, run.set_tags",
    )


def checked_step(step: Any) -> int:
    """Raises InvalidInput (`step-invalid`)."""
    try:
        whole = int(step)
    except (TypeError, ValueError, OverflowError):
        whole = MAX_STEP + 1
    if not -MAX_STEP <= whole <= MAX_STEP or (isinstance(step, float) and step != whole):
        raise InvalidInput("step-invalid", f"a step is a whole number, not {step!r}")
    return whole


def _sort_out(
    values: Mapping[str, Any], prefix: str, singles: dict[str, float], columns: dict[str, Sequence[Any]]
) -> None:
    for key, value in values.items():
        name = f"{prefix}{key}"
        if type(value) is float:
            singles[name if name in _known_keys else _learn(name)] = value
        elif isinstance(value, Mapping):
            _sort_out(value, f"{name}/", singles, columns)
        elif _is_column(value):
            columns[checked_key(name)] = value
        else:
            singles[checked_key(name)] = number(name, value)


_known_keys: set[str] = set()


def _learn(key: str) -> str:
    """Check a name once; a training loop logs the same ones again and again."""
    checked_key(key)
    if len(_known_keys) < 10_000:
        _known_keys.add(key)
    return key


def _is_column(value: Any) -> bool:
    if isinstance(value, (list, tuple, range)):
        return True
    shape = getattr(value, "shape", None)
    return isinstance(shape, tuple) and len(shape) == 1 and hasattr(value, "__len__")


def _text(value: Any) -> str:
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, (list, tuple, set, dict)):
        with suppress(Exception):
            return msgspec.json.encode(value).decode()
    return clean_text(str(value))


def _little(column: Any) -> bytes:
    if sys.byteorder == "big":
        column = column[:]
        column.byteswap()
    return bytes(column.tobytes())


_runs: weakref.WeakSet[Run] = weakref.WeakSet()
_active: Run | None = None
_opening = threading.Lock()


def _after_fork() -> None:
    global _opening
    _opening = threading.Lock()
    for run in list(_runs):
        run._forked()


os.register_at_fork(after_in_child=_after_fork)
