"""
Rebuilds the sums by quarters of an hour from the usage events, an hour per transaction.

It may run beside ledger writers. Quarters whose events may have been purged are not changed.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa

from gateway.core.calendar import DAY_MS
from gateway.core.latency_histogram import BOUNDS_MS
from gateway.core.model import TOKEN_COLUMNS
from gateway.store.sql.database import Database
from gateway.store.sql.tables import USAGE_EVENTS, USAGE_QUARTERS
from gateway.store.usage_sums.quarters import GROUPS, NUMBERS, QUARTER_MS, numbers_of
from gateway.store.usage_sums.totals import rebuild_totals

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection  # imports the ORM

_CALLS = USAGE_EVENTS.c
_SUMS = USAGE_QUARTERS.c
_CHUNK = 4
"""Quarters per transaction, which bounds how long writers wait."""
_KEY = [_SUMS[name] == sa.bindparam(f"of_{name}") for name in GROUPS]

_Sums = dict[tuple[Any, ...], tuple[int, ...]]
"""The values of GROUPS -> those of NUMBERS, without rows that are all zero."""


class UsageRebuild(msgspec.Struct, frozen=True, kw_only=True):
    quarters: int
    """How many were compared."""
    corrected: int
    """Sums that differed from the usage events."""


async def rebuild_usage(database: Database, *, retention_days: int, now_ms: int) -> UsageRebuild:
    """
    Make the sums equal to the usage events again.

    Args:
        retention_days: `sql.usage_retention_days`; older quarters are not changed.
        now_ms: Unix milliseconds.

    Raises:
        GatewayError: STORE_UNAVAILABLE; completed hours stay corrected, and it may be repeated.
    """
    first, last = await _period(database, now_ms - retention_days * DAY_MS)
    corrected = 0
    for start in range(first, last + 1, _CHUNK):
        end = min(start + _CHUNK, last + 1)
        async with database.write() as connection:
            if not database.is_sqlite:
                # A writer whose events are not visible yet adds to the sums after this transaction.
                await connection.exec_driver_sql(
                    "LOCK TABLE usage_quarters IN SHARE ROW EXCLUSIVE MODE"
                )
            corrected += await _correct(connection, start, end)
            await rebuild_totals(connection, start, end)
    return UsageRebuild(quarters=max(last + 1 - first, 0), corrected=corrected)


async def _period(database: Database, complete_from_ms: int) -> tuple[int, int]:
    """Return the first and the last quarter with complete events; (0, -1): there is none."""
    async with database.read() as connection:
        oldest_ms = await connection.scalar(sa.select(sa.func.min(_CALLS.at_ms)))
        newest_ms = await connection.scalar(sa.select(sa.func.max(_CALLS.at_ms)))
        oldest_sum = await connection.scalar(sa.select(sa.func.min(_SUMS.quarter)))
        newest_sum = await connection.scalar(sa.select(sa.func.max(_SUMS.quarter)))
    if oldest_ms is None or newest_ms is None:
        return 0, -1
    first = oldest_ms // QUARTER_MS
    if oldest_sum is not None and oldest_sum < first:
        first += 1  # the quarter in which a purge stopped, also one by a shorter retention
    complete_from = -(-complete_from_ms // QUARTER_MS)
    return max(first, complete_from), max(newest_ms // QUARTER_MS, newest_sum or 0)


async def _correct(connection: AsyncConnection, start: int, end: int) -> int:
    """Correct the sums of the quarters from `start` to before `end`; return how many differed."""
    expected = await _read(connection, _recomputed(start, end))
    kept = sa.select(*[_SUMS[name] for name in (*GROUPS, *NUMBERS)]).where(
        _SUMS.quarter >= start, _SUMS.quarter < end
    )
    found = await _read(connection, kept)
    different = [
        group for group in {**expected, **found} if expected.get(group) != found.get(group)
    ]
    if different:
        names = [f"of_{name}" for name in GROUPS]
        await connection.execute(
            sa.delete(USAGE_QUARTERS).where(*_KEY),
            [dict(zip(names, group, strict=True)) for group in different],
        )
    missing = [
        dict(zip((*GROUPS, *NUMBERS), (*group, *expected[group]), strict=True))
        for group in different
        if group in expected
    ]
    if missing:
        await connection.execute(sa.insert(USAGE_QUARTERS), missing)
    return len(different)


async def _read(connection: AsyncConnection, query: sa.Select[Any]) -> _Sums:
    groups = len(GROUPS)
    found: _Sums = {}
    for row in await connection.execute(query):
        numbers = numbers_of(row[groups:])
        if any(numbers):
            found[tuple(row[:groups])] = numbers
    return found


def _recomputed(start: int, end: int) -> sa.Select[Any]:
    """Select the sums of these quarters from the usage events."""
    groups: list[sa.ColumnElement[Any]] = [
        _CALLS.account_id,
        _CALLS.at_ms // sa.literal_column(str(QUARTER_MS)),
        _CALLS.key_id,
        _CALLS.model,
        _CALLS.endpoint,
        sa.func.coalesce(_CALLS.provider + "/" + _CALLS.upstream_model, ""),
        _CALLS.outcome,
    ]
    keys = [each.label(f"by_{name}") for name, each in zip(GROUPS, groups, strict=True)]
    upstream_cost = _CALLS.upstream_cost_nanousd
    numbers = [
        sa.func.count(),
        *[sa.func.sum(_CALLS[name]) for name in TOKEN_COLUMNS.values()],
        sa.func.sum(_CALLS.cost_nanousd),
        sa.func.sum(upstream_cost),
        sa.func.sum(_CALLS.cost_nanousd - upstream_cost),
        _count_where(upstream_cost.is_(None)),
        sa.func.sum(_CALLS.ttft_ms),
        sa.func.count(_CALLS.ttft_ms),
        *[_count_where(each) for each in _steps()],
    ]
    return (
        sa.select(*keys, *numbers)
        .where(_CALLS.at_ms >= start * QUARTER_MS, _CALLS.at_ms < end * QUARTER_MS)
        .group_by(*keys)
    )


def _count_where(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[Any]:
    return sa.func.sum(sa.case((condition, 1), else_=0))


def _steps() -> list[sa.ColumnElement[bool]]:
    ttft = _CALLS.ttft_ms
    inner = [sa.and_(ttft >= low, ttft < high) for low, high in itertools.pairwise(BOUNDS_MS)]
    return [ttft < BOUNDS_MS[0], *inner, ttft >= BOUNDS_MS[-1]]
