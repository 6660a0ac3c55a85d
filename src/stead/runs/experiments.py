"""Experiments: the projects that runs belong to."""

from __future__ import annotations

import sqlalchemy as sa

from stead.errors import Conflict, InvalidInput, NotFound, did_you_mean
from stead.runs.prepared import Prepared
from stead.runs.tables import experiment_tags, experiments
from stead.runs.types import Experiment
from stead.runtime.clock import now_ms
from stead.store import Store, from_row

DEFAULT = "Default"
"""The experiment of runs without a project; its number is 0, as MLflow's."""


def create_experiment(store: Store, name: str, *, tags: dict[str, str] | None = None) -> Experiment:
    """Make an experiment. Raises Conflict (`experiment-exists`); the name of a deleted one is free again."""
    with store.db.write("runs.experiment") as tx:
        if _active(tx, name) is not None:
            raise Conflict("experiment-exists", f"there is an experiment {name!r} already")
        number = experiment_id(tx, name)
        _set_tags(store, tx, number, tags or {})
    return get_experiment(store, name)


def get_experiment(store: Store, name: str | int) -> Experiment:
    """One experiment by name or number; a name means the one in use. Raises NotFound (`experiment-unknown`)."""
    with store.db.read() as tx:
        number = name if isinstance(name, int) else _active(tx, name)
        found = _select(tx, experiments.c.id == number) if number is not None else []
        if not found:
            names = tx.execute(sa.select(experiments.c.name)).scalars().all()
            hint = did_you_mean(str(name), names) or "stead runs list"
            raise NotFound("experiment-unknown", f"there is no experiment {name!r}", hint=hint)
    return found[0]


def list_experiments(store: Store, *, deleted: bool = False) -> list[Experiment]:
    """Experiments in use, or the deleted ones, newest first."""
    with store.db.read() as tx:
        return _select(tx, experiments.c.lifecycle == ("deleted" if deleted else "active"))


def rename_experiment(store: Store, name: str | int, new_name: str) -> Experiment:
    """Give an experiment another name. Raises Conflict (`experiment-exists`) where that is taken."""
    number = get_experiment(store, name).id
    with store.db.write("runs.experiment") as tx:
        taken = _active(tx, checked_project(new_name))
        if taken is not None and taken != number:
            raise Conflict("experiment-exists", f"there is an experiment {new_name!r} already")
        _free(tx, new_name, number)
        _update(tx, number, name=new_name)
    return get_experiment(store, number)


def delete_experiment(store: Store, name: str | int) -> Experiment:
    """Put an experiment and its runs out of sight; `restore_experiment` brings them back."""
    number = get_experiment(store, name).id
    with store.db.write("runs.experiment") as tx:
        _update(tx, number, lifecycle="deleted")
    return get_experiment(store, number)


def restore_experiment(store: Store, name: str | int) -> Experiment:
    """Bring a deleted experiment back. Raises Conflict (`experiment-exists`) where its name was taken meanwhile."""
    with store.db.write("runs.experiment") as tx:
        column = experiments.c.id if isinstance(name, int) else experiments.c.name
        number = tx.execute(sa.select(experiments.c.id).where(column == name)).scalar()
        if number is None:
            raise NotFound("experiment-unknown", f"there is no experiment {name!r}")
        _update(tx, number, lifecycle="active")
    return get_experiment(store, number)


def set_experiment_tag(store: Store, name: str | int, key: str, value: str | None) -> Experiment:
    """Set a tag of an experiment, or take it away with None."""
    number = get_experiment(store, name).id
    with store.db.write("runs.experiment") as tx:
        if value is None:
            where = (experiment_tags.c.experiment_id == number, experiment_tags.c.key == key)
            tx.execute(sa.delete(experiment_tags).where(*where))
        else:
            _set_tags(store, tx, number, {key: value})
        _update(tx, number)
    return get_experiment(store, number)


def experiment_id(tx: sa.Connection, name: str) -> int:
    """The number of the experiment in use with this name; made where it is new. In the caller's transaction."""
    number = _active(tx, name)
    if number is not None:
        return number
    _free(tx, checked_project(name), None)
    now = now_ms()
    values = {"name": name, "lifecycle": "active", "created_at": now, "updated_at": now}
    if name == DEFAULT and tx.execute(sa.select(experiments.c.id).where(experiments.c.id == 0)).first() is None:
        values["id"] = 0
    key = tx.execute(sa.insert(experiments).values(values)).inserted_primary_key
    assert key is not None
    return int(key[0])


def checked_project(name: str) -> str:
    """Raises InvalidInput (`project-invalid`) where a name is empty, long or not printable."""
    if not name.strip() or len(name) > 250 or not name.isprintable():
        raise InvalidInput(
            "project-invalid", f"{name!r} is no name for a project", hint="1 to 250 printable characters"
        )
    return name


_BY_NAME = Prepared(
    sa.select(experiments.c.id).where(
        experiments.c.name == sa.bindparam("wanted"), experiments.c.lifecycle == sa.literal_column("'active'")
    )
)


def _active(tx: sa.Connection, name: str) -> int | None:
    number: int | None = _BY_NAME.value(tx, {"wanted": name})
    return number


def _free(tx: sa.Connection, name: str, wanted_by: int | None) -> None:
    """A deleted experiment gives its name to a new one."""
    holder = tx.execute(sa.select(experiments.c.id).where(experiments.c.name == name)).scalar()
    if holder is not None and holder != wanted_by:
        tx.execute(sa.update(experiments).where(experiments.c.id == holder).values(name=f"{name} (deleted {holder})"))


def _update(tx: sa.Connection, number: int, **values: str) -> None:
    tx.execute(sa.update(experiments).where(experiments.c.id == number).values(updated_at=now_ms(), **values))


def _set_tags(store: Store, tx: sa.Connection, number: int, tags: dict[str, str]) -> None:
    rows = [{"experiment_id": number, "key": key, "value": value} for key, value in tags.items()]
    store.db.upsert(tx, experiment_tags, rows, ("experiment_id", "key"))


def _select(tx: sa.Connection, *where: sa.ColumnElement[bool]) -> list[Experiment]:
    found = tx.execute(sa.select(experiments).where(*where).order_by(experiments.c.id.desc())).mappings().all()
    tags: dict[int, dict[str, str]] = {}
    ids = [row["id"] for row in found]
    for row in tx.execute(sa.select(experiment_tags).where(experiment_tags.c.experiment_id.in_(ids))).mappings():
        tags.setdefault(row["experiment_id"], {})[row["key"]] = row["value"]
    return [from_row(row, Experiment, tags=tags.get(row["id"], {})) for row in found]
