"""What keys were used for, by day and month, and when."""

from __future__ import annotations

import sqlalchemy as sa

from gateway.store.accounts.accounts import Accounts
from gateway.store.keys.activity import KeyActivity, read_activity
from gateway.store.keys.repository import KeyDetails, Keys
from gateway.store.sql.database import Database
from gateway.store.sql.tables import SPEND


async def test_spending_is_summed_by_day_month_and_in_all(database: Database) -> None:
    """Other accounts do not count; a key without calls has nothing."""
    account = await Accounts(database).create("Acme")
    keys = Keys(database, "sk-capio-live-")
    used, unused = [
        (await keys.create(account.id, KeyDetails(name=name))).row.id for name in ("a", "b")
    ]
    rows = [(account.id, 20_000, 1), (account.id, 19_995, 10), (account.id, 19_000, 100)]
    async with database.write() as connection:
        for owner, day, cost in [*rows, ("acct_other", 20_000, 1000)]:
            values = {"account_id": owner, "day": day, "key_id": used, "model": "m"}
            await connection.execute(sa.insert(SPEND), {**values, "cost_nanousd": cost})

    found = await read_activity(database, account.id, today=20_000, month_start=19_990)

    assert found[used] == KeyActivity(day_nanousd=1, month_nanousd=11, total_nanousd=111)
    assert found[unused] == KeyActivity()
