"""Sums of usage by time and group."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.model import Usage
from gateway.store.reports.usage import (
    Run,
    SumRow,
    SumsBy,
    SumsFilter,
    UsageSum,
    UsageSums,
    query,
    total,
)
from gateway.store.sql.database import Database
from tests.support.booking import book_calls
from tests.support.reports import statements
from tests.support.usage import NOON_MS, usage_event

QUARTER_MS = 900_000
NOON = NOON_MS // QUARTER_MS
DAY = Run(NOON - 48, NOON + 48, 0, 96)
ACME = SumsFilter(account_id="acct_1")


@pytest.fixture
async def sums(database: Database) -> UsageSums:
    """Six calls of an account, one of another."""
    each: dict[str, Any] = {"account_id": "acct_1", "upstream_cost_nanousd": 2}
    await book_calls(
        database,
        usage_event("req_1", **each, ttft_ms=100),
        usage_event("req_2", **each, ttft_ms=100, usage=Usage(1, 2, 3, 4, 5)),
        usage_event("req_3", **each, model="kimi", key_id="key_2", at_ms=NOON_MS + QUARTER_MS),
        usage_event("req_4", **each, model="kimi", outcome="failed", at_ms=NOON_MS + QUARTER_MS),
        usage_event("req_5", **each, endpoint="messages", at_ms=NOON_MS + 5 * QUARTER_MS),
        usage_event("req_6", **each, at_ms=NOON_MS + 48 * QUARTER_MS),
        usage_event("req_7", account_id="acct_2"),
    )
    return UsageSums(database)


async def test_sums_are_those_of_the_account_and_the_period(sums: UsageSums) -> None:
    """Neither another account's call nor the next day's."""
    [row] = await sums.read(ACME, [DAY])

    assert row == SumRow(0, "", UsageSum(
        calls=5, failed=1, input=41, cache_read=82, cache_write=3, output=24, reasoning=5,
        upstream_cost_nanousd=10, margin_nanousd=-10,
    ))  # fmt: skip
    assert (row.sum.prompt_tokens, row.sum.completion_tokens, row.sum.tokens) == (126, 29, 155)


@pytest.mark.parametrize(
    ("group", "names"),
    [
        (SumsBy.MODEL, {"deepseek-v4-flash": 3, "kimi": 2}),
        (SumsBy.KEY, {"key_1": 4, "key_2": 1}),
        (SumsBy.ENDPOINT, {"chat_completions": 4, "messages": 1}),
        (SumsBy.OUTCOME, {"completed": 4, "failed": 1}),
        (SumsBy.DEPLOYMENT, {"deepseek/deepseek-chat": 5}),
    ],
)
async def test_sums_are_grouped(sums: UsageSums, group: SumsBy, names: dict[str, int]) -> None:
    """By each column."""
    assert {row.group: row.sum.calls for row in await sums.read(ACME, [DAY], group)} == names


@pytest.mark.parametrize(
    ("which", "calls"),
    [
        ({"model": "kimi"}, 2), ({"key_id": "key_2"}, 1), ({"endpoint": "messages"}, 1),
        ({"outcomes": ("failed", "insured")}, 1), ({"model": "no such"}, 0),
    ],
)  # fmt: skip
async def test_sums_are_filtered(sums: UsageSums, which: dict[str, Any], calls: int) -> None:
    """Each filter alone."""
    rows = await sums.read(SumsFilter(account_id="acct_1", **which), [DAY])

    assert total(rows).calls == calls


async def test_times_are_computed_by_the_runs(database: Database, sums: UsageSums) -> None:
    """Runs of different widths, as around a day of 23 hours; in one statement."""
    runs = [Run(NOON - 4, NOON, 0, 1), Run(NOON, NOON + 3, 4, 3), Run(NOON + 3, NOON + 49, 5, 2)]

    with statements(database) as ran:
        rows = await sums.read(ACME, runs, SumsBy.MODEL)

    assert [(row.time, row.group, row.sum.calls) for row in rows] == [
        (4, "deepseek-v4-flash", 2), (4, "kimi", 2), (6, "deepseek-v4-flash", 1),
        (27, "deepseek-v4-flash", 1),
    ]  # fmt: skip
    assert len(ran) == 1


async def test_histograms_are_read_on_demand_and_added(sums: UsageSums) -> None:
    """Percentiles of a sum are those of its calls."""
    rows = await sums.read(ACME, [DAY], SumsBy.MODEL, with_ttft=True)

    both = total(rows)
    assert sum(both.ttft_counts) == 5
    assert both.ttft_ms(1.0) == 141
    assert (await sums.read(ACME, [DAY]))[0].sum.ttft_ms(0.5) is None


async def test_last_call_is_that_of_the_account(sums: UsageSums) -> None:
    """Of any outcome."""
    assert await sums.last_call_ms("acct_1") == NOON_MS + 48 * QUARTER_MS
    assert await sums.last_call_ms("acct_2") == NOON_MS
    assert await sums.last_call_ms("acct_3") is None
    assert await sums.last_call_ms() == NOON_MS + 48 * QUARTER_MS


@pytest.mark.parametrize(
    ("which", "group", "table"),
    [
        (ACME, SumsBy.MODEL, "usage_totals"),
        (ACME, None, "usage_totals"),
        (SumsFilter(account_id="acct_1", model="kimi"), SumsBy.MODEL, "usage_totals"),
        (SumsFilter(account_id="acct_1", outcomes=("failed",)), None, "usage_totals"),
        (SumsFilter(account_id="acct_1", model="kimi"), SumsBy.KEY, "usage_quarters"),
        (ACME, SumsBy.DEPLOYMENT, "usage_totals"),
        (SumsFilter(), SumsBy.MODEL, "usage_totals"),
        (SumsFilter(), SumsBy.ACCOUNT, "usage_totals"),
        (SumsFilter(model="kimi"), SumsBy.ACCOUNT, "usage_totals"),
        (SumsFilter(model="kimi"), SumsBy.DEPLOYMENT, "usage_quarters"),
    ],
)
def test_totals_are_read_where_they_suffice(
    which: SumsFilter, group: SumsBy | None, table: str
) -> None:
    """One property of one or all accounts: what pages show first. Two are in no total."""
    text = str(query(which, [DAY], group))

    assert f"FROM {table}" in text


@pytest.mark.parametrize(
    ("which", "plan"),
    [
        (
            ACME,
            "usage_totals USING PRIMARY KEY"
            " (account_id=? AND property=? AND quarter>? AND quarter<?)",
        ),
        (
            SumsFilter(),
            "usage_totals USING INDEX ix_usage_totals_property"
            " (property=? AND quarter>? AND quarter<?)",
        ),
        (
            SumsFilter(model="kimi", outcomes=("insured",)),
            "usage_quarters USING INDEX ix_usage_quarters_insured (quarter>? AND quarter<?)",
        ),
    ],
    ids=["account", "all", "insured"],
)
async def test_sums_are_found_by_an_index(database: Database, which: SumsFilter, plan: str) -> None:
    """The rows that are read are those of the period and the property."""
    if not database.is_sqlite:
        pytest.skip("PostgreSQL chooses plans by the size of a table")
    group = SumsBy.MODEL
    text = str(query(which, [DAY], group).compile(compile_kwargs={"literal_binds": True}))

    async with database.read() as connection:
        found = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}")
        steps = [row.detail for row in found]

    assert steps[0] == f"SEARCH {plan}"


async def test_an_account_whose_calls_all_differ_has_few_totals(database: Database) -> None:
    """What a page reads grows with the values of a property, not with their combinations."""
    await book_calls(
        database,
        *[
            usage_event(f"req_{n}", account_id="acct_1", model=f"m{n % 2}", key_id=f"k{n // 2 % 4}",
                        endpoint=f"e{n // 8}", provider=f"p{n % 3}")
            for n in range(24)
        ],
    )  # fmt: skip

    async with database.read() as connection:
        sums = (await connection.exec_driver_sql("SELECT COUNT(*) FROM usage_quarters")).scalar()
        totals = await connection.exec_driver_sql(
            "SELECT COUNT(*) FROM usage_totals WHERE property = 'model'"
        )

    assert (sums, totals.scalar()) == (24, 2)
