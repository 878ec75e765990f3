"""The usage sums, computed again from the usage events."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa

from gateway.core.calendar import DAY_MS
from gateway.core.latency_histogram import BOUNDS_MS
from gateway.store.sql.database import Database
from gateway.store.sql.tables import USAGE_QUARTERS
from gateway.store.usage.retention import purge_usage
from gateway.store.usage_sums.quarters import QUARTER_MS
from gateway.store.usage_sums.rebuild import UsageRebuild, rebuild_usage
from tests.support.booking import book_calls
from tests.support.usage import NOON_MS, usage_event

NOW_MS = NOON_MS + DAY_MS


async def run(database: Database, statement: str) -> None:
    """Change the database by hand."""
    async with database.write() as connection:
        await connection.execute(sa.text(statement))


async def kept(database: Database) -> list[tuple[object, ...]]:
    """Return all sums."""
    query = sa.select(USAGE_QUARTERS).order_by(*USAGE_QUARTERS.primary_key)
    async with database.read() as connection:
        return [tuple(row) for row in await connection.execute(query)]


async def rebuild(database: Database, days: int = 90) -> UsageRebuild:
    """Rebuild as `capio reconcile --usage` does, a day after the calls."""
    return await rebuild_usage(database, retention_days=days, now_ms=NOW_MS)


@pytest.fixture
async def calls(database: Database) -> None:
    """Calls of all steps of the histogram, of several outcomes, in three quarters."""
    times = [None, 0, *BOUNDS_MS, *[bound - 1 for bound in BOUNDS_MS]]
    await book_calls(
        database,
        *[
            usage_event(
                f"req_{n}", account_id="acct_1", ttft_ms=ttft_ms, cost_nanousd=0,
                at_ms=NOON_MS + n % 3 * QUARTER_MS, outcome=("completed", "failed")[n % 2],
                upstream_cost_nanousd=(None, 7)[n % 5 == 0], provider=("p", None)[n % 4 == 0],
            )
            for n, ttft_ms in enumerate(times)
        ],
    )  # fmt: skip


@pytest.mark.usefixtures("calls")
async def test_rebuild_finds_nothing_to_correct_in_sound_sums(database: Database) -> None:
    """What SQL computes from the events is what the ledger writer added up."""
    before = await kept(database)

    found = await rebuild(database)

    assert (found.quarters, found.corrected) == (3, 0)
    assert await kept(database) == before


@pytest.mark.usefixtures("calls")
@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE usage_quarters SET calls = calls + 1, ttft_03 = ttft_03 + 1",
        "DELETE FROM usage_quarters",
        "UPDATE usage_quarters SET model = 'another'",
    ],
)
async def test_rebuild_corrects_sums_that_differ(database: Database, harm: str) -> None:
    """Changed, missing and surplus sums are those of the events again."""
    before = await kept(database)
    await run(database, harm)

    found = await rebuild(database)
    again = await rebuild(database)

    assert found.corrected >= len(before)
    assert again.corrected == 0
    assert await kept(database) == before


async def test_rebuild_leaves_sums_alone_whose_events_are_purged(database: Database) -> None:
    """Also the quarter in which the purge stopped, and whatever the retention is now."""
    for n, minutes in enumerate((0, 16, 20, 32)):
        await book_calls(database, usage_event(f"req_{n}", at_ms=NOON_MS + minutes * 60_000))
    await purge_usage(database, NOON_MS + 18 * 60_000)
    before = await kept(database)
    await run(database, "UPDATE usage_quarters SET calls = 9 WHERE calls = 1 AND quarter = "
              f"{NOON_MS // QUARTER_MS + 2}")  # fmt: skip

    found = await rebuild(database)

    assert (found.quarters, found.corrected) == (1, 1)
    assert await kept(database) == before


async def test_rebuild_ends_where_the_retention_does(database: Database) -> None:
    """Events that the next purge deletes are no longer complete."""
    await book_calls(database, usage_event("req_1", at_ms=NOON_MS - 1), usage_event("req_2"))
    await run(database, "UPDATE usage_quarters SET calls = 5")

    assert (await rebuild(database, days=1)).corrected == 1


async def test_rebuild_of_an_empty_database_has_nothing_to_do(database: Database) -> None:
    """Without events nothing is compared."""
    assert await rebuild(database) == UsageRebuild(quarters=0, corrected=0)


async def test_rebuild_beside_writers_counts_each_call_once(database: Database) -> None:
    """Batches that are booked at the same time are neither lost nor doubled."""
    await book_calls(database, usage_event("req_first"))
    writers = [
        book_calls(database, *[usage_event(f"req_{n}_{m}") for m in range(5)]) for n in range(8)
    ]

    await asyncio.gather(*writers, *[rebuild(database) for _ in range(4)])

    assert (await rebuild(database)).corrected == 0
