"""Settlements that come after their call was booked as abandoned: the difference, exactly once."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import hypothesis.strategies as st
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import settings as profile

from gateway.core.model import CallRecord
from gateway.settings import Settings
from gateway.store.accounts.accounts import Account, Accounts
from gateway.store.accounts.audit import Actor
from gateway.store.accounts.credits import (
    AlreadyRefundedError,
    Credits,
    EntryKind,
    UnknownChargeError,
)
from gateway.store.accounts.reconcile import reconcile
from gateway.store.accounts.snapshot import AccountRepository
from gateway.store.sql.database import Database
from gateway.store.sql.migrations import migrate
from gateway.store.sql.tables import LEDGER_ENTRIES, SPEND, USAGE_QUARTERS
from gateway.store.usage.reports import UsageQueries
from gateway.store.usage.retention import purge_usage
from tests.support.booking import book_calls, die_booking
from tests.support.usage import NOON_MS, usage_event

BY = Actor("cli:tester", "req_admin", "192.0.2.1")
START = 1_000_000
DAY_MS = 86_400_000


@pytest.fixture
async def account(database: Database) -> Account:
    """One account with some money."""
    account = await Accounts(database).create("acme")
    await Credits(database).topup(account.id, START, BY)
    return account


def abandoned(account: Account, cost: int, **changes: Any) -> CallRecord:
    """Return what the sweeper makes of call req_1."""
    return usage_event(
        account_id=account.id, cost_nanousd=cost, outcome="abandoned", estimated=True, **changes
    )


def final(account: Account, cost: int, **changes: Any) -> CallRecord:
    """Return the real settlement of call req_1."""
    return usage_event(account_id=account.id, cost_nanousd=cost, **changes)


async def spent(database: Database, account: Account) -> dict[int, int]:
    """Return the daily sums of budgets that are not zero."""
    query = sa.select(SPEND.c.day, SPEND.c.cost_nanousd).where(SPEND.c.account_id == account.id)
    async with database.read() as connection:
        return {row.day: row.cost_nanousd for row in await connection.execute(query) if row[1]}


async def summed(database: Database, account: Account) -> int:
    """Return the costs in the sums by quarters of an hour."""
    sums = USAGE_QUARTERS.c
    query = sa.select(sa.func.sum(sums.cost_nanousd)).where(sums.account_id == account.id)
    async with database.read() as connection:
        return int(await connection.scalar(query) or 0)


async def moves(database: Database, account: Account) -> list[tuple[EntryKind, int, int]]:
    """Return kind, amount and revision of what moved the account, the top-up left out."""
    entries = await Credits(database).entries(account.id)
    return [(e.kind, e.amount_nanousd, e.revision) for e in reversed(entries)][1:]


async def balance(database: Database, account: Account) -> int:
    """Return the account's balance after checking that it equals the sum of its ledger."""
    assert (await reconcile(database)).differences == []
    return (await Accounts(database).get(account.id)).balance_nanousd


@pytest.mark.parametrize(
    ("early", "late", "entries"),
    [
        (10, 25, [(EntryKind.CHARGE, -10, 0), (EntryKind.CORRECTION, -15, 1)]),
        (10, 4, [(EntryKind.CHARGE, -10, 0), (EntryKind.CORRECTION, 6, 1)]),
        (10, 0, [(EntryKind.CHARGE, -10, 0), (EntryKind.CORRECTION, 10, 1)]),
        (10, 10, [(EntryKind.CHARGE, -10, 0)]),
        (0, 7, [(EntryKind.CHARGE, -7, 0)]),
        (0, 0, []),
    ],
)
async def test_settlement_after_an_abandoned_call_books_the_difference_once(
    database: Database, account: Account, early: int, late: int, entries: list[Any]
) -> None:
    """Up, down or not at all; the record of the call is the real one."""
    real = final(account, late, duration_ms=99)

    await book_calls(database, abandoned(account, early))
    first = await book_calls(database, real)
    again = await book_calls(database, real, abandoned(account, early), final(account, 999))

    assert (first.new, dict(first.late)) == (frozenset(), {"req_1": late - early})
    assert first.charged_nanousd == late - early
    assert (again.charged_nanousd, again.late) == (0, {})
    assert await UsageQueries(database).call("req_1") == real
    assert await moves(database, account) == entries
    assert await balance(database, account) == START - late
    if early or late:
        assert first.positions[account.id].balance_nanousd == START - late
    assert sum((await spent(database, account)).values()) == late


