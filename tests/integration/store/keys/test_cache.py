"""The key check over a real Valkey: tiers, sharing, versions, revocation, outages."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from gateway.core import api_keys
from gateway.core.model import Principal
from gateway.errors import ErrorKind, GatewayError
from gateway.settings import Keys
from gateway.store.keys.cache import publish_change
from gateway.store.keys.entry import KeyEntry, decode_entry, encode_entry, entry_name
from gateway.store.redis.address import parse_address
from gateway.store.redis.client import PipelinedRedis, RedisState
from gateway.store.redis.cluster.kinds import cold_client
from tests.support.key_cluster import Changed, FakeSql, Worker, digest_of
from tests.support.valkey import ValkeyProcess
from tests.support.waiting import wait_until

pytestmark = pytest.mark.redis

OpenWorker = Callable[..., Awaitable[Worker]]


@pytest.fixture
def sql() -> FakeSql:
    return FakeSql()


@pytest.fixture
def prefix() -> str:
    """A key prefix that no other test uses."""
    return f"t{uuid.uuid4().hex}:"


@pytest.fixture
async def open_worker(sql: FakeSql, prefix: str) -> AsyncIterator[OpenWorker]:
    """Make started workers, closed at the end."""
    workers: list[Worker] = []

    async def opened(url: str, **options: object) -> Worker:
        worker = Worker(url, sql, prefix, **options)  # type: ignore[arg-type]
        workers.append(worker)
        await worker.start()
        return worker

    yield opened
    for worker in workers:
        await worker.close()


async def entry_in_redis(bus: PipelinedRedis, prefix: str, digest: bytes) -> KeyEntry | None:
    raw = await bus.command("GET", entry_name(prefix, digest))
    return decode_entry(raw) if isinstance(raw, bytes) else None


async def test_lookup_asks_sql_once_then_redis_then_nobody(
    valkey_url: str, open_worker: OpenWorker, sql: FakeSql
) -> None:
    """A key is loaded from SQL once for all workers, from Redis once per worker."""
    digest = sql.create("laptop")
    first, second = await open_worker(valkey_url), await open_worker(valkey_url)
    assert first.keys.cached(digest) is None

    assert await first.keys.lookup(digest) == sql.rows[digest]
    assert await second.keys.lookup(digest) == sql.rows[digest]
    assert await second.keys.lookup(digest) == sql.rows[digest]

    assert (first.sources, second.sources) == (["sql"], ["redis"])
    assert first.keys.cached(digest) == second.keys.cached(digest) == sql.rows[digest]


async def test_lookup_of_one_key_at_once_is_one_load(
    valkey_url: str, open_worker: OpenWorker, sql: FakeSql
) -> None:
    """Simultaneous lookups of one key query SQL once."""
    digest = sql.create("laptop")
    worker = await open_worker(valkey_url)

    found = await asyncio.gather(*[worker.keys.lookup(digest) for _ in range(200)])

    assert found == [sql.rows[digest]] * 200
    assert sql.queries == 1


async def test_lookup_cancelled_client_leaves_the_others_their_answer(
    valkey_url: str, open_worker: OpenWorker, sql: FakeSql
) -> None:
    """Cancelling the lookup that started a load does not cancel the load."""
    digest = sql.create("laptop")
    worker = await open_worker(valkey_url)
    sql.hold = asyncio.Event()
    first = asyncio.create_task(worker.keys.lookup(digest))
    second = asyncio.create_task(worker.keys.lookup(digest))
    await wait_until(lambda: sql.held == 1)

    first.cancel()
    sql.hold.set()

    assert await second == sql.rows[digest]
    assert first.cancelled()


async def test_lookup_unknown_key_is_remembered_for_all(
    valkey_url: str, open_worker: OpenWorker, sql: FakeSql
) -> None:
    """Noise of the right form costs one query for all workers, not one per request."""
    first, second = await open_worker(valkey_url), await open_worker(valkey_url)

    for worker in (first, first, second, second):
        assert await worker.keys.lookup(digest_of("nobody")) is None

    assert sql.queries == 1
    assert first.keys.cached(digest_of("nobody")) is None


async def test_unknown_keys_are_bounded_in_memory_and_in_redis(
    valkey_url: str, open_worker: OpenWorker, prefix: str
) -> None:
    """More noise than the bound reaches SQL, but fills neither the worker nor Redis."""
    worker = await open_worker(valkey_url, settings=Keys(negative_entries=5))

    for number in range(20):
        assert await worker.keys.lookup(digest_of(f"noise{number}")) is None

    stored = await worker.bus.command("KEYS", f"{prefix}*")
    assert isinstance(stored, list)
    assert len(stored) == 5
    assert isinstance(stored[0], bytes)
    life_ms = await worker.bus.command("PTTL", stored[0])
    assert isinstance(life_ms, int)
    assert 0 < life_ms <= 30_000


async def test_key_made_after_it_was_unknown_works_at_once(
    valkey_url: str, open_worker: OpenWorker, sql: FakeSql
) -> None:
    """Announcing a new key undoes that it was remembered as unknown."""
    worker, other = await open_worker(valkey_url), await open_worker(valkey_url)
    assert await worker.keys.lookup(digest_of("late")) is None
    assert await other.keys.lookup(digest_of("late")) is None

    digest = sql.create("late")
    assert await other.keys.publish(Changed(digest, sql.rows[digest]))

    await wait_until(lambda: worker.keys._unknown.find(digest) is None)
    assert await worker.lookup_state(digest) == "active"


@pytest.mark.parametrize("state", ["revoked", "disabled"])
async def test_change_takes_effect_in_every_worker_within_a_second(
    valkey_url: str, open_worker: OpenWorker, sql: FakeSql, state: str
) -> None:
    """After the change is published no worker serves the old state for a second."""
    digest = sql.create("laptop")
    workers = [await open_worker(valkey_url) for _ in range(4)]
    for worker in workers:
        assert await worker.lookup_state(digest) == "active"
    began = time.monotonic()

    await workers[0].keys.publish(sql.change(digest, state))

    await wait_until(lambda: all(w.state(digest) != "active" for w in workers), timeout_s=1.0)
    assert time.monotonic() - began < 1.0
    assert [await worker.lookup_state(digest) for worker in workers] == [state] * 4
    assert sql.queries == 1


async def test_change_published_from_the_command_line_reaches_the_workers(
    valkey_url: str, open_worker: OpenWorker, sql: FakeSql, prefix: str
) -> None:
    """A process without a bus publishes through redis-py."""
    digest = sql.create("laptop")
    worker = await open_worker(valkey_url)
    assert await worker.lookup_state(digest) == "active"

    client = cold_client(parse_address(valkey_url))
    await publish_change(client, prefix, sql.change(digest, "revoked"))
    await client.aclose()

    await wait_until(lambda: worker.state(digest) is None, timeout_s=1.0)
    assert await worker.lookup_state(digest) == "revoked"


async def test_revocation_during_a_slow_sql_read_is_not_undone_by_it(
    valkey_url: str, open_worker: OpenWorker, sql: FakeSql, prefix: str
) -> None:
    """A slow SQL read does not overwrite a revocation that happened meanwhile."""
    digest = sql.create("laptop")
    worker, other = await open_worker(valkey_url), await open_worker(valkey_url)
    sql.hold = asyncio.Event()
    lookup = asyncio.create_task(worker.lookup_state(digest))
    await wait_until(lambda: sql.held == 1)

    await other.keys.publish(sql.change(digest, "revoked"))
    sql.hold.set()

    assert await lookup == "revoked"
    assert worker.state(digest) == "revoked"
    held = await entry_in_redis(worker.bus, prefix, digest)
    assert held is not None and held.version == 2


async def test_revocation_during_a_read_without_redis_is_not_missed(
    valkey_url: str, open_worker: OpenWorker, sql: FakeSql, prefix: str
) -> None:
    """When the message comes before the old response, the worker asks again."""
    digest = sql.create("laptop")
    worker = await open_worker(valkey_url)
    sql.hold = asyncio.Event()
    lookup = asyncio.create_task(worker.lookup_state(digest))
    await wait_until(lambda: sql.held == 1)

    sql.change(digest, "revoked")
    worker.keys.received(digest.hex().encode() + b" 2")
    sql.hold.set()

    assert await lookup == "revoked"


async def test_older_entry_never_replaces_a_newer_one_in_redis(
    valkey_url: str, open_worker: OpenWorker, sql: FakeSql, prefix: str
) -> None:
    """Of two changes published in the wrong order the newer stays."""
    digest = sql.create("laptop")
    worker = await open_worker(valkey_url)
    older, newer = sql.change(digest, "disabled"), sql.change(digest, "revoked")

    await worker.keys.publish(newer)
    await worker.keys.publish(older)

    held = await entry_in_redis(worker.bus, prefix, digest)
    assert held is not None and held.principal == newer.principal


async def test_entry_older_than_what_the_worker_knew_is_not_believed(
    valkey_url: str, open_worker: OpenWorker, sql: FakeSql, prefix: str
) -> None:
    """A Redis that lost a write does not bring a revoked key back to who knew better."""
    digest = sql.create("laptop")
    worker = await open_worker(valkey_url, settings=Keys(near_ttl_s=0.01))
    old = encode_entry(KeyEntry(1, time.time(), sql.rows[digest]))
    sql.change(digest, "revoked")
    assert await worker.lookup_state(digest) == "revoked"

    await worker.bus.command("SET", entry_name(prefix, digest), old)
    await wait_until(lambda: worker.keys.cached(digest) is None)

    assert await worker.lookup_state(digest) == "revoked"


async def test_unreadable_entry_and_message_do_no_harm(
    valkey_url: str, open_worker: OpenWorker, sql: FakeSql, prefix: str
) -> None:
    """An unreadable entry is loaded from SQL; an unreadable message clears the local cache."""
    digest = sql.create("laptop")
    worker = await open_worker(valkey_url)
    await worker.bus.command("SET", entry_name(prefix, digest), b"\x80 what")

    assert await worker.lookup_state(digest) == "active"
    assert await entry_in_redis(worker.bus, prefix, digest) is not None

    await worker.bus.command("PUBLISH", f"{prefix}keys:changed", b"\x80 what")
    await wait_until(lambda: worker.keys.cached(digest) is None)
    assert await worker.lookup_state(digest) == "active"


async def test_broken_subscription_drops_what_is_remembered(
    valkey: ValkeyProcess, open_worker: OpenWorker, sql: FakeSql
) -> None:
    """While a worker might miss a change it does not rely on its memory."""
    digest = sql.create("laptop")
    worker, admin = await open_worker(valkey.url), await open_worker(valkey.url)
    assert await worker.lookup_state(digest) == "active"

    await admin.bus.command("CLIENT", "KILL", "TYPE", "pubsub")
    await wait_until(lambda: worker.keys.cached(digest) is None)

    await wait_until(lambda: worker.subscription.subscribed)
    assert await worker.lookup_state(digest) == "active"
    assert worker.state(digest) == "active"


async def test_silent_subscription_is_not_relied_on(
    valkey: ValkeyProcess, open_worker: OpenWorker, sql: FakeSql
) -> None:
    """If the subscription is silent for a second, the local cache is no longer used."""
    digest = sql.create("laptop")
    worker = await open_worker(valkey.url)
    assert await worker.lookup_state(digest) == "active"

    valkey.pause()

    await wait_until(lambda: worker.keys.cached(digest) is None, timeout_s=1.0)
    sql.change(digest, "revoked")
    assert await worker.lookup_state(digest) == "revoked"
    valkey.resume()


async def test_redis_killed_known_keys_are_found_in_sql(
    valkey: ValkeyProcess, open_worker: OpenWorker, sql: FakeSql
) -> None:
    """Without Redis a key costs SQL at most two queries a second, and revocations still count."""
    digest = sql.create("laptop")
    worker = await open_worker(valkey.url)
    assert await worker.lookup_state(digest) == "active"
    valkey.kill()
    await wait_until(lambda: not worker.subscription.subscribed)
    before = sql.queries

    for _ in range(100):
        assert await worker.lookup_state(digest) == "active"
    assert sql.queries <= before + 2

    sql.change(digest, "revoked")
    await wait_until(lambda: worker.state(digest) is None, timeout_s=1.0)
    assert await worker.lookup_state(digest) == "revoked"


async def test_neither_redis_nor_sql_is_store_unavailable(
    valkey: ValkeyProcess, open_worker: OpenWorker, sql: FakeSql
) -> None:
    """With both away the check says so instead of guessing."""
    digest = sql.create("laptop")
    worker = await open_worker(valkey.url)
    sql.away = True
    valkey.kill()

    with pytest.raises(GatewayError) as caught:
        await worker.keys.lookup(digest)

    assert caught.value.kind is ErrorKind.STORE_UNAVAILABLE
    assert worker.sources == ["none"]


async def test_sql_away_known_keys_go_on_from_redis(
    valkey_url: str, open_worker: OpenWorker, sql: FakeSql, prefix: str
) -> None:
    """Without SQL even an entry that is due for comparison is used."""
    digest = sql.create("laptop")
    worker = await open_worker(valkey_url)
    old = encode_entry(KeyEntry(1, time.time() - 7200, sql.rows[digest]))
    await worker.bus.command("SET", entry_name(prefix, digest), old)
    sql.away = True

    assert await worker.lookup_state(digest) == "active"


async def test_entry_due_for_comparison_is_compared_with_sql(
    valkey_url: str, open_worker: OpenWorker, sql: FakeSql, prefix: str
) -> None:
    """No entry is believed for longer than its lifetime without asking SQL."""
    digest = sql.create("laptop")
    worker = await open_worker(valkey_url)
    old = encode_entry(KeyEntry(1, time.time() - 3601, sql.rows[digest]))
    await worker.bus.command("SET", entry_name(prefix, digest), old)
    sql.change(digest, "revoked")

    assert await worker.lookup_state(digest) == "revoked"

    held = await entry_in_redis(worker.bus, prefix, digest)
    assert held is not None
    assert held.version == 2
    assert held.checked_at > time.time() - 60


async def test_revocation_while_redis_is_away_holds_after_its_return(
    open_worker: OpenWorker, sql: FakeSql, prefix: str
) -> None:
    """A change that Redis missed is announced when it is back with its old entries."""
    valkey = ValkeyProcess(persist=True)
    try:
        valkey.start()
        digest = sql.create("laptop")
        worker = await open_worker(valkey.url)
        assert await worker.lookup_state(digest) == "active"
        valkey.kill()
        await wait_until(lambda: worker.bus.state is not RedisState.READY)

        assert not await worker.keys.publish(sql.change(digest, "revoked"))
        assert await worker.lookup_state(digest) == "revoked"

        await asyncio.to_thread(valkey.start)
        await wait_until(lambda: worker.subscription.subscribed)

        async def corrected() -> bool:
            if worker.bus.state is not RedisState.READY:
                return False
            held = await entry_in_redis(worker.bus, prefix, digest)
            return held is not None and held.version == 2

        await wait_until(corrected, timeout_s=5.0)
        assert await worker.lookup_state(digest) == "revoked"
    finally:
        valkey.close()


async def test_start_corrects_what_redis_missed_while_nobody_ran(
    valkey_url: str, open_worker: OpenWorker, sql: FakeSql, prefix: str
) -> None:
    """A key revoked while the gateway was down does not come back from an old entry."""
    digest = sql.create("laptop")
    earlier = await open_worker(valkey_url)
    assert await earlier.lookup_state(digest) == "active"
    await earlier.close()
    sql.change(digest, "revoked")

    worker = await open_worker(valkey_url)

    async def revoked() -> bool:
        return await worker.lookup_state(digest) == "revoked"

    await wait_until(revoked, timeout_s=1.0)


async def test_near_cache_is_bounded(
    valkey_url: str, open_worker: OpenWorker, sql: FakeSql
) -> None:
    """More keys than the bound work, only not all from memory."""
    digests = [sql.create(f"k{number}") for number in range(10)]
    worker = await open_worker(valkey_url, settings=Keys(near_entries=3))

    for digest in digests:
        assert await worker.lookup_state(digest) == "active"

    assert sum(worker.keys.cached(digest) is not None for digest in digests) == 3


async def test_raw_key_appears_nowhere(
    valkey: ValkeyProcess,
    open_worker: OpenWorker,
    sql: FakeSql,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Neither Redis nor a log nor an error holds a key, or a part of it."""
    caplog.set_level(logging.DEBUG)
    raw = api_keys.mint(bytes(range(32)), "sk-capio-live-")
    digest = api_keys.digest(raw)
    sql.rows[digest] = Principal("key_1", "acc_1", "laptop", "active", 1)
    worker = await open_worker(valkey.url)
    await worker.keys.lookup(digest)
    await worker.keys.publish(sql.change(digest, "revoked"))

    names = await worker.bus.command("KEYS", "*")
    assert isinstance(names, list)
    stored = [await worker.bus.command("GET", str(name, "ascii")) for name in names]  # type: ignore[arg-type]
    valkey.kill()
    sql.away = True
    with pytest.raises(GatewayError) as caught:
        await worker.keys.lookup(digest_of("other"))

    lines = [vars(record) for record in caplog.records]
    assert (
        raw[14:30]
        not in f"{names}{stored}{caplog.text}{lines}{caught.value!r}{caught.value.detail}"
    )
