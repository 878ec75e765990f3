"""Limits without Redis are shared by the workers that were live before."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.core.limits import KeyLimits
from gateway.errors import ErrorKind, GatewayError
from gateway.settings import Money
from gateway.store.hot_state.census import GONE_S
from gateway.store.redis.address import parse_address
from gateway.store.redis.client import RedisLimits, RedisUnavailable
from gateway.store.redis.cluster.kinds import cold_client
from tests.support.metering import FakeSql, MeteringWorker, ask_for
from tests.support.valkey import ValkeyProcess

pytestmark = pytest.mark.redis
QUICK = RedisLimits(
    command_timeout_s=0.4, failures_to_open=2, cooldown_s=0.05, stall_s=0.8, backoff_longest_s=0.05
)
KEY = KeyLimits(rpm=30)


class Fleet:
    """Workers of several pods on one Redis."""

    def __init__(self, home: Path, count: int, money: Money) -> None:
        self.server = ValkeyProcess()
        self.server.start()
        self.sql = FakeSql()
        self.workers = [
            MeteringWorker(self.server.url, self.sql, home / str(n), limits=QUICK, money=money)
            for n in range(count)
        ]

    async def start(self) -> None:
        for worker in self.workers:
            await worker.start()
        await self.count()

    async def count(self) -> list[int]:
        """Let every worker enter itself, and then read; return the numbers."""
        for _ in range(2):
            for worker in self.workers:
                await worker.metering.census.count()
        return [worker.metering.census.workers for worker in self.workers]

    async def admitted(self, limits: KeyLimits | None, tokens: int = 1) -> list[int]:
        """Begin calls at each worker until it refuses one; return how many it admitted."""
        return [await self._admitted(worker, limits, tokens) for worker in self.workers]

    async def _admitted(self, worker: MeteringWorker, limits: KeyLimits | None, tokens: int) -> int:
        for n in range(1000):
            try:
                await worker.reserve(ask_for(limits=limits, input_tokens=tokens, max_tokens=0))
            except GatewayError as error:
                assert error.kind is ErrorKind.STORE_UNAVAILABLE
                return n
        raise AssertionError("nothing is refused")

    async def close(self) -> None:
        for worker in self.workers:
            await worker.close()
        self.server.close()


@pytest.fixture
async def three(tmp_path: Path) -> AsyncIterator[Fleet]:
    fleet = Fleet(tmp_path, 3, Money())
    await fleet.start()
    yield fleet
    await fleet.close()


async def test_three_workers_admit_the_limit_together(three: Fleet) -> None:
    """Each admits a third of the requests, and spends a third of the credit."""
    three.sql.put(balance=930, credit=0)
    for worker in three.workers:
        await worker.settle(await worker.reserve(ask_for(limits=KEY)))

    assert await three.count() == [3, 3, 3]
    three.server.kill()

    assert await three.admitted(KEY) == [10, 10, 10]
    assert await three.admitted(None, 29) == [10, 10, 10]


async def test_worker_that_left_or_died_is_not_counted(three: Fleet) -> None:
    """One leaves, one has been silent for too long: the third has the whole limit."""
    three.sql.put()
    left, died, alone = three.workers
    await alone.settle(await alone.reserve(ask_for(limits=KEY)))
    await left.metering.census.aclose()
    client = cold_client(parse_address(three.server.url))
    await client.zadd("capio:workers", {died.metering.census.id: 1000 * GONE_S})
    await client.aclose()
    three.workers = [alone]

    assert await three.count() == [1]
    three.server.kill()
    with pytest.raises(RedisUnavailable):
        await alone.metering.census.count()

    assert alone.metering.census.workers == 1
    assert await three.admitted(KEY) == [30]
    three.workers = [left, died, alone]


async def test_setting_is_the_upper_bound(tmp_path: Path) -> None:
    """Two workers with a share of a tenth admit a tenth each."""
    fleet = Fleet(tmp_path, 2, Money(degraded_share=0.1))
    try:
        await fleet.start()
        fleet.sql.put()
        for worker in fleet.workers:
            await worker.settle(await worker.reserve(ask_for(limits=KEY)))
        fleet.server.kill()

        assert await fleet.admitted(KEY) == [3, 3]
    finally:
        await fleet.close()
