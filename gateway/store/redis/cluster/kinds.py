"""Chooses the clients for the kind of Redis: one server, or a cluster."""

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
from gateway.store.redis.cluster.detecting import DetectingRedis, DetectingSubscription
from gateway.store.redis.cluster.pubsub import ClusterSubscription, Subscribed
from gateway.store.redis.connection import OtherKindError, ReplyError, open_connection
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
    """Return the client of the hot path, see `PipelinedRedis`, `ClusterRedis`, `DetectingRedis`."""
    kind: type[PipelinedRedis | ClusterRedis | DetectingRedis] = PipelinedRedis
    if target.seeds:
        kind = ClusterRedis
    elif target.may_be_cluster:
        kind = DetectingRedis
    return kind(target, limits, scripts=scripts, observe=observe, on_state=on_state)


def subscription(
    redis: RedisBus, target: RedisAddress, channel: str, listener: Listener
) -> Subscribed:
    """Return a subscription to one channel; `redis` is the client of the same Redis."""
    if isinstance(redis, DetectingRedis):
        return DetectingSubscription(redis, target, channel, listener)
    if isinstance(redis, ClusterRedis):
        return ClusterSubscription(redis, target, channel, listener)
    return Subscription(target, channel, listener)


async def detect(target: RedisAddress) -> RedisAddress:
    """
    Return the address of the cluster that a server belongs to, or `target`.

    A server that does not respond is left to the commands that follow.
    """
    try:
        return await ask_kind(target)
    except (OSError, ReplyError):
        return target


async def ask_kind(target: RedisAddress) -> RedisAddress:
    """
    Return the address of the cluster that a server belongs to, or `target`.

    It asks the server unless the URL says what it is, within `target.connect_timeout_s`.

    Raises:
        OSError: See `open_connection`.
        ReplyError: See `open_connection`.
    """
    if not target.may_be_cluster:
        return target
    try:
        link = await open_connection(target)
    except OtherKindError:
        return target.as_cluster()
    link.abort()
    await link.closed
    return target


def cold_client(target: RedisAddress, *, timeout_s: float = 5.0) -> redis.asyncio.Redis:
    """
    Return a redis-py client for use outside the hot path; which must be closed with `aclose`.

    `target` is an address of a known kind, see `detect`.
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
