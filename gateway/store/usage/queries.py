"""What people ask of the record of calls: the last ones, and a single one."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from gateway.core.model import UsageEvent
from gateway.store.sql.database import Database
from gateway.store.sql.tables import USAGE_EVENTS
from gateway.store.usage.rows import event_of


class CallFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which calls count. Times are Unix milliseconds of a call's end, `until_ms` not included."""

    account_id: str | None = None
    key_id: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None


class UsageQueries:
    """Reads `usage_events`. Every method may raise GatewayError (STORE_UNAVAILABLE)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def last_calls(self, limit: int, which: CallFilter) -> list[UsageEvent]:
        """Return the last calls, the newest first."""
        columns = USAGE_EVENTS.c
        query = sa.select(USAGE_EVENTS).order_by(columns.at_ms.desc(), columns.request_id.desc())
        async with self._database.read() as connection:
            rows = await connection.execute(only(query, which).limit(limit))
            return [event_of(row) for row in rows]

    async def call(self, request_id: str) -> UsageEvent | None:
        """Return the record of one call; None when there is none (yet, or no longer)."""
        query = sa.select(USAGE_EVENTS).where(USAGE_EVENTS.c.request_id == request_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
        return None if row is None else event_of(row)


def only(query: sa.Select[Any], which: CallFilter) -> sa.Select[Any]:
    """Return `query` narrowed to the calls that count."""
    columns = USAGE_EVENTS.c
    if which.account_id is not None:
        query = query.where(columns.account_id == which.account_id)
    if which.key_id is not None:
        query = query.where(columns.key_id == which.key_id)
    if which.since_ms is not None:
        query = query.where(columns.at_ms >= which.since_ms)
    if which.until_ms is not None:
        query = query.where(columns.at_ms < which.until_ms)
    return query