async def test_checkpoints_and_settlement_in_one_batch_are_one_charge(
    database: Database, account: Account
) -> None:
    """Of the checkpoints and the settlement in a batch, only the settlement is charged."""
    booked = await book_calls(
        database, abandoned(account, 5), final(account, 8), abandoned(account, 9), final(account, 1)
    )

    assert (booked.new, booked.charged_nanousd, booked.late) == (frozenset({"req_1"}), 8, {})
    assert await moves(database, account) == [(EntryKind.CHARGE, -8, 0)]


async def test_each_larger_checkpoint_corrects_the_one_before(
    database: Database, account: Account
) -> None:
    """A worker that came back and stood still again leaves several."""
    for cost in (5, 9, 7, 9, 20):
        await book_calls(database, abandoned(account, cost))
    before = await balance(database, account)
    await book_calls(database, final(account, 12))

    assert before == START - 20
    assert await moves(database, account) == [
        (EntryKind.CHARGE, -5, 0),
        (EntryKind.CORRECTION, -4, 1),
        (EntryKind.CORRECTION, -11, 2),
        (EntryKind.CORRECTION, 8, 3),
    ]
    assert await balance(database, account) == START - 12


async def test_settlement_after_the_row_was_purged_books_the_difference(
    database: Database, account: Account
) -> None:
    """The ledger itself remembers that the charge was provisional, and when it is so no more."""
    await book_calls(database, abandoned(account, 10))
    await purge_usage(database, NOON_MS + 1)
    await book_calls(database, final(account, 30))
    await purge_usage(database, NOON_MS + 1)
    stray = await book_calls(database, abandoned(account, 50))

    assert (stray.new, stray.charged_nanousd) == (frozenset(), 0)
    assert await UsageQueries(database).call("req_1") is None
    assert await balance(database, account) == START - 30
    assert sum((await spent(database, account)).values()) == 30


async def test_spending_follows_the_call_to_the_day_of_its_real_end(
    database: Database, account: Account
) -> None:
    """The sums for budgets are those of the usage rows, whose time is the settlement's."""
    day = NOON_MS // DAY_MS
    await book_calls(database, abandoned(account, 10))
    await book_calls(database, final(account, 30, at_ms=NOON_MS + DAY_MS))

    assert await spent(database, account) == {day + 1: 30}


async def test_refund_gives_back_charge_and_correction_once(
    database: Database, account: Account
) -> None:
    """What the call cost in the end, not what it cost at first."""
    await book_calls(database, abandoned(account, 10))
    await book_calls(database, final(account, 30))

    refund = await Credits(database).refund("req_1", BY, reason="was empty")

    assert refund.amount_nanousd == 30
    with pytest.raises(AlreadyRefundedError):
        await Credits(database).refund("req_1", BY, reason="again")
    assert await balance(database, account) == START


async def test_refund_of_a_call_that_was_corrected_to_nothing_finds_no_charge(
    database: Database, account: Account
) -> None:
    """Refunding a call that was corrected to zero finds no charge."""
    await book_calls(database, abandoned(account, 10))
    await book_calls(database, final(account, 0))

    with pytest.raises(UnknownChargeError):
        await Credits(database).refund("req_1", BY, reason="x")


async def test_settlement_after_a_refund_books_nothing(
    database: Database, account: Account
) -> None:
    """A refund closes the call: the operator has decided that it is free."""
    await book_calls(database, abandoned(account, 10))
    await Credits(database).refund("req_1", BY, reason="x")

    late = await book_calls(database, final(account, 30))
    await purge_usage(database, NOON_MS + 1)
    later = await book_calls(database, final(account, 30))

    assert (late.closed, late.charged_nanousd, late.late) == (frozenset({"req_1"}), 0, {})
    assert (later.new, later.charged_nanousd) == (frozenset(), 0)
    assert await balance(database, account) == START


async def test_refunds_beside_late_settlements_never_give_back_half(
    database: Database, account: Account
) -> None:
    """A refunded call costs zero, whether the refund or the settlement comes first."""
    calls = [f"req_{n:02}" for n in range(20)]
    await book_calls(database, *[abandoned(account, 10, request_id=name) for name in calls])

    await asyncio.gather(
        *[book_calls(database, final(account, 30, request_id=name)) for name in calls],
        *[Credits(database).refund(name, BY, reason="x") for name in calls],
    )

    assert await balance(database, account) == START


