"""Chooses the clients for the kind of Redis that is configured: one server, or a cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import redis.asyncio
from redis.asyncio.sentinel import SentinelConnectionPool

from gateway.store.redis.address import RedisAddress
from gateway.store.redis.bus import RedisBus
from gateway.store.redis.client import PipelinedRedis, RedisLimits, RedisState
from gateway.store.redis.cluster.client import ClusterRedis
from gateway.store.redis.cluster.cold import ClusterClient
from gateway.store.redis.cluster.pubsub import ClusterSubscription, Subscribed
from gateway.store.redis.pubsub import Listener, Subscription
from gateway.store.redis.scripts import LuaScript


def pipelined_client(
    target: RedisAddress,
    limits: RedisLimits = RedisLimits(),  # noqa: B008 - frozen
    *,
    scripts: Sequence[LuaScript] = (),
    observe: Callable[[float, int], None] | None = None,
    on_state: Callable[[RedisState], None] | None = None,
) -> RedisBus:
    """Return the client of the hot path, see `PipelinedRedis` and `ClusterRedis`."""
    kind = ClusterRedis if target.seeds else PipelinedRedis
    return kind(target, limits, scripts=scripts, observe=observe, on_state=on_state)


def subscription(
    redis: RedisBus, target: RedisAddress, channel: str, listener: Listener
) -> Subscribed:
    """Return a subscription to one channel; `redis` is the client of the same Redis."""
    if isinstance(redis, ClusterRedis):
        return ClusterSubscription(redis, target, channel, listener)
    return Subscription(target, channel, listener)


def cold_client(target: RedisAddress, *, timeout_s: float = 5.0) -> redis.asyncio.Redis:
    """
    Return a redis-py client for use outside the hot path; which must be closed with `aclose`.

    It connects on first use. Replies are bytes. A command costs about 100 us of CPU.
    """
    if target.seeds:
        return ClusterClient(target, timeout_s)
    options: dict[str, Any] = {
        "username": target.username,
        "password": target.password,
        "db": target.db,
        "client_name": target.client_name,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": target.connect_timeout_s,
        "ssl": target.tls is not None,
        **target.tls_options,
    }
    if target.sentinels is not None:
        group = target.sentinels
        pool = SentinelConnectionPool(group.service, group, **options)  # type: ignore[no-untyped-call] # its stub
        return redis.asyncio.Redis.from_pool(pool)
    return redis.asyncio.Redis(
        host=target.host, port=target.port, unix_socket_path=target.path, **options
    )
