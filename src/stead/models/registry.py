"""The registry: models, their versions, aliases and tags. Every change has its entry in the ledger."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from stead import __version__, environments, ledger
from stead.config import FACTS, LEVELS, LOSSES, checked_facts, checked_name
from stead.errors import Conflict, InvalidInput, NotFound, did_you_mean
from stead.ledger import Undo
from stead.models.facts import set_facts_in
from stead.models.lineage import link
from stead.models.logging import get_logged_model
from stead.models.tables import aliases, logged_models, models, tags, versions
from stead.models.types import Model, Version
from stead.runtime.clock import now_ms
from stead.store import Store, checked_limit, from_row

ARCHIVED = "stead.archived"
"""Tag of a version that was taken out of use: it is kept and can be named, but is no longer the newest."""


def register(
    store: Store,
    model: str,
    logged_model: str,
    *,
    loss: str | None = None,
    settings: Mapping[str, Any] | None = None,
    serving_environment: str | None = None,
    serving_env: Mapping[str, str] | None = None,
    serving_image: bool = False,
    description: str = "",
    event_time: int | None = None,
    inputs: Sequence[str] = (),
) -> Version:
    """Make a logged model the next version of a model, which is created with its first version.

    It serves in the environment it was made in, unless `serving_environment` names another; `serving_env` are variables
    for its workers; with `serving_image` these are containers of its image. `inputs` are dataset versions (`dataset:demand@3`). The same logged model with the same serving is one
    version, however often it is registered. A new model is at level `record`. Of the `settings`, those that are given take the
    place of earlier ones. Raises NotFound, InvalidInput (`name-invalid`, `loss-unknown`, `facts-invalid`).
    """
    checked_name(model)
    _one_of("loss", loss, LOSSES)
    logged = get_logged_model(store, logged_model)
    serving = environments.get(store, serving_environment or logged.environment).digest
    variables = dict(serving_env or {})
    told = dict(settings or {})
    facts = checked_facts({name: told.pop(name) for name in FACTS if name in told})
    with store.db.write("models.register") as tx:
        _keep_model(store, tx, model, loss, None if settings is None else told)
        set_facts_in(tx, store, model, facts)
        same = sa.select(versions).where(versions.c.model == model, versions.c.logged_model == logged_model)
        for row in tx.execute(same).mappings():
            same_place = row["serving_environment"] == serving and row["serving_image"] == serving_image
            if same_place and row["serving_env"] == variables:
                return _version(tx, model, row["version"])
        last = tx.execute(sa.select(sa.func.max(versions.c.version)).where(versions.c.model == model)).scalar()
        number = (last or 0) + 1
        values = {
            "model": model,
            "version": number,
            "logged_model": logged_model,
            "run_id": logged.run_id,
            "description": description,
            "serving_environment": serving,
            "serving_env": variables,
            "serving_image": serving_image,
            "created_by": store.actor,
            "created_at": now_ms(),
            "event_time": event_time,
        }
        tx.execute(sa.insert(versions).values(values))
        _link_origin(tx, f"version:{model}@{number}", logged.run_id, logged.environment, serving, inputs, last)
        ledger.record(
            tx,
            actor=store.actor,
            action="version.registered",
            model=model,
            subject=f"{model}@{number}",
            summary=f"registered {model}@{number} ({logged.flavor})",
            evidence={"logged_model": logged_model, "run": logged.run_id, "metrics": logged.metrics},
            undo=Undo("models.archive_version", {"model": model, "version": number}),
            event_time=event_time,
        )
        return _version(tx, model, number)


def _keep_model(
    store: Store, tx: sa.Connection, model: str, loss: str | None, settings: Mapping[str, Any] | None
) -> None:
    """The model's row, locked until the transaction ends: version numbers have neither gaps nor doubles."""
    now = now_ms()
    first = {
        "name": model,
        "description": "",
        "level": LEVELS[0],
        "loss": loss or "mae",
        "settings": dict(settings or {}),
        "created_at": now,
        "updated_at": now,
    }
    store.db.upsert(tx, models, first, ["name"], update=[])
    tx.execute(sa.select(models.c.name).where(models.c.name == model).with_for_update())
    before = tx.execute(sa.select(models.c.settings).where(models.c.name == model)).scalar_one()
    given = {"loss": loss, "settings": None if settings is None else {**before, **settings}}
    changed = {key: value for key, value in given.items() if value is not None}
    tx.execute(sa.update(models).where(models.c.name == model).values(**changed, updated_at=now))


