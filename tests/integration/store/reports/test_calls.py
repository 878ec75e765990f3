"""Lists of calls, a page at a time."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from gateway.store.accounts.accounts import Accounts
from gateway.store.reports.calls import CallLists, CallPlace, CallsQuery
from gateway.store.sql.database import Database
from gateway.store.sql.tables import USAGE_EVENTS
from tests.support.booking import book_calls
from tests.support.reports import statements
from tests.support.usage import NOON_MS, usage_event

ALL = CallsQuery(account_id="acct_1", since_ms=NOON_MS - 10, until_ms=NOON_MS + 10)


@pytest.fixture
async def calls(database: Database) -> CallLists:
    """Seven calls of an account, three of them at one moment, and one of another."""
    each: dict[str, Any] = {"account_id": "acct_1"}
    await book_calls(
        database,
        *[usage_event(f"req_{n}", **each, at_ms=NOON_MS) for n in (1, 2, 3)],
        usage_event("req_4", **each, at_ms=NOON_MS + 1, model="kimi", status=429),
        usage_event("req_5", **each, at_ms=NOON_MS + 2, outcome="failed", status=502),
        usage_event("req_6", **each, at_ms=NOON_MS + 3, outcome="insured", key_id="key_2"),
        usage_event("req_7", **each, at_ms=NOON_MS + 10),
        usage_event("req_8", account_id="acct_2", at_ms=NOON_MS),
    )
    return CallLists(database)


async def test_pages_lead_through_all_calls_once(calls: CallLists) -> None:
    """Also where several calls ended in the same millisecond."""
    found: list[str] = []
    place = None
    while page := await calls.page(ALL, before=place, limit=2):
        found += [call.request_id for call in page]
        place = CallPlace(page[-1].at_ms, page[-1].request_id)

    assert found == ["req_6", "req_5", "req_4", "req_3", "req_2", "req_1"]


@pytest.mark.parametrize(
    ("which", "found"),
    [
        ({"key_id": "key_2"}, ["req_6"]),
        ({"model": "kimi"}, ["req_4"]),
        ({"outcomes": ("failed", "insured")}, ["req_6", "req_5"]),
        ({"outcomes": ("failed",)}, ["req_5"]),
        ({"outcomes": ("completed",), "statuses": (400, 599)}, ["req_4"]),
        ({"statuses": (502, 502)}, ["req_5"]),
        ({"min_cost_nanousd": 1}, []),
        ({"request_id": "req_2"}, ["req_2"]),
        ({"request_id": "req_8"}, []),
        ({"endpoint": "messages"}, []),
    ],
)
async def test_page_has_the_calls_that_match(
    calls: CallLists, which: dict[str, Any], found: list[str]
) -> None:
    """Each filter; never another account's call."""
    query = CallsQuery(account_id="acct_1", since_ms=ALL.since_ms, until_ms=ALL.until_ms, **which)

    assert [call.request_id for call in await calls.page(query, limit=50)] == found


async def test_failed_calls_are_found_by_their_index(database: Database, calls: CallLists) -> None:
    """Among many calls without a failure, none is read."""
    failed = CallsQuery(
        account_id="acct_1", since_ms=0, until_ms=NOON_MS + 9, outcomes=("failed", "insured")
    )
    with statements(database) as ran:
        await calls.page(failed, limit=50)
    if not database.is_sqlite:
        return  # its planner ignores indexes of small tables

    async with database.read() as connection:
        plan = (
            await connection.exec_driver_sql(
                f"EXPLAIN QUERY PLAN {ran[0]}", ("acct_1", 0, NOON_MS + 9, 50, 0)
            )
        ).all()
    assert any("ix_usage_events_failed" in str(step) for step in plan), plan


async def test_newer_calls_are_counted_up_to_a_limit(calls: CallLists) -> None:
    """For "12 new calls": the list itself does not move."""
    seen = CallPlace(NOON_MS, "req_2")

    assert await calls.count_since(ALL, seen, limit=100) == 4
    assert await calls.count_since(ALL, seen, limit=3) == 3
    assert await calls.count_since(ALL, CallPlace(NOON_MS + 3, "req_6"), limit=9) == 0


async def test_call_of_another_account_does_not_exist(calls: CallLists) -> None:
    """Operators see every account's."""
    assert await calls.call("acct_1", "req_8") is None
    found = await calls.call(None, "req_8")
    assert found is not None
    assert found.account_id == "acct_2"


async def test_charges_are_those_of_the_call(database: Database) -> None:
    """A correction follows its charge."""
    account = await Accounts(database).create("acme")
    call: dict[str, Any] = {"account_id": account.id}
    await book_calls(database, usage_event(**call, cost_nanousd=10, outcome="abandoned"))
    await book_calls(database, usage_event(**call, cost_nanousd=25))
    calls = CallLists(database)

    found = await calls.charges(account.id, "req_1")

    assert [(e.kind, e.amount_nanousd, e.balance_after_nanousd) for e in found] == [
        ("charge", -10, -10), ("correction", -15, -25),
    ]  # fmt: skip
    assert await calls.charges("acct_other", "req_1") == []


async def test_export_yields_all_calls_in_short_transactions(database: Database) -> None:
    """It ends at its limit, and resumes where it ended."""
    many = [usage_event(f"req_{n:04}", account_id="a", at_ms=NOON_MS + n // 3) for n in range(1100)]
    await book_calls(database, *many)
    query = CallsQuery(account_id="a", since_ms=0, until_ms=NOON_MS * 2)
    lists = CallLists(database)

    with statements(database) as ran:
        first = [call async for call in lists.export(query, limit=1000)]
    place = CallPlace(first[-1].at_ms, first[-1].request_id)
    rest = [call async for call in lists.export(query, before=place)]

    assert (len(first), len(ran)) == (1000, 2)
    assert [call.request_id for call in [*first, *rest]] == [
        f"req_{n:04}" for n in range(1099, -1, -1)
    ]


def test_failed_index_is_declared_with_the_same_words() -> None:
    """SQLite uses a partial index only for a condition that it recognises."""
    index = next(i for i in USAGE_EVENTS.indexes if i.name == "ix_usage_events_failed")
    assert isinstance(index.dialect_options["sqlite"]["where"], sa.TextClause)
    assert str(index.dialect_options["sqlite"]["where"]) == "outcome IN ('failed', 'insured')"
