"""
A subscription to one Redis channel that knows, and says, whether it still hears everything.

It has a connection of its own, on which PINGs travel with the messages: what was published before
a PING was sent has arrived when its answer comes. A connection that stays silent is dropped for a
new one; the listener learns of every gap.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from gateway.store.redis.address import RedisTarget
from gateway.store.redis.connection import (
    MORE,
    RedisConnection,
    Replies,
    ReplyError,
    open_connection,
    pack_one,
)

logger = logging.getLogger(__name__)

PING_EVERY_S = 0.2
_BACKOFF_FIRST_S = 0.05
_BACKOFF_LONGEST_S = 1.0


class Listener(Protocol):
    """Who is told. All are called from the loop and may not wait."""

    def subscribed(self, since: float) -> None:
        """Learn that all that is published from `since` (the clock's seconds) will be heard."""

    def proven(self, since: float) -> None:
        """Learn that all that was published before `since` has been heard."""

    def heard(self, message: bytes) -> None:
        """Take a message."""

    def broken(self) -> None:
        """Learn that messages may be missed until `subscribed` is called again."""


class Subscription:
    """
    Keeps one channel subscribed for as long as it runs.

    Args:
        target: Where Redis is.
        channel: What to subscribe to.
        listener: Who is told.
        silence_s: A connection without an answer for so long is dropped for a new one.
        draw: Uniform in [0, 1), for the backoff's jitter.
        clock: Monotonic seconds; the listener's clock too.
    """

    def __init__(
        self,
        target: RedisTarget,
        channel: str,
        listener: Listener,
        *,
        silence_s: float = 2.0,
        draw: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._target = target
        self._channel = channel
        self._listener = listener
        self._silence_s = silence_s
        self._draw = draw
        self._clock = clock
        self._attempted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._link: RedisConnection | None = None
        self._pings: deque[float] = deque()
        self._subscribing_since = 0.0
        self._subscribed = False
        self._closing = False

    @property
    def subscribed(self) -> bool:
        """Whether the channel is subscribed, as far as is known."""
        return self._subscribed

    async def start(self) -> None:
        """Begin; return when the channel is subscribed or the first attempt has failed."""
        self._task = asyncio.create_task(self._stay_subscribed(), name="redis-subscription")
        await self._attempted.wait()

    async def aclose(self) -> None:
        """Unsubscribe and drop the connection. Idempotent."""
        self._closing = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _stay_subscribed(self) -> None:
        attempt = 0
        while True:
            try:
                link = await open_connection(self._target)
            except (OSError, ReplyError, ValueError) as error:
                reason = error.code if isinstance(error, ReplyError) else type(error).__name__
                fields = {"redis": self._target.label, "reason": reason}
                logger.debug("redis_subscribe_failed", extra=fields)
            else:
                attempt = 0
                await self._listen(link)
            self._attempted.set()
            attempt += 1
            longest = min(_BACKOFF_LONGEST_S, _BACKOFF_FIRST_S * 2.0 ** min(attempt - 1, 16))
            await asyncio.sleep(longest * (0.5 + self._draw() / 2))

    async def _listen(self, link: RedisConnection) -> None:
        """Subscribe, and ask for signs of life until the connection is gone."""
        self._link = link
        self._pings.clear()
        self._subscribing_since = self._clock()
        link.hand_over(self._take)
        link.write(pack_one((b"SUBSCRIBE", self._channel)))
        try:
            while not link.closed.done():
                now = self._clock()
                if self._pings and now - self._pings[0] > self._silence_s:
                    break
                self._pings.append(now)
                link.write(pack_one((b"PING",)))
                await asyncio.wait([link.closed], timeout=PING_EVERY_S)
        finally:
            link.abort()
            self._link = None
            if self._subscribed:
                self._subscribed = False
                if not self._closing:
                    logger.warning("redis_subscription_lost", extra={"channel": self._channel})
                self._listener.broken()

    def _take(self, replies: Replies) -> None:
        while (reply := replies.gets()) is not MORE:
            match reply:
                case [b"message", _, bytes(message)]:
                    self._listener.heard(message)
                case [b"pong", _] if self._pings:
                    self._listener.proven(self._pings.popleft())
                case [b"subscribe", _, _]:
                    self._subscribed = True
                    logger.info("redis_subscribed", extra={"channel": self._channel})
                    self._listener.subscribed(self._subscribing_since)
                    self._attempted.set()
                case _:
                    if self._link is not None:  # refused, or out of step
                        self._link.abort()
                    return
