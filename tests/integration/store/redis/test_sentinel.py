"""Servers behind real Sentinels: the primary is found, and found again after a failover."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis
from redis.exceptions import RedisError

from gateway.store.redis.address import parse_address
from gateway.store.redis.client import PipelinedRedis, RedisLimits, RedisState
from gateway.store.redis.cluster.kinds import cold_client
from gateway.store.redis.connection import open_connection
from gateway.store.redis.pubsub import Subscription
from tests.support.gateway_process import free_port
from tests.support.valkey import SentinelGroup
from tests.support.waiting import wait_until

pytestmark = pytest.mark.redis


async def reads(client: Redis, value: bytes) -> bool:
    try:
        return await client.get("k") == value
    except RedisError:
        return False


@pytest.fixture
async def group() -> AsyncIterator[SentinelGroup]:
    started = SentinelGroup()
    try:
        await wait_until(lambda: asyncio.to_thread(started.knows_the_replica), 20)
        yield started
    finally:
        started.close()


class Heard:
    """A listener that keeps its messages."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []

    def subscribed(self, since: float) -> None: ...

    def proven(self, since: float) -> None: ...

    def received(self, message: bytes) -> None:
        self.messages.append(message)

    def lost(self) -> None: ...


async def test_failover_moves_bus_subscription_and_cold_client_to_the_new_primary(
    group: SentinelGroup,
) -> None:
    """One dead Sentinel in the list costs nothing; after the primary's death all go on."""
    target = parse_address(group.url(f"127.0.0.1:{free_port()},"))
    heard = Heard()
    bus = PipelinedRedis(target, RedisLimits(command_timeout_s=5, backoff_longest_s=0.1))
    subscription = Subscription(target, "channel", heard)
    cold = cold_client(target)
    try:
        await bus.start()
        await subscription.start()
        assert await bus.command("SET", "k", "before") == b"OK"
        assert await cold.get("k") == b"before"
        assert await bus.command("WAIT", 1, 5000) == 1

        group.primary.kill()
        await wait_until(lambda: bus.state is not RedisState.READY)
        await wait_until(lambda: not subscription.subscribed)

        await wait_until(lambda: bus.state is RedisState.READY and subscription.subscribed, 20)
        assert await bus.command("GET", "k") == b"before"
        assert await bus.command("SET", "k", "after") == b"OK"
        # The Sentinel may doubt the new primary for a moment.
        await wait_until(lambda: reads(cold, b"after"), 10)
        await bus.command("PUBLISH", "channel", "news")
        await wait_until(lambda: heard.messages == [b"news"])
    finally:
        await cold.aclose()
        await subscription.aclose()
        await bus.aclose()


# redis-py drops a connection that is cancelled while it is made, without closing it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_close_ends_at_once_while_the_sentinels_are_asked(group: SentinelGroup) -> None:
    """At whatever point of the discovery; redis-py may swallow a cancellation."""
    group.primary.kill()
    target = parse_address(group.url(f"127.0.0.1:{free_port()},"))
    for step in range(40):
        bus = PipelinedRedis(target, RedisLimits(backoff_longest_s=0.01))
        await bus.start()
        await asyncio.sleep(step * 0.0005)
        async with asyncio.timeout(2):
            await bus.aclose()
    gc.collect()  # so that no other test is warned of those connections


async def test_sentinels_that_know_no_such_service_are_a_failed_connect(
    group: SentinelGroup,
) -> None:
    """The error names the service and the Sentinels, for the log."""
    target = parse_address(f"redis+sentinel://127.0.0.1:{group.sentinel.port}/other")

    label = f"other of Sentinels 127.0.0.1:{group.sentinel.port}"
    with pytest.raises(ConnectionError, match=label):
        await open_connection(target)
