"""A channel is subscribed on every master, and what they prove together is passed on."""

from __future__ import annotations

import asyncio

import pytest

from gateway.store.redis.address import parse_address
from gateway.store.redis.cluster.kinds import subscription
from tests.support.diary import Diary
from tests.support.redis_cluster import Connect, RedisCluster
from tests.support.waiting import wait_until

pytestmark = pytest.mark.redis


async def test_message_of_any_master_is_received(cluster: RedisCluster, connect: Connect) -> None:
    """Published on each of them; proofs go on."""
    redis = await connect(cluster)
    diary = Diary()
    subscribed = subscription(redis, parse_address(cluster.url), "news", diary)
    await subscribed.start()
    await wait_until(lambda: diary.entries == ["subscribed"])

    for index, server in enumerate(cluster.masters):
        server("PUBLISH", "news", index)
    await wait_until(lambda: {"0", "1", "2"} <= set(diary.entries))
    await wait_until(lambda: len(diary.proofs) >= 3)
    await subscribed.aclose()

    assert diary.entries[0] == "subscribed"
    assert diary.proofs == sorted(diary.proofs)


async def test_nothing_is_proven_while_one_master_is_silent(
    cluster: RedisCluster, connect: Connect
) -> None:
    """Its messages might be missed, though the others respond."""
    redis = await connect(cluster)
    diary = Diary()
    subscribed = subscription(redis, parse_address(cluster.url), "news", diary)
    await subscribed.start()
    await wait_until(lambda: len(diary.proofs) >= 2)
    silent = cluster.masters[1].process
    silent.pause()
    try:
        await asyncio.sleep(0.3)
        before = len(diary.proofs)
        await asyncio.sleep(0.5)
        during = len(diary.proofs)
    finally:
        silent.resume()
    await wait_until(lambda: len(diary.proofs) > during, 10)
    await subscribed.aclose()

    assert during == before


async def test_failover_is_a_gap_that_ends_with_the_new_master(
    own_cluster: RedisCluster, connect: Connect
) -> None:
    """Lost at once; subscribed again on the new set of masters, whose messages arrive."""
    redis = await connect(own_cluster)
    diary = Diary()
    subscribed = subscription(redis, parse_address(own_cluster.url), "news", diary)
    await subscribed.start()
    lost = own_cluster.owner_of(b"k")
    lost.process.kill()

    await wait_until(lambda: diary.entries[:2] == ["subscribed", "lost"], 5)
    await wait_until(lambda: diary.entries[-1] == "subscribed", 20)
    own_cluster.owner_of(b"k")("PUBLISH", "news", "again")
    await wait_until(lambda: "again" in diary.entries)
    await subscribed.aclose()
