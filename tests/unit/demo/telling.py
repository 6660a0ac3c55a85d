"""Records as the demo gathers them, small: a year a level, a bad version at the end."""

from __future__ import annotations

from typing import Any

from stead.demo.told import Act, Told
from stead.runtime.clock import to_ms

DAY = 86_400_000
LOST = {"2012": 0.4, "2013": 0.2, "2014": 0.1}


def at(text: str) -> int:
    return to_ms(text)


def day(date: str, version: int, loss: float, *, rows: int = 24, weight: float = 100.0) -> dict[str, Any]:
    return {
        "model": "bikes", "day": at(date), "version": version, "measure": "wape", "predictions": rows, "failed": 0,
        "labelled": rows, "loss": loss, "loss_sum": loss * weight, "weight_sum": weight, "prediction_sum": 0.0,
        "label_sum": weight,
    }  # fmt: skip


def retraining(number: int, trigger: str, moment: str, state: str, version: int, said: str = "") -> dict[str, Any]:
    return {
        "id": number, "trigger": trigger, "state": state, "event_time": at(moment), "version": version,
        "deployment": version, "error": {"message": said} if said else None, "decision_reason": None,
    }  # fmt: skip


def entry(number: int, action: str, moment: str, **more: Any) -> dict[str, Any]:
    return {
        "id": number, "action": action, "subject": "", "summary": f"{action} <b>{number}</b>", "reason": None,
        "actor": "agent", "at": at(moment), "event_time": at(moment), "evidence": {}, "judgement": None,
    } | more  # fmt: skip


def judgement(verdict: str, since: str) -> dict[str, Any]:
    return {"verdict": verdict, "since": at(since), "said": f"it was {verdict}"}


def told(**changed: Any) -> Told:
    days = [day(f"2012-{m:02}-{d:02}", 1, 0.4) for m in range(1, 13) for d in range(1, 29)]
    days += [day(f"2013-{m:02}-{d:02}", 2, 0.2) for m in range(1, 13) for d in range(1, 29)]
    days += [day(f"2014-{m:02}-{d:02}", 3, 0.1) for m in range(1, 13) for d in range(1, 29) if (m, d) != (6, 20)]
    days += [day("2014-06-20", 3, 0.1, rows=18, weight=75.0), day("2014-06-20", 4, 0.9, rows=6, weight=25.0)]
    starts = [at(f"{year}-{month:02}-01") for year in (2012, 2013, 2014) for month in range(1, 13)]
    periods = [
        {"start": start, "end": 0, "rows": 672, "weight": 2800.0, "once": 1400.0, "again": 560.0} for start in starts
    ]
    none = {"estimate": None, "low": None, "high": None}
    harm = {"estimate": 2.0, "low": 1.0, "high": 3.0}
    evidence = {
        "days": 6, "rows": 144, "arm_rows": 36, "answered": 40, "failed": 0, "first_loss": 0.1, "second_loss": 0.9,
        "loss": harm, "block": 21_600_000, "own": harm, "errors": none, "latency": none, "other_latency": none,
        "unusable": 0, "shift": none, "split": 0.5, "until": at("2014-06-26"), "more_days": None,
        "decision": {"action": "abort", "guard": "loss", "said": "its loss is 0.9 against 0.1 on the same rows"},
    }  # fmt: skip
    bad = {
        "id": 9, "model": "bikes", "version": 4, "previous": 3, "kind": "deploy", "state": "aborted",
        "overrides": ["parity"], "reason": "why not", "error": None, "steps": [], "requested_by": "person:ann",
        "created_at": 0, "ended_at": 1, "event_time": at("2014-06-19"), "job": None, "evidence": evidence,
        "shares": [{"share": 0.25, "at": 0, "event_time": at("2014-06-20")}],
    }  # fmt: skip
    sent = sum(each["predictions"] for each in days)
    values: dict[str, Any] = {
        "seconds": {"2012, level record": 40.0, "in all": 61.0},
        "stages": [
            {"stage": "record", "since": "2012-01-01", "until": "2013-01-01"},
            {"stage": "train", "since": "2013-01-01", "until": "2014-01-01"},
            {"stage": "deploy", "since": "2014-01-01", "until": "2014-06-15"},
            {"stage": "a bad version", "since": "2014-06-15", "until": "2015-01-01"},
        ],
        "acts": [
            Act("record", "stead deploy bikes"),
            Act("train", "stead level bikes train"),
            Act("train", "stead approve bikes@2"),
            Act("deploy", "stead level bikes deploy"),
        ],
        "replays": [{"since": "2012-01-01", "until": "2015-01-01", "sent": sent, "answered": sent, "labels": sent, "failed": 0, "seconds": 9.5}],
        "refusal": "the feature 'hour' is 4 in row 0, was 0 in training",
        "refused_with": 4,
        "bad": bad,
        "days": days,
        "retrainings": [
            retraining(3, "proxy", "2014-04-16", "done", 3),
            retraining(2, "schedule", "2013-02-02", "refused", 5, "challenger: it is worse"),
            retraining(1, "incident", "2013-01-02", "done", 2),
        ],
        "incidents": [
            {"id": 1, "kind": "performance", "severity": "page", "event_time": at("2012-08-20"), "evidence": {"since": at("2012-08-10")}},
            {"id": 2, "kind": "drift", "severity": "note", "event_time": at("2012-08-21"), "evidence": {}},
        ],
        "deployments": [bad],
        "decisions": [
            entry(4, "deployment.aborted", "2014-06-27", subject="deployment 9", judgement=judgement("undecided", "2014-06-27")),
            entry(3, "route.changed", "2014-04-20", evidence={"deployment": 3}, judgement=judgement("right", "2014-04-20")),
            entry(2, "route.changed", "2013-01-04", evidence={"deployment": 2}, judgement=judgement("wrong", "2013-01-04")),
            entry(1, "version.registered", "2012-01-01", actor="person:ann"),
        ],
        "backtest": {"periods": periods},
        "work": [
            {"moment": at("2012-01-01"), "minutes": 15.0}, {"moment": at("2013-01-03"), "minutes": 30.0},
            {"moment": at("2013-02-03"), "minutes": 12.0}, {"moment": at("2014-01-01"), "minutes": 2.0},
        ],
        "maturity": {
            "team": {"stage": 3},
            "history": [
                {"model": "", "month": f"{year}-{month:02}", "stage": year - 2011} for year in (2012, 2013, 2014) for month in range(1, 13)
            ],
        },
        "worth": {"answer": "not yet", "said": "The hours do not pay it back."},
    }  # fmt: skip
    return Told(**(values | changed))
