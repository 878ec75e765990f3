"""
Makes Redis reload the spending of accounts that were charged without it.

A worker that booked calls in SQL itself may have ended before Redis was back. So a ledger writer
looks for the charges of such calls among the newest ones, and removes what Redis has of their
accounts' spending; balances follow with the next booked call.
"""

from __future__ import annotations

import sqlalchemy as sa

from gateway.store.booking.booking import DIRECT_ACTOR
from gateway.store.sql.database import Database
from gateway.store.sql.tables import LEDGER_ENTRIES
from gateway.store.usage.reader import UsageReader


class DirectCharges:
    """
    What a ledger writer has looked at.

    Args:
        reader: Redis, which keeps up to where the writers have looked.
        database: SQL.
    """

    def __init__(self, reader: UsageReader, database: Database) -> None:
        self._reader = reader
        self._database = database
        self._before: int | None = None

    async def check(self) -> None:
        """
        Look at the charges since the check before the last, as ids may commit out of order.

        Raises:
            GatewayError: STORE_UNAVAILABLE.
            redis.exceptions.RedisError: Redis is unavailable.
        """
        checked = await self._reader.checked_entry()
        async with self._database.read() as connection:
            entry_id = LEDGER_ENTRIES.c.id
            newest = int(await connection.scalar(sa.select(sa.func.max(entry_id))) or 0)
            accounts: list[str] = []
            if checked is not None:  # otherwise Redis is empty, and has no sums
                found = await connection.scalars(
                    sa.select(LEDGER_ENTRIES.c.account_id)
                    .where(entry_id > checked, entry_id <= newest)
                    .where(LEDGER_ENTRIES.c.actor == DIRECT_ACTOR)
                    .distinct()
                )
                accounts = [*found]
        for account_id in accounts:
            await self._reader.forget_spending(account_id)
        # Smaller ids may be committed after larger ones: each is looked at twice.
        before = newest if checked is None else self._before
        if before is not None:
            await self._reader.set_checked_entry(before)
        self._before = newest
