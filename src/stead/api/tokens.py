"""Tokens with roles, and links for users. Of a token only its hash is stored; each change that one makes is in the ledger under `token:NAME`."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from typing import Literal

import blake3
import sqlalchemy as sa

from stead import ledger
from stead.api.tables import tokens
from stead.config import checked_name
from stead.errors import Conflict, Forbidden, InvalidInput, NotFound
from stead.runtime.clock import now_ms
from stead.store import Store, from_row

Role = Literal["read", "write", "approve", "admin"]
ROLES: tuple[Role, ...] = ("read", "write", "approve", "admin")
"""Each may do what the ones before it may."""


REPORT = "report"
"""Role of what is in a model's link for users: it opens that page, and nothing else."""
made_here = 0
"""Tokens made in this process: who remembers that there are none looks again when it has grown."""


@dataclass(frozen=True)
class Token:
    id: str
    name: str
    role: Role | Literal["report"]
    created_by: str
    created_at: int
    revoked_at: int | None


@dataclass(frozen=True)
class Bearer:
    """Who came with a token."""

    name: str
    role: Role


@dataclass(frozen=True)
class NewToken:
    """The only time that the secret is shown."""

    token: Token
    secret: str


def create_token(store: Store, name: str, *, role: Role = "write") -> NewToken:
    """Make a token. Raises InvalidInput (`role-unknown`), Conflict (`token-exists`)."""
    global made_here
    checked_name(name)
    if role not in ROLES:
        raise InvalidInput("role-unknown", f"there is no role {role!r}", hint=f"one of {', '.join(ROLES)}")
    identity, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    values = {"id": identity, "name": name, "role": role, "created_by": store.actor, "created_at": now_ms()}
    with store.db.write("api.token") as tx:
        if tx.execute(sa.select(tokens.c.id).where(tokens.c.name == name)).first():
            raise Conflict("token-exists", f"there is a token {name!r} already", hint=f"stead tokens revoke {name}")
        tx.execute(sa.insert(tokens).values(values | {"digest": _digest(secret)}))
        ledger.record(
            tx, actor=store.actor, action="token.created", subject=f"token {name}", summary=f"token {name} may {role}"
        )
    made_here += 1
    return NewToken(Token(**values, revoked_at=None), f"stead-{identity}-{secret}")  # type: ignore[arg-type]


@dataclass(frozen=True)
class ReportLink:
    """Where users without an account say what is wrong with a model."""

    model: str
    path: str
    """`/report/MODEL/KEY`, at the server's address."""


def report_link(store: Store, model: str, *, new: bool = False) -> ReportLink:
    """The link by which users without an account say what is wrong with a model: the same each time; a `new` one ends those before.

    It is a token of a role of its own, `report:MODEL` among the others, and ends when that is revoked. Raises NotFound (`model-unknown`).
    """
    from stead import models  # with all that it knows it is a third of a command's start

    models.get_model(store, model)
    name = f"{REPORT}:{model}"
    mine = tokens.c.name == name
    with store.db.write("api.token") as tx:
        kept = tx.execute(sa.select(tokens.c.digest).where(mine, tokens.c.revoked_at.is_(None))).scalar()
        if kept is None or new:
            kept = secrets.token_hex(32)
            values = {"role": REPORT, "digest": kept, "created_by": store.actor, "created_at": now_ms()}
            values |= {"id": secrets.token_hex(6), "name": name, "revoked_at": None}
            tx.execute(sa.delete(tokens).where(mine))
            tx.execute(sa.insert(tokens).values(values))
            said = f"users of {model} may report by a new link what is wrong"
            ledger.record(
                tx, actor=store.actor, action="token.created", model=model, subject=f"token {name}", summary=said
            )
    return ReportLink(model, f"/report/{model}/{_key(kept, model)}")


def may_report(store: Store, model: str, key: str) -> bool:
    """Whether a link for users has the key of its model."""
    mine = (tokens.c.name == f"{REPORT}:{model}") & (tokens.c.role == REPORT) & tokens.c.revoked_at.is_(None)
    with store.db.read() as tx:
        kept = tx.execute(sa.select(tokens.c.digest).where(mine)).scalar()
    return kept is not None and hmac.compare_digest(_key(kept, model).encode(), key.encode("utf-8", "replace"))


def _key(secret: str, model: str) -> str:
    return hmac.new(bytes.fromhex(secret), model.encode(), "sha256").hexdigest()[:32]


def list_tokens(store: Store) -> list[Token]:
    """All tokens, without their secrets."""
    with store.db.read() as tx:
        return [from_row(row, Token) for row in tx.execute(sa.select(tokens).order_by(tokens.c.name)).mappings()]


def revoke_token(store: Store, name: str) -> None:
    """From now on this token opens nothing. Raises NotFound (`token-unknown`)."""
    with store.db.write("api.token") as tx:
        query = sa.update(tokens).where(tokens.c.name == name, tokens.c.revoked_at.is_(None))
        if not tx.execute(query.values(revoked_at=now_ms())).rowcount:
            raise NotFound("token-unknown", f"there is no valid token {name!r}", hint="stead tokens list")
        ledger.record(
            tx, actor=store.actor, action="token.revoked", subject=f"token {name}", summary=f"token {name} was revoked"
        )


def any_token(store: Store) -> bool:
    """Whether requests must carry a token."""
    with store.db.read() as tx:
        valid = sa.select(tokens.c.id).where(tokens.c.revoked_at.is_(None), tokens.c.role != REPORT)
        return tx.execute(valid).first() is not None


def authenticate(store: Store, secret: str) -> Bearer:
    """Who has the valid token with this secret. Raises Forbidden (`token-invalid`)."""
    identity = secret.split("-", 2)[1] if secret.startswith("stead-") and secret.count("-") >= 2 else ""
    with store.db.read() as tx:
        row = (
            tx.execute(
                sa.select(tokens).where(tokens.c.id == identity, tokens.c.revoked_at.is_(None), tokens.c.role != REPORT)
            )
            .mappings()
            .first()
        )
    given = _digest(secret.split("-", 2)[2]) if identity else ""
    if row is None or not hmac.compare_digest(row["digest"], given):
        raise Forbidden(
            "token-invalid", "this token is not known or was revoked", hint="stead tokens create NAME --role write"
        )
    return Bearer(row["name"], row["role"])


def permit(role: Role, needed: Role) -> None:
    """Raises Forbidden (`role-too-low`) unless `role` may do what `needed` may."""
    if ROLES.index(role) < ROLES.index(needed):
        raise Forbidden(
            "role-too-low",
            f"this needs the role {needed!r}, the token has {role!r}",
            hint=f"who has the role admin makes one: stead tokens create NAME --role {needed}",
        )


def _digest(secret: str) -> str:
    return blake3.blake3(secret.encode()).hexdigest()
