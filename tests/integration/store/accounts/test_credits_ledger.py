"""The ledger's promise: its sum is the balance, and every call is charged once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

import hypothesis.strategies as st
import pytest
import sqlalchemy as sa
from hypothesis import settings as profile
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy.exc import DBAPIError

from gateway.core.model import CallRecord
from gateway.core.money import MAX_AMOUNT_NANOUSD
from gateway.settings import Settings
from gateway.store.accounts.accounts import Account, Accounts
from gateway.store.accounts.audit import Actor, AuditLog
from gateway.store.accounts.credits import (
    AlreadyRefundedError,
    AmountError,
    Credits,
    EntryKind,
    UnknownChargeError,
)
from gateway.store.booking.booking import ChargeRefusedError
from gateway.store.booking.rows import row_of
from gateway.store.sql.database import Database
from gateway.store.sql.migrations import migrate
from gateway.store.sql.tables import ACCOUNTS, LEDGER_ENTRIES, USAGE_EVENTS
from gateway.store.usage.retention import purge_usage
from tests.support.booking import book_calls
from tests.support.usage import NOON_MS, encoded, stored_ids, usage_event

BY = Actor("cli:tester", "req_admin", "192.0.2.1")
DOLLAR = 1_000_000_000


async def sums(database: Database) -> dict[str, tuple[int, int]]:
    """Return balance and sum of entries of every account."""
    total = sa.func.coalesce(sa.func.sum(LEDGER_ENTRIES.c.amount_nanousd), 0)
    query = (
        sa.select(ACCOUNTS.c.id, ACCOUNTS.c.balance_nanousd, total.label("total"))
        .select_from(ACCOUNTS.outerjoin(LEDGER_ENTRIES))
        .group_by(ACCOUNTS.c.id, ACCOUNTS.c.balance_nanousd)
    )
    async with database.read() as connection:
        rows = await connection.execute(query)
        return {row.id: (row.balance_nanousd, int(row.total)) for row in rows}


@pytest.fixture
async def account(database: Database) -> Account:
    """One prepaid account without money."""
    return await Accounts(database).create("acme")


async def balance_of(database: Database, account: Account) -> int:
    """Return an account's balance."""
    return (await Accounts(database).get(account.id)).balance_nanousd


async def test_batch_moves_rows_charges_and_balances_together(
    database: Database, account: Account
) -> None:
    """Each costly call is one entry that leads from one balance to the next; free ones are none."""
    await Credits(database).topup(account.id, DOLLAR, BY, reason="invoice 7")
    other = await Accounts(database).create("other")

    booked = await book_calls(
        database,
        usage_event("req_1", account_id=account.id, cost_nanousd=300),
        usage_event("req_2", account_id=account.id, cost_nanousd=0),
        usage_event("req_3", account_id=other.id, cost_nanousd=7),
        usage_event("req_4", account_id=account.id, cost_nanousd=50),
    )

    assert (len(booked.new), booked.charged_nanousd) == (4, 357)
    entries = await Credits(database).entries(account.id)
    assert [(e.kind, e.amount_nanousd, e.balance_after_nanousd, e.request_id) for e in entries] == [
        (EntryKind.CHARGE, -50, DOLLAR - 350, "req_4"),
        (EntryKind.CHARGE, -300, DOLLAR - 300, "req_1"),
        (EntryKind.TOPUP, DOLLAR, DOLLAR, None),
    ]
    assert (entries[2].reason, entries[2].actor) == ("invoice 7", "cli:tester")
    assert await sums(database) == {
        account.id: (DOLLAR - 350, DOLLAR - 350),
        other.id: (-7, -7),
    }


