"""Accounts as the hot state loads them, and where a batch has led their balances."""

from __future__ import annotations

import pytest

from gateway.core.calendar import day_of, month_of
from gateway.core.limits import Limits
from gateway.store.accounts.accounts import Account, Accounts, Billing, Terms
from gateway.store.accounts.audit import Actor
from gateway.store.accounts.credits import Credits
from gateway.store.accounts.snapshot import (
    AccountRepository,
    AccountSnapshot,
    Position,
    SpendScope,
    Spent,
)
from gateway.store.sql.database import Database
from gateway.store.usage.retention import purge_usage
from tests.support.booking import book_calls
from tests.support.usage import NOON_MS, usage_event

BY = Actor("cli:tester")
DAY_MS = 86_400_000
TODAY = NOON_MS // DAY_MS
MONTH = month_of(TODAY)


@pytest.fixture
async def account(database: Database) -> Account:
    return await Accounts(database).create("acme")


async def load(database: Database, account_id: str, *scopes: SpendScope) -> AccountSnapshot | None:
    return await AccountRepository(database).load(account_id, scopes, day=TODAY, month=MONTH)


async def test_load_gives_balance_with_its_position(database: Database, account: Account) -> None:
    """Position and balance are of the same moment, and both move with every entry."""
    fresh = await load(database, account.id)
    entry = (await Credits(database).topup(account.id, 500, BY)).entry
    paid = await load(database, account.id)

    assert fresh == AccountSnapshot(account_id=account.id, position=0, version=1, balance_nanousd=0)
    assert paid == AccountSnapshot(
        account_id=account.id, position=entry.id, version=1, balance_nanousd=500
    )


async def test_load_gives_terms_limits_and_a_version_that_grows(
    database: Database, account: Account
) -> None:
    """A change of the terms or limits is a newer version of the account."""
    limits = Limits(rpm=60, budget_day_nanousd=5)
    await Accounts(database).change(
        account.id, BY, terms=Terms(Billing.POSTPAID, 700), limits=limits
    )

    changed = await load(database, account.id)
    await Accounts(database).change(account.id, BY, terms=Terms(Billing.POSTPAID))
    endless = await load(database, account.id)

    assert changed is not None
    assert (changed.version, changed.credit_limit_nanousd, changed.limits) == (2, 700, limits)
    assert endless is not None
    assert (endless.version, endless.credit_limit_nanousd, endless.limits) == (3, None, limits)


async def test_load_of_an_unknown_account_is_none(database: Database) -> None:
    """The credit of an unknown account is None."""
    assert await load(database, "acct_none") is None


async def test_load_sums_what_each_scope_spent_even_after_the_purge(
    database: Database, account: Account
) -> None:
    """Day, month and total by UTC, of the account, a key, and a key with a model."""
    first_of_month = day_of(2026, 5, 1) * DAY_MS
    await book_calls(
        database,
        usage_event("req_1", account_id=account.id, cost_nanousd=1),
        usage_event("req_2", account_id=account.id, cost_nanousd=10, model="m2"),
        usage_event("req_3", account_id=account.id, cost_nanousd=100, key_id="key_2"),
        usage_event("req_4", account_id=account.id, cost_nanousd=1000, at_ms=first_of_month),
        usage_event("req_5", account_id=account.id, cost_nanousd=10000, at_ms=first_of_month - 1),
    )
    await book_calls(database, usage_event("req_6", account_id=account.id, cost_nanousd=1))
    await purge_usage(database, NOON_MS + 1)
    whole, key = SpendScope(), SpendScope("key_1")
    key_model = SpendScope("key_1", "m2")

    state = await load(database, account.id, whole, key, key_model)

    assert state is not None
    assert state.spent == {
        whole: Spent(112, 1112, 11112),
        key: Spent(12, 1012, 11012),
        key_model: Spent(10, 10, 10),
    }


async def test_batch_tells_the_position_of_every_account_it_names(
    database: Database, account: Account
) -> None:
    """Also of those whose calls were all stored before, for those are taken off Redis now too."""
    other = await Accounts(database).create("other")
    call = usage_event("req_1", account_id=account.id, cost_nanousd=3)
    free = usage_event("req_2", account_id=other.id)

    first = await book_calls(database, call, free)
    again = await book_calls(database, call)
    newest = (await Credits(database).entries(account.id))[0].id

    assert first.positions == {account.id: Position(newest, -3)}
    assert again.positions == first.positions
    assert again.new == frozenset()


async def test_stored_names_the_calls_that_have_a_row(database: Database) -> None:
    """Calls that are only in the stream are not among them."""
    await book_calls(database, usage_event("req_1"), usage_event("req_2"))

    stored = await AccountRepository(database).stored(["req_2", "req_3"])

    assert stored == {"req_2"}
