"""The 25 checks: what is asked of the records for each stage, from which bound on it holds, and what mends it.

A check is a figure of its rows (`rows`), over a window of the clock that it names. `why` says why it counts and, where it is not
what one would expect, why not.
"""

from __future__ import annotations

from stead.errors import NotFound, did_you_mean
from stead.maturity import rows
from stead.maturity.figures import Check

CHECKS = (
    # 1: manual work is at least recorded
    Check(
        "recorded", 1, "Versions with code, data and environment recorded, at least 95 %",
        "What is not recorded cannot be made again, nor compared with what comes after it.",
        rows.recorded, 0.95, mend="stead train {model}", minutes=30, cost="a training",
    ),
    Check(
        "registered", 1, "Live deployments that are a version of the registry, all",
        "Else nobody can say what answers. A deployment outside stead is live until another one to the same place, or one by stead, is recorded.",
        rows.registered, 1.0, days=0, reaches=False, whole=True, mend="stead deploy {model}", minutes=10, cost="10 min",
        none="nothing is live",
    ),
    Check(
        "reproduced", 1, "Versions of the sample that were made again, at least 80 %",
        "A record is as good as what can be made from it. The sample is drawn month by month, so this one goes by the wall clock; the last try of a version counts.",
        rows.reproduced, 0.8, clock="wall", mend="stead reproduce {model}", minutes=2, cost="a training, unattended", none="never tried",
    ),
    Check(
        "owned", 1, "Live models with an owner, all",
        "Somebody must be asked, and told. As it is set now: an owner has no past.",
        rows.owned, 1.0, days=0, reaches=False, whole=True, mend="stead models set {model} --owner NAME", minutes=1, cost="1 min",
        none="nothing is live",
    ),
    # 2: stead trains, a person approves
    Check(
        "trained", 2, "Versions trained by a pipeline, at least 90 %",
        "A pipeline trains the same way every time. What a person trained with one command of stead counts: it is the same pipeline.",
        rows.trained, 0.9, mend="stead train {model}", minutes=30, cost="30 min for its stead.toml",
    ),
    Check(
        "piped", 2, "Deployments made by stead, at least 90 %",
        "Loaded, checked and switched the same way every time. A person may have asked for it; what was copied by hand counts against it.",
        rows.piped, 0.9, mend="stead deploy {model}", minutes=10, cost="10 min", none="no deployment",
    ),
    Check(
        "hand-work", 2, "Hand work for a deployment, median at most 30 min",
        "Commands and looks that were measured, at stated times where they were not. A deployment outside stead counts where somebody said how long it took.",
        rows.handmade, 30, kind="median", unit="min", mend="stead level {model} train", minutes=5, cost="5 min", none="no deployment",
    ),
    Check(
        "watched", 2, "Live models at which a monitor looked within 7 days, at least 80 %",
        "A model decays silently; somebody has to look.",
        rows.watched, 0.8, days=7, reaches=False, whole=True, mend="stead up --background", minutes=5,
        cost="5 min; it must get its requests through stead’s gateway", none="nothing is live",
    ),
    Check(
        "returned", 2, "A roll-back within 180 days, real or drilled, at least one",
        "The way back that nobody has gone for half a year is not there when it is needed. A canary that was taken back counts: it is the same way.",
        rows.returned, 1, kind="count", days=180, reaches=False, mend="stead rollback {model} --drill", minutes=5, cost="5 min", none="none in 180 days",
    ),
    # 3: gates and a canary decide
    Check(
        "by-person", 3, "Deployments started by a person, at most 20 %",
        "Approving counts as starting: what waits for a person waits for the weekend, too.",
        rows.by_person, 0.2, kind="most", mend="stead level {model} deploy", minutes=5, cost="5 min", none="no deployment",
    ),
    Check(
        "gated", 3, "Versions that a gate said yes or no to, at least 98 %",
        "Where nobody looks any more, a gate has to. One that had nothing to judge by does not count.",
        rows.gated, 0.98, mend="stead train {model}", minutes=30, cost="a training: what stead trains comes to its gates",
    ),
    Check(
        "refused", 3, "Refusals by a gate within a year, at least one",
        "A gate that never refuses is not one. Asked of the team over a year: of a single model it would ask for bad versions.",
        rows.refused, 1, kind="count", days=365, reaches=False, team=True,
        mend="margin = 0.02 under [models.{model}.gates] in stead.toml: a stricter gate", minutes=10, cost="10 min", none="none within a year",
    ),
    Check(
        "triggered", 3, "Versions whose training a signal, a schedule or data began, at least 80 %",
        "What people begin happens when somebody remembers. Versions from before the first one answered do not count: somebody has to begin.",
        rows.triggered, 0.8, mend="stead level {model} train", minutes=5, cost="5 min; its triggers stand under [models.{model}.policy]",
        none="nothing was trained again",
    ),
    Check(
        "labelled", 3, "Live models with labels of half of their rows, or an estimate, at least 70 %",
        "Without labels nobody can say what a version is worth. Rows whose labels are not due yet do not count.",
        rows.labelled, 0.7, reaches=False, whole=True, mend="stead label --file LABELS.csv", minutes=120, cost="2 h to send them by a job",
        none="nothing is live",
    ),
    Check(
        "found-first", 3, "Incidents that a monitor found before a user, at least 70 %",
        "Pages only, notes are nobody’s incident. Where there was none, it holds if monitors looked on most days with requests: silence counts only where somebody listened.",
        rows.found_first, 0.7, quiet=rows.quiet, quietly="no incident while monitors looked",
        mend="stead monitors {model}", minutes=30, cost="30 min to see which one is missing", none="no record",
    ),
    Check(
        "waited", 3, "From trained to the first answer, median at most 1 day",
        "A canary’s days do not count, only the wait before it: a canary is a gate, and by default it takes two days.",
        rows.waited, 1.0, kind="median", unit="days", mend="stead level {model} deploy", minutes=5, cost="5 min", none="no deployment",
    ),
    Check(
        "failed", 3, "Deployments that failed in service, at most 15 %",
        "Rolled back after they had taken over, or judged wrong by the rows that came later. A canary that its guard took back did not fail: that is what it is for.",
        rows.failed, 0.15, kind="most", mend='kind = "canary" under [models.{model}.rollout] in stead.toml, then stead push {model}',
        minutes=10, cost="10 min", none="no deployment",
    ),
    # 4: policies choose
    Check(
        "by-policy", 4, "Trainings, promotions and roll-backs decided by policy, at least 90 %",
        "Stage 4 looks after itself; people set the policy.",
        rows.by_policy, 0.9, mend="stead level {model} deploy", minutes=5, cost="5 min", none="nothing was decided",
    ),
    Check(
        "kinds", 4, "Kinds of decisions taken by policy, at least 4 of 5",
        "Retrain, promote, choose features, share a budget, retire. stead itself has policies for the first two only, so nobody reaches stage 4 with it today.",
        rows.kinds, 4, kind="count", reaches=False, team=True, mend="", cost="not in stead yet", none="none",
    ),
    Check(
        "founded", 4, "Decisions by policy with evidence, bounds and a way back, all",
        "What decides by itself must say why, inside which policy’s bounds, and how to take it back.",
        rows.founded, 1.0, whole=True, mend="stead push {model}", minutes=5, cost="5 min", none="nothing was decided by policy",
    ),
    Check(
        "tried", 4, "Policies in force that were tried on history before their first decision, all",
        "A policy is tried on last year before it is let loose on this one. By the wall clock: it is about what people did.",
        rows.tried, 1.0, clock="wall", days=365, reaches=False, whole=True, mend="stead backtest {model} --since {year_ago} --until {today}", minutes=10,
        cost="10 min, then some hours unattended", none="no policy has decided anything",
    ),
    Check(
        "overridden", 4, "Decisions by policy that people took back or overrode, at most 5 %",
        "Where people correct it often, the policy is wrong or nobody trusts it.",
        rows.overridden, 0.05, kind="most", mend="stead decisions --model {model}", minutes=30, cost="30 min to see which bound is wrong",
        none="nothing was decided by policy",
    ),
    Check(
        "judged-wrong", 4, "Decisions by policy that later rows judge wrong, at most 10 %",
        "Each promotion and each retraining is held against the rows that came after it; only judgements that stand count.",
        rows.judged_wrong, 0.1, kind="most", mend='days = 7 under [models.{model}.rollout] in stead.toml: a longer canary', minutes=10,
        cost="10 min", none="nothing is judged yet",
    ),
    Check(
        "stopped", 4, "A drill of the emergency stop within 180 days that worked, at least one",
        "By the wall clock: it is about people. As the roll-back, twice a year rather than each quarter.",
        rows.stopped, 1, kind="count", clock="wall", days=180, reaches=False, mend="stead freeze --drill", minutes=2, cost="2 min", none="none in 180 days",
    ),
    Check(
        "hundreds", 4, "Live models, at least 100",
        "Stage 4 is for hundreds of models; for fewer it is more work than it saves. Of the team alone.",
        rows.live, 100, kind="count", days=0, reaches=False, team=True, unit="models", mend="", cost="nothing to mend: stage 4 is for hundreds",
        none="nothing is live",
    ),
)  # fmt: skip
"""In the order of the stages; four, five, eight and eight."""
BY_NAME = {check.name: check for check in CHECKS}


def named(name: str) -> Check:
    """A check by its name. Raises NotFound (`check-unknown`)."""
    if name not in BY_NAME:
        hint = did_you_mean(name, BY_NAME) or f"one of {', '.join(BY_NAME)}"
        raise NotFound("check-unknown", f"there is no check {name[:100]!r}", hint=hint)
    return BY_NAME[name]
