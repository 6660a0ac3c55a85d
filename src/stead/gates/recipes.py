"""Changed recipes: each that is proposed may err by its share of one budget a year, and its evidence goes on from training to training."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from stead.gates.beside import DAY, Beside
from stead.gates.tables import recipe_budgets, recipes
from stead.runtime import typed
from stead.runtime.clock import now_ms
from stead.stats import promotion, sequential
from stead.store import Store


@dataclass(frozen=True)
class Proposed:
    """What is known of a recipe against the champion's: its number in the year, the error it may make, and the verdict."""

    number: int
    alpha: float
    verdict: promotion.ChangeVerdict


def judge_recipe(store: Store, model: str, recipe: str, against: str, found: Beside) -> Proposed:
    """Add the days that were not counted yet to a recipe's evidence, and judge by all of them.

    The first look spends the recipe's share of the budget of its year of event time. Looking again at the same days changes nothing.
    """
    key = (recipes.c.model == model) & (recipes.c.recipe == recipe) & (recipes.c.against == against)
    with store.db.write("gates.recipe") as tx:
        row = tx.execute(sa.select(recipes).where(key).with_for_update()).mappings().first()
        if row is None:
            number, alpha = _spend(store, tx, model, int(found.day.max()) if len(found.day) else 0)
            state, last = sequential.Paired(), -1
        else:
            number, alpha, last = row["number"], row["alpha"], row["last_day"]
            state = typed.convert(row["state"], sequential.Paired)
        state, last = _further(state, last, found, found.day > last)
        verdict = promotion.judge_change(state, alpha)
        values = {
            "model": model, "recipe": recipe, "against": against, "number": number, "alpha": alpha,
            "state": msgspec.to_builtins(state), "last_day": last, "verdict": verdict.verdict, "at": now_ms(),
        }  # fmt: skip
        store.db.upsert(tx, recipes, values, ["model", "recipe", "against"])
    return Proposed(number, alpha, verdict)


def _further(
    state: sequential.Paired, last: int, found: Beside, new: NDArray[np.bool_]
) -> tuple[sequential.Paired, int]:
    if not new.any():
        return state, last
    state = sequential.observe_days(
        state, found.challenger[new], found.champion[new], found.weight[new], found.day[new]
    )
    return state, int(found.day[new].max())


def _spend(store: Store, tx: sa.Connection, model: str, day: int) -> tuple[int, float]:
    year = datetime.fromtimestamp(day * DAY / 1000, UTC).year
    mine = (recipe_budgets.c.model == model) & (recipe_budgets.c.year == year)
    spent = tx.execute(sa.select(recipe_budgets.c.challengers).where(mine).with_for_update()).scalar() or 0
    budget, alpha = promotion.spend(promotion.Budget(challengers=spent))
    store.db.upsert(
        tx, recipe_budgets, {"model": model, "year": year, "challengers": budget.challengers}, ["model", "year"]
    )
    return budget.challengers, alpha
