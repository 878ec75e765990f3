"""Accounts as the hot state in Redis loads them: `account_state.AccountSource` on SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from gateway.core.calendar import first_day_of
from gateway.core.model import ABANDONED
from gateway.store.accounts.accounts import account_of
from gateway.store.accounts.credits import position_of
from gateway.store.hot_state.snapshot import AccountState, SpendScope, Spent
from gateway.store.sql.database import Database
from gateway.store.sql.tables import ACCOUNTS, SPEND, USAGE_EVENTS

LOAD_TIMEOUT_S = 3.0


class SqlAccounts:
    """Both methods raise GatewayError (STORE_UNAVAILABLE) within LOAD_TIMEOUT_S."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(
        self, account_id: str, scopes: Sequence[SpendScope], *, day: int, month: int
    ) -> AccountState | None:
        """Return one account as `AccountSource.load` says."""
        query = sa.select(ACCOUNTS, position_of(ACCOUNTS)).where(ACCOUNTS.c.id == account_id)
        async with self._database.read(timeout_s=LOAD_TIMEOUT_S) as connection:
            if scopes and not self._database.is_sqlite:  # the sums below belong to one snapshot
                await connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            row = (await connection.execute(query)).first()
            if row is None:
                return None
            spent = {
                scope: await _spent(connection, account_id, scope, day=day, month=month)
                for scope in scopes
            }
        account = account_of(row)
        return AccountState(
            account_id=account_id,
            position=row.position,
            version=account.version,
            balance_nanousd=account.balance_nanousd,
            credit_limit_nanousd=account.terms.credit_nanousd,
            limits=account.limits,
            trusted=account.trusted,
            spent=spent,
        )

    async def stored(self, request_ids: Sequence[str]) -> set[str]:
        """Return which of these calls have a usage row that nothing can supersede any more."""
        query = sa.select(USAGE_EVENTS.c.request_id).where(
            USAGE_EVENTS.c.request_id.in_(request_ids), USAGE_EVENTS.c.outcome != ABANDONED
        )
        async with self._database.read(timeout_s=LOAD_TIMEOUT_S) as connection:
            return set((await connection.execute(query)).scalars())


async def _spent(
    connection: AsyncConnection, account_id: str, scope: SpendScope, *, day: int, month: int
) -> Spent:
    columns = SPEND.c
    query = sa.select(
        _sum(columns.day == day),
        _sum(columns.day.between(first_day_of(month), first_day_of(month + 1) - 1)),
        _sum(sa.true()),
    ).where(columns.account_id == account_id)
    if scope.key_id is not None:
        query = query.where(columns.key_id == scope.key_id)
    if scope.model is not None:
        query = query.where(columns.model == scope.model)
    return Spent(*map(int, (await connection.execute(query)).one()))


def _sum(which: sa.ColumnElement[bool]) -> sa.ColumnElement[Any]:
    return sa.func.coalesce(sa.func.sum(sa.case((which, SPEND.c.cost_nanousd), else_=0)), 0)
