"""The ledger writer between a real Valkey and real databases."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa
from prometheus_client import CollectorRegistry
from redis.exceptions import ResponseError

from gateway.core.model import USAGE_COLUMNS, CallRecord, Usage
from gateway.settings import Server, Settings, Sql
from gateway.store.booking.rows import row_of
from gateway.store.redis.address import parse_address
from gateway.store.redis.cluster.kinds import cold_client
from gateway.store.sql.database import Database
from gateway.store.sql.migrations import migrate
from gateway.store.sql.tables import USAGE_EVENTS
from gateway.store.usage.ledger_writer import LedgerWriter
from gateway.store.usage.reader import GROUP, PER_SHARD, UsageReader
from gateway.store.usage.reports import UsageQueries
from gateway.telemetry.metrics import Metrics
from tests.support.postgres import PostgresServer, find_binaries
from tests.support.usage import StreamProbe, encoded, stored_ids, usage_event
from tests.support.valkey import ValkeyProcess
from tests.support.waiting import wait_until

pytestmark = pytest.mark.redis


class Ledger:
    """A writer that runs in the background, and what it needs."""

    def __init__(self, url: str, key_prefix: str, database: Database, rest_s: float = 0.0) -> None:
        target = parse_address(url)
        self.reader = UsageReader(cold_client(target), key_prefix, claim_idle_ms=50)
        self.database = database
        self.metrics = Metrics(CollectorRegistry())
        self.writer = LedgerWriter(self.reader, database, self.metrics, rest_s=rest_s)
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self.writer.run(self._stop))

    async def stop(self) -> None:
        self._stop.set()
        if self._task is not None:
            await self._task
        await self.reader.aclose()

    async def stored(self) -> list[str]:
        return await stored_ids(self.database)


@pytest.fixture
async def probe(valkey_url: str) -> AsyncIterator[StreamProbe]:
    client = cold_client(parse_address(valkey_url))
    yield StreamProbe(client, f"{uuid.uuid4().hex}:")
    await client.aclose()


@pytest.fixture
async def ledger(
    valkey_url: str, probe: StreamProbe, database: Database, tmp_path: Path
) -> AsyncIterator[Ledger]:
    ledger = Ledger(valkey_url, probe.key_prefix, database)
    yield ledger
    await ledger.stop()


async def test_events_become_rows_and_leave_the_stream(ledger: Ledger, probe: StreamProbe) -> None:
    """Every field of an event can be read again from SQL, and nothing waits any more."""
    events = [usage_event(f"req_{n:04}", at_ms=1000 + n) for n in range(1200)]
    await probe.add(*events)

    ledger.start()
    await wait_until(probe.is_empty, 15)

    assert await ledger.stored() == [event.request_id for event in events]
    stored = await UsageQueries(ledger.database).call("req_0007")
    assert stored == events[7]
    status = await ledger.writer.status()
    assert (status.written_total, status.repeated_total, status.parked_total) == (1200, 0, 0)
    assert (status.stream_length, status.lag_s) == (0, 0.0)
    assert ledger.metrics.ledger_written._value.get() == 1200


async def test_event_with_only_what_it_must_have_is_stored(
    ledger: Ledger, probe: StreamProbe
) -> None:
    """Absent fields are stored as their defaults and come back as such."""
    bare = usage_event(
        provider=None, upstream_model=None, upstream_wire=None, ttft_ms=None, finish_reason=None,
        address=None, user_agent=None, error_kind="upstream_connect", outcome="failed", status=502,
    )  # fmt: skip
    await probe.add(bare)

    ledger.start()
    await wait_until(probe.is_empty)

    assert await UsageQueries(ledger.database).call("req_1") == bare


async def test_event_delivered_twice_is_one_row(ledger: Ledger, probe: StreamProbe) -> None:
    """The first record of a request id counts, in one batch and over batches."""
    await probe.add(usage_event(status=200), usage_event(status=500))
    ledger.start()
    await wait_until(probe.is_empty)
    await probe.add(usage_event(status=501))
    await wait_until(probe.is_empty)

    stored = await UsageQueries(ledger.database).call("req_1")
    status = await ledger.writer.status()

    assert stored is not None
    assert stored.status == 200
    assert (status.written_total, status.repeated_total) == (1, 2)


async def test_entries_that_cannot_be_stored_are_parked_once(
    ledger: Ledger, probe: StreamProbe
) -> None:
    """Bad entries are moved aside with their reason; the good ones beside them are stored."""
    huge = encoded(usage_event("req_huge")).replace(b'"input":10', b'"input":9223372036854775808')
    ids = await probe.add(
        usage_event("req_1"), b"{not json", b'{"request_id":"req_x"}', huge, usage_event("req_2")
    )
    await probe.client.xadd(probe.stream, {b"other": b"field"})

    ledger.start()
    await wait_until(probe.is_empty)
    letters = await probe.dead_letters()

    assert await ledger.stored() == ["req_1", "req_2"]
    assert [letter[b"e"] for letter in letters] == [
        b"{not json", b'{"request_id":"req_x"}', huge, b"",
    ]  # fmt: skip
    assert [letter[b"entry_id"] for letter in letters][:3] == ids[1:4]
    assert b"not a usage event" in letters[0][b"reason"]
    assert b"beyond 64 bits" in letters[2][b"reason"]
    assert ledger.metrics.ledger_parked._value.get() == 4


async def test_text_that_databases_refuse_is_made_storable(
    ledger: Ledger, probe: StreamProbe
) -> None:
    """Characters that a database rejects are removed, and long text is cut."""
    await probe.add(usage_event(user_agent="a\x00b" + "c" * 10_000, model="модель 🦜"))

    ledger.start()
    await wait_until(probe.is_empty)
    stored = await UsageQueries(ledger.database).call("req_1")

    assert stored is not None
    assert stored.user_agent == "ab" + "c" * 510
    assert stored.model == "модель 🦜"


async def test_row_that_sql_refuses_is_parked_alone(ledger: Ledger, probe: StreamProbe) -> None:
    """A rule of the database against one row does not hold up the others."""
    rule = "ALTER TABLE usage_events ADD CHECK (model <> 'refused')"
    if ledger.database.is_sqlite:
        rule = (
            "CREATE TRIGGER refuse BEFORE INSERT ON usage_events WHEN NEW.model = 'refused'"
            " BEGIN SELECT RAISE(ABORT, 'refused'); END"
        )
    async with ledger.database.write() as connection:
        await connection.execute(sa.text(rule))
    await probe.add(usage_event("req_1"), usage_event("req_2", model="refused"))
    await probe.add(usage_event("req_3"))

    ledger.start()
    await wait_until(probe.is_empty)

    assert await ledger.stored() == ["req_1", "req_3"]
    (letter,) = await probe.dead_letters()
    assert letter[b"e"] == encoded(usage_event("req_2", model="refused"))


async def test_sql_that_fails_leaves_everything_unacknowledged_until_it_works(
    ledger: Ledger, probe: StreamProbe
) -> None:
    """Nothing is acknowledged before it is stored, and nothing is parked for SQL's faults."""
    await rename(ledger.database, "usage_events", "hidden")
    await probe.add(*[usage_event(f"req_{n}") for n in range(3)])
    ledger.start()
    await wait_until(lambda: is_pending(probe, 3))
    await probe.add(usage_event("req_3"))

    await rename(ledger.database, "hidden", "usage_events")
    await wait_until(probe.is_empty, 15)

    assert await ledger.stored() == ["req_0", "req_1", "req_2", "req_3"]
    assert await probe.dead_letters() == []


