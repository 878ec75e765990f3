"""
A subscription to one Redis channel that detects and reports gaps.

It uses a connection of its own, on which it sends PINGs: messages published before a PING was sent
have arrived when its reply arrives. A connection without replies is replaced; every gap is reported
to the listener.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from gateway.store.redis.address import RedisAddress
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
    """Receives messages and gaps. Called from the event loop; must not block."""

    def subscribed(self, since: float) -> None:
        """Messages published from `since` (clock seconds) on will be received."""

    def proven(self, since: float) -> None:
        """All messages published before `since` have been received."""

    def received(self, message: bytes) -> None:
        """Handle a message."""

    def lost(self) -> None:
        """Messages may be missed until `subscribed` is called again."""


class Subscription:
    """
    Keeps one channel subscribed.

    Args:
        target: Where Redis is.
        channel: The channel's name.
        listener: Receives the messages.
        silence_s: A connection without a reply for this long is replaced.
        draw: Uniform in [0, 1), for the backoff's jitter.
        clock: Monotonic seconds; the listener's clock too.
    """

    def __init__(
        self,
        target: RedisAddress,
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
        """Whether the channel is subscribed, as far as this client knows."""
        return self._subscribed

    async def start(self) -> None:
        """Start; return when the channel is subscribed or the first attempt has failed."""
        self._task = asyncio.create_task(self._stay_subscribed(), name="redis-subscription")
        await self._attempted.wait()

    async def aclose(self) -> None:
        """Close the connection. Idempotent."""
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
        """Subscribe, then send PINGs until the connection is closed."""
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
                self._listener.lost()

    def _take(self, replies: Replies) -> None:
        while (reply := replies.gets()) is not MORE:
            match reply:
                case [b"message", _, bytes(message)]:
                    self._listener.received(message)
                case [b"pong", _] if self._pings:
                    self._listener.proven(self._pings.popleft())
                case [b"subscribe", _, _]:
                    self._subscribed = True
                    logger.info("redis_subscribed", extra={"channel": self._channel})
                    self._listener.subscribed(self._subscribing_since)
                    self._attempted.set()
                case _:
                    if self._link is not None:  # an error reply, or an unexpected one
                        self._link.abort()
                    return