async def test_topup_and_adjustment_are_audited_once(database: Database, account: Account) -> None:
    """The audit log has the balance before and after; a repeated booking adds no entry."""
    store = Credits(database)
    await store.topup(account.id, 5, BY, idempotency_key="inv-7")
    await store.topup(account.id, 5, BY, idempotency_key="inv-7")
    await store.adjust(account.id, -1, BY, reason="rounding")

    entries = await AuditLog(database).list(object_id=account.id)

    changes = [each for each in entries if each.action.startswith("credits.")]
    assert [(each.action, each.before) for each in changes] == [
        ("credits.adjustment", {"balance_nanousd": 5}),
        ("credits.topup", {"balance_nanousd": 0}),
    ]
    assert [(each.after or {})["balance_nanousd"] for each in changes] == [4, 5]
    assert {each.actor for each in changes} == {"cli:tester"}


@pytest.mark.parametrize("amount", [0, 1_000_000 * DOLLAR + 1, -1_000_000 * DOLLAR - 1])
async def test_amount_of_one_entry_has_bounds(
    database: Database, account: Account, amount: int
) -> None:
    """An entry moves one nano-dollar to a million dollars, in either direction."""
    store = Credits(database)
    with pytest.raises(AmountError):
        await store.adjust(account.id, amount, BY, reason="x")
    for accepted in (1, -1, 1_000_000 * DOLLAR, -1_000_000 * DOLLAR):
        await store.adjust(account.id, accepted, BY, reason="x")

    assert len(await store.entries(account.id)) == 4
    assert await balance_of(database, account) == 0


async def test_balance_has_an_upper_bound(database: Database, account: Account) -> None:
    """A balance is at most nine million dollars; a booking beyond that changes nothing."""
    store = Credits(database)
    for _ in range(9):
        await store.topup(account.id, 1_000_000 * DOLLAR, BY)

    with pytest.raises(AmountError):
        await store.topup(account.id, 1, BY)

    assert await balance_of(database, account) == 9_000_000 * DOLLAR


async def test_call_delivered_again_is_charged_once_even_after_its_row_is_purged(
    database: Database, account: Account
) -> None:
    """The ledger entry prevents a second charge after the usage row is deleted."""
    call = usage_event("req_1", account_id=account.id, cost_nanousd=300)
    again = usage_event("req_1", account_id=account.id, cost_nanousd=999)

    first = await book_calls(database, call, again)
    second = await book_calls(database, again)
    await purge_usage(database, NOON_MS + 1)
    third = await book_calls(database, call, usage_event("req_2", account_id=account.id))

    assert [(len(b.new), b.charged_nanousd) for b in (first, second, third)] == [
        (1, 300),
        (0, 0),
        (2, 0),
    ]
    assert await sums(database) == {account.id: (-300, -300)}


async def test_purge_of_usage_leaves_the_ledger_whole(database: Database, account: Account) -> None:
    """Balances do not depend on usage rows that are gone."""
    await book_calls(database, usage_event("req_1", account_id=account.id, cost_nanousd=300))

    purged = await purge_usage(database, NOON_MS + 1)

    assert purged == 1
    (entry,) = await Credits(database).entries(account.id)
    assert (entry.request_id, entry.amount_nanousd) == ("req_1", -300)
    assert await sums(database) == {account.id: (-300, -300)}


async def test_charge_of_an_unknown_account_books_nothing(
    database: Database, account: Account
) -> None:
    """The batch is rolled back as a whole, and the reason names the account."""
    with pytest.raises(ChargeRefusedError, match="no account acct_gone"):
        await book_calls(
            database,
            usage_event("req_1", account_id=account.id, cost_nanousd=1),
            usage_event("req_2", account_id="acct_gone", cost_nanousd=1),
        )

    assert await stored_ids(database) == []
    assert await sums(database) == {account.id: (0, 0)}


@pytest.mark.parametrize("cost", [-1, MAX_AMOUNT_NANOUSD + 1])
def test_usage_event_with_an_impossible_cost_has_no_row(cost: int) -> None:
    """A cost that no call can have is parked, not booked."""
    with pytest.raises(ValueError, match="cost_nanousd"):
        row_of(encoded(usage_event(cost_nanousd=cost)))
    with pytest.raises(ValueError, match="upstream_cost_nanousd"):
        row_of(encoded(usage_event(upstream_cost_nanousd=cost)))


