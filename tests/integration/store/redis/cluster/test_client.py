"""Commands reach the master of their key, wherever it is by now."""

from __future__ import annotations

import asyncio

import pytest
from redis.crc import key_slot

from gateway.store.redis.address import parse_address
from gateway.store.redis.client import RedisLimits, RedisState, RedisUnavailable
from gateway.store.redis.cluster.client import ClusterRedis
from gateway.store.redis.connection import ReplyError
from gateway.store.redis.scripts import lua_script
from tests.support.gateway_process import free_port
from tests.support.redis_cluster import Connect, RedisCluster, Server
from tests.support.waiting import wait_until

pytestmark = pytest.mark.redis

COPY = lua_script("copy", b"redis.call('INCR', KEYS[2]) return redis.call('GET', KEYS[1])")


async def responds(redis: ClusterRedis, *command: str) -> bool:
    try:
        await redis.command(*command)
    except (RedisUnavailable, ReplyError):
        return False
    return True


def another(cluster: RedisCluster, server: Server) -> Server:
    return next(each for each in cluster.masters if each is not server)


async def test_commands_of_one_turn_reach_their_masters(
    cluster: RedisCluster, connect: Connect
) -> None:
    """Each key is where the cluster expects it, and no command is redirected."""
    redis = await connect(cluster)
    for server in cluster.masters:
        server("CONFIG RESETSTAT")

    stored = await asyncio.gather(*[redis.command("SET", f"k{n}", n) for n in range(100)])
    found = await asyncio.gather(*[redis.command("GET", f"k{n}") for n in range(100)])

    assert stored == [b"OK"] * 100
    assert found == [b"%d" % n for n in range(100)]
    assert redis.state is RedisState.READY
    for server in cluster.masters:
        assert server("DBSIZE") > 0
        assert "errorstat_MOVED" not in str(server("INFO", "errorstats"))


async def test_script_is_loaded_where_it_is_missing(
    cluster: RedisCluster, connect: Connect
) -> None:
    """A master without the script gets it; the script runs once."""
    redis = await connect(cluster, scripts=[COPY])
    for server in cluster.masters:
        server("SCRIPT FLUSH")

    await redis.command("SET", "{load}a", "value")
    reply = await redis.script(COPY, ["{load}a", "{load}runs"])

    assert reply == b"value"
    assert await redis.command("GET", "{load}runs") == b"1"


async def test_key_of_a_moving_slot_is_found_on_either_master(
    cluster: RedisCluster, connect: Connect
) -> None:
    """ASK is followed for a key that has moved, and for one that is new; then MOVED, once."""
    redis = await connect(cluster)
    slot = key_slot(b"{ask}")
    old = cluster.owner_of(b"{ask}")
    new = another(cluster, old)
    await redis.command("SET", "{ask}moved", 1)
    await redis.command("SET", "{ask}stays", 2)
    cluster.begin_move(slot, old, new)
    cluster.move_keys(["{ask}moved"], old, new)

    found = [await redis.command("GET", f"{{ask}}{name}") for name in ("moved", "stays")]
    await redis.command("SET", "{ask}new", 3)
    cluster.move_keys(["{ask}stays"], old, new)
    cluster.end_move(slot, old, new)
    after = [await redis.command("GET", f"{{ask}}{name}") for name in ("moved", "stays", "new")]

    assert found == [b"1", b"2"]
    assert after == [b"1", b"2", b"3"]
    assert redis.owner_of(slot) == ("127.0.0.1", new.port)


async def test_script_whose_keys_are_on_two_masters_does_not_run(
    cluster: RedisCluster, connect: Connect
) -> None:
    """TRYAGAIN: nothing has changed, and it runs once after the move."""
    redis = await connect(cluster, scripts=[COPY])
    slot = key_slot(b"{try}")
    old = cluster.owner_of(b"{try}")
    new = another(cluster, old)
    await redis.command("SET", "{try}a", "value")
    await redis.command("SET", "{try}runs", 0)
    cluster.begin_move(slot, old, new)
    cluster.move_keys(["{try}a"], old, new)

    with pytest.raises(ReplyError) as refused:
        await redis.script(COPY, ["{try}a", "{try}runs"])
    runs = await redis.command("GET", "{try}runs")
    cluster.move_keys(["{try}runs"], old, new)
    cluster.end_move(slot, old, new)
    reply = await redis.script(COPY, ["{try}a", "{try}runs"])

    assert refused.value.code == "TRYAGAIN"
    assert (runs, reply) == (b"0", b"value")
    assert await redis.command("GET", "{try}runs") == b"1"


async def test_lost_master_fails_its_own_keys_only_until_its_replica_follows(
    own_cluster: RedisCluster, connect: Connect
) -> None:
    """Other masters respond meanwhile; after the failover the return is reported."""
    states: list[RedisState] = []
    redis = await connect(
        own_cluster,
        limits=RedisLimits(command_timeout_s=1.0, backoff_longest_s=0.1, cooldown_s=0.1),
        on_state=states.append,
    )
    lost = own_cluster.owner_of(b"{a}")
    others = [
        name for name in "bcdefgh" if own_cluster.owner_of(f"{{{name}}}".encode()) is not lost
    ]
    await redis.command("SET", "{a}k", 1)
    lost("WAIT", 1, 1000)
    lost.process.kill()
    del states[:]

    assert not await responds(redis, "GET", "{a}k")
    replies = await asyncio.gather(*[redis.command("SET", f"{{{name}}}", 1) for name in others])
    worst = redis.state
    await wait_until(lambda: responds(redis, "GET", "{a}k"), 20)
    await wait_until(lambda: redis.state is RedisState.READY, 5)

    assert replies == [b"OK"] * len(others)
    assert worst is not RedisState.READY
    assert states[-1] is RedisState.READY
    assert await redis.command("GET", "{a}k") == b"1"


async def test_cluster_that_is_away_fails_commands_in_time_and_is_found_later(
    connect: Connect,
) -> None:
    """The start does not fail; commands do after their deadline."""
    port = free_port()
    limits = RedisLimits(command_timeout_s=0.05)
    redis = ClusterRedis(parse_address(f"redis+cluster://127.0.0.1:{port}"), limits)
    await redis.start()
    try:
        with pytest.raises(RedisUnavailable):
            await redis.command("GET", "k")
        assert redis.state is RedisState.CONNECTING
        assert redis.failed_total == 1
    finally:
        await redis.aclose()
    with pytest.raises(RedisUnavailable):
        await redis.command("GET", "k")


async def test_new_master_is_used_as_soon_as_it_has_a_slot(
    own_cluster: RedisCluster, connect: Connect
) -> None:
    """Its first redirected command connects to it."""
    redis = await connect(own_cluster)
    await redis.command("SET", "{new}k", "value")
    old = own_cluster.owner_of(b"{new}")
    new = own_cluster.add_master()

    await asyncio.to_thread(own_cluster.move, key_slot(b"{new}"), old, new)

    assert await redis.command("GET", "{new}k") == b"value"
    await wait_until(lambda: ("127.0.0.1", new.port) in redis.masters, 10)
