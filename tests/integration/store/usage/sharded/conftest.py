"""A cluster, and a client of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from gateway.store.redis.address import parse_address
from gateway.store.redis.cluster.cold import ClusterClient
from tests.support.redis_cluster import RedisCluster


@pytest.fixture
def cluster() -> Iterator[RedisCluster]:
    """Return three masters without replicas."""
    started = RedisCluster(replicas=False)
    yield started
    started.close()


@pytest.fixture
async def client(cluster: RedisCluster) -> AsyncIterator[ClusterClient]:
    """Return a client that is closed after the test."""
    made = ClusterClient(parse_address(cluster.url), 1.0)
    yield made
    await made.aclose()
