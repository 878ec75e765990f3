"""What `reconcile` finds, and that it finds nothing where nothing is wrong."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa

from gateway.store.accounts.accounts import Account, Accounts
from gateway.store.accounts.audit import Actor
from gateway.store.accounts.credits import Credits
from gateway.store.accounts.reconcile import Difference, reconcile
from gateway.store.sql.database import Database
from gateway.store.usage.retention import purge_usage
from tests.support.booking import book_calls
from tests.support.usage import NOON_MS, usage_event

BY = Actor("cli:tester")


async def run(database: Database, statement: str) -> None:
    async with database.write() as connection:
        await connection.execute(sa.text(statement))


@pytest.fixture
async def account(database: Database) -> Account:
    """An account with a top-up and two charged calls."""
    account = await Accounts(database).create("acme")
    await Credits(database).topup(account.id, 1000, BY)
    await book_calls(
        database,
        usage_event("req_1", account_id=account.id, cost_nanousd=30),
        usage_event("req_2", account_id=account.id, cost_nanousd=5),
        usage_event("req_3", account_id=account.id),
    )
    return account


async def test_reconcile_sound_books_finds_nothing(database: Database, account: Account) -> None:
    """Also after refunds, and when the calls themselves have been purged."""
    await Accounts(database).create("without money")
    await Credits(database).refund("req_1", BY, reason="x")

    before = await reconcile(database)
    await purge_usage(database, NOON_MS + 1)
    after = await reconcile(database)

    assert (before.accounts, before.entries, before.differences) == (2, 4, [])
    assert after == before


async def test_reconcile_of_an_empty_database_finds_nothing(database: Database) -> None:
    """An empty database has no differences."""
    assert (await reconcile(database)).differences == []


async def test_reconcile_finds_a_balance_that_was_changed_by_hand(
    database: Database, account: Account
) -> None:
    """A balance without an entry for it does not pass."""
    await run(database, "UPDATE accounts SET balance_nanousd = balance_nanousd + 1")

    found = await reconcile(database)

    assert found.differences == [
        Difference(
            check="balance", account_id=account.id, subject=account.id,
            expected_nanousd=965, found_nanousd=966,
        )
    ]  # fmt: skip


async def test_reconcile_finds_an_entry_that_was_slipped_in(
    database: Database, account: Account
) -> None:
    """An entry that does not follow from the one before it breaks the chain."""
    await run(
        database,
        "INSERT INTO ledger_entries"
        " (account_id, at_ms, kind, amount_nanousd, balance_after_nanousd, reason, actor)"
        f" VALUES ('{account.id}', 1, 'adjustment', 7, 1000, 'x', 'x')",
    )

    found = await reconcile(database)

    assert [(d.check, d.expected_nanousd, d.found_nanousd) for d in found.differences] == [
        ("balance", 972, 965),
        ("chain", 972, 1000),
    ]


async def test_reconcile_finds_calls_without_a_charge_or_with_another(
    database: Database, account: Account
) -> None:
    """What a call's record says it cost is what the account was charged."""
    await run(database, "UPDATE usage_events SET cost_nanousd = 31 WHERE request_id = 'req_1'")
    await run(database, "UPDATE usage_events SET cost_nanousd = 9 WHERE request_id = 'req_3'")

    found = await reconcile(database)

    assert [
        (d.check, d.subject, d.expected_nanousd, d.found_nanousd) for d in found.differences
    ] == [("charge", "req_1", 31, 30), ("charge", "req_3", 9, None)]


async def test_reconcile_finds_spending_that_budgets_would_miss(
    database: Database, account: Account
) -> None:
    """The sums kept for budgets are held against the ledger too."""
    await run(database, "UPDATE spend SET cost_nanousd = 34")

    found = await reconcile(database)

    assert [(d.check, d.expected_nanousd, d.found_nanousd) for d in found.differences] == [
        ("spend", 35, 34)
    ]


async def test_reconcile_beside_running_writers_finds_nothing(
    database: Database, account: Account
) -> None:
    """It may run at any time: each check sees one moment."""

    async def write() -> None:
        for start in range(0, 200, 10):
            await book_calls(
                database,
                *[
                    usage_event(f"req_w{n}", account_id=account.id, cost_nanousd=n + 1)
                    for n in range(start, start + 10)
                ],
            )
            await Credits(database).topup(account.id, 10, BY)

    writing = asyncio.create_task(write())
    while not writing.done():
        assert (await reconcile(database)).differences == []
    await writing