async def rename(database: Database, table: str, name: str) -> None:
    async with database.write() as connection:
        await connection.execute(sa.text(f"ALTER TABLE {table} RENAME TO {name}"))


async def is_pending(probe: StreamProbe, count: int) -> bool:
    try:
        return (await probe.client.xpending(probe.stream, GROUP))["pending"] >= count
    except ResponseError:  # the group is not there yet
        return False


async def test_group_that_was_destroyed_is_made_again(ledger: Ledger, probe: StreamProbe) -> None:
    """Losing the group, or the whole stream, does not stop the writer or lose what waits."""
    ledger.start()
    await probe.add(usage_event("req_1"))
    await wait_until(probe.is_empty)

    await probe.client.xgroup_destroy(probe.stream, GROUP)
    await probe.add(usage_event("req_2"))
    await wait_until(probe.is_empty, 10)
    await probe.client.delete(probe.stream)
    await probe.add(usage_event("req_3"))
    await wait_until(probe.is_empty, 10)

    assert await ledger.stored() == ["req_1", "req_2", "req_3"]


async def test_entries_of_a_dead_consumer_are_taken_over(
    ledger: Ledger, probe: StreamProbe
) -> None:
    """What another writer was given and never acknowledged is stored by this one."""
    await probe.add(usage_event("req_1"), usage_event("req_2"))
    await deliver_to_dead_consumer(probe)

    await wait_until(lambda: probe.idle_for(60))
    ledger.start()
    await wait_until(probe.is_empty)

    assert await ledger.stored() == ["req_1", "req_2"]


