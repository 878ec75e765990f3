"""Health over a real Valkey: changes reach other workers, states outlive them, counts add up."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Iterable

import pytest

from gateway.core.routing.failures import FailureClass
from gateway.core.routing.health import (
    DeploymentHealth,
    HealthChange,
    HealthCounts,
    HealthRules,
    HealthState,
)
from gateway.core.routing.probes import TIMEOUT_S
from gateway.pipeline.routing.probe_rights import ProbeRights
from gateway.store.health.shared import (
    PROBE_MS,
    RedisHealth,
    health_channel,
    minute_key,
    probe_key,
)
from gateway.store.redis.address import parse_address
from gateway.store.redis.client import PipelinedRedis
from gateway.store.redis.pubsub import Subscription
from tests.support.valkey import ValkeyProcess
from tests.support.waiting import wait_until

pytestmark = pytest.mark.redis
LABEL = "deepseek/chat"


class Worker:
    """One worker's exchange and what it learned."""

    def __init__(self, url: str, prefix: str) -> None:
        target = parse_address(url)
        self.redis = PipelinedRedis(target)
        self.learned: list[HealthChange] = []
        self.exchange = RedisHealth(self.redis, prefix, self.learn)
        self.subscription = Subscription(target, health_channel(prefix), self.exchange)

    def learn(self, changes: Iterable[HealthChange]) -> None:
        self.learned.extend(changes)

    async def start(self) -> Worker:
        await self.redis.start()
        await self.subscription.start()
        return self

    async def aclose(self) -> None:
        await self.subscription.aclose()
        await self.redis.aclose()


@pytest.fixture
def prefix() -> str:
    return f"t{uuid.uuid4().hex}:"


@pytest.fixture
async def workers(valkey_url: str, prefix: str) -> AsyncIterator[list[Worker]]:
    """Two workers of different pods."""
    pair = [await Worker(valkey_url, prefix).start() for _ in range(2)]
    yield pair
    for each in pair:
        await each.aclose()


def change(state: HealthState, failure: FailureClass | None = None) -> HealthChange:
    return HealthChange(LABEL, state, "w1", int(time.time() * 1000), failure)


async def test_change_reaches_the_other_worker_within_a_second(workers: list[Worker]) -> None:
    """Published, not polled."""
    opened = change(HealthState.OPEN, FailureClass.NETWORK)
    began = time.monotonic()

    workers[0].exchange.publish(opened)
    await wait_until(lambda: opened in workers[1].learned)

    assert time.monotonic() - began < 1


async def test_worker_that_starts_later_learns_what_is_out(
    workers: list[Worker], valkey_url: str, prefix: str
) -> None:
    """A state is kept until the deployment is ready again."""
    out = change(HealthState.OUT, FailureClass.QUOTA)
    workers[0].exchange.publish(out)
    await wait_until(lambda: out in workers[1].learned)

    late = await Worker(valkey_url, prefix).start()
    await wait_until(lambda: late.learned == [out])
    workers[0].exchange.publish(change(HealthState.READY))
    await wait_until(lambda: late.learned[-1].state is HealthState.READY)
    latest = await Worker(valkey_url, prefix).start()
    await latest.redis.command("PING")

    assert latest.learned == []
    await late.aclose()
    await latest.aclose()


async def test_states_are_loaded_once_commands_work_again(valkey: ValkeyProcess) -> None:
    """The subscription may be back first."""
    target = parse_address(valkey.url)
    late = PipelinedRedis(target)  # not connected yet: its commands fail
    learned: list[HealthChange] = []
    exchange = RedisHealth(late, "t:", learned.extend)
    writer = PipelinedRedis(target)
    await writer.start()
    out = change(HealthState.OUT, FailureClass.QUOTA)
    RedisHealth(writer, "t:").publish(out)
    await writer.command("PING")

    exchange.subscribed(0.0)
    await asyncio.sleep(0.05)
    assert learned == []
    await late.start()
    await wait_until(lambda: learned == [out])

    for each in (late, writer):
        await each.aclose()
    exchange.lost()


async def test_claim_of_a_probe_that_ended_during_an_outage_is_deleted_afterwards() -> None:
    """Redis kept it; the next probe need not wait for its end."""
    valkey = ValkeyProcess(persist=True)
    valkey.start()
    worker = await Worker(valkey.url, "t:").start()
    try:
        token = await worker.exchange.claim_probe(LABEL)
        assert token is not None
        valkey.kill()
        worker.exchange.release_probe(LABEL, token)
        await wait_until(lambda: worker.redis.failed_total)
        valkey.start()
        assert valkey.command("EXISTS", probe_key("t:", LABEL)) == b":1\r\n"

        await wait_until(lambda: valkey.command("EXISTS", probe_key("t:", LABEL)) == b":0\r\n", 10)
    finally:
        await worker.aclose()
        valkey.close()


