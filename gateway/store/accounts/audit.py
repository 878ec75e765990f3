"""
The audit log: changes and their actors, written in the transaction of the change.

It is append-only, enforced by the database, and contains no secrets.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from gateway.store.sql.database import Database
from gateway.store.sql.tables import AUDIT_LOG

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection  # imports the ORM

Facts = Mapping[str, object]
"""The recorded fields of an object: names to JSON values, without secrets."""


class Actor(msgspec.Struct, frozen=True):
    """The author of a change, `cli:root`, `admin:alice`, `key:key_01...`, and its request."""

    name: str
    request_id: str | None = None
    address: str | None = None


SYSTEM = Actor("system")
"""The program itself."""


class AuditEntry(msgspec.Struct, frozen=True):
    """One change. `before` is None if it created the object."""

    id: int
    at_ms: int
    actor: str
    action: str
    """`account.create`, `key.revoke`, `credits.topup`, ..."""
    object: str
    """The id of the changed object."""
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    request_id: str | None
    address: str | None


class AuditFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Selects entries; by default all."""

    actor: str = ""
    """A part of the actor's name, in any case."""
    action: str = ""
    """An action, or what it begins with: `key.`."""
    since_ms: int | None = None
    """Unix milliseconds."""
    until_ms: int | None = None
    """Exclusive."""


EVERY_ENTRY = AuditFilter()


async def record(
    connection: AsyncConnection,
    actor: Actor,
    action: str,
    object_id: str,
    *,
    before: Facts | None = None,
    after: Facts | None = None,
) -> None:
    """Add an entry within the open transaction."""
    row = _row(actor, action, object_id, before, after)
    await connection.execute(sa.insert(AUDIT_LOG), row)


async def record_made(
    connection: AsyncConnection, actor: Actor, action: str, made: Mapping[str, Facts]
) -> None:
    """Add an entry for each of many new objects, by id, within the open transaction."""
    rows = [_row(actor, action, object_id, None, after) for object_id, after in made.items()]
    await connection.execute(sa.insert(AUDIT_LOG), rows)


class AuditLog:
    """Reads the audit log. Every method may raise GatewayError (STORE_UNAVAILABLE)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def list(
        self,
        *,
        object_id: str | None = None,
        which: AuditFilter = EVERY_ENTRY,
        before_id: int | None = None,
        limit: int = 100,
    ) -> Sequence[AuditEntry]:
        """Return up to `limit` entries older than `before_id`, newest first."""
        query = sa.select(AUDIT_LOG).order_by(AUDIT_LOG.c.id.desc()).limit(limit)
        query = query.where(*_conditions(which))
        if object_id is not None:
            query = query.where(AUDIT_LOG.c.object == object_id)
        if before_id is not None:
            query = query.where(AUDIT_LOG.c.id < before_id)
        async with self._database.read() as connection:
            return [audit_entry_of(row) for row in await connection.execute(query)]


def _conditions(which: AuditFilter) -> list[sa.ColumnElement[bool]]:
    column, found = AUDIT_LOG.c, []
    if which.actor:
        found.append(column.actor.icontains(which.actor, autoescape=True))
    if which.action:
        found.append(column.action.startswith(which.action, autoescape=True))
    if which.since_ms is not None:
        found.append(column.at_ms >= which.since_ms)
    if which.until_ms is not None:
        found.append(column.at_ms < which.until_ms)
    return found


def audit_entry_of(row: sa.Row[Any]) -> AuditEntry:
    """Return the entry of a row of the table, which may have further columns."""
    columns = {name: row._mapping[name] for name in AuditEntry.__struct_fields__}
    for name in ("before", "after"):
        stored = columns[name]
        columns[name] = None if stored is None else msgspec.json.decode(stored)
    return AuditEntry(**columns)


def _row(
    actor: Actor, action: str, object_id: str, before: Facts | None, after: Facts | None
) -> dict[str, str | int | None]:
    return {
        "at_ms": time.time_ns() // 1_000_000,
        "actor": actor.name,
        "action": action,
        "object": object_id,
        "before": _json(before),
        "after": _json(after),
        "request_id": actor.request_id,
        "address": actor.address,
    }


def _json(facts: Facts | None) -> str | None:
    return None if facts is None else msgspec.json.encode(facts).decode()