def _link_origin(
    tx: sa.Connection,
    version: str,
    run_id: str | None,
    environment: str,
    serving: str,
    inputs: Sequence[str],
    parent: int | None,
) -> None:
    for source in inputs:
        link(tx, source if ":" in source else f"dataset:{source}", f"run:{run_id}" if run_id else version, "read by")
    if run_id:
        link(tx, f"run:{run_id}", version, "made")
    link(tx, f"environment:{environment}", version, "trained in")
    if serving != environment:
        link(tx, f"environment:{serving}", version, "serves in")
    if parent:
        link(tx, f"{version.rpartition('@')[0]}@{parent}", version, "followed by")


def _one_of(what: str, value: str | None, known: Sequence[str]) -> None:
    if value is not None and value not in known:
        hint = did_you_mean(value, known) or f"one of {', '.join(known)}"
        raise InvalidInput(f"{what}-unknown", f"{value!r} is no {what}", hint=hint)


def get_model(store: Store, name: str) -> Model:
    """A model. Raises NotFound (`model-unknown`)."""
    with store.db.read() as tx:
        return _model(tx, name)


def list_models(store: Store) -> list[Model]:
    """All models by name."""
    with store.db.read() as tx:
        rows = tx.execute(sa.select(models).order_by(models.c.name)).mappings().all()
        numbers = sa.select(versions.c.model, sa.func.count()).group_by(versions.c.model)
        counted = _pairs(tx, numbers)
        named: dict[str, dict[str, int]] = {}
        for row in tx.execute(sa.select(aliases)).mappings():
            named.setdefault(row["model"], {})[row["alias"]] = row["version"]
        tagged: dict[str, dict[str, str]] = {}
        for row in tx.execute(sa.select(tags).where(tags.c.version == 0)).mappings():
            tagged.setdefault(row["model"], {})[row["key"]] = row["value"]
    return [
        from_row(
            row,
            Model,
            aliases=named.get(row["name"], {}),
            tags=tagged.get(row["name"], {}),
            versions=counted.get(row["name"], 0),
        )
        for row in rows
    ]


def get_version(store: Store, ref: str) -> Version:
    """A version: `demand@3`, `demand@champion`, `demand@latest`; `demand` alone is the champion, else the newest.

    Raises NotFound (`model-unknown`, `version-unknown`, `alias-unknown`).
    """
    name, _, which = ref.partition("@")
    with store.db.read() as tx:
        model = _model(tx, name)
        if which.isdigit():
            return _version(tx, name, int(which))
        if which and which != "latest":
            if which not in model.aliases:
                hint = did_you_mean(which, model.aliases) or f"stead models show {name}"
                raise NotFound("alias-unknown", f"the model {name!r} has no alias {which!r}", hint=hint)
            return _version(tx, name, model.aliases[which])
        if not which and "champion" in model.aliases:
            return _version(tx, name, model.aliases["champion"])
        hidden = sa.select(tags.c.version).where(tags.c.model == name, tags.c.key == ARCHIVED)
        newest = sa.select(sa.func.max(versions.c.version)).where(
            versions.c.model == name, versions.c.version.not_in(hidden)
        )
        number = tx.execute(newest).scalar()
        if number is None:
            raise NotFound("version-unknown", f"the model {name!r} has no version in use", hint=f"stead train {name}")
        return _version(tx, name, number)


def list_versions(store: Store, model: str, *, limit: int = 1000) -> list[Version]:
    """Versions of a model, newest first. Raises NotFound (`model-unknown`)."""
    query = (
        sa.select(versions)
        .where(versions.c.model == model)
        .order_by(versions.c.version.desc())
        .limit(checked_limit(limit))
    )
    with store.db.read() as tx:
        known = _model(tx, model)
        rows = tx.execute(query).mappings().all()
        tagged: dict[int, dict[str, str]] = {}
        for row in tx.execute(sa.select(tags).where(tags.c.model == model)).mappings():
            tagged.setdefault(row["version"], {})[row["key"]] = row["value"]
    return [from_row(row, Version, **_of_version(known, row["version"], tagged)) for row in rows]


