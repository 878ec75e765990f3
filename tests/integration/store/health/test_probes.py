"""Probes over a real Valkey: one worker sends it, all learn its outcome, who asked reads it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest

from gateway.core.routing.probes import Probe, ProbeOutcome
from gateway.store.health.probes import RedisProbes
from gateway.store.health.shared import RedisHealth, health_channel
from gateway.store.redis.address import parse_address
from gateway.store.redis.client import PipelinedRedis
from gateway.store.redis.pubsub import Subscription
from tests.support.waiting import wait_until

pytestmark = pytest.mark.redis
ASKED = Probe(probe="a" * 43, deployment="p/m")
DONE = Probe(
    probe=ASKED.probe,
    deployment="p/m",
    outcomes=(ProbeOutcome(credential=1, accepted=True, status=200, message="ü" * 300, ms=7),),
)


@pytest.fixture
async def redis(valkey_url: str) -> AsyncIterator[PipelinedRedis]:
    client = PipelinedRedis(parse_address(valkey_url))
    await client.start()
    yield client
    await client.aclose()


async def test_probe_reaches_all_workers_and_one_sends_it(
    redis: PipelinedRedis, valkey_url: str
) -> None:
    """Its outcome reaches them as well, and is kept for the operator who asked."""
    prefix = f"t{uuid.uuid4().hex}:"
    received: list[Probe] = []
    listener = RedisHealth(redis, prefix)
    listener.on_probe = received.append
    subscription = Subscription(parse_address(valkey_url), health_channel(prefix), listener)
    await subscription.start()
    probes = RedisProbes(redis.command, prefix)

    while not await probes.ask(ASKED):
        pass
    await wait_until(lambda: received)
    claims = [await probes.claim(ASKED.probe) for _ in range(2)]
    assert await probes.outcome(ASKED.probe) is None
    await probes.finish(DONE)
    await wait_until(lambda: len(received) == 2)
    await subscription.aclose()

    assert claims == [True, False]
    assert received == [ASKED, DONE]
    assert await probes.outcome(ASKED.probe) == DONE


async def test_deployment_is_probed_once_in_a_while(redis: PipelinedRedis) -> None:
    """Each probe is a call that the upstream charges."""
    probes = RedisProbes(redis.command, f"t{uuid.uuid4().hex}:")

    assert [await probes.may_ask(label) for label in ("p/m", "p/m", "q/m")] == [True, False, True]