async def test_counts_of_workers_add_up(workers: list[Worker], prefix: str) -> None:
    """A minute's hash has the sums of all workers, and an end."""
    counts = HealthCounts(5, 3, {"network": 1, "timeout": 1}, {4: 2})
    for worker in workers:
        worker.exchange.add(LABEL, 77, counts, HealthState.OPEN)
        await worker.redis.command("PING")

    key = minute_key(prefix, LABEL, 77)
    reply = await workers[0].redis.command("HGETALL", key)
    lifetime = await workers[0].redis.command("TTL", key)

    assert isinstance(reply, list)
    assert dict(zip(reply[::2], reply[1::2], strict=True)) == {
        b"attempts": b"10",
        b"ok": b"6",
        b"failed:network": b"2",
        b"failed:timeout": b"2",
        b"ttft:4": b"4",
        b"state": b"open",
    }
    assert isinstance(lifetime, int)
    assert 7100 < lifetime <= 7200


async def test_only_one_worker_may_probe(workers: list[Worker], prefix: str) -> None:
    """As long as a probe can take, until it ends; the claim is for one deployment."""
    first, second = workers

    token = await first.exchange.claim_probe(LABEL)
    assert token is not None
    assert await second.exchange.claim_probe(LABEL) is None
    assert await second.exchange.claim_probe("other/chat") is not None
    left_ms = await first.redis.command("PTTL", probe_key(prefix, LABEL))
    assert isinstance(left_ms, int)
    assert TIMEOUT_S * 1000 < left_ms <= PROBE_MS

    first.exchange.release_probe(LABEL, token)
    await first.redis.command("PING")

    assert await second.exchange.claim_probe(LABEL) is not None


async def test_claim_is_released_only_by_its_owner(workers: list[Worker], prefix: str) -> None:
    """A worker whose claim expired does not end the one of the next worker."""
    first, second = workers
    expired = await first.exchange.claim_probe(LABEL)
    assert expired is not None
    await first.redis.command("DEL", probe_key(prefix, LABEL))
    assert await second.exchange.claim_probe(LABEL) is not None

    first.exchange.release_probe(LABEL, expired)
    await first.redis.command("PING")

    assert await first.exchange.claim_probe(LABEL) is None


async def test_calls_of_all_workers_test_a_deployment_one_at_a_time(workers: list[Worker]) -> None:
    """The right passes on when the call has ended; without Redis each worker has its own."""
    rights = [ProbeRights(worker.exchange) for worker in workers]
    healths = [DeploymentHealth(LABEL, HealthRules(failures_to_open=1, open_s=0.0)) for _ in rights]
    for health in healths:
        health.open(0.0)

    def tests() -> list[int]:
        """Plan a call on each worker; return which of them test the deployment."""
        planned = zip(rights, healths, strict=True)
        return [
            number for number, (each, health) in enumerate(planned) if each.try_probe(health, 1.0)
        ]

    found: list[int] = []

    def one_tests() -> bool:
        found.extend(tests())
        return bool(found)

    await wait_until(one_tests)
    for _ in range(20):
        found += tests()
        await workers[0].redis.command("PING")
    assert len(found) == 1
    rights[found[0]].ended(LABEL)
    other = 1 - found[0]
    rights[other]._refused_until.clear()
    await wait_until(lambda: other in tests())

    await workers[found[0]].redis.aclose()
    healths[found[0]].open(0.0)
    await wait_until(lambda: found[0] in tests())
    for each in rights:
        await each.aclose()


async def test_worker_without_redis_probes_for_itself(workers: list[Worker]) -> None:
    """Nobody can be asked."""
    await workers[0].redis.aclose()

    token = await workers[0].exchange.claim_probe(LABEL)
    assert token is not None
    workers[0].exchange.release_probe(LABEL, token)


async def test_foreign_message_is_ignored(workers: list[Worker], prefix: str) -> None:
    """Whatever stands on the channel, the subscription goes on."""
    first, second = workers
    for message in (b"{", b"[]", b'{"label":1}', b"\xff", b"x" * 5000):
        await first.redis.command("PUBLISH", health_channel(prefix), message)
    good = change(HealthState.OPEN)
    first.exchange.publish(good)

    await wait_until(lambda: second.learned == [good])
