"""What a check of a cluster finds."""

from __future__ import annotations

import pytest

from gateway.store.redis.address import parse_address
from gateway.store.redis.cluster.survey import survey_cluster
from gateway.store.redis.connection import RedisRefusedError
from tests.support.gateway_process import free_port
from tests.support.redis_cluster import RedisCluster
from tests.support.valkey import ValkeyProcess

pytestmark = pytest.mark.redis


async def test_survey_asks_every_master(cluster: RedisCluster) -> None:
    """Those without persistence or replicas are named once, coverage if all slots are needed."""
    target = parse_address(cluster.url)
    found = await survey_cluster(target)
    cluster.masters[2]("CONFIG SET", "cluster-require-full-coverage", "yes")
    try:
        strict = await survey_cluster(target)
    finally:
        cluster.masters[2]("CONFIG SET", "cluster-require-full-coverage", "no")

    assert found.product.startswith("a cluster of 3 masters: Valkey ")
    assert len(found.masters) == 3
    assert [advice.remedy for advice in found.warnings] == [
        "set appendonly to yes, or add a replica"
    ]
    assert "set cluster-require-full-coverage to no" in [each.remedy for each in strict.warnings]


async def test_lost_master_is_a_warning(own_cluster: RedisCluster) -> None:
    """The other seeds and masters respond."""
    own_cluster.servers[0].process.kill()

    found = await survey_cluster(parse_address(own_cluster.url))

    assert len(found.failures) == 1
    assert any("does not respond" in advice.problem for advice in found.warnings)


async def test_single_server_is_refused_with_the_remedy() -> None:
    """A URL of a cluster for a server that is none would send commands nowhere."""
    port = free_port()
    server = ValkeyProcess("--port", str(port))
    server.start()
    try:
        with pytest.raises(RedisRefusedError, match="redis://"):
            await survey_cluster(parse_address(f"redis+cluster://127.0.0.1:{port}"))
    finally:
        server.close()
