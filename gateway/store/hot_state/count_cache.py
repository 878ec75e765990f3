"""A cache of recent token counts, shared by all workers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from gateway.store.redis.bus import RedisBus
from gateway.store.redis.client import RedisUnavailable
from gateway.store.redis.connection import Reply, ReplyError

TTL_S = 300
MOST_PER_ACCOUNT = 500
MOST_ACCOUNTS = 100
"""How many counts a worker stores within TTL_S per account, and for how many accounts."""


class CountCache:
    """
    Caches responses of the counting endpoint by digest; the counted text is never stored.

    Args:
        bus: Redis. While it is unavailable, `get` returns None and `put` does nothing.
        key_prefix: `redis.key_prefix`.
        clock: Monotonic seconds.
    """

    def __init__(
        self, bus: RedisBus, key_prefix: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._since = clock()
        self._put: dict[str, int] = {}
        self._prefix = f"{key_prefix}count:"

    async def get(self, digest: str) -> bytes | None:
        """Return a cached response."""
        try:
            found = await self._bus.command(b"GET", self._prefix + digest)
        except (RedisUnavailable, ReplyError):
            return None
        return found if isinstance(found, bytes) else None

    def put(self, digest: str, response: bytes, account_id: str) -> None:
        """Cache a response for TTL_S, up to the bounds above, without waiting for Redis."""
        now = self._clock()
        if now - self._since >= TTL_S:
            self._since = now
            self._put.clear()
        count = self._put.get(account_id, 0)
        if count >= MOST_PER_ACCOUNT or (not count and len(self._put) >= MOST_ACCOUNTS):
            return
        self._put[account_id] = count + 1
        stored = self._bus.command(b"SET", self._prefix + digest, response, b"EX", TTL_S)
        stored.add_done_callback(_retrieve)


def _retrieve(stored: asyncio.Future[Reply]) -> None:
    # A count that could not be cached is computed again: errors are not reported.
    if not stored.cancelled():
        stored.exception()