@pytest.mark.parametrize("table", ["ledger_entries", "audit_log"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET actor = 'x'", "DELETE FROM {}"])
async def test_written_entries_cannot_be_changed_or_deleted(
    database: Database, account: Account, table: str, statement: str
) -> None:
    """The database rejects updates and deletions of ledger entries."""
    await Credits(database).topup(account.id, DOLLAR, BY)

    with pytest.raises(DBAPIError, match="append-only"):
        async with database.write() as connection:
            await connection.execute(sa.text(statement.format(table)))


async def test_ledger_cannot_be_truncated(database: Database) -> None:
    """Nor can it be emptied at one stroke where the database knows how."""
    if database.is_sqlite:
        pytest.skip("SQLite has no TRUNCATE")
    with pytest.raises(DBAPIError, match="append-only"):
        async with database.write() as connection:
            await connection.execute(sa.text("TRUNCATE ledger_entries"))


async def test_refund_gives_a_charge_back_once(database: Database, account: Account) -> None:
    """A call that was charged can be refunded, in full and once."""
    ledger = Credits(database)
    await book_calls(
        database,
        usage_event("req_1", account_id=account.id, cost_nanousd=300),
        usage_event("req_2", account_id=account.id),
    )

    entry = await ledger.refund("req_1", BY, reason="was empty")

    assert (entry.amount_nanousd, entry.balance_after_nanousd) == (300, 0)
    with pytest.raises(AlreadyRefundedError):
        await ledger.refund("req_1", BY, reason="again")
    with pytest.raises(UnknownChargeError):
        await ledger.refund("req_2", BY, reason="was free")


async def test_refunds_at_once_give_back_once(database: Database, account: Account) -> None:
    """Of several people who refund the same call one succeeds."""
    await book_calls(database, usage_event("req_1", account_id=account.id, cost_nanousd=300))

    refunds = [Credits(database).refund("req_1", BY, reason="x") for _ in range(4)]
    answers = await asyncio.gather(*refunds, return_exceptions=True)

    assert sum(isinstance(answer, AlreadyRefundedError) for answer in answers) == 3
    assert await sums(database) == {account.id: (0, 0)}


async def test_writers_and_topups_at_once_lose_and_double_nothing(
    database: Database, account: Account
) -> None:
    """Four writers with overlapping batches, beside top-ups, end at the exact sum."""
    other = await Accounts(database).create("other")
    calls = [
        usage_event(f"req_{n:03}", account_id=(account, other)[n % 2].id, cost_nanousd=n + 1)
        for n in range(80)
    ]

    await asyncio.gather(
        *[book_calls(database, *calls[start : start + 40]) for start in (0, 10, 20, 40)],
        *[book_calls(database, *reversed(calls[start : start + 40])) for start in (0, 15, 30)],
        *[Credits(database).topup(account.id, 1000, BY) for _ in range(5)],
    )

    odd, even = sum(range(1, 81, 2)), sum(range(2, 82, 2))
    assert await sums(database) == {
        account.id: (5000 - odd, 5000 - odd),
        other.id: (-even, -even),
    }
    entries = await Credits(database).entries(account.id, limit=200)
    balance = 0
    for entry in reversed(entries):
        balance += entry.amount_nanousd
        assert entry.balance_after_nanousd == balance


class LedgerMachine(RuleBasedStateMachine):
    """Any sequence of bookings beside a model of what the balances must be."""

    def __init__(self, run: Callable[[Any], Any], database: Database) -> None:
        super().__init__()
        self.run, self.database = run, database
        self.accounts = [run(Accounts(database).create(name)).id for name in ("a", "b")]
        self.expected = dict.fromkeys(self.accounts, 0)
        self.calls: dict[str, CallRecord] = {}
        self.refunded: set[str] = set()
        self.keys: dict[str, tuple[str, int]] = {}

    @rule(which=st.integers(0, 1), amount=st.integers(1, 10**12))
    def topup(self, which: int, amount: int) -> None:
        self.run(Credits(self.database).topup(self.accounts[which], amount, BY))
        self.expected[self.accounts[which]] += amount

    @rule(which=st.integers(0, 1), amount=st.integers(1, 10**12), number=st.integers(0, 2))
    def topup_once(self, which: int, amount: int, number: int) -> None:
        key = f"{self.accounts[0]}/{number}"
        account_id, amount = self.keys.setdefault(key, (self.accounts[which], amount))
        booked = self.run(Credits(self.database).topup(account_id, amount, BY, idempotency_key=key))
        if not booked.replayed:
            self.expected[account_id] += amount

    @rule(which=st.integers(0, 1), amount=st.integers(-(10**12), 10**12).filter(bool))
    def adjust(self, which: int, amount: int) -> None:
        self.run(Credits(self.database).adjust(self.accounts[which], amount, BY, reason="x"))
        self.expected[self.accounts[which]] += amount

    @rule(calls=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 10**9)), max_size=6))
    def deliver(self, calls: list[tuple[int, int]]) -> None:
        """Numbers come again, with other costs: the first one counts."""
        batch = []
        for number, cost in calls:
            request_id = f"{self.accounts[0]}/{number}"
            account_id = self.accounts[number % 2]
            call = usage_event(request_id, account_id=account_id, cost_nanousd=cost)
            batch.append(call)
            if request_id not in self.calls:
                self.calls[request_id] = call
                self.expected[account_id] -= cost
        if batch:
            self.run(book_calls(self.database, *batch))

    @rule(number=st.integers(0, 30))
    def refund(self, number: int) -> None:
        request_id = f"{self.accounts[0]}/{number}"
        call = self.calls.get(request_id)
        refusal = self.run(self._refusal(request_id))
        if call is None or not call.cost_nanousd:
            assert refusal is UnknownChargeError
        elif request_id in self.refunded:
            assert refusal is AlreadyRefundedError
        else:
            assert refusal is None
            self.refunded.add(request_id)
            self.expected[call.account_id] += call.cost_nanousd

    async def _refusal(self, request_id: str) -> type[Exception] | None:
        try:
            await Credits(self.database).refund(request_id, BY, reason="x")
        except (UnknownChargeError, AlreadyRefundedError) as error:
            return type(error)
        return None

    @rule()
    def redeliver_everything(self) -> None:
        if self.calls:
            self.run(book_calls(self.database, *self.calls.values()))

    @invariant()
    def sum_is_balance(self) -> None:
        found = self.run(sums(self.database))
        for account_id, expected in self.expected.items():
            assert found[account_id] == (expected, expected)


