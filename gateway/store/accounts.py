"""Accounts in SQL: who pays for the calls of a set of keys."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from gateway.store.ids import new_id
from gateway.store.sql import Database
from gateway.store.tables import ACCOUNTS


class UnknownAccountError(LookupError):
    """There is no account with this id."""


class Account(msgspec.Struct, frozen=True):
    """One account. `created_at` is in Unix seconds."""

    id: str
    name: str
    created_at: int


class Accounts:
    """
    The accounts table. Every method may raise GatewayError (STORE_UNAVAILABLE).

    Names are for people and need not differ; the id is what counts.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, name: str) -> Account:
        """Make an account."""
        account = Account(new_id("acct"), name, int(time.time()))
        async with self._database.write() as connection:
            await connection.execute(sa.insert(ACCOUNTS), msgspec.structs.asdict(account))
        return account

    async def get(self, account_id: str) -> Account:
        """
        Return one account.

        Raises:
            UnknownAccountError: there is none with this id.
        """
        found = await _select(
            self._database, sa.select(ACCOUNTS).where(ACCOUNTS.c.id == account_id)
        )
        if not found:
            raise UnknownAccountError(account_id)
        return found[0]

    async def list(
        self, *, name: str | None = None, after: str = "", limit: int = 1000
    ) -> Sequence[Account]:
        """Return up to `limit` accounts, the oldest first, that follow the id `after`."""
        query = sa.select(ACCOUNTS).where(ACCOUNTS.c.id > after)
        if name is not None:
            query = query.where(ACCOUNTS.c.name == name)
        return await _select(self._database, query.order_by(ACCOUNTS.c.id).limit(limit))


async def _select(database: Database, query: sa.Select[tuple[str, str, int]]) -> list[Account]:
    async with database.read() as connection:
        rows = await connection.execute(query)
        return [Account(row.id, row.name, row.created_at) for row in rows]
