"""Reading what the checks look at: once for all models in few questions, and placed on each model's own clock."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import sqlalchemy as sa

from stead.deployments.tables import deployments as deployments_table
from stead.deployments.tables import outside as outside_table
from stead.gates.tables import verdicts
from stead.jobs.tables import jobs
from stead.ledger.tables import judgements, ledger
from stead.maturity.clocks import DAY_MS, Clock, clocks, delay_of
from stead.maturity.records import (
    Again,
    Day,
    Decision,
    Deployed,
    Incident,
    OfModel,
    Records,
    Refusal,
    Series,
    Tried,
    Version,
)
from stead.maturity.work import by_deployment, work_in
from stead.models.tables import edges, logged_models, models, versions
from stead.monitors.reports import BY_PEOPLE
from stead.monitors.tables import incidents, monitor_days, watches
from stead.pipelines.recipes import TRAININGS
from stead.pipelines.tables import reproductions
from stead.policies.tables import retrainings, standing
from stead.predictions.tables import performance
from stead.runs.tables import run_inputs, runs
from stead.runtime.clock import now_ms
from stead.store import Store

DECISIONS = ("retraining.begun", "route.changed", "route.rolled_back", "deployment.aborted")
"""What changes which version answers, or makes another one."""
READ = (*DECISIONS, "route.removed", "gate.overridden", "version.rejected", "drill.rollback", "drill.freeze")
SAMPLED = "reproductions.sampled"
DAILY = "requests"
"""The monitor that looks at each day with requests, whatever a model answers."""
GRACE = 60_000
"""So far may clocks of several machines be apart."""
LOOK_BACK = 100 * DAY_MS
"""So far back are days of monitors and of labels read: a window, and the labels' delay."""


def load(store: Store, *, since: int | None = None) -> Records:
    """Read what the checks need, days of monitors and labels from `since` on (by each model's own clock), by default of the last window."""
    known = clocks(store)
    with store.db.read() as tx:
        work = work_in(tx, known)
        reader = _Reader(tx, known, since, by_deployment(work))
        return Records(reader.now, reader.read(), work)


