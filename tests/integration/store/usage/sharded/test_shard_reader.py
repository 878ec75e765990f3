"""The ledger writer's reader on a cluster: shard by shard, whatever becomes of one of them."""

from __future__ import annotations

import asyncio

import pytest

from gateway.store.hot_state.redis_schema import RedisKeys
from gateway.store.redis.cluster.cold import ClusterClient
from gateway.store.redis.shards import SHARDS
from gateway.store.usage.reader import GROUP, StreamEntry
from gateway.store.usage.sharded.shard_reader import ShardReader
from tests.support.redis_cluster import RedisCluster
from tests.support.waiting import wait_until

pytestmark = pytest.mark.redis

NAMES = RedisKeys("capio:")


@pytest.fixture
async def reader(client: ClusterClient) -> ShardReader:
    return ShardReader(client, "capio:", claim_idle_ms=1)


async def add(client: ClusterClient, shard: int, event: str) -> None:
    await client.xadd(NAMES.shards[shard].usage, {"e": event})


async def read(reader: ShardReader) -> dict[int, bytes | None]:
    """Return what is new by shard, read at most twice: a stream's first read joins it."""
    entries = await reader.read_new(None) or await reader.read_new(None)
    return {reader._names[entry.stream].shard: entry.event for entry in entries}


async def test_entries_of_all_masters_are_read_and_removed(
    client: ClusterClient, reader: ShardReader
) -> None:
    """One entry in every shard; what is acknowledged is gone."""
    for shard in range(SHARDS):
        await add(client, shard, f"event {shard}")

    entries: list[StreamEntry] = []
    while found := await reader.read_new(None) or await reader.read_new(None):
        entries += found
    age = await reader.oldest_age_s(10**14)
    await reader.acknowledge(entries)

    assert {entry.event for entry in entries} == {b"event %d" % shard for shard in range(SHARDS)}
    assert age > 0
    assert await reader.length() == 0
    assert reader.unreachable == 0


async def test_lost_master_delays_no_other_and_its_entries_come_back(
    cluster: RedisCluster, client: ClusterClient, reader: ShardReader
) -> None:
    """Those that were delivered and not acknowledged are delivered again."""
    lost = cluster.owner_of(NAMES.shards[0].usage)
    other = next(names.shard for names in NAMES.shards if cluster.owner_of(names.usage) is not lost)
    await add(client, 0, "delivered")
    await read(reader)
    lost.process.pause()
    try:
        await add(client, other, "meanwhile")
        found: dict[int, bytes | None] = {}
        for _ in range(10):
            found |= await read(reader)
            if other in found:
                break
        unreachable = reader.unreachable
        length = await reader.length()
    finally:
        lost.process.resume()

    async def comes_back() -> bool:
        return (await read(reader)).get(0) == b"delivered"

    await wait_until(comes_back, 15)
    assert found == {other: b"meanwhile"}
    assert unreachable > 0
    assert length == 1
    assert reader.unreachable == 0


async def test_group_that_was_lost_is_made_again(
    client: ClusterClient, reader: ShardReader
) -> None:
    """A failover may lose the last writes, among them a new group."""
    await add(client, 3, "first")
    await read(reader)
    await client.execute_command("XGROUP DESTROY", NAMES.shards[3].usage, GROUP)

    async def reads_again() -> bool:
        return (await read(reader)).get(3) == b"first"

    await wait_until(reads_again, 10)


async def test_entries_of_a_dead_writer_are_claimed(
    client: ClusterClient, reader: ShardReader
) -> None:
    """Its leases end, and another consumer gets what it had."""
    dead = ShardReader(client, "capio:")
    await add(client, 3, "event")
    assert await read(dead) == {3: b"event"}
    await dead._leases.release()
    await read(reader)
    await asyncio.sleep(0.01)

    claimed = await reader.claim()

    assert [entry.event for entry in claimed] == [b"event"]
