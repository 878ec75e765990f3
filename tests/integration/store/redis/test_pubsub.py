"""A subscription detects and reports whether it receives every message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gateway.store.redis.address import parse_address
from gateway.store.redis.client import PipelinedRedis, RedisLimits
from gateway.store.redis.pubsub import Subscription
from tests.support.diary import Diary
from tests.support.valkey import ValkeyProcess
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.redis, pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])]


@pytest.fixture
async def bus(valkey: ValkeyProcess) -> AsyncIterator[PipelinedRedis]:
    made = PipelinedRedis(parse_address(valkey.url), RedisLimits(command_timeout_s=5))
    await made.start()
    yield made
    await made.aclose()


async def test_messages_are_heard_in_order_and_proofs_go_on(
    valkey: ValkeyProcess, bus: PipelinedRedis
) -> None:
    """What is published arrives; each PONG proves a later moment."""
    diary = Diary()
    subscription = Subscription(parse_address(valkey.url), "news", diary)
    await subscription.start()

    await asyncio.gather(*[bus.command("PUBLISH", "news", n) for n in range(3)])
    await wait_until(lambda: len(diary.proofs) >= 3)
    await subscription.aclose()

    assert diary.entries == ["subscribed", "0", "1", "2", "lost"]
    assert diary.proofs == sorted(diary.proofs)
    assert not subscription.subscribed


async def test_killed_connection_is_told_and_made_again(
    valkey: ValkeyProcess, bus: PipelinedRedis
) -> None:
    """A lost connection is reported before messages of the new one."""
    diary = Diary()
    subscription = Subscription(parse_address(valkey.url), "news", diary)
    await subscription.start()

    await bus.command("CLIENT", "KILL", "TYPE", "pubsub")
    await wait_until(lambda: diary.entries == ["subscribed", "lost", "subscribed"])
    await bus.command("PUBLISH", "news", "again")

    await wait_until(lambda: diary.entries[-1] == "again")
    await subscription.aclose()


async def test_silent_server_is_left_and_found_again(valkey: ValkeyProcess) -> None:
    """A connection without a reply to PING is replaced, and the gap reported."""
    diary = Diary()
    subscription = Subscription(parse_address(valkey.url), "news", diary, silence_s=0.3)
    await subscription.start()

    valkey.pause()
    await wait_until(lambda: diary.entries == ["subscribed", "lost"])
    valkey.resume()

    await wait_until(lambda: diary.entries == ["subscribed", "lost", "subscribed"])
    await subscription.aclose()


async def test_server_away_at_start_is_waited_for() -> None:
    """Starting does not depend on Redis; the subscription comes when Redis does."""
    diary = Diary()
    valkey = ValkeyProcess()
    subscription = Subscription(parse_address(valkey.url), "news", diary)
    try:
        await subscription.start()
        assert diary.entries == []

        await asyncio.to_thread(valkey.start)
        await wait_until(lambda: diary.entries == ["subscribed"])
        await subscription.aclose()
    finally:
        valkey.close()


async def test_refused_subscription_is_not_taken_for_one() -> None:
    """A subscription without permission is never reported as subscribed."""
    diary = Diary()
    valkey = ValkeyProcess("--user", "quiet", "on", "nopass", "~*", "resetchannels", "+@all")
    try:
        valkey.start()
        target = parse_address(valkey.url.replace("unix://", "unix://quiet:any@"))
        subscription = Subscription(target, "news", diary)
        await subscription.start()

        assert not subscription.subscribed
        assert diary.entries == []
        assert diary.proofs == []
        await subscription.aclose()
    finally:
        valkey.close()
