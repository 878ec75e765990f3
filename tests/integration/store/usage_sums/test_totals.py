"""Sums by one property: added with those by quarters, equal to them, computed again from them."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from gateway.core.model import Usage
from gateway.store.booking.rows import row_of
from gateway.store.sql.database import Database
from gateway.store.sql.tables import USAGE_QUARTERS, USAGE_TOTALS
from gateway.store.usage_sums.quarters import QUARTER_MS, BookedRow, sum_up
from gateway.store.usage_sums.rebuild import rebuild_usage
from gateway.store.usage_sums.retention import purge_quarters
from gateway.store.usage_sums.totals import PROPERTIES, totals_of
from tests.support.booking import book_calls
from tests.support.usage import NOON_MS, encoded, usage_event

NOON = NOON_MS // QUARTER_MS
KEY = ("account_id", "property", "quarter", "value")


async def rows_of(database: Database, table: sa.Table) -> list[dict[str, Any]]:
    """Return all rows of a table that are not all zero."""
    async with database.read() as connection:
        rows = [dict(row._mapping) for row in await connection.execute(sa.select(table))]
    return [row for row in rows if row["calls"]]


async def expected(database: Database) -> dict[tuple[Any, ...], dict[str, int]]:
    """Return the totals that follow from the sums by quarters."""
    found: dict[tuple[Any, ...], dict[str, int]] = {}
    for row in await rows_of(database, USAGE_QUARTERS):
        row["failed"] = row["calls"] if row["outcome"] in ("failed", "insured") else 0
        for name in PROPERTIES:
            sums = found.setdefault((row["account_id"], name, row["quarter"], row[name]), {})
            for column in USAGE_TOTALS.c:
                if column.name not in KEY:
                    sums[column.name] = sums.get(column.name, 0) + row[column.name]
    return found


async def kept(database: Database) -> dict[tuple[Any, ...], dict[str, int]]:
    """Return the totals by key."""
    rows = await rows_of(database, USAGE_TOTALS)
    return {
        tuple(row[name] for name in KEY): {
            name: number for name, number in row.items() if name not in KEY
        }
        for row in rows
    }


@pytest.fixture
async def calls(database: Database) -> None:
    """Two batches whose calls differ in every property, and a replaced call."""
    await book_calls(
        database,
        usage_event("req_1", ttft_ms=120),
        usage_event("req_2", usage=Usage(1, 2, 3, 4, 5), key_id="key_2", model="kimi"),
        usage_event("req_3", outcome="failed", ttft_ms=None),
    )
    await book_calls(
        database,
        usage_event("req_4", outcome="insured", endpoint="messages"),
        usage_event("req_5", at_ms=NOON_MS + QUARTER_MS, upstream_cost_nanousd=7),
        usage_event("req_6", account_id="acct_2"),
    )


@pytest.mark.usefixtures("calls")
async def test_totals_equal_the_sums_by_quarters(database: Database) -> None:
    """Of each property, in every number."""
    found = await kept(database)

    assert found == await expected(database)
    values = {key[1]: set() for key in found}  # type: dict[str, set[str]]
    for key in found:
        values[key[1]].add(key[3])
    assert {name: len(each) for name, each in values.items()} == {
        "model": 2,
        "key_id": 2,
        "endpoint": 2,
        "deployment": 1,
        "outcome": 3,
    }


@pytest.mark.usefixtures("calls")
@pytest.mark.parametrize("harm", ["DELETE FROM usage_totals", "UPDATE usage_totals SET calls = 9"])
async def test_rebuild_computes_totals_again(database: Database, harm: str) -> None:
    """Even if the sums by quarters are right."""
    async with database.write() as connection:
        await connection.exec_driver_sql(harm)

    await rebuild_usage(database, retention_days=90, now_ms=NOON_MS + 86_400_000)

    assert await kept(database) == await expected(database)


@pytest.mark.usefixtures("calls")
async def test_totals_are_purged_with_the_sums(database: Database) -> None:
    """The quarter that has ended goes, the next one stays."""
    await purge_quarters(database, NOON_MS + QUARTER_MS + 1)

    assert {row["quarter"] for row in await rows_of(database, USAGE_TOTALS)} == {NOON + 1}


def test_changes_of_one_value_are_one_row() -> None:
    """Two deployments of a model share its row; a failed call is counted twice."""
    rows = [
        row_of(encoded(usage_event("req_1"))),
        row_of(encoded(usage_event("req_2", provider="other", outcome="failed"))),
    ]

    totals = totals_of(sum_up([BookedRow(row, None) for row in rows]))

    assert [(row[1], row[3], row[4], row[5]) for row in totals] == [
        ("deployment", "deepseek/deepseek-chat", 0, 1),
        ("deployment", "other/deepseek-chat", 1, 1),
        ("endpoint", "chat_completions", 1, 2),
        ("key_id", "key_1", 1, 2),
        ("model", "deepseek-v4-flash", 1, 2),
        ("outcome", "completed", 0, 1),
        ("outcome", "failed", 1, 1),
    ]