def metrics_of(store: Store, wanted: Iterable[tuple[str, int]]) -> dict[tuple[str, int], dict[str, float]]:
    """What versions scored when they were made, by model and number, in one question for some hundreds."""
    query = sa.select(versions.c.model, versions.c.version, logged_models.c.metrics)
    query = query.join(logged_models, logged_models.c.id == versions.c.logged_model)
    pairs = sorted(set(wanted))
    found: dict[tuple[str, int], dict[str, float]] = {}
    with store.db.read() as tx:
        for start in range(0, len(pairs), 400):
            some = sa.tuple_(versions.c.model, versions.c.version).in_(pairs[start : start + 400])
            found |= {(model, version): metrics for model, version, metrics in tx.execute(query.where(some))}
    return found


def set_alias(
    store: Store, model: str, alias: str, version: int, *, reason: str | None = None, undoes: int | None = None
) -> Model:
    """Let an alias name a version. Raises NotFound, InvalidInput (`alias-invalid`) for reserved and malformed names."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]{0,99}", alias) or re.fullmatch(r"(?i)latest|v\d+", alias):
        raise InvalidInput(
            "alias-invalid",
            f"{alias!r} cannot be an alias",
            hint="letters, digits, '.', '_' and '-', a letter first; 'latest' and names such as v1 are reserved",
        )
    with store.db.write("models.alias") as tx:
        known = _lock(tx, model)
        _version(tx, model, version)
        before = known.aliases.get(alias)
        if before == version and undoes is None:
            return known
        values = {"model": model, "alias": alias, "version": version}
        set_alias_in(store, tx, model, alias, version)
        undo = Undo("models.delete_alias", {"model": model, "alias": alias})
        if before is not None:
            undo = Undo("models.set_alias", values | {"version": before})
        ledger.record(
            tx,
            actor=store.actor,
            action="alias.set",
            model=model,
            subject=f"alias {model} {alias}",
            summary=f"{alias} of {model} is version {version}" + (f", was {before}" if before is not None else ""),
            reason=reason,
            undo=undo,
            undoes=undoes,
        )
        return _model(tx, model)


def set_alias_in(store: Store, tx: sa.Connection, model: str, alias: str, version: int) -> None:
    """`set_alias` as part of a larger change, whose own ledger entry tells it: a deployment moves `champion`."""
    values = {"model": model, "alias": alias, "version": version}
    store.db.upsert(tx, aliases, values, ["model", "alias"])


def rollout_of(tx: sa.Connection, model: str) -> tuple[dict[str, Any], str]:
    """The rollout plan that was handed over for a model, empty where none was, and its level, inside a transaction."""
    known = _model(tx, model)
    return dict(known.settings.get("rollout") or {}), known.level


def setting_of(tx: sa.Connection, model: str, name: str) -> Any:
    """One of a model's settings, None where it has none, inside a transaction."""
    return _model(tx, model).settings.get(name)


def policy_of(tx: sa.Connection, model: str) -> str:
    """The policy in force, with its version, as decisions name it: `bikes 3`, or the defaults where none was handed over."""
    number = _model(tx, model).settings.get("policy")
    return f"{model} {number}" if number else f"defaults of stead {__version__}"


def set_settings_in(tx: sa.Connection, model: str, **settings: Any) -> None:
    """Write some of a model's settings as part of a larger change; nothing where there is no such model yet."""
    before = tx.execute(sa.select(models.c.settings).where(models.c.name == model).with_for_update()).scalar()
    if before is not None and before != (after := {**before, **settings}):
        tx.execute(sa.update(models).where(models.c.name == model).values(settings=after))


