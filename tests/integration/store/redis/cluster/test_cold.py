"""redis-py's commands over a cluster."""

from __future__ import annotations

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, ResponseError

from gateway.store.redis.address import parse_address
from gateway.store.redis.cluster.cold import ClusterClient
from gateway.store.redis.cluster.kinds import cold_client
from tests.support.redis_cluster import RedisCluster

pytestmark = pytest.mark.redis


async def test_commands_and_pipelines_reach_all_masters(cluster: RedisCluster) -> None:
    """Replies have redis-py's forms, errors its classes."""
    client = cold_client(parse_address(cluster.url))
    try:
        await client.set("text", "ü")
        await client.hset("hash", mapping={"a": 1, "b": 2.5})
        async with client.pipeline(transaction=False) as pipeline:
            for name in "abcdef":
                pipeline.incr(name)
            pipeline.execute_command("XGROUP CREATE", "stream", "group", "0", "MKSTREAM")
            counts = await pipeline.execute()

        assert isinstance(client, ClusterClient)
        assert await client.get("text") == "ü".encode()
        assert await client.hgetall("hash") == {b"a": b"1", b"b": b"2.5"}
        assert counts == [1] * 6 + [True]
        assert (await client.execute_command("XINFO GROUPS", "stream"))[0]["name"] == b"group"
        assert await client.eval("return KEYS[1]", 1, "key") == b"key"
        with pytest.raises(NoScriptError):
            await client.evalsha("0" * 40, 1, "key")
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            await client.get("hash")
    finally:
        await client.aclose()


async def test_pipeline_has_an_error_for_each_command_of_a_lost_master(
    own_cluster: RedisCluster,
) -> None:
    """The others have their results."""
    client = cold_client(parse_address(own_cluster.url), timeout_s=0.5)
    names = [f"key{number}" for number in range(12)]
    lost = own_cluster.owner_of(b"key0")
    expected = [own_cluster.owner_of(name.encode()) is not lost for name in names]
    try:
        await client.set("key0", 0)
        lost.process.kill()
        async with client.pipeline(transaction=False) as pipeline:
            for name in names:
                pipeline.incr(name)
            results = await pipeline.execute(raise_on_error=False)
    finally:
        await client.aclose()

    assert [result == 1 for result in results] == expected
    failures = [each for each in results if each != 1]
    assert failures
    assert all(isinstance(failure, RedisConnectionError) for failure in failures)
