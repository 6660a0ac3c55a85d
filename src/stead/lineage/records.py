"""The arrows that the records hold: those that were written when something was made, and those that follow from tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Any

import sqlalchemy as sa

from stead import deployments, jobs, ledger, models, monitors, policies, predictions, runs
from stead.datasets.tables import dataset_versions
from stead.deployments import Deployment
from stead.errors import NotFound
from stead.ledger import Entry
from stead.lineage.types import Arrow
from stead.predictions import DayLoss, Prediction
from stead.store import Store

MOST = 10_000
FOLLOWED = "followed by"
APPENDED = "appended to"
BY_EVIDENCE = ("route.changed", "route.rolled_back", "deployment.aborted", "deployment.withdrawn")
"""Decisions on a deployment that rest on what its version and the one before answered."""


class OfModel:
    """What the records say of one model, read once."""

    def __init__(self, store: Store, name: str) -> None:
        self.store, self.name = store, name

    @cached_property
    def deployments(self) -> dict[int, Deployment]:
        return {each.id: each for each in deployments.list_deployments(self.store, model=self.name, limit=MOST)}

    @cached_property
    def days(self) -> dict[int, list[DayLoss]]:
        """Days on which a version answered."""
        found: dict[int, list[DayLoss]] = defaultdict(list)
        for day in predictions.performance(self.store, self.name):
            if day.predictions:
                found[day.version].append(day)
        return found

    @cached_property
    def entries(self) -> list[Entry]:
        return ledger.list_entries(self.store, model=self.name, limit=MOST)

    @cached_property
    def incidents(self) -> dict[int, monitors.Incident]:
        return {each.id: each for each in monitors.list_incidents(self.store, model=self.name, limit=MOST)}

    @cached_property
    def retrainings(self) -> dict[int, policies.Retraining]:
        return {each.id: each for each in policies.list_retrainings(self.store, model=self.name, limit=MOST)}

    def arrows(self) -> Iterator[Arrow]:
        """From a version on: deployments, answers, labels, and what was decided on them."""
        for each in self.deployments.values():
            yield Arrow(self.version(each.version), f"deployment:{each.id}", "deployed by")
        for version, days in self.days.items():
            answers = f"predictions:{self.name}@{version}"
            served = [each.id for each in self.deployments.values() if each.version == version and answered(each)]
            for number in served:
                yield Arrow(f"deployment:{number}", answers, "answered")
            if not served:
                yield Arrow(self.version(version), answers, "answered")
            if any(day.labelled for day in days):
                yield Arrow(answers, f"labels:{self.name}@{version}", "labelled")
        opened = {
            entry.evidence.get("incident"): entry.id for entry in self.entries if entry.action == "incident.opened"
        }
        for entry in self.entries:
            yield from self._of_entry(entry, opened)

    def version(self, number: int) -> str:
        return f"version:{self.name}@{number}"

    def _of_entry(self, entry: Entry, opened: dict[Any, int]) -> Iterator[Arrow]:
        me, kind = f"decision:{entry.id}", entry.action
        noun, _, number = entry.subject.partition(" ")
        if kind == "incident.opened":
            incident = self.incidents.get(entry.evidence.get("incident", 0))
            if incident is not None and incident.version is not None:
                yield from self._shown(incident.version, me, labelled=incident.cause == "loss")
        elif kind == "retraining.begun":
            retraining = self.retrainings.get(int(number))
            incident_entry = opened.get(entry.evidence.get("incident"))
            if incident_entry is not None:
                yield Arrow(f"decision:{incident_entry}", me, "because of")
            if retraining is not None and retraining.job is not None:
                yield Arrow(me, f"run:{retraining.job}", "asked for")
        elif kind in BY_EVIDENCE:
            deployment = self.deployments.get(entry.evidence.get("deployment", 0))
            if deployment is not None:
                yield Arrow(f"deployment:{deployment.id}", me, "decided")
                unseen = kind == "route.changed" and "canary" not in entry.evidence  # what it answers comes after
                for version in (deployment.previous,) if unseen else (deployment.version, deployment.previous):
                    yield from self._shown(version, me)
        elif kind == "incident.resolved" and (before := opened.get(entry.evidence.get("incident"))) is not None:
            yield Arrow(f"decision:{before}", me, "resolved by")
        elif noun == "decision" and number.isdigit():
            yield Arrow(f"decision:{number}", me, "judged by")
        elif kind == "deployment.requested" and noun == "deployment":
            yield Arrow(me, f"deployment:{number}", "asked for")
        elif noun == "deployment" and number.isdigit():
            yield Arrow(f"deployment:{number}", me, "decided")
        elif noun.startswith(f"{self.name}@"):
            yield Arrow(f"version:{noun}", me, "decided")
        elif noun == "retraining" and (version := entry.evidence.get("version")) is not None:
            yield Arrow(self.version(version), me, "decided")

    def _shown(self, version: int | None, decision: str, *, labelled: bool = True) -> Iterator[Arrow]:
        """The evidence of a decision: what a version answered, with its labels where it has some and the decision looks at them."""
        days = self.days.get(version or 0, [])
        if days:
            kind = "labels" if labelled and any(day.labelled for day in days) else "predictions"
            yield Arrow(f"{kind}:{self.name}@{version}", decision, "evidence for")


class Records:
    """Arrows into and out of any node. Each model and dataset is read once, when a node of it is asked for."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.into: dict[str, dict[Arrow, None]] = defaultdict(dict)
        self.out: dict[str, dict[Arrow, None]] = defaultdict(dict)
        self.models: dict[str, OfModel] = {}
        self._read: set[str] = set()
        self._datasets: set[str] = set()
        self._asked: set[str] = set()

    def ask(self, ends: Iterable[str]) -> None:
        """Read the arrows of some nodes, those that are not known yet."""
        new = [end for end in ends if end not in self._asked]
        self._asked.update(new)
        self._add(Arrow(edge.source, edge.target, edge.relation) for edge in models.arrows_of(self.store, new))
        for end in new:
            kind, _, name = end.partition(":")
            if kind == "dataset":
                self._read_dataset(name.partition("@")[0])
            elif kind == "run":
                self._read_run(name)
            elif kind in ("prediction", "label"):
                self._read_prediction(name)
            elif (model := self._model_of(kind, name)) is not None:
                self._read_model(model)

    def of(self, model: str) -> OfModel:
        return self.models.setdefault(model, OfModel(self.store, model))

    def _add(self, arrows: Iterable[Arrow]) -> None:
        for arrow in arrows:
            self.out[arrow.source][arrow] = None
            self.into[arrow.target][arrow] = None

    def _model_of(self, kind: str, name: str) -> str | None:
        if kind in ("version", "predictions", "labels"):
            return name.partition("@")[0]
        if kind == "deployment":
            return deployments.get_deployment(self.store, int(name)).model
        if kind == "decision":
            return ledger.get_entry(self.store, int(name)).model
        return None

    def _read_model(self, name: str) -> None:
        if name not in self._read:
            self._read.add(name)
            self._add(self.of(name).arrows())

    def _read_dataset(self, name: str) -> None:
        if name in self._datasets:
            return
        self._datasets.add(name)
        query = sa.select(dataset_versions.c.version, dataset_versions.c.source).where(
            dataset_versions.c.dataset == name
        )
        with self.store.db.read() as tx:
            for version, origin in tx.execute(query):
                if (before := origin.get("appends") or origin.get("of")) is not None:
                    self._add([Arrow(f"dataset:{name}@{before}", f"dataset:{name}@{version}", APPENDED)])

    def _read_run(self, run_id: str) -> None:
        try:
            run = runs.get_run(self.store, run_id)
        except NotFound:
            return
        self._add(Arrow(f"dataset:{ref}", f"run:{run_id}", "read by") for ref in run.inputs)
        if run.job_id is not None:
            try:
                model = jobs.get_job(self.store, run.job_id).model
            except NotFound:
                return
            if model is not None:
                self._read_model(model)

    def _read_prediction(self, name: str) -> None:
        found = predictions.get_prediction(self.store, name)
        served = serving_deployment(self.of(found.model).deployments.values(), found)
        source = f"version:{found.model}@{found.version}" if served is None else f"deployment:{served.id}"
        self._add([Arrow(source, f"prediction:{found.id}", "answered")])
        if found.label_at is not None:
            self._add([Arrow(f"prediction:{found.id}", f"label:{found.id}", "labelled")])


def answered(deployment: Deployment) -> bool:
    """Whether its version got requests by it."""
    return bool(deployment.shares) or any(step.state == "live" for step in deployment.steps)


def serving_deployment(made: Iterable[Deployment], prediction: Prediction) -> Deployment | None:
    """The deployment by which a version answered when a prediction was made: the last one that was asked for before."""
    fitting = [
        each
        for each in made
        if each.version == prediction.version and answered(each) and each.created_at <= prediction.received_at
    ]
    return max(fitting, key=lambda each: each.id, default=None)
