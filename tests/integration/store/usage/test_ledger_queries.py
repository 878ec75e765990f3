"""What people ask of the record of calls, and what is deleted of it."""

from __future__ import annotations

import time
import uuid

import pytest
import sqlalchemy as sa

from gateway.core.model import CallRecord, Usage
from gateway.store.booking.rows import row_of
from gateway.store.redis.address import parse_address
from gateway.store.redis.cluster.kinds import cold_client
from gateway.store.sql.database import Database
from gateway.store.sql.tables import USAGE_EVENTS
from gateway.store.usage.reader import UsageReader
from gateway.store.usage.reports import CallFilter, UsageQueries
from gateway.store.usage.retention import purge_usage
from tests.support.usage import NOON_MS, StreamProbe, encoded, stored_ids, usage_event

DAY_MS = 86_400_000


async def store(database: Database, *events: CallRecord) -> None:
    async with database.write() as connection:
        await connection.execute(sa.insert(USAGE_EVENTS), [row_of(encoded(e)) for e in events])


@pytest.fixture
async def calls(database: Database) -> UsageQueries:
    """Two accounts, three keys, two models, three days."""
    await store(
        database,
        usage_event("req_1", at_ms=NOON_MS, usage=Usage(input=1, output=2)),
        usage_event("req_2", at_ms=NOON_MS + 1, key_id="key_2", usage=Usage(input=10, reasoning=7)),
        usage_event(
            "req_3", at_ms=NOON_MS + DAY_MS, outcome="failed", status=502, usage=Usage(), model="m2"
        ),
        usage_event(
            "req_4", at_ms=NOON_MS + 2 * DAY_MS, account_id="acct_2", key_id="key_3",
            usage=Usage(input=100, cache_read=5, cache_write=6),
        ),
    )  # fmt: skip
    return UsageQueries(database)


async def test_last_calls_are_the_newest_first(calls: UsageQueries) -> None:
    """The list is bounded and can be narrowed to one key."""
    last = await calls.last_calls(2, CallFilter())
    of_key = await calls.last_calls(10, CallFilter(key_id="key_1"))

    assert [event.request_id for event in last] == ["req_4", "req_3"]
    assert [event.request_id for event in of_key] == ["req_3", "req_1"]


async def test_call_is_found_by_its_request_id(calls: UsageQueries) -> None:
    """One call's record is the event that was recorded; an unknown id has none."""
    found = await calls.call("req_2")

    assert found == usage_event(
        "req_2", at_ms=NOON_MS + 1, key_id="key_2", usage=Usage(input=10, reasoning=7)
    )
    assert await calls.call("req_none") is None


async def test_purge_deletes_what_is_older_and_nothing_else(database: Database) -> None:
    """Retention works in bounded batches and stops at the moment it was given."""
    await store(database, *[usage_event(f"req_{n:02}", at_ms=1000 + n) for n in range(25)])

    deleted = await purge_usage(database, 1000 + 21, batch=10)

    assert deleted == 21
    assert await stored_ids(database) == ["req_21", "req_22", "req_23", "req_24"]
    assert await purge_usage(database, 1000 + 21, batch=10) == 0


@pytest.mark.redis
async def test_purge_deletes_old_dead_letters(valkey_url: str) -> None:
    """What could not be stored is not kept for longer than what was."""
    prefix = f"{uuid.uuid4().hex}:"
    reader = UsageReader(cold_client(parse_address(valkey_url)), prefix)
    probe = StreamProbe(cold_client(parse_address(valkey_url)), prefix)
    await probe.client.xadd(probe.dead, {b"e": b"old"}, id="1000-0")
    await probe.client.xadd(probe.dead, {b"e": b"new"})

    await reader.purge_dead_letters(int(time.time() * 1000) - DAY_MS)
    letters = await probe.dead_letters()
    await probe.client.aclose()
    await reader.aclose()

    assert letters == [{b"e": b"new"}]
