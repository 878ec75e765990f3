"""Ledger writers divide the shards of a cluster."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.store.redis.cluster.cold import ClusterClient
from gateway.store.redis.shards import SHARDS
from gateway.store.usage.sharded.shard_leases import EVERY_S, ShardLeases
from tests.support.redis_cluster import RedisCluster

pytestmark = pytest.mark.redis

ALL = frozenset(range(SHARDS))


class Clock:
    """Unix seconds, set by the test."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    """Return three masters without replicas."""
    started = RedisCluster(replicas=False)
    yield started
    started.close()


async def turn(clock: Clock, *writers: ShardLeases) -> None:
    clock.now += EVERY_S
    for writer in writers:
        await writer.renew()


async def test_writers_hold_equal_shares_and_all_shards(client: ClusterClient) -> None:
    """A second writer gets half, a third a third; the shards of one that ends are taken over."""
    clock = Clock()
    one, two, three = (
        ShardLeases(client, "share:", name, clock=clock) for name in ("one", "two", "three")
    )
    await one.renew()
    alone = one.held
    for _ in range(2):
        await turn(clock, one, two)
    halves = one.held, two.held
    for _ in range(3):
        await turn(clock, one, two, three)
    thirds = one.held, two.held, three.held
    await two.release()
    for _ in range(2):
        await turn(clock, one, three)

    assert alone == ALL
    assert [len(held) for held in halves] == [32, 32]
    assert halves[0] | halves[1] == ALL
    assert sorted(len(held) for held in thirds) == [20, 22, 22]
    assert thirds[0] | thirds[1] | thirds[2] == ALL
    assert one.held | three.held == ALL
    assert not one.held & three.held


async def test_leases_are_kept_while_a_master_is_silent(
    cluster: RedisCluster, client: ClusterClient
) -> None:
    """A shard without a reply stays with its writer, which another cannot take either."""
    clock = Clock()
    one, two = (ShardLeases(client, "kept:", name, clock=clock) for name in ("one", "two"))
    await one.renew()
    cluster.masters[0].process.pause()
    try:
        await turn(clock, one)
        during = one.held
        await turn(clock, two)
    finally:
        cluster.masters[0].process.resume()

    assert during == ALL
    assert two.unreachable > 0
