"""A cluster for the tests that leave it as it was, and one for each that does not."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from gateway.store.redis.address import parse_address
from gateway.store.redis.client import RedisLimits
from gateway.store.redis.cluster.client import ClusterRedis
from tests.support.redis_cluster import Connect, RedisCluster


@pytest.fixture(scope="module")
def cluster() -> Iterator[RedisCluster]:
    """Return three masters without replicas, shared by the tests of a module."""
    started = RedisCluster(replicas=False)
    yield started
    started.close()


@pytest.fixture
def own_cluster() -> Iterator[RedisCluster]:
    """Return three masters with a replica each."""
    started = RedisCluster()
    yield started
    started.close()


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Return a function that connects to a cluster."""
    made: list[ClusterRedis] = []

    async def connected(cluster: RedisCluster, **options: Any) -> ClusterRedis:
        limits = RedisLimits(command_timeout_s=2.0, backoff_longest_s=0.1, cooldown_s=0.1)
        redis = ClusterRedis(parse_address(cluster.url), options.pop("limits", limits), **options)
        made.append(redis)
        await redis.start()
        return redis

    yield connected
    for redis in made:
        await redis.aclose()
