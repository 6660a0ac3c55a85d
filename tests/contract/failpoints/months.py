"""kill -9 while the stages of months that are over are kept: all of them are there, or none, and the next call makes them."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from dying import Scenario, dies

from stead.maturity import keep_month
from stead.maturity.clocks import DAY_MS
from stead.maturity.tables import months
from stead.models.tables import models
from stead.monitors.tables import incidents
from stead.runtime.clock import now_ms
from stead.store import Store
from tests.conftest import new_store


def known(store: Store) -> None:
    """A model with a record that is 70 days old."""
    old = now_ms() - 70 * DAY_MS
    row = {"name": "m", "description": "", "level": "record", "loss": "mae", "settings": {}, "created_at": old}
    seen = {"model": "m", "cause": "loss", "kind": "performance", "state": "open", "severity": "page", "summary": "s"}
    with store.db.write("monitors.incident") as tx:
        tx.execute(sa.insert(models).values(**row, updated_at=old))
        tx.execute(
            sa.insert(incidents).values(
                **seen, evidence={}, opened_by="agent", opened_at=old, event_time=old, updated_at=old
            )
        )


def kept(store: Store) -> int:
    with store.db.read() as tx:
        return tx.execute(sa.select(sa.func.count()).select_from(months)).scalar_one()


def keep(root: Path, point: str) -> None:
    store = new_store(root)
    known(store)
    dies(
        point,
        "import sys; from pathlib import Path; from tests.conftest import new_store\n"
        "from stead.maturity import keep_month; keep_month(new_store(Path(sys.argv[1])))",
        str(root),
    )
    months_over = kept(store)
    assert (months_over >= 4) == point.endswith(":after")  # two or three months, of the model and of the team
    assert keep_month(store) + months_over == kept(store) >= 4
    store.close()


POINTS: dict[str, Scenario] = {"maturity.month": keep}