def set_facts(
    store: Store,
    model: str,
    *,
    owner: str | None = None,
    importance: str | None = None,
    loss_value: float | None = None,
    currency: str | None = None,
    reason: str | None = None,
    undoes: int | None = None,
) -> Model:
    """Say whose a model is, how much it matters (`low`, `normal`, `high`), and what its loss costs.

    `loss_value` is money in `currency` (ISO 4217) that one unit of the summed loss costs: a day costs this times its
    `loss_sum`, the sum of loss × weight over its labelled rows. What is None stays as it is; an empty text and a value of 0 take away
    what was said. Where stead.toml says something else, that holds again from the next training or push. Raises NotFound
    (`model-unknown`), InvalidInput (`facts-missing`, `facts-invalid`, `currency-missing`, `loss-value-missing`).
    """
    said = {"owner": owner, "importance": importance, "loss_value": loss_value, "currency": currency}
    facts = {name: value for name, value in said.items() if value is not None}
    if not facts:
        hint = f"stead models set {model} --owner NAME"
        raise InvalidInput("facts-missing", f"nothing was said about {model}", hint=hint)
    with store.db.write("models.facts") as tx:
        _lock(tx, model)
        set_facts_in(tx, store, model, facts, reason=reason, undoes=undoes)
        return _model(tx, model)


def set_level_in(tx: sa.Connection, model: str, level: str) -> str:
    """Write a model's level as part of a larger change, and return the one before. Raises NotFound (`model-unknown`)."""
    before = _lock(tx, model).level
    tx.execute(sa.update(models).where(models.c.name == model).values(level=level, updated_at=now_ms()))
    return before


def delete_alias_in(tx: sa.Connection, model: str, alias: str, *, version: int) -> None:
    """Take an alias away, if it names this version, as part of a larger change whose own ledger entry tells it."""
    mine = (aliases.c.model == model) & (aliases.c.alias == alias) & (aliases.c.version == version)
    tx.execute(sa.delete(aliases).where(mine))


def delete_alias(
    store: Store, model: str, alias: str, *, reason: str | None = None, undoes: int | None = None
) -> Model:
    """Take an alias away. Raises NotFound (`model-unknown`, `alias-unknown`)."""
    with store.db.write("models.alias") as tx:
        known = _lock(tx, model)
        if alias not in known.aliases:
            raise NotFound(
                "alias-unknown", f"the model {model!r} has no alias {alias!r}", hint=did_you_mean(alias, known.aliases)
            )
        tx.execute(sa.delete(aliases).where(aliases.c.model == model, aliases.c.alias == alias))
        before = {"model": model, "alias": alias, "version": known.aliases[alias]}
        ledger.record(
            tx,
            actor=store.actor,
            action="alias.deleted",
            model=model,
            subject=f"alias {model} {alias}",
            summary=f"{model} has no {alias} any more, was version {before['version']}",
            reason=reason,
            undo=Undo("models.set_alias", before),
            undoes=undoes,
        )
        return _model(tx, model)


def archive_version(
    store: Store,
    model: str,
    version: int,
    *,
    archived: bool = True,
    reason: str | None = None,
    undoes: int | None = None,
) -> Version:
    """Take a version out of use, or back into it. It is kept. Raises Conflict (`version-named`) while an alias names it."""
    with store.db.write("models.archive") as tx:
        known = _lock(tx, model)
        _version(tx, model, version)
        naming = [alias for alias, number in known.aliases.items() if number == version]
        if archived and naming:
            raise Conflict(
                "version-named",
                f"{model}@{version} is {', '.join(naming)} of {model}",
                hint=f"stead models alias {model}@N {naming[0]}",
            )
        _write_tag(store, tx, model, version, ARCHIVED, "true" if archived else None)
        ledger.record(
            tx,
            actor=store.actor,
            action="version.archived" if archived else "version.restored",
            model=model,
            subject=f"{model}@{version}",
            summary=f"{model}@{version} was {'taken out of use' if archived else 'taken back into use'}",
            reason=reason,
            undo=Undo("models.archive_version", {"model": model, "version": version, "archived": not archived}),
            undoes=undoes,
        )
        return _version(tx, model, version)