class _Reader:
    """Reads the tables, each in one question."""

    def __init__(
        self, tx: sa.Connection, known: Mapping[str, Clock], since: int | None, minutes: Mapping[int, float]
    ) -> None:
        self.tx = tx
        self.clocks = dict(known)
        self.now = now_ms()
        self.minutes = minutes
        self.since = since
        self.lost: dict[str, int] = defaultdict(int)

    def read(self) -> dict[str, OfModel]:
        self.found = self._models()
        self.named = self._trainings()
        self.entries = self._entries()
        made = self._versions()
        entered = self._decisions()
        for name, of in self.found.items():
            of.versions = self._kept(name, made[name])
            of.decisions = self._kept(name, (e for e in entered[name] if e.action in DECISIONS))
            of.rejected = self._kept(
                name, (e for e in entered[name] if e.action in ("version.rejected", "gate.overridden"))
            )
            of.drills = self._kept(name, (e for e in entered[name] if e.action == "drill.rollback"))
            stops = [e for e in (*entered[name], *entered[""]) if e.action == "drill.freeze"]
            of.stops = Series(stops, lambda each: each.wall)
        self._deployments(entered)
        self._refusals()
        self._incidents()
        self._again()
        self._days()
        for name, of in self.found.items():
            of.left_out = self.lost[name]
        return self.found

    def _all(self, query: sa.Select[Any]) -> Sequence[Any]:
        """All rows at once: one by one they take three times as long."""
        return self.tx.execute(query).all()

    def _scalars(self, query: sa.Select[Any]) -> Sequence[Any]:
        return self.tx.execute(query).scalars().all()

    def _kept(self, name: str, items: Iterable[Any]) -> Series[Any]:
        """Without what lies after the model's clock: a clock that jumped back says nothing of it."""
        last = (self.clocks[name].now if self.clocks[name].pairs else self.now) + GRACE
        items = list(items)
        kept = [item for item in items if item.moment <= last]
        self.lost[name] += len(items) - len(kept)
        return Series(kept)

    def _moment(self, name: str, at: int, event_time: int | None) -> int:
        return self.clocks[name].moment(int(at), None if event_time is None else int(event_time))

    def _own(self, name: str, at: int, event_time: int) -> int:
        """The same of what always has an event time: where no replay held the clock that is the wall's."""
        return self._moment(name, at, None if abs(event_time - at) < DAY_MS else event_time)

    def _models(self) -> dict[str, OfModel]:
        policies = {
            row.model: (int(row.number), int(row.at))
            for row in self._all(sa.select(standing.c.model, standing.c.number, standing.c.at))
        }
        found = {}
        for row in self._all(sa.select(models).order_by(models.c.name)):
            if row.name in self.clocks:
                found[row.name] = OfModel(
                    row.name, row.level, str(row.settings.get("owner") or ""), str(row.settings.get("importance") or "normal"),
                    self.clocks[row.name], int(row.created_at), delay_of(row.settings), policy=policies.get(row.name),
                )  # fmt: skip
        told = sa.select(outside_table.c.model, sa.func.min(outside_table.c.recorded_at)).group_by(
            outside_table.c.model
        )
        for name, at in self._all(told):
            if name not in found:
                self.clocks[name] = Clock(self.now, "now")
                found[name] = OfModel(name, "", "", "normal", self.clocks[name], int(at), 0, registered=False)
        return found

    def _trainings(self) -> dict[str, tuple[int, str]]:
        """By job the retraining that it was, and what began it."""
        query = sa.select(retrainings.c.id, retrainings.c.job, retrainings.c.trigger).where(
            retrainings.c.job.is_not(None)
        )
        return {row.job: (int(row.id), row.trigger) for row in self._all(query)}

    def _versions(self) -> dict[str, list[Version]]:
        judged = {
            (row.model, row.version): int(row.at)
            for row in self._all(
                sa.select(verdicts.c.model, verdicts.c.version, sa.func.min(verdicts.c.at).label("at"))
                .where(verdicts.c.outcome.in_(("passed", "failed")))
                .group_by(verdicts.c.model, verdicts.c.version)
            )
        }
        read = set(self._scalars(sa.select(edges.c.target).where(edges.c.source.startswith("dataset:"))))
        read |= {f"run:{run}" for run in self._scalars(sa.select(run_inputs.c.run_id).distinct())}
        query = (
            sa.select(
                versions.c.model, versions.c.version, versions.c.created_at, versions.c.event_time, versions.c.run_id,
                logged_models.c.code, logged_models.c.environment,
                logged_models.c.info[("trained_on", "dataset")].as_string().label("data"),
                runs.c.source[("git", "commit")].as_string().label("commit"),
                jobs.c.id.label("job"),
            )
            .join(logged_models, logged_models.c.id == versions.c.logged_model)
            .outerjoin(runs, runs.c.id == versions.c.run_id)
            .outerjoin(jobs, (jobs.c.id == versions.c.run_id) & jobs.c.kind.in_(TRAININGS))
        )  # fmt: skip
        found: dict[str, list[Version]] = defaultdict(list)
        for name, version, at, event_time, run, code, environment, learned, commit, job in self._all(query):
            data = learned or f"run:{run}" in read or f"version:{name}@{version}" in read
            has = (("code", code or commit), ("data", data), ("environment", environment))
            number, trigger = self.named.get(job or "", (None, ""))
            gated = judged.get((name, version))
            found[name].append(
                Version(
                    version, self._moment(name, at, event_time), tuple(what for what, there in has if not there), job,
                    trigger, number, None if gated is None else self._moment(name, gated, None),
                )
            )  # fmt: skip
        return found

    def _entries(self) -> Sequence[Any]:
        """Entries of the ledger that the checks look at, and those that take one back."""
        said = ledger.c.evidence
        query = sa.select(
            ledger.c.id, ledger.c.at, ledger.c.actor, ledger.c.action, ledger.c.model, ledger.c.summary, ledger.c.policy,
            ledger.c.event_time, ledger.c.undoes,
            sa.cast(said, sa.Text).not_in(("{}", "null")).label("founded"),
            sa.func.coalesce(sa.cast(ledger.c.undo, sa.Text), "null").label("undo"),
            said["deployment"].as_integer().label("deployment"),
            said["worked"].as_boolean().label("worked"),
            said["seconds"].as_float().label("seconds"),
        ).where(ledger.c.action.in_(READ) | ledger.c.undoes.is_not(None))  # fmt: skip
        return self._all(query.order_by(ledger.c.id))

    def _decisions(self) -> dict[str, list[Decision]]:
        undone = {row.undoes: row for row in self.entries if row.undoes is not None}
        judged = {
            entry: (int(until), verdict or "undecided", said)
            for entry, until, verdict, said in self._all(
                sa.select(judgements.c.entry, judgements.c.until, judgements.c.verdict, judgements.c.said).where(
                    judgements.c.closed
                )
            )
        }
        found: dict[str, list[Decision]] = defaultdict(list)
        for (
            number,
            at,
            actor,
            action,
            model,
            said,
            policy,
            event_time,
            _,
            has,
            undo,
            deployment,
            worked,
            took,
        ) in self.entries:
            name = model or ""
            if action not in READ or (name and name not in self.found):
                continue
            back = undone.get(number)
            found[name].append(
                Decision(
                    number, self._moment(name, at, event_time) if name else at, at, action, actor, said, policy, bool(has),
                    undo != "null", deployment, bool(worked), took,
                    None if back is None or not name else (self._moment(name, back.at, back.event_time), back.actor),
                    judged.get(number),
                )
            )  # fmt: skip
        return found

    def _deployments(self, entered: Mapping[str, Sequence[Decision]]) -> None:
        switched: dict[int, int] = {}
        removed: dict[int, int] = {}
        wrong: dict[int, int] = {}
        for each in (entry for some in entered.values() for entry in some if entry.deployment is not None):
            if each.action in ("route.changed", "route.rolled_back"):
                switched[each.deployment or 0] = each.moment
                if each.judged is not None and each.judged[1] == "wrong":
                    wrong[each.deployment or 0] = each.judged[0]
            elif each.action == "route.removed":
                removed[each.deployment or 0] = each.moment
        table = deployments_table.c
        query = sa.select(
            table.id, table.model, table.version, table.kind, table.state, table.requested_by, table.created_at,
            table.event_time, table.ended_at, table.steps, table.shares,
        )  # fmt: skip
        found: dict[str, list[Deployed]] = defaultdict(list)
        for row in self._all(query.order_by(table.id)):
            if row.model not in self.found:
                continue
            came = next((step["at"] for step in row.steps if step["state"] == "live"), None)
            live = None if came is None else switched.get(row.id, self._moment(row.model, came, None))
            share = next((share for share in row.shares if share["share"] > 0), None)
            shared = None if share is None else self._own(row.model, int(share["at"]), int(share["event_time"]))
            moment = shared if shared is not None else live
            if moment is None:
                continue  # nobody was answered by it
            found[row.model].append(
                Deployed(
                    int(row.id), int(row.version), moment, row.kind == "rollback", row.requested_by,
                    minutes=self.minutes.get(int(row.id), 0.0), live=live, ended=removed.get(row.id),
                    rolled_back=row.state == "rolled_back", wrong=wrong.get(row.id),
                )
            )  # fmt: skip
        for said in self._all(sa.select(outside_table).order_by(outside_table.c.id)):
            if said.model in self.found:
                moment = self._moment(said.model, said.at, said.event_time)
                found[said.model].append(
                    Deployed(
                        int(said.id), said.version, moment, False, said.by, outside=True, place=said.place,
                        minutes=None if said.hours is None else 60 * said.hours,
                    )
                )  # fmt: skip
        for name, of in self.found.items():
            of.deployments = self._kept(name, ended(found[name]))

    def _refusals(self) -> None:
        found: dict[str, list[Refusal]] = defaultdict(list)
        table = verdicts.c
        query = sa.select(table.model, table.version, table.deployment, table.gate, table.summary, table.at)
        for row in self._all(query.where(table.outcome == "failed")):
            if row.model in self.found:
                said = f"{row.gate}: {row.summary}"
                moment = self._moment(row.model, row.at, None)
                found[row.model].append(Refusal(int(row.version), row.deployment, moment, said))
        for name, of in self.found.items():
            of.refusals = self._kept(name, found[name])

    def _incidents(self) -> None:
        found: dict[str, list[Incident]] = defaultdict(list)
        table = incidents.c
        query = sa.select(
            table.id,
            table.model,
            table.opened_at,
            table.event_time,
            table.severity,
            table.cause,
            table.opened_by,
            table.summary,
            table.evidence["found_by"].as_integer(),
            table.evidence["reported_by"].as_string(),
        ).where(table.evidence["reopens"].as_integer().is_(None))  # that it was not over after all is no new one
        for number, model, opened, at, severity, cause, by, said, before, whose in self._all(query):
            if model not in self.found:
                continue
            reported = cause.startswith(BY_PEOPLE)
            found[model].append(
                Incident(
                    int(number), self._own(model, int(opened), int(at)), severity == "page", reported,
                    before if reported else None, whose or by, said,
                )
            )  # fmt: skip
        for name, of in self.found.items():
            of.incidents = self._kept(name, found[name])

    def _again(self) -> None:
        """What stands on the wall clock: versions that were made again, policies that were tried."""
        again: dict[str, list[Again]] = defaultdict(list)
        table = reproductions.c
        for row in self._all(sa.select(table.id, table.model, table.version, table.verdict, table.at)):
            again[row.model].append(Again(int(row.id), int(row.version), int(row.at), row.verdict))
        failed = sa.select(jobs.c.payload, jobs.c.ended_at, jobs.c.error)
        for row in self._all(failed.where(jobs.c.kind == "reproduce", jobs.c.state == "failed")):
            why = (row.error or {}).get("message") or "its job failed"
            again[row.payload["model"]].append(
                Again(0, int(row.payload["version"]), int(row.ended_at), f"failed: {why}")
            )
        sampled = sa.select(ledger.c.at, ledger.c.evidence).where(ledger.c.action == SAMPLED)
        for row in self._all(sampled):
            for ref, why in (row.evidence.get("missing") or {}).items():
                model, _, version = ref.rpartition("@")
                again[model].append(Again(0, int(version), int(row.at), f"cannot be: {why}"))
        tried: dict[str, list[Tried]] = defaultdict(list)
        query = sa.select(jobs.c.id, jobs.c.model, jobs.c.ended_at).where(
            jobs.c.kind == "backtest", jobs.c.state == "succeeded"
        )
        for done in self._all(query):
            tried[done.model or ""].append(Tried(done.id, int(done.ended_at)))
        for name, of in self.found.items():
            of.again, of.backtests = Series(again[name]), Series(tried[name])

    def _days(self) -> None:
        """Days with requests and looks of monitors: from `since` on, or of the last window of each model's clock."""
        asked: dict[str, list[Day]] = defaultdict(list)
        seen: dict[str, list[int]] = defaultdict(list)
        guessed: dict[str, list[int]] = defaultdict(list)
        day = performance.c.day
        query = (
            sa.select(
                performance.c.model, day, sa.func.sum(performance.c.predictions), sa.func.sum(performance.c.labelled)
            )
            .where(self._recent(performance.c.model, day), performance.c.role == "", performance.c.predictions > 0)
            .group_by(performance.c.model, day)
        )
        for name, at, predictions, labelled in self._all(query):
            asked[name].append(Day(int(at), int(predictions), int(labelled)))
        table = monitor_days.c
        looks = sa.select(table.model, table.day).where(self._recent(table.model, table.day), table.monitor == DAILY)
        for name, at in self._all(looks.distinct()):
            seen[name].append(int(at))
        # the last one of a week: a check asks whether there was one in the last four
        estimates = sa.select(table.model, sa.func.max(table.day)).where(
            self._recent(table.model, table.day), table.monitor == "estimate", table.outcome != "unknown"
        )
        for name, at in self._all(estimates.group_by(table.model, table.day // (7 * DAY_MS))):
            guessed[name].append(int(at))
        last = {row.model: int(row.now) for row in self._all(sa.select(watches.c.model, watches.c.now))}
        for name, of in self.found.items():
            now = of.clock.now
            of.days = Series(each for each in asked[name] if each.moment <= now)
            of.looked = sorted(at for at in seen[name] if at <= now)
            of.estimated = sorted(at for at in guessed[name] if at <= now)
            of.watched = last.get(name) if last.get(name, now + 1) <= now else None

    def _recent(self, model: sa.Column[Any], day: sa.Column[Any]) -> sa.ColumnElement[bool]:
        """Days that count, by the clock of each model; those of replays come together, few as they are."""
        own = {name: clock.now - LOOK_BACK for name, clock in self.clocks.items() if clock.pairs}
        recent: sa.ColumnElement[bool] = day >= (self.now - LOOK_BACK if self.since is None else self.since)
        return recent | (model.in_(sorted(own)) & (day >= min(own.values()))) if own else recent


def ended(made: Iterable[Deployed]) -> list[Deployed]:
    """Deployments of a model, each with the moment at which the next one in stead took its place."""
    made = list(made)
    order = sorted((each for each in made if each.live is not None), key=lambda each: (each.live or 0, each.id))
    after = {each.id: following.live for each, following in pairwise(order)}
    return [
        each if each.outside or each.ended is not None else each._replace(ended=after.get(each.id)) for each in made
    ]
