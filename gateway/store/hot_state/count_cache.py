"""Token counts that were answered lately, shared by all workers."""

from __future__ import annotations

import asyncio

from gateway.store.redis.client import Bus, BusUnavailable
from gateway.store.redis.connection import Reply, ReplyError

TTL_S = 3600


class CountCache:
    """
    Remembers answers of the counting endpoint by digest; the counted text is never stored.

    Args:
        bus: To Redis. Without Redis nothing is found, and nothing fails.
        key_prefix: `redis.key_prefix`.
    """

    def __init__(self, bus: Bus, key_prefix: str) -> None:
        self._bus = bus
        self._prefix = f"{key_prefix}count:"

    async def get(self, digest: str) -> bytes | None:
        """Return a remembered answer."""
        try:
            found = await self._bus.command(b"GET", self._prefix + digest)
        except (BusUnavailable, ReplyError):
            return None
        return found if isinstance(found, bytes) else None

    def put(self, digest: str, answer: bytes) -> None:
        """Remember an answer for an hour, without waiting for Redis."""
        stored = self._bus.command(b"SET", self._prefix + digest, answer, b"EX", TTL_S)
        stored.add_done_callback(_ignore)


def _ignore(stored: asyncio.Future[Reply]) -> None:
    """A count that could not be remembered is counted again."""
    if not stored.cancelled():
        stored.exception()
