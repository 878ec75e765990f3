"""Counters of wrong attempts, in Redis and without it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.console.signin.secret import ConsoleSecret
from gateway.console.signin.throttle import LIFE_S, Throttle, network_of
from gateway.store.redis.address import parse_address
from gateway.store.redis.client import PipelinedRedis, RedisLimits
from gateway.store.redis.cluster.kinds import cold_client
from tests.support.console import NO_REDIS

SECRET = ConsoleSecret(b"s" * 32)


class Counting:
    """A throttle and its clock."""

    def __init__(self, redis: PipelinedRedis, prefix: str) -> None:
        self.now = 1000.0
        self.throttle = Throttle(redis, prefix, SECRET, lambda: self.now)

    async def fail(self, times: int, name: str = "ada", address: str = "192.0.2.1") -> None:
        for _ in range(times):
            await self.throttle.failed(name, address)


@pytest.fixture(params=["redis", "local"])
async def counting(request: pytest.FixtureRequest) -> AsyncIterator[Counting]:
    is_local = request.param == "local"
    url = NO_REDIS if is_local else request.getfixturevalue("valkey_url")
    redis = PipelinedRedis(
        parse_address(url), RedisLimits(command_timeout_s=0.01 if is_local else 5.0)
    )
    if not is_local:
        await redis.start()
    yield Counting(redis, f"{id(request)}:")
    await redis.aclose()


async def test_waits_double_by_name_up_to_a_minute(counting: Counting) -> None:
    """Five attempts are free; success forgets them; other names do not wait."""
    await counting.fail(4)
    assert await counting.throttle.wait_s("ada", "192.0.2.1") == 0
    waits = []
    for _ in range(7):
        await counting.fail(1)
        waits.append(await counting.throttle.wait_s("ada", "198.51.100.7"))

    assert waits == [2, 4, 8, 16, 32, 60, 60]
    assert await counting.throttle.wait_s("ben", "198.51.100.7") == 0
    await counting.throttle.succeeded("ada", "192.0.2.1")
    assert await counting.throttle.wait_s("ada", "192.0.2.1") == 0


async def test_address_gets_thirty_wrong_attempts_an_hour(counting: Counting) -> None:
    """Over all names; a network of IPv6 is one address."""
    for at in range(30):
        assert await counting.throttle.wait_s("new", "2001:db8::1") == 0
        await counting.fail(1, name=f"name{at}", address=f"2001:db8::{at + 1:x}")

    wait = await counting.throttle.wait_s("new", "2001:db8::ffff")
    assert LIFE_S - 60 < wait <= LIFE_S
    assert await counting.throttle.wait_s("new", "2001:db8:0:1::1") == 0


async def test_counters_of_this_process_end_after_an_hour() -> None:
    """As those in Redis do by their expiry."""
    redis = PipelinedRedis(parse_address(NO_REDIS), RedisLimits(command_timeout_s=0.01))
    counting = Counting(redis, "")
    await counting.fail(6)
    assert await counting.throttle.wait_s("ada", "192.0.2.1") == 4

    counting.now += LIFE_S
    assert await counting.throttle.wait_s("ada", "192.0.2.1") == 0
    await counting.fail(1)
    assert await counting.throttle.wait_s("ada", "192.0.2.1") == 0
    await redis.aclose()


async def test_redis_holds_neither_names_nor_addresses(valkey_url: str) -> None:
    """Only HMACs under the console's secret, with an end."""
    redis = PipelinedRedis(parse_address(valkey_url), RedisLimits(command_timeout_s=5.0))
    await redis.start()
    await Counting(redis, "hidden:").fail(6)
    client = cold_client(parse_address(valkey_url))
    names = [name async for name in client.scan_iter("hidden:*")]

    assert len(names) == 3
    assert not any(b"ada" in name or b"192" in name for name in names)
    assert all([0 < await client.ttl(name) <= LIFE_S for name in names])
    await client.aclose()
    await redis.aclose()


def test_ipv4_addresses_and_unknown_ones_are_taken_as_they_are() -> None:
    """A client of a socket has no address."""
    assert network_of("192.0.2.1") == "192.0.2.1"
    assert network_of("2001:db8:1:2:3::4") == "2001:db8:1:2::/64"
    assert network_of("") == ""
