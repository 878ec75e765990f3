"""
Account snapshots: what the hot state in Redis loads from SQL.

SQL is the source of truth. Redis holds, for each account, SQL's balance as of a *position*, the sum
of the events that wait in the usage stream (charged there, not yet in SQL), and the holds of
running calls. Available is the balance, less the other two, plus the credit limit.

Positions make this correct without a lock across the two stores. An account's position is the id of
its newest ledger entry, grows with every change of its balance, and is read in the same snapshot as
the balance. Redis never accepts a balance of an older position; and the script that removes stored
events from the stream subtracts them from the waiting sum and sets the new balance in one step. So:

1. An event is charged exactly once from its settlement on: while it waits, through the waiting sum;
   then through SQL's balance.
2. Between SQL's commit and that script, for milliseconds, both count it: too little is available
   then, never too much.
3. If Redis lost its data, each account is loaded again at its next call.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import sqlalchemy as sa

from gateway.core.calendar import first_day_of
from gateway.core.limits import NO_LIMITS, Limits
from gateway.core.model import ABANDONED
from gateway.store.accounts.accounts import account_of
from gateway.store.accounts.credits import position_of
from gateway.store.sql.database import Database
from gateway.store.sql.tables import ACCOUNTS, SPEND, USAGE_EVENTS

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection  # imports the ORM

LOAD_TIMEOUT_S = 3.0


class SpendScope(msgspec.Struct, frozen=True):
    """A scope of spending: the account, a key (`key_id`), or a key for one model."""

    key_id: str | None = None
    model: str | None = None
    """A public model name; only with `key_id`."""


class Spent(msgspec.Struct, frozen=True):
    """The costs of stored calls by `at_ms`, in nano-dollars, without refunds."""

    day_nanousd: int = 0
    month_nanousd: int = 0
    total_nanousd: int = 0


class AccountSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One account, read in one snapshot of SQL."""

    account_id: str
    position: int
    """The id of its newest ledger entry; 0 without entries."""
    version: int
    """Incremented by every change but those of the balance."""
    balance_nanousd: int
    credit_limit_nanousd: int | None = 0
    """How far below zero it may go: 0 for a prepaid account; None: unlimited."""
    limits: Limits = NO_LIMITS
    trusted: bool = False
    """Its credit does not bound the cost of its running calls."""
    spent: Mapping[SpendScope, Spent] = {}
    """For each requested scope."""


class Position(msgspec.Struct, frozen=True):
    """An account's balance after a batch was booked, read in its transaction."""

    position: int
    balance_nanousd: int


class AccountSource(Protocol):
    """Accounts in SQL. Both methods raise GatewayError (STORE_UNAVAILABLE) in bounded time."""

    async def load(
        self, account_id: str, scopes: Sequence[SpendScope], *, day: int, month: int
    ) -> AccountSnapshot | None:
        """
        Return one account; None: there is no such account.

        Args:
            account_id: Its id.
            scopes: The scopes whose spending is summed; often none.
            day: Today's UTC day, from 1970-01-01 = 0.
            month: The UTC month: year * 12 + month - 1.
        """

    async def stored(self, request_ids: Sequence[str]) -> set[str]:
        """Return which of these calls have a final usage row."""


class AccountRepository:
    """Loads accounts; methods raise GatewayError (STORE_UNAVAILABLE) within LOAD_TIMEOUT_S."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(
        self, account_id: str, scopes: Sequence[SpendScope], *, day: int, month: int
    ) -> AccountSnapshot | None:
        """Return one account, see `AccountSource.load`."""
        query = sa.select(ACCOUNTS, position_of(ACCOUNTS)).where(ACCOUNTS.c.id == account_id)
        async with self._database.read(timeout_s=LOAD_TIMEOUT_S) as connection:
            if scopes and not self._database.is_sqlite:  # one snapshot for the sums below
                await connection.execute(sa.text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            row = (await connection.execute(query)).first()
            if row is None:
                return None
            spent = {
                scope: await read_spent(connection, account_id, scope, day=day, month=month)
                for scope in scopes
            }
        account = account_of(row)
        return AccountSnapshot(
            account_id=account_id,
            position=row.position,
            version=account.version,
            balance_nanousd=account.balance_nanousd,
            credit_limit_nanousd=account.terms.credit_nanousd,
            limits=account.limits_in_force,
            trusted=account.trusted,
            spent=spent,
        )

    async def stored(self, request_ids: Sequence[str]) -> set[str]:
        """Return which of these calls have a final usage row."""
        query = sa.select(USAGE_EVENTS.c.request_id).where(
            USAGE_EVENTS.c.request_id.in_(request_ids), USAGE_EVENTS.c.outcome != ABANDONED
        )
        async with self._database.read(timeout_s=LOAD_TIMEOUT_S) as connection:
            return set((await connection.execute(query)).scalars())


async def read_spent(
    connection: AsyncConnection, account_id: str, scope: SpendScope, *, day: int, month: int
) -> Spent:
    """Return the spending of a scope in a UTC day, in a UTC month and in total."""
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
