"""Statements of months agree with the ledger to the nano-dollar."""

from __future__ import annotations

import random

import msgspec
import pytest
import sqlalchemy as sa

from gateway.core.calendar import DAY_MS, first_day_of
from gateway.store.accounts.accounts import Account, Accounts, UnknownAccountError
from gateway.store.accounts.audit import Actor
from gateway.store.accounts.credits import Credits
from gateway.store.reports.month_statement import MonthStatement, month_statement
from gateway.store.sql.database import Database
from gateway.store.sql.tables import LEDGER_ENTRIES
from gateway.store.usage.retention import purge_usage
from tests.support.booking import book_calls
from tests.support.usage import usage_event

BY = Actor("cli:tester")
FIRST = 2027 * 12
"""January 2027."""
MONTHS = range(FIRST - 1, FIRST + 5)
MODELS = ("kimi", "deepseek-v4-flash", "m" * 128)


@pytest.fixture
async def account(database: Database) -> Account:
    return await Accounts(database).create("acme")


async def all_months(database: Database, account: Account) -> list[MonthStatement]:
    return [await month_statement(database, account.id, month) for month in MONTHS]


async def live(database: Database, account_id: str, chance: random.Random) -> None:
    """Calls, late and corrected settlements, refunds and money over four months."""
    ledger = Credits(database)
    for n in range(30):
        end_ms = first_day_of(FIRST + chance.randrange(4)) * DAY_MS
        end_ms += chance.choice((-1, 0, 1, chance.randrange(28 * DAY_MS)))
        event = usage_event(
            f"req_{n}",
            account_id=account_id,
            model=chance.choice(MODELS),
            cost_nanousd=chance.randrange(10**9),
            at_ms=end_ms,
        )
        if chance.random() < 0.3:
            low = msgspec.structs.replace(
                event, outcome="abandoned", cost_nanousd=chance.randrange(99)
            )
            await book_calls(database, low)
        await book_calls(database, event)
        if chance.random() < 0.2 and event.cost_nanousd:
            await ledger.refund(event.request_id, BY, reason="x")
        if chance.random() < 0.2:
            await ledger.topup(account_id, chance.randrange(1, 10**12), BY)
        if chance.random() < 0.2:
            await ledger.adjust(account_id, chance.randrange(1, 10**9), BY, reason="y")
    # The ledger books now; its movements are spread over the months, as if time had passed.
    async with database.write() as connection:
        if database.is_sqlite:
            await connection.execute(sa.text("DROP TRIGGER ledger_entries_no_update"))
        else:
            await connection.execute(sa.text("ALTER TABLE ledger_entries DISABLE TRIGGER USER"))
        ids = (await connection.execute(sa.select(LEDGER_ENTRIES.c.id))).scalars().all()
        for entry_id in ids:
            at_ms = first_day_of(FIRST + chance.randrange(4)) * DAY_MS + chance.randrange(-1, 2)
            change = sa.update(LEDGER_ENTRIES).where(LEDGER_ENTRIES.c.id == entry_id)
            await connection.execute(change.values(at_ms=at_ms))


@pytest.mark.parametrize("seed", range(3))
async def test_statements_add_up_to_the_ledger(
    database: Database, account: Account, seed: int
) -> None:
    """Each begins where the last ended; the last ends with the balance; no part disagrees."""
    await live(database, account.id, random.Random(seed))
    if seed == 1:  # the calls themselves are no longer needed
        await purge_usage(database, first_day_of(FIRST + 9) * DAY_MS)

    found = await all_months(database, account)
    balance = (await Accounts(database).get(account.id)).balance_nanousd
    entries = await Credits(database).entries(account.id, limit=1000)
    charges = [e for e in entries if e.kind.value in ("charge", "correction")]

    assert found[0].opening_nanousd == 0
    assert [each.opening_nanousd for each in found[1:]] == [
        each.closing_nanousd for each in found[:-1]
    ]
    assert found[-1].closing_nanousd == balance == sum(e.amount_nanousd for e in entries)
    assert sum(each.charged_nanousd for each in found) == sum(e.amount_nanousd for e in charges)
    assert sum(len(each.movements) for each in found) == len(entries) - len(charges) > 5
    for each in found:
        moved = sum(amount for _, _, amount in each.kinds)
        assert each.opening_nanousd + moved + each.charged_nanousd == each.closing_nanousd
        assert moved == sum(entry.amount_nanousd for entry in each.movements)
        assert sum(n for _, n, _ in each.kinds) == len(each.movements)
        assert each.charged_nanousd == sum(amount for _, amount in each.models)
        bounds = first_day_of(each.month), first_day_of(each.month + 1)
        assert all(bounds[0] <= day < bounds[1] for day, _ in each.days)


async def test_statement_of_an_idle_month(database: Database, account: Account) -> None:
    """It says the balance; another account's money is not in it."""
    other = await Accounts(database).create("other")
    await Credits(database).topup(other.id, 7, BY)

    found = await month_statement(database, account.id, FIRST)

    assert (found.opening_nanousd, found.closing_nanousd, found.charged_nanousd) == (0, 0, 0)
    assert (list(found.movements), list(found.kinds), list(found.models)) == ([], [], [])
    with pytest.raises(UnknownAccountError):
        await month_statement(database, "acct_none", FIRST)
