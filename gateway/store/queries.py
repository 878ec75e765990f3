"""What people ask of the record of calls: sums by day, model or key; the last calls; one call."""

from __future__ import annotations

import datetime
import enum
from typing import Any

import msgspec
import sqlalchemy as sa

from gateway.core.model import Usage, UsageEvent
from gateway.store.sql import Database
from gateway.store.tables import USAGE_EVENTS
from gateway.store.usage_rows import event_of

_DAY_MS = 86_400_000
_EPOCH = datetime.date(1970, 1, 1)


class GroupBy(enum.Enum):
    """What a line of a usage report stands for. The value is the command line's word."""

    DAY = "day"
    MODEL = "model"
    KEY = "key"


class CallFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which calls count. Times are Unix milliseconds of a call's end, `until_ms` not included."""

    account_id: str | None = None
    key_id: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None


class UsageSum(msgspec.Struct, frozen=True):
    """One line of a usage report."""

    group: str
    """A UTC date `2026-05-17`, a public model name, or a key's id."""
    calls: int
    failed: int
    usage: Usage


class UsageQueries:
    """Reads `usage_events`. Every method may raise GatewayError (STORE_UNAVAILABLE)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def usage_by(self, group: GroupBy, which: CallFilter) -> list[UsageSum]:
        """Return one sum for each day, model or key that had calls, ordered by it."""
        columns = USAGE_EVENTS.c
        key: sa.ColumnElement[Any] = {
            GroupBy.DAY: columns.at_ms // sa.literal_column(str(_DAY_MS)),
            GroupBy.MODEL: columns.model,
            GroupBy.KEY: columns.key_id,
        }[group].label("group")
        failed = sa.case((columns.outcome == "failed", 1), else_=0)
        query = (
            sa.select(
                key,
                sa.func.count().label("calls"),
                sa.func.sum(failed).label("failed"),
                *[sa.func.sum(columns[f"{name}_tokens"]) for name in Usage.__struct_fields__],
            )
            .group_by(key)
            .order_by(key)
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(_only(query, which))).all()
        return [_sum(group, tuple(row)) for row in rows]

    async def last_calls(self, limit: int, which: CallFilter) -> list[UsageEvent]:
        """Return the last calls, the newest first."""
        columns = USAGE_EVENTS.c
        query = sa.select(USAGE_EVENTS).order_by(columns.at_ms.desc(), columns.request_id.desc())
        async with self._database.read() as connection:
            rows = await connection.execute(_only(query, which).limit(limit))
            return [event_of(row) for row in rows]

    async def call(self, request_id: str) -> UsageEvent | None:
        """Return the record of one call; None when there is none (yet, or no longer)."""
        query = sa.select(USAGE_EVENTS).where(USAGE_EVENTS.c.request_id == request_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
        return None if row is None else event_of(row)


def _only(query: sa.Select[Any], which: CallFilter) -> sa.Select[Any]:
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


def _sum(group: GroupBy, row: tuple[Any, ...]) -> UsageSum:
    name = row[0]
    if group is GroupBy.DAY:
        name = (_EPOCH + datetime.timedelta(days=int(name))).isoformat()
    return UsageSum(name, int(row[1]), int(row[2]), Usage(*map(int, row[3:])))
