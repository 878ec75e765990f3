"""Movements of an account's money other than charges, and all entries of its ledger."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import sqlalchemy as sa

from gateway.store.accounts.credits import EntryKind, LedgerEntry, entry_of
from gateway.store.accounts.snapshot import SpendScope, Spent, read_spent
from gateway.store.sql.database import Database
from gateway.store.sql.tables import LEDGER_ENTRIES, NOT_CHARGES

MOST_MOVEMENTS = 1000
"""Most movements in one statement."""
EXPORT_LIMIT = 200_000
"""Entries in one download."""
_BATCH = 500
_ENTRIES = LEDGER_ENTRIES.c
CHARGES = (EntryKind.CHARGE, EntryKind.CORRECTION)


class Statements:
    """Reads the ledger. Every method may raise GatewayError (STORE_UNAVAILABLE)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def movements(
        self, account_id: str, since_ms: int, until_ms: int
    ) -> Sequence[LedgerEntry]:
        """Return the entries of a period that are not charges of calls, newest first."""
        query = (
            sa.select(LEDGER_ENTRIES)
            .where(
                _ENTRIES.account_id == account_id,
                sa.text(NOT_CHARGES),
                _ENTRIES.at_ms >= since_ms,
                _ENTRIES.at_ms < until_ms,
            )
            .order_by(_ENTRIES.id.desc())
            .limit(MOST_MOVEMENTS)
        )
        async with self._database.read() as connection:
            return [entry_of(row) for row in await connection.execute(query)]

    async def spent(self, account_id: str, *, day: int, month: int) -> Spent:
        """Return what the budgets of an account are checked against, see `AccountSource.load`."""
        async with self._database.read() as connection:
            return await read_spent(connection, account_id, SpendScope(), day=day, month=month)

    async def entries(
        self, account_id: str, *, before_id: int | None = None, limit: int
    ) -> Sequence[LedgerEntry]:
        """Return up to `limit` entries before the entry `before_id`, newest first."""
        query = (
            sa.select(LEDGER_ENTRIES)
            .where(_ENTRIES.account_id == account_id)
            .order_by(_ENTRIES.id.desc())
            .limit(limit)
        )
        if before_id is not None:
            query = query.where(_ENTRIES.id < before_id)
        async with self._database.read() as connection:
            return [entry_of(row) for row in await connection.execute(query)]

    async def export(
        self, account_id: str, *, before_id: int | None = None, limit: int = EXPORT_LIMIT
    ) -> AsyncIterator[LedgerEntry]:
        """Yield entries, newest first, with a short transaction for each batch."""
        left, last_id = limit, before_id
        while left > 0:
            size = min(_BATCH, left)
            batch = await self.entries(account_id, before_id=last_id, limit=size)
            for entry in batch:
                yield entry
            if len(batch) < size:
                return
            left -= size
            last_id = batch[-1].id
