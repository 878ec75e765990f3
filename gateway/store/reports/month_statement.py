"""
The statement of a UTC month: where its balance began, all that moved it, and where it ended.

A call counts for the UTC day on which it ended, as for budgets, not for the moment at which the
ledger booked it. So statements follow each other without gap or overlap, and the newest one ends
with the balance of the ledger, to the nano-dollar: all sums are read in one snapshot.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import msgspec
import sqlalchemy as sa

from gateway.core.calendar import DAY_MS, first_day_of
from gateway.store.accounts.accounts import Account, UnknownAccountError, account_of
from gateway.store.accounts.credits import LedgerEntry, entry_of
from gateway.store.reports.statements import MOST_MOVEMENTS
from gateway.store.sql.database import Database
from gateway.store.sql.tables import ACCOUNTS, LEDGER_ENTRIES, NOT_CHARGES, SPEND

_Group = TypeVar("_Group", int, str)
_AFTER = -1
"""In place of the day: all days after the month."""


class MonthStatement(msgspec.Struct, frozen=True, kw_only=True):
    """A month of an account. Days count from 1970-01-01; amounts are signed as in the ledger."""

    account: Account
    month: int
    """As `core.calendar.month_of` counts."""
    opening_nanousd: int
    closing_nanousd: int
    """So far, if the month has not ended."""
    movements: Sequence[LedgerEntry]
    """All but charges, oldest first; at most MOST_MOVEMENTS."""
    kinds: Sequence[tuple[str, int, int]]
    """Kind, number and sum of all movements, by kind."""
    days: Sequence[tuple[int, int]]
    """Day and charges of each day with charges, in order."""
    models: Sequence[tuple[str, int]]
    """Model and charges, the highest first."""

    @property
    def charged_nanousd(self) -> int:
        """The sum of the charges: not above 0, but for corrections of earlier months' calls."""
        return sum(amount for _, amount in self.days)


async def month_statement(database: Database, account_id: str, month: int) -> MonthStatement:
    """
    Return the statement of a month.

    Raises:
        UnknownAccountError: There is no account with this id.
        GatewayError: STORE_UNAVAILABLE.
    """
    first, end = first_day_of(month), first_day_of(month + 1)
    since_ms, until_ms = first * DAY_MS, end * DAY_MS
    entries, spend = LEDGER_ENTRIES.c, SPEND.c
    is_movement = (entries.account_id == account_id, sa.text(NOT_CHARGES))
    is_after = sa.case((entries.at_ms >= until_ms, 1), else_=0).label("is_after")
    sums = (
        sa.select(is_after, entries.kind, sa.func.count(), sa.func.sum(entries.amount_nanousd))
        .where(*is_movement, entries.at_ms >= since_ms)
        .group_by(is_after, entries.kind)
        .order_by(entries.kind)
    )
    listed = (
        sa.select(LEDGER_ENTRIES)
        .where(*is_movement, entries.at_ms >= since_ms, entries.at_ms < until_ms)
        .order_by(entries.id)
        .limit(MOST_MOVEMENTS)
    )
    day = sa.case((spend.day >= end, _AFTER), else_=spend.day).label("of_day")
    charges = (
        sa.select(day, spend.model, sa.func.sum(spend.cost_nanousd))
        .where(spend.account_id == account_id, spend.day >= first)
        .group_by(day, spend.model)
    )
    async with database.read() as connection:
        if not database.is_sqlite:  # one snapshot
            await connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        row = (
            await connection.execute(sa.select(ACCOUNTS).where(ACCOUNTS.c.id == account_id))
        ).first()
        if row is None:
            raise UnknownAccountError(account_id)
        moved = [tuple(each) for each in await connection.execute(sums)]
        movements = [entry_of(each) for each in await connection.execute(listed)]
        charged = [(int(a), str(b), int(c)) for a, b, c in await connection.execute(charges)]
    later = sum(int(amount) for after, _, _, amount in moved if after)
    later -= sum(cost for of_day, _, cost in charged if of_day == _AFTER)
    within = [each for each in charged if each[0] != _AFTER]
    kinds = [(str(kind), int(n), int(amount)) for after, kind, n, amount in moved if not after]
    closing = row.balance_nanousd - later
    change = sum(amount for _, _, amount in kinds) - sum(cost for _, _, cost in within)
    return MonthStatement(
        account=account_of(row),
        month=month,
        opening_nanousd=closing - change,
        closing_nanousd=closing,
        movements=movements,
        kinds=kinds,
        days=sorted(_sums((of_day, -cost) for of_day, _, cost in within).items()),
        models=sorted(
            _sums((model, -cost) for _, model, cost in within).items(), key=lambda each: each[1]
        ),
    )


def _sums(amounts: Iterable[tuple[_Group, int]]) -> dict[_Group, int]:
    found: dict[_Group, int] = {}
    for group, amount in amounts:
        found[group] = found.get(group, 0) + amount
    return found
