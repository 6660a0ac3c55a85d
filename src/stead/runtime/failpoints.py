"""Every place where a kill -9 could tear something, by name.

A commit, a rename and a send each pass `failpoint(name + ":before")` and `failpoint(name + ":after")`. Tests set
`STEAD_FAILPOINT` to one of them and the process kills itself there; what must hold afterwards is asserted by
`tests/contract/test_failpoints.py`, which enumerates `REGISTRY`. A check holds that each literal name in the code is
registered and each registered name is used.
"""

from __future__ import annotations

import os
import signal

# name: what is torn when the process dies here
REGISTRY: dict[str, str] = {
    "api.token": "a token and its ledger entry",
    "blobs.copy": "a copied file is whole under its name or absent",
    "blobs.forget": "bytes that nothing names are gone or not, and never those that were stored again meanwhile",
    "blobs.put": "bytes are in the store or not; a name never points at half of them",
    "care.backup": "a backup is whole under its name or is none",
    "care.prune": "rows that a rule lets go, and the ledger entry of all that goes",
    "care.record": "the ledger entry of a backup",
    "care.restore": "all rows of a backup, or none and a store that is not opened",
    "datasets.add": "a version of a dataset and its number",
    "datasets.quarantine": "a batch that broke its contract, whose bytes are in the store before",
    "demo.data": "a downloaded file is whole or absent",
    "deployments.cancel": "a deployment is stopped and its version let go",
    "deployments.check": "the version is loaded, the gates come next",
    "deployments.drill": "the route that a drill has a version loaded by, and lets go of, and what came of it",
    "deployments.fail": "a deployment has failed, the present version answers on",
    "deployments.judge": "what later rows say of a decision, the end of scoring aside, and both ledger entries",
    "deployments.outside": "what a person says of a deployment outside stead, and its ledger entry",
    "deployments.overridden": "a person's override of a gate and its ledger entry",
    "deployments.passed": "the gates have passed, the switch comes next",
    "deployments.prepare": "the gateways are asked to load a version",
    "deployments.refuse": "a gate's refusal and its ledger entry",
    "deployments.request": "a deployment, its ledger entry and its job",
    "deployments.rollback": "route, alias, states and ledger go back together",
    "deployments.step": "a canary's next share, or its end, with the route and the ledger entry",
    "deployments.switch": "route, alias, states and ledger change together",
    "deployments.withdraw": "a model is out of service: route, alias, state and ledger together",
    "environments.add": "a lock and the memory of what it was made from",
    "environments.ensure": "an environment is whole under its name or has none",
    "environments.runtime": "the folder with stead's runtime is whole under its name or has none",
    "environments.vendor": "a copy of a wheel, whose bytes are in the store before",
    "fleet.sample": "the reproductions of a month, and the ledger entry that they were drawn",
    "gates.recipe": "the evidence of a changed recipe, and what it took of the year's budget",
    "gates.verdict": "a gate's verdict with its evidence",
    "images.aside": "an export gives way to a newer one: the old or the new is there, or none",
    "images.blob": "a layer, a configuration or a manifest is whole under its digest or absent",
    "images.export": "a layout, an archive or a Dockerfile's folder is whole under its name or absent",
    "images.note": "what is known of a layer or a base that is kept; it is found out again where it is missing",
    "jobs.agent_beat": "an agent's sign of life",
    "jobs.beat": "lease, progress and log of a job",
    "jobs.cancel": "the wish that a job stops",
    "jobs.claim": "a job belongs to one keeper with a new fence, or waits on",
    "jobs.clock": "where a replay wants a model's clock",
    "jobs.enqueue": "a job is in the queue or not",
    "jobs.finish": "a job has ended well or is done again",
    "jobs.give_up": "a job has ended badly, waits for its next attempt, or is done again",
    "jobs.session": "another machine has a pass, or a step to do, or is let go",
    "jobs.tell": "what another machine says; it says it again until it is kept",
    "jobs.turn": "a model's clock stands where its replay asked, or the loop has done what was to be done there",
    "journal.append": "records of a run are with the operating system or not",
    "journal.file": "an artifact's copy in the journal is whole under its name or absent",
    "journal.send": "a batch of a journal is in the store and the sender knows it",
    "ledger.checkpoint": "a checkpoint of the ledger's chain",
    "maturity.answer": "answers of the interview and their ledger entry",
    "maturity.correct": "what a person says of the time that an act took, and its ledger entry",
    "maturity.month": "the stages of months that are over",
    "maturity.review": "when a person first looked at what waits",
    "models.alias": "an alias and its ledger entry",
    "models.archive": "a version in or out of use and its ledger entry",
    "models.describe": "a description and its ledger entry",
    "models.facts": "whose a model is, how much it matters and what its loss costs, and the ledger entry",
    "models.log": "a logged model, whose files are in the store before",
    "models.materialise": "a model's folder is whole under its name or has none",
    "models.register": "a version with its number, lineage and ledger entry",
    "models.require": "whether a model's versions need a signature, and the ledger entry",
    "models.sign": "a signature of a version and its ledger entry",
    "models.tag": "a tag and its ledger entry",
    "monitors.deliver": "a message about an incident is being sent, was sent, or is tried again",
    "monitors.incident": "an incident that a person opens or resolves, its ledger entry and its messages",
    "monitors.observe": "what monitors saw in closed days, the incidents that follow, ledger and messages",
    "monitors.send": "a message has reached its receiver or goes out again under the same id",
    "packs.files": "files whose chunks are all there",
    "packs.keep": "the chunks of a pack, which is in the store before, are there for others",
    "packs.move": "chunks lie in the pack where they were, or in a new one",
    "packs.renew": "chunks that are stored again count as new, or are stored",
    "packs.sweep": "chunks that no file needs are gone or not, and never those that were stored again meanwhile",
    "pipelines.reproduce": "how a version that was made again compares with itself, once",
    "pipelines.step": "the result of a step is known or the step is run again",
    "policies.adopt": "a training that a person asked for goes the same way as the others",
    "policies.cancel": "a retraining is stopped, and its ledger entry",
    "policies.decide": "a retraining, its job and its ledger entry; a person's yes or no with the deployment that follows",
    "policies.freeze": "automatic action stands still or goes on, and its ledger entry",
    "policies.ingest": "a schedule's next fire and the ingest that the last one began",
    "policies.level": "a model's level and its ledger entry",
    "policies.move": "a retraining's next state with what belongs to it",
    "policies.proxy": "what the champion's age has cost so far",
    "policies.push": "the code and the policy of a model, and its ledger entry",
    "predictions.append": "a tick's requests are in the prediction log or not",
    "predictions.compact": "the Parquet of a raw segment and its rows in the store",
    "predictions.erase": "a segment without somebody's rows, and the note to delete the bytes that had them",
    "predictions.erasure": "which requests of a key go, which data versions are marked, and the ledger entry",
    "predictions.labels": "a batch of labels is kept whole or not at all",
    "predictions.merge": "many small segments become one",
    "predictions.performance": "realised loss by day, and how far the log was read for it",
    "predictions.remove": "the raw segment whose rows are in the store already",
    "predictions.sweep": "the bytes of merged segments are gone, and nothing names them",
    "processes.state": "what `stead status` reads of the processes",
    "recordlog.append": "records of a journal or log are with the operating system or not",
    "runs.change": "a run's name or whether it is in sight",
    "runs.deliver": "a batch of a journal's records and how far the journal is stored",
    "runs.end": "a run has ended",
    "runs.experiment": "an experiment, its name, tags and whether it is in sight",
    "runs.log": "values of a run, all of a call or none",
    "runs.start": "a run with its parameters and tags",
    "runs.tag": "a tag of a run",
    "serving.fast": "what was found of a version's fast path, and the route that takes it",
    "serving.gateway": "what a gateway says of itself",
    "serving.path": "a version's path is changed, and its ledger entry",
    "store.hold": "the wish that no bytes are deleted",
    "store.migrate": "the schema of the database",
}

_armed = os.environ.get("STEAD_FAILPOINT", "")


def failpoint(name: str) -> None:
    """Die here when this point is armed: `STEAD_FAILPOINT=jobs.claim:before`, or `…:before#3` for the third pass."""
    if not _armed:
        return
    _fire(name)


_passes: dict[str, int] = {}


def _fire(name: str) -> None:
    wanted, _, nth = _armed.partition("#")
    if name != wanted:
        return
    _passes[name] = _passes.get(name, 0) + 1
    if _passes[name] >= int(nth or 1):
        os.kill(os.getpid(), signal.SIGKILL)


def check_registered(name: str) -> None:
    """Raise where a commit, rename or send has no entry in the registry."""
    if name not in REGISTRY:
        raise LookupError(f"failpoint {name!r} is not in stead.runtime.failpoints.REGISTRY")