async def deliver_to_dead_consumer(probe: StreamProbe) -> None:
    await probe.client.xgroup_create(probe.stream, GROUP, "0", mkstream=True)
    await probe.client.xreadgroup(GROUP.decode(), "dead", {probe.stream: ">"})


async def test_entries_of_a_deleted_consumer_are_read_again(
    ledger: Ledger, probe: StreamProbe
) -> None:
    """Entries whose consumer was deleted are read from the stream again."""
    await probe.add(usage_event("req_1"))
    await deliver_to_dead_consumer(probe)
    await probe.client.xgroup_delconsumer(probe.stream, GROUP, "dead")

    ledger.start()
    await wait_until(probe.is_empty, 10)

    assert await ledger.stored() == ["req_1"]


async def test_entry_that_arrived_since_the_last_read_is_no_orphan(
    ledger: Ledger, probe: StreamProbe
) -> None:
    """Light traffic: nothing was pending, and then one entry came; it is read as usual."""
    await ledger.reader.ensure_group()
    await probe.add(usage_event("req_0"))
    await ledger.reader.acknowledge(await ledger.reader.read_new(None))
    await probe.add(usage_event("req_1"))

    assert not await ledger.reader.redeliver_orphans()
    assert len(await ledger.reader.read_new(None)) == 1
    assert not await ledger.reader.redeliver_orphans()


async def test_two_writers_at_once_store_each_event_once(
    ledger: Ledger, probe: StreamProbe, valkey_url: str, tmp_path: Path
) -> None:
    """Two writers divide the events of a stream between them."""
    other = Ledger(valkey_url, probe.key_prefix, ledger.database)
    ledger.start()
    other.start()

    for start in range(0, 1000, 100):
        await probe.add(*[usage_event(f"req_{n:04}") for n in range(start, start + 100)])
    await wait_until(probe.is_empty, 15)
    written = [(await each.writer.status()).written_total for each in (ledger, other)]
    await other.stop()

    assert len(await ledger.stored()) == 1000
    assert sum(written) == 1000


async def test_stop_stores_what_is_left(ledger: Ledger, probe: StreamProbe) -> None:
    """`stop` returns once the stream is empty."""
    ledger.start()
    await wait_until(lambda: ledger.writer._connected)
    await probe.add(*[usage_event(f"req_{n:04}") for n in range(700)])

    await ledger.stop()

    assert await probe.is_empty()
    assert len(await ledger.stored()) == 700


async def test_rest_gathers_events_after_a_batch(
    valkey_url: str, probe: StreamProbe, database: Database
) -> None:
    """The first event is stored at once, later ones after the rest or when the writer stops."""
    ledger = Ledger(valkey_url, probe.key_prefix, database, rest_s=60)
    ledger.start()
    await probe.add(usage_event("req_1"))
    await wait_until(probe.is_empty)

    await probe.add(usage_event("req_2"), usage_event("req_3"))
    await asyncio.sleep(0.3)
    assert await ledger.stored() == ["req_1"]

    await ledger.stop()
    assert await ledger.stored() == ["req_1", "req_2", "req_3"]


