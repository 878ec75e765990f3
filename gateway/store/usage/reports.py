"""
Recorded calls, and reports of tokens, costs and margin by any combination of groups.

They cover the calls of the last `sql.usage_retention_days`.
"""

from __future__ import annotations

import datetime
import enum
from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from gateway.core.calendar import DAY_MS
from gateway.core.model import TOKEN_COLUMNS, CallRecord, Usage
from gateway.store.booking.rows import record_of
from gateway.store.sql.database import Database
from gateway.store.sql.tables import USAGE_EVENTS

MAX_LINES = 50_000
"""A report with more lines is truncated and marked `is_cut`."""
_FAILED = ("failed", "insured")
_EPOCH = datetime.date(1970, 1, 1)
_COLUMNS = USAGE_EVENTS.c


class GroupBy(enum.Enum):
    """What a line of a report stands for. The value is the word in commands and queries."""

    DAY = "day"
    MODEL = "model"
    KEY = "key"
    ACCOUNT = "account"
    DEPLOYMENT = "deployment"
    """`provider/upstream model`: for operators only."""


CLIENT_GROUPS = (GroupBy.DAY, GroupBy.MODEL, GroupBy.KEY)
"""The groups that clients may request for their own account."""

_KEYS: dict[GroupBy, sa.ColumnElement[Any]] = {
    GroupBy.DAY: _COLUMNS.at_ms // sa.literal_column(str(DAY_MS)),
    GroupBy.MODEL: _COLUMNS.model,
    GroupBy.KEY: _COLUMNS.key_id,
    GroupBy.ACCOUNT: _COLUMNS.account_id,
    GroupBy.DEPLOYMENT: sa.func.coalesce(_COLUMNS.provider + "/" + _COLUMNS.upstream_model, ""),
}


class CallFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Selects calls. Times are Unix milliseconds of a call's end; `until_ms` is exclusive."""

    account_id: str | None = None
    key_id: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None


class UsageLine(msgspec.Struct, frozen=True, kw_only=True):
    groups: tuple[str, ...]
    """One value per requested group: a UTC date `2026-05-17`, a public model name, an id."""
    calls: int
    failed: int
    usage: Usage
    cost_nanousd: int
    """What was charged."""
    upstream_cost_nanousd: int
    """The upstreams' prices, of calls for which they are known."""
    margin_nanousd: int
    """What was charged less the upstreams' prices, of calls for which they are known."""
    calls_without_cost: int
    """Calls with an unknown upstream price, not part of the margin."""


class UsageReport(msgspec.Struct, frozen=True):
    """The lines, ordered by their groups."""

    lines: list[UsageLine]
    is_cut: bool
    """There are more than MAX_LINES."""


class UsageQueries:
    """Reads `usage_events`. Every method may raise GatewayError (STORE_UNAVAILABLE)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def last_calls(self, limit: int, which: CallFilter) -> list[CallRecord]:
        """Return the last calls, newest first."""
        columns = USAGE_EVENTS.c
        query = sa.select(USAGE_EVENTS).order_by(columns.at_ms.desc(), columns.request_id.desc())
        async with self._database.read() as connection:
            rows = await connection.execute(_only(query, which).limit(limit))
            return [record_of(row) for row in rows]

    async def call(self, request_id: str) -> CallRecord | None:
        """Return one recorded call; None: not recorded yet, or past retention."""
        query = sa.select(USAGE_EVENTS).where(USAGE_EVENTS.c.request_id == request_id)
        async with self._database.read() as connection:
            row = (await connection.execute(query)).first()
        return None if row is None else record_of(row)


class UsageReports:
    """Reads `usage_events`. Every method may raise GatewayError (STORE_UNAVAILABLE)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def report(
        self, groups: Sequence[GroupBy], which: CallFilter, *, max_lines: int = MAX_LINES
    ) -> UsageReport:
        """Return one line per combination of `groups` with calls; without groups, one in all."""
        keys = [_KEYS[group].label(f"by_{group.value}") for group in groups]
        query = sa.select(*keys, *_sums()).group_by(*keys).order_by(*keys).limit(max_lines + 1)
        async with self._database.read() as connection:
            rows = (await connection.execute(_only(query, which))).all()
        lines = [_line(groups, tuple(row)) for row in rows[:max_lines] if row.calls]
        return UsageReport(lines, len(rows) > max_lines)


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


def _sums() -> list[sa.ColumnElement[Any]]:
    known = _COLUMNS.upstream_cost_nanousd.is_not(None)
    margin = _COLUMNS.cost_nanousd - _COLUMNS.upstream_cost_nanousd
    summed: list[sa.ColumnElement[Any]] = [
        sa.case((_COLUMNS.outcome.in_(_FAILED), 1), else_=0),
        *[_COLUMNS[column] for column in TOKEN_COLUMNS.values()],
        _COLUMNS.cost_nanousd,
        sa.func.coalesce(_COLUMNS.upstream_cost_nanousd, 0),
        sa.case((known, margin), else_=0),
        sa.case((known, 0), else_=1),
    ]
    return [
        sa.func.count().label("calls"),
        *[sa.func.coalesce(sa.func.sum(each), 0) for each in summed],
    ]


def _line(groups: Sequence[GroupBy], row: tuple[Any, ...]) -> UsageLine:
    names, numbers = row[: len(groups)], [int(number) for number in row[len(groups) :]]
    calls, failed, *rest = numbers
    classes = len(TOKEN_COLUMNS)
    cost, upstream_cost, margin, without = rest[classes:]
    return UsageLine(
        groups=tuple(_name(group, name) for group, name in zip(groups, names, strict=True)),
        calls=calls,
        failed=failed,
        usage=msgspec.convert(dict(zip(TOKEN_COLUMNS, rest, strict=False)), Usage),
        cost_nanousd=cost,
        upstream_cost_nanousd=upstream_cost,
        margin_nanousd=margin,
        calls_without_cost=without,
    )


def _name(group: GroupBy, value: Any) -> str:
    if group is GroupBy.DAY:
        return (_EPOCH + datetime.timedelta(days=int(value))).isoformat()
    return str(value)
