"""
The Redis client of the hot path for a URL that does not say whether it names a cluster.

It begins as the client of one server, which reads at every connect what the server is. If that is
in cluster mode, it is replaced by the client of a cluster, and the reverse. So a process that
starts while Redis is away, or whose endpoint is moved to a cluster, needs no restart. To the
stores it is a Redis that was lost and has come back without its data.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from gateway.store.redis.address import RedisAddress
from gateway.store.redis.client import PipelinedRedis, RedisLimits, RedisState
from gateway.store.redis.cluster.client import ClusterRedis
from gateway.store.redis.cluster.pubsub import ClusterSubscription, Subscribed
from gateway.store.redis.connection import Argument, Reply
from gateway.store.redis.pubsub import Listener, Subscription
from gateway.store.redis.scripts import LuaScript

_AGAIN_S: Final = 1.0
"""The pause before a further change, of an endpoint whose servers are of both kinds."""
logger = logging.getLogger(__name__)


class DetectingRedis:
    """
    Implements `bus.RedisBus` by the client of the kind that the server turns out to be.

    Args:
        target: See `RedisAddress.may_be_cluster`.
        limits: See `PipelinedRedis`.
        scripts: See `PipelinedRedis`.
        observe: See `PipelinedRedis`.
        on_state: See `PipelinedRedis` and `ClusterRedis`.
    """

    def __init__(
        self,
        target: RedisAddress,
        limits: RedisLimits = RedisLimits(),  # noqa: B008 - frozen
        *,
        scripts: Sequence[LuaScript] = (),
        observe: Callable[[float, int], None] | None = None,
        on_state: Callable[[RedisState], None] | None = None,
    ) -> None:
        self._target = target
        self._limits = limits
        self._scripts = scripts
        self._observe = observe
        self._on_state = on_state
        self._client: PipelinedRedis | ClusterRedis = self._single()
        self._replaced: PipelinedRedis | ClusterRedis | None = None
        self._failed = 0
        """Of replaced clients."""
        self._closed = False
        self._change: asyncio.Task[None] | None = None
        self.on_change: list[Callable[[], None]] = []
        """Called after `client` was replaced."""

    @property
    def client(self) -> PipelinedRedis | ClusterRedis:
        """The client of the kind that was found last."""
        return self._client

    @property
    def state(self) -> RedisState:
        """The state of the client in use."""
        return self._client.state

    @property
    def pending(self) -> int:
        """Commands without a reply."""
        return self._client.pending

    @property
    def failed_total(self) -> int:
        """Commands that failed without a reply, of all clients."""
        return self._failed + self._client.failed_total

    async def start(self) -> None:
        """Start connecting; return when the first attempt of the right client has ended."""
        await self._client.start()
        if self._change is not None:
            await asyncio.wait([self._change])

    async def aclose(self) -> None:
        """Fail pending commands and disconnect. Idempotent."""
        self._closed = True
        if self._change is not None:
            self._change.cancel()
            await asyncio.wait([self._change])
        if self._replaced is not None:
            await self._replaced.aclose()
        await self._client.aclose()

    def command(self, *args: Argument) -> asyncio.Future[Reply]:
        """Send one command, see `bus.RedisBus`."""
        return self._client.command(*args)

    def before_flush(self, gather: Callable[[], None]) -> None:
        """Call `gather` before the commands of this turn are sent, see `bus.RedisBus`."""
        self._client.before_flush(gather)

    async def script(
        self, script: LuaScript, keys: Sequence[Argument], args: Sequence[Argument] = ()
    ) -> Reply:
        """Run a script, see `bus.RedisBus`."""
        return await self._client.script(script, keys, args)

    def _single(self) -> PipelinedRedis:
        client = PipelinedRedis(
            self._target,
            self._limits,
            scripts=self._scripts,
            observe=self._observe,
            on_state=lambda state: self._state_changed(client, state),
            on_other_kind=lambda: self._replace(client, self._cluster),
        )
        return client

    def _cluster(self) -> ClusterRedis:
        client = ClusterRedis(
            self._target.as_cluster(),
            self._limits,
            scripts=self._scripts,
            observe=self._observe,
            on_state=lambda state: self._state_changed(client, state),
            on_other_kind=lambda: self._replace(client, self._single),
        )
        return client

    def _state_changed(self, client: PipelinedRedis | ClusterRedis, state: RedisState) -> None:
        if client is self._client and self._on_state is not None:
            self._on_state(state)

    def _replace(
        self,
        client: PipelinedRedis | ClusterRedis,
        make: Callable[[], PipelinedRedis | ClusterRedis],
    ) -> None:
        """Replace a client, which may be in the middle of its attempt to connect."""
        if client is not self._client or self._closed:
            return
        again = self._change is not None
        self._replaced, self._client = client, make()
        kind = "cluster" if isinstance(self._client, ClusterRedis) else "one server"
        logger.info("redis_kind_found", extra={"redis": self._target.label, "kind": kind})
        self._change = asyncio.create_task(self._begin(client, _AGAIN_S if again else 0.0))
        for changed in self.on_change:
            changed()

    async def _begin(self, old: PipelinedRedis | ClusterRedis, pause_s: float) -> None:
        await old.aclose()
        self._failed += old.failed_total
        await asyncio.sleep(pause_s)
        await self._client.start()


class DetectingSubscription:
    """
    A subscription that follows the kind of a `DetectingRedis`.

    Args:
        redis: Started before.
        target: Its address.
        channel: The channel's name.
        listener: Receives the messages.
    """

    def __init__(
        self, redis: DetectingRedis, target: RedisAddress, channel: str, listener: Listener
    ) -> None:
        self._redis = redis
        self._target = target
        self._channel = channel
        self._listener = listener
        self._subscription: Subscribed | None = None
        self._change: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Subscribe; return when the first attempt has ended."""
        self._redis.on_change.append(self._follow)
        self._subscription = self._make()
        await self._subscription.start()

    async def aclose(self) -> None:
        """Close the connections. Idempotent."""
        if self._follow in self._redis.on_change:
            self._redis.on_change.remove(self._follow)
        if self._change is not None:
            # Not cancelled, since it closes the subscriptions before; its first attempt is bounded.
            await asyncio.wait([self._change])
        if self._subscription is not None:
            await self._subscription.aclose()

    def _make(self) -> Subscribed:
        client = self._redis.client
        if isinstance(client, ClusterRedis):
            return ClusterSubscription(
                client, self._target.as_cluster(), self._channel, self._listener
            )
        return Subscription(self._target, self._channel, self._listener)

    def _follow(self) -> None:
        old, self._subscription = self._subscription, self._make()
        self._listener.lost()
        self._change = asyncio.create_task(self._begin(old, self._change, self._subscription))

    async def _begin(
        self, old: Subscribed | None, before: asyncio.Task[None] | None, new: Subscribed
    ) -> None:
        if before is not None:
            await asyncio.wait([before])
        if old is not None:
            await old.aclose()
        await new.start()
