"""The ledger of an account as its pages read it."""

from __future__ import annotations

import pytest

from gateway.store.accounts.accounts import Account, Accounts
from gateway.store.accounts.audit import Actor
from gateway.store.accounts.credits import Credits, EntryKind
from gateway.store.reports.statements import Statements
from gateway.store.sql.database import Database
from tests.support.booking import book_calls
from tests.support.reports import statements
from tests.support.usage import usage_event

BY = Actor("cli:tester")


@pytest.fixture
async def account(database: Database) -> Account:
    """A top-up, two charges of which one is refunded, and another account's top-up."""
    accounts, ledger = Accounts(database), Credits(database)
    account, other = await accounts.create("acme"), await accounts.create("other")
    await ledger.topup(account.id, 1000, BY)
    await ledger.topup(other.id, 5, BY)
    for n in (1, 2):
        await book_calls(database, usage_event(f"req_{n}", account_id=account.id, cost_nanousd=n))
    await ledger.refund("req_2", BY, reason="x")
    return account


async def test_movements_are_the_entries_that_are_not_charges(
    database: Database, account: Account
) -> None:
    """Of one account and period, newest first, found by an index of their own."""
    with statements(database) as ran:
        found = await Statements(database).movements(account.id, 0, 10**15)

    assert [(e.kind, e.amount_nanousd, e.balance_after_nanousd) for e in found] == [
        (EntryKind.REFUND, 2, 999), (EntryKind.TOPUP, 1000, 1000),
    ]  # fmt: skip
    assert await Statements(database).movements(account.id, 0, 1) == []
    if database.is_sqlite:
        async with database.read() as connection:
            plan = await connection.exec_driver_sql(
                f"EXPLAIN QUERY PLAN {ran[0]}", (account.id, 0, 10**15, 1000, 0)
            )
            assert "ix_ledger_entries_movements" in str(plan.all())


async def test_entries_are_read_a_page_at_a_time(database: Database, account: Account) -> None:
    """Each entry leads from one balance to the next."""
    reader = Statements(database)

    first = await reader.entries(account.id, limit=2)
    rest = await reader.entries(account.id, before_id=first[-1].id, limit=9)

    assert [e.balance_after_nanousd for e in [*first, *rest]] == [999, 997, 999, 1000]
    assert [e.id async for e in reader.export(account.id)] == [e.id for e in [*first, *rest]]
    assert [e.id async for e in reader.export(account.id, before_id=first[-1].id, limit=1)] == [
        rest[0].id
    ]