async def test_full_read_is_followed_by_the_next_without_a_rest(
    valkey_url: str, probe: StreamProbe, database: Database
) -> None:
    ledger = Ledger(valkey_url, probe.key_prefix, database, rest_s=60)
    await probe.add(*[usage_event(f"req_{n:04}") for n in range(2 * PER_SHARD + 1)])

    ledger.start()
    await wait_until(probe.is_empty, 15)

    assert len(await ledger.stored()) == 2 * PER_SHARD + 1
    await ledger.stop()


async def test_redis_killed_and_restarted_loses_no_event(
    database: Database, tmp_path: Path
) -> None:
    """The writer waits for Redis and goes on where it was."""
    persistent = ValkeyProcess("--appendfsync", "always", persist=True)
    persistent.start()
    client = cold_client(parse_address(persistent.url))
    probe = StreamProbe(client, "capio:")
    ledger = Ledger(persistent.url, "capio:", database)
    try:
        ledger.start()
        await probe.add(usage_event("req_1"))
        await wait_until(probe.is_empty)
        await probe.add(usage_event("req_2"))
        persistent.kill()
        persistent.start()
        await probe.add(usage_event("req_3"))
        await wait_until(probe.is_empty, 15)
    finally:
        await ledger.stop()
        await client.aclose()
        persistent.close()

    assert await stored_ids(database) == ["req_1", "req_2", "req_3"]


@pytest.mark.sql
async def test_postgres_restarted_loses_no_event(
    valkey_url: str, probe: StreamProbe, tmp_path: Path
) -> None:
    """A real server that goes away and comes back finds every event once."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL here")
    server = PostgresServer(binaries)
    try:
        await asyncio.to_thread(server.start)
        await survive_restart(server, valkey_url, probe, tmp_path)
    finally:
        await asyncio.to_thread(server.close)


async def survive_restart(
    server: PostgresServer, valkey_url: str, probe: StreamProbe, home: Path
) -> None:
    settings = Settings(server=Server(data_dir=str(home)), sql=Sql(url=server.create_database()))
    await migrate(settings)
    database = Database(settings)
    ledger = Ledger(valkey_url, probe.key_prefix, database)
    try:
        ledger.start()
        await probe.add(usage_event("req_1"))
        await wait_until(probe.is_empty)
        await asyncio.to_thread(server.stop)
        await probe.add(usage_event("req_2"), usage_event("req_3"))
        await wait_until(lambda: is_pending(probe, 1))
        await asyncio.to_thread(server.start)
        await wait_until(probe.is_empty, 15)
        assert await stored_ids(database) == ["req_1", "req_2", "req_3"]
    finally:
        await ledger.stop()
        await database.aclose()


async def test_lag_is_the_age_of_the_oldest_waiting_event(
    ledger: Ledger, probe: StreamProbe
) -> None:
    """Lag and number of entries are reported."""
    await probe.client.xadd(probe.stream, {b"e": b"{}"}, id="1000-0")
    await probe.add(usage_event())

    status = await ledger.writer.status()

    assert status.lag_s > 1_000_000_000
    assert status.stream_length == 2


def test_every_field_of_an_event_has_a_column() -> None:
    """A field that is added to the event cannot be forgotten in SQL."""
    fields = set(CallRecord.__struct_fields__) - {"usage"}

    assert set(USAGE_COLUMNS) == set(Usage.__struct_fields__)
    assert set(USAGE_EVENTS.c.keys()) == fields | set(USAGE_COLUMNS.values())


def test_row_of_an_event_before_priced_features_is_complete() -> None:
    """Events that wait in the stream or on disk while the gateway is upgraded lose nothing."""
    old = msgspec.json.decode(msgspec.json.encode(usage_event("r1")))
    old["usage"] = {"input": 3, "cache_write": 2, "output": 1}

    row = row_of(msgspec.json.encode(old))

    assert (row["input_tokens"], row["cache_write_tokens"], row["output_tokens"]) == (3, 2, 1)
    assert (row["cache_write_1h_tokens"], row["web_searches"], row["tier"]) == (0, 0, None)