def test_any_sequence_of_bookings_keeps_sum_and_balance_equal(sql_settings: Settings) -> None:
    """Top-ups, adjustments, charges, refunds and redeliveries, in any order."""
    with asyncio.Runner() as runner:
        runner.run(migrate(sql_settings))
        database = Database(sql_settings)
        try:
            machine: Any = partial(LedgerMachine, runner.run, database)
            run_state_machine_as_test(
                machine,
                settings=profile(max_examples=8, stateful_step_count=20, deadline=None),
            )
        finally:
            runner.run(database.aclose())


async def test_usage_row_keeps_both_costs(database: Database, account: Account) -> None:
    """The usage row holds the client's price and the upstream's cost."""
    await book_calls(
        database,
        usage_event("req_1", account_id=account.id, cost_nanousd=300, upstream_cost_nanousd=200),
    )

    async with database.read() as connection:
        row = (await connection.execute(sa.select(USAGE_EVENTS))).one()
    assert (row.cost_nanousd, row.upstream_cost_nanousd) == (300, 200)


async def test_topups_with_one_idempotency_key_at_once_are_booked_once(
    database: Database, account: Account
) -> None:
    """All get the same entry; one of them made it."""
    topups = [
        Credits(database).topup(account.id, DOLLAR, BY, idempotency_key="inv-7") for _ in range(6)
    ]

    booked = await asyncio.gather(*topups)

    assert [each.replayed for each in booked].count(False) == 1
    assert len({each.entry.id for each in booked}) == 1
    assert await sums(database) == {account.id: (DOLLAR, DOLLAR)}