def set_tag(
    store: Store,
    model: str,
    key: str,
    value: str | None,
    *,
    version: int | None = None,
    reason: str | None = None,
    undoes: int | None = None,
) -> None:
    """Set a tag of a model or of one version; None takes it away."""
    if not key or len(key) > 250:
        raise InvalidInput("tag-invalid", f"{key!r} is no key of a tag", hint="1 to 250 characters")
    with store.db.write("models.tag") as tx:
        known = _lock(tx, model)
        before = known.tags.get(key)
        if version is not None:
            before = _version(tx, model, version).tags.get(key)
        _write_tag(store, tx, model, version or 0, key, value)
        subject = model if version is None else f"{model}@{version}"
        said = "lost its tag" if value is None else "got the tag"
        ledger.record(
            tx,
            actor=store.actor,
            action="tag.set",
            model=model,
            subject=subject,
            summary=f"{subject} {said} {key}" + (f" = {value[:100]}" if value is not None else ""),
            reason=reason,
            undo=Undo("models.set_tag", {"model": model, "key": key, "value": before, "version": version}),
            undoes=undoes,
        )


def describe(
    store: Store,
    model: str,
    description: str,
    *,
    version: int | None = None,
    reason: str | None = None,
    undoes: int | None = None,
) -> None:
    """Write the description of a model or of one version."""
    with store.db.write("models.describe") as tx:
        before = _lock(tx, model).description
        if version is None:
            tx.execute(sa.update(models).where(models.c.name == model).values(description=description))
        else:
            before = _version(tx, model, version).description
            place = (versions.c.model == model) & (versions.c.version == version)
            tx.execute(sa.update(versions).where(place).values(description=description))
        subject = model if version is None else f"{model}@{version}"
        ledger.record(
            tx,
            actor=store.actor,
            action="description.set",
            model=model,
            subject=subject,
            summary=f"described {subject}",
            reason=reason,
            undo=Undo("models.describe", {"model": model, "description": before, "version": version}),
            undoes=undoes,
        )


def _write_tag(store: Store, tx: sa.Connection, model: str, version: int, key: str, value: str | None) -> None:
    if value is None:
        tx.execute(sa.delete(tags).where(tags.c.model == model, tags.c.version == version, tags.c.key == key))
    else:
        row = {"model": model, "version": version, "key": key, "value": value}
        store.db.upsert(tx, tags, row, ["model", "version", "key"])


def _lock(tx: sa.Connection, name: str) -> Model:
    """A model, its row locked until the transaction ends, so that an undo names what truly was before."""
    tx.execute(sa.select(models.c.name).where(models.c.name == name).with_for_update())
    return _model(tx, name)


def _model(tx: sa.Connection, name: str) -> Model:
    row = tx.execute(sa.select(models).where(models.c.name == name)).mappings().first()
    if row is None:
        known = tx.execute(sa.select(models.c.name)).scalars().all()
        hint = did_you_mean(name, known) or "stead models list"
        raise NotFound("model-unknown", f"there is no model {name!r}", hint=hint, model=name)
    named = _pairs(tx, sa.select(aliases.c.alias, aliases.c.version).where(aliases.c.model == name))
    own = sa.select(tags.c.key, tags.c.value).where(tags.c.model == name, tags.c.version == 0)
    counted = tx.execute(sa.select(sa.func.count()).where(versions.c.model == name)).scalar_one()
    return from_row(row, Model, aliases=named, tags=_pairs(tx, own), versions=counted)


def _version(tx: sa.Connection, model: str, number: int) -> Version:
    query = sa.select(versions).where(versions.c.model == model, versions.c.version == number)
    row = tx.execute(query).mappings().first() if 0 < number < 1 << 31 else None
    if row is None:
        known = _model(tx, model)
        raise NotFound(
            "version-unknown",
            f"the model {model!r} has no version {number}; it has {known.versions or 'none'}",
            hint=f"stead models show {model}",
        )
    own = sa.select(tags.c.key, tags.c.value).where(tags.c.model == model, tags.c.version == number)
    tagged = {number: _pairs(tx, own)}
    return from_row(row, Version, **_of_version(_model(tx, model), number, tagged))


def _pairs(tx: sa.Connection, query: sa.Select[Any]) -> dict[str, Any]:
    return {row[0]: row[1] for row in tx.execute(query)}


def _of_version(model: Model, number: int, tagged: Mapping[int, dict[str, str]]) -> dict[str, Any]:
    naming = sorted(alias for alias, version in model.aliases.items() if version == number)
    return {"aliases": naming, "tags": tagged.get(number, {})}
