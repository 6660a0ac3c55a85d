"""One turn of the loop. All it does is in the store, so it can end anywhere, and two loops do nothing twice."""

from __future__ import annotations

import sys
from collections.abc import Callable

import sqlalchemy as sa

from stead import deployments, models, policies
from stead.errors import SteadError
from stead.store import Store


def tick(store: Store) -> int:
    """Look at every model once; returns how many things moved. One model's error is told and keeps no other waiting."""
    moved = 0
    known = {model.name: model for model in models.list_models(store)}
    for model in known.values():
        if model.level != "record":
            moved += _safely(model.name, lambda model=model: _look(store, model))  # type: ignore[misc]
    for deployment in deployments.canaries(store):
        moved += _safely(deployment.model, lambda d=deployment: _canary(store, d))  # type: ignore[misc]
    for retraining in policies.open_retrainings(store):
        moved += _safely(retraining.model, lambda r=retraining: int(policies.advance(store, r)))  # type: ignore[misc]
    return moved


def _look(store: Store, model: models.Model) -> int:
    with store.db.read() as tx:
        standing = policies.find_standing(tx, model.name)
    if standing is None:
        return 0
    return policies.adopt(store, model, standing) + int(policies.decide(store, model) is not None)


def _canary(store: Store, deployment: deployments.Deployment) -> int:
    after = deployments.observe(store, deployment.id)
    return int((after.state, len(after.shares)) != (deployment.state, len(deployment.shares)))


def _safely(model: str, what: Callable[[], int]) -> int:
    try:
        return what()
    except SteadError as error:
        print(f"{model}: {error.code}: {error.message}", file=sys.stderr, flush=True)
    except sa.exc.SQLAlchemyError as error:
        print(f"{model}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    return 0
