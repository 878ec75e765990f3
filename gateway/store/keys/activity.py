"""The activity of an account's keys: spending by day, month and in total, and the last call."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import sqlalchemy as sa

from gateway.store.sql.database import Database
from gateway.store.sql.tables import API_KEYS, SPEND, USAGE_EVENTS


class KeyActivity(msgspec.Struct, frozen=True, kw_only=True):
    """The activity of one key. Amounts are in nano-dollars, by UTC day and month."""

    day_nanousd: int = 0
    month_nanousd: int = 0
    total_nanousd: int = 0
    used_at: int | None = None
    """When its last recorded call ended, in Unix seconds."""


NO_ACTIVITY = KeyActivity()


async def read_activity(
    database: Database, account_id: str, *, today: int, month_start: int, last_use: bool = True
) -> Mapping[str, KeyActivity]:
    """
    Return the activity of an account's keys by id; keys without any may be absent.

    Args:
        database: SQL.
        account_id: The account.
        today: The UTC day, counted from 1970-01-01.
        month_start: The first day of its month.
        last_use: Read the times of last use.
    """
    cost = SPEND.c.cost_nanousd
    spent = (
        sa.select(
            SPEND.c.key_id,
            sa.func.sum(sa.case((SPEND.c.day == today, cost), else_=0)).label("day"),
            sa.func.sum(sa.case((SPEND.c.day >= month_start, cost), else_=0)).label("month"),
            sa.func.sum(cost).label("total"),
        )
        .where(SPEND.c.account_id == account_id)
        .group_by(SPEND.c.key_id)
    )
    last = (
        sa.select(sa.func.max(USAGE_EVENTS.c.at_ms))
        .where(USAGE_EVENTS.c.key_id == API_KEYS.c.id)
        .scalar_subquery()
    )
    used = sa.select(API_KEYS.c.id, last.label("at_ms")).where(API_KEYS.c.account_id == account_id)
    async with database.read() as connection:
        sums = {row.key_id: row for row in await connection.execute(spent)}
        times: dict[str, int | None] = {}
        if last_use:
            times = {row.id: row.at_ms for row in await connection.execute(used)}
    found: dict[str, KeyActivity] = {}
    for key_id in sums.keys() | times.keys():
        row, at_ms = sums.get(key_id), times.get(key_id)
        found[key_id] = KeyActivity(
            day_nanousd=0 if row is None else int(row.day),
            month_nanousd=0 if row is None else int(row.month),
            total_nanousd=0 if row is None else int(row.total),
            used_at=None if at_ms is None else at_ms // 1000,
        )
    return found
