"""Calls summed by quarters of an hour, in the transaction that books them."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from gateway.core.latency_histogram import STEPS, step_of
from gateway.core.model import Usage
from gateway.store.accounts.accounts import Account, Accounts
from gateway.store.booking.rows import row_of
from gateway.store.sql.database import Database
from gateway.store.sql.tables import TTFT_COLUMNS, USAGE_QUARTERS
from gateway.store.usage.retention import purge_usage
from gateway.store.usage_sums.quarters import QUARTER_MS, BookedRow, sum_up
from gateway.store.usage_sums.retention import purge_quarters
from tests.support.booking import book_calls, die_booking
from tests.support.usage import NOON_MS, encoded, usage_event

NOON = NOON_MS // QUARTER_MS


async def sums(database: Database) -> list[dict[str, Any]]:
    """Return the rows of the sums that are not all zero, each without its zeros."""
    query = sa.select(USAGE_QUARTERS).order_by(*USAGE_QUARTERS.primary_key)
    async with database.read() as connection:
        rows = [dict(row._mapping) for row in await connection.execute(query)]
    return [{name: value for name, value in row.items() if value} for row in rows if row["calls"]]


@pytest.fixture
async def account(database: Database) -> Account:
    """One account."""
    return await Accounts(database).create("acme")


async def test_batch_adds_calls_tokens_money_and_times_to_their_quarters(
    database: Database, account: Account
) -> None:
    """Two batches of one quarter are one row; another outcome, key or quarter is another."""
    each: dict[str, Any] = {"account_id": account.id, "cost_nanousd": 30}
    await book_calls(
        database,
        usage_event("req_1", **each, ttft_ms=120, upstream_cost_nanousd=20),
        usage_event("req_2", **each, ttft_ms=900, usage=Usage(1, 2, 3, 4, 5)),
        usage_event("req_3", account_id=account.id, outcome="failed", ttft_ms=None, provider=None),
    )
    await book_calls(
        database,
        usage_event("req_4", **each, ttft_ms=130, at_ms=NOON_MS + QUARTER_MS - 1),
        usage_event("req_5", **each, at_ms=NOON_MS + QUARTER_MS),
    )

    found = await sums(database)

    assert [(row["quarter"], row["outcome"], row["calls"]) for row in found] == [
        (NOON, "failed", 1),
        (NOON, "completed", 3),
        (NOON + 1, "completed", 1),
    ]
    assert found[1] == {
        "account_id": account.id,
        "quarter": NOON,
        "key_id": "key_1",
        "model": "deepseek-v4-flash",
        "endpoint": "chat_completions",
        "deployment": "deepseek/deepseek-chat",
        "outcome": "completed",
        "calls": 3,
        "input_tokens": 21,
        "cache_read_tokens": 42,
        "cache_write_tokens": 3,
        "output_tokens": 14,
        "reasoning_tokens": 5,
        "cost_nanousd": 90,
        "upstream_cost_nanousd": 20,
        "margin_nanousd": 10,
        "calls_without_cost": 2,
        "ttft_ms": 1150,
        "ttft_calls": 3,
        TTFT_COLUMNS[step_of(120)]: 2,
        TTFT_COLUMNS[step_of(900)]: 1,
    }
    assert "deployment" not in found[0]
    assert "ttft_calls" not in found[0]


async def test_call_delivered_again_is_counted_once(database: Database, account: Account) -> None:
    """Also when its usage row has been purged, as long as the ledger remembers its charge."""
    call = usage_event(account_id=account.id, cost_nanousd=30)

    await book_calls(database, call, call)
    await book_calls(database, call)
    await purge_usage(database, NOON_MS + 1)
    await book_calls(database, call)

    assert [(row["calls"], row["cost_nanousd"]) for row in await sums(database)] == [(1, 30)]


async def test_late_settlement_replaces_the_abandoned_call(
    database: Database, account: Account
) -> None:
    """The sums move from the quarter and outcome of the checkpoint to those of the settlement."""
    each: dict[str, Any] = {"account_id": account.id}
    early = usage_event(**each, cost_nanousd=10, outcome="abandoned", ttft_ms=None)
    final = usage_event(**each, cost_nanousd=25, ttft_ms=70, at_ms=NOON_MS + QUARTER_MS)

    await book_calls(database, early)
    await book_calls(database, final)

    found = await sums(database)
    assert [(r["quarter"], r["outcome"], r["calls"], r["cost_nanousd"]) for r in found] == [
        (NOON + 1, "completed", 1, 25)
    ]
    assert found[0][TTFT_COLUMNS[step_of(70)]] == 1


async def test_late_settlement_of_a_purged_call_adds_its_difference_only(
    database: Database, account: Account
) -> None:
    """The call itself is part of the sums that outlive it, which agree with the ledger."""
    early = usage_event(account_id=account.id, cost_nanousd=10, outcome="abandoned")

    await book_calls(database, early)
    await purge_usage(database, NOON_MS + 1)
    await book_calls(database, usage_event(account_id=account.id, cost_nanousd=25))

    async with database.read() as connection:
        columns = USAGE_QUARTERS.c
        query = sa.select(sa.func.sum(columns.calls), sa.func.sum(columns.cost_nanousd))
        assert tuple((await connection.execute(query)).one()) == (1, 25)


async def test_failed_transaction_leaves_the_sums_alone(
    database: Database, account: Account
) -> None:
    """Rows and sums are committed together."""
    await die_booking(database, usage_event(account_id=account.id))

    assert await sums(database) == []


async def test_purge_deletes_the_quarters_before_its_time(
    database: Database, account: Account
) -> None:
    """A quarter that has not ended by then is kept."""
    for n in range(3):
        at_ms = NOON_MS + n * QUARTER_MS
        await book_calls(database, usage_event(f"req_{n}", account_id=account.id, at_ms=at_ms))

    deleted = await purge_quarters(database, NOON_MS + 2 * QUARTER_MS + 1)

    assert deleted == 2
    assert [row["quarter"] for row in await sums(database)] == [NOON + 2]


def test_replaced_row_that_equals_its_successor_changes_nothing() -> None:
    """Changes that cancel out are not written."""
    row = row_of(encoded(usage_event()))

    assert sum_up([BookedRow(row, row)]) == []
    assert len(sum_up([BookedRow(row, None)])[0]) == 7 + 12 + STEPS