async def test_writers_at_once_correct_each_call_once(database: Database, account: Account) -> None:
    """Four writers with overlapping batches in both orders."""
    early = [abandoned(account, 10 + n, request_id=f"req_{n:02}") for n in range(40)]
    late = [final(account, 50 + n, request_id=f"req_{n:02}") for n in range(40)]

    await asyncio.gather(
        book_calls(database, *early[:30]),
        book_calls(database, *reversed(early[10:])),
        *[book_calls(database, *late[start : start + 20]) for start in (0, 10, 20)],
        *[book_calls(database, *reversed(late[start : start + 20])) for start in (5, 15, 20)],
    )

    assert await balance(database, account) == START - sum(50 + n for n in range(40))


async def test_revision_of_a_correction_cannot_be_booked_twice(
    database: Database, account: Account
) -> None:
    """The database itself refuses a double, should two writers ever think they are alone."""
    await book_calls(database, abandoned(account, 10))
    await book_calls(database, final(account, 30))
    query = sa.select(LEDGER_ENTRIES).where(LEDGER_ENTRIES.c.kind == "correction")

    with pytest.raises(sa.exc.IntegrityError):
        async with database.write() as connection:
            row = dict((await connection.execute(query)).one()._mapping)
            del row["id"]
            await connection.execute(sa.insert(LEDGER_ENTRIES), row)


async def test_only_settlements_are_known_to_sql(database: Database, account: Account) -> None:
    """A worker that asks what Redis may have lost sends the settlement of an abandoned call."""
    await book_calls(database, abandoned(account, 10), final(account, 3, request_id="req_2"))
    source = AccountRepository(database)

    before = await source.stored(["req_1", "req_2"])
    await book_calls(database, final(account, 30))

    assert before == {"req_2"}
    assert await source.stored(["req_1", "req_2"]) == {"req_1", "req_2"}


class Story(NamedTuple):
    """What happens to one call."""

    steps: list[tuple[str, list[int]]]
    """`deliver` or `die` with indices of `costs`, or `purge`."""
    costs: list[int]
    """Of two checkpoints and the settlement."""


@st.composite
def stories(draw: st.DrawFn) -> Story:
    """
    Return any order and repetition of a call's events, over batches, writers and purges.

    With purges all costs differ and are more than nothing: else a settlement leaves no trace.
    """
    purges = draw(st.booleans())
    cost = st.integers(1, 50) if purges else st.integers(0, 4)
    costs = draw(st.lists(cost, min_size=3, max_size=3, unique=purges))
    batch = st.lists(st.integers(0, 2), min_size=1, max_size=4)
    kinds = [st.tuples(st.sampled_from(["deliver", "deliver", "die"]), batch)]
    if purges:
        kinds.append(st.tuples(st.just("purge"), st.just([])))
    return Story(draw(st.lists(st.one_of(kinds), min_size=1, max_size=8)), costs)


async def tell(database: Database, story: Story) -> tuple[int, int, set[int]]:
    """Let a story happen to a new account; return its balance, its spending, what was delivered."""
    account = await Accounts(database).create("acme")
    await Credits(database).topup(account.id, START, BY)
    name = f"req_{account.id}"
    events = [
        abandoned(account, story.costs[0], request_id=name),
        abandoned(account, story.costs[1], request_id=name),
        final(account, story.costs[2], request_id=name),
    ]
    delivered: set[int] = set()
    for step, indices in story.steps:
        batch = [events[index] for index in indices]
        if step == "purge":
            await purge_usage(database, NOON_MS + 1)
        elif step == "die":
            await die_booking(database, *batch)
        else:
            await book_calls(database, *batch)
            delivered.update(indices)
    kept = sum((await spent(database, account)).values())
    assert await summed(database, account) == kept
    return await balance(database, account), kept, delivered


@pytest.mark.timeout(120)
def test_call_costs_its_settlement_else_its_largest_checkpoint(sql_settings: Settings) -> None:
    """The charge is independent of order, repetition and crashes."""
    with asyncio.Runner() as runner:
        runner.run(migrate(sql_settings))
        database = Database(sql_settings)

        @profile(max_examples=25)
        @given(story=stories())
        def check(story: Story) -> None:
            left, kept, delivered = runner.run(tell(database, story))
            costs = [story.costs[index] for index in delivered if index < 2]
            expected = story.costs[2] if 2 in delivered else max(costs, default=0)
            assert (left, kept) == (START - expected, expected)

        try:
            check()
        finally:
            runner.run(database.aclose())
