"""
Counts the live workers of all pods in Redis.

Each worker registers in a sorted set every few seconds and reads the number of members. While Redis
is unavailable, limits are divided by the last number read, see `fallback`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import Callable
from pathlib import Path

from gateway.store.redis.bus import RedisBus
from gateway.store.redis.client import RedisUnavailable
from gateway.store.redis.connection import ReplyError
from gateway.store.redis.scripts import read_script

EVERY_S = 3.0
GONE_S = 15.0
"""A worker that has not registered for this time is not counted."""
_LUA = Path(__file__).parent / "lua"
logger = logging.getLogger(__name__)


class WorkerCensus:
    """
    The entry of one worker.

    Args:
        bus: Redis.
        key_prefix: `redis.key_prefix`.
        observe: Called with each number.

    Attributes:
        id: The worker's name in the set.
        workers: The last number read, this worker included; 0 before the first.
    """

    def __init__(
        self, bus: RedisBus, key_prefix: str, observe: Callable[[int], object] | None = None
    ) -> None:
        self._bus = bus
        self._key = f"{key_prefix}workers"
        self._observe = observe
        self.id = uuid.uuid4().hex
        self._script = read_script(_LUA, "census")
        self._task: asyncio.Task[None] | None = None
        self.workers = 0

    def start(self) -> None:
        """Register this worker now and every EVERY_S seconds."""
        self._task = asyncio.create_task(self._count_forever(), name="worker-census")

    async def aclose(self) -> None:
        """Remove this worker's entry. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        if not self.workers:
            return
        with contextlib.suppress(RedisUnavailable, ReplyError):  # the entry expires
            await self._bus.command("ZREM", self._key, self.id)

    async def count(self) -> None:
        """
        Register this worker and read the number.

        Raises:
            RedisUnavailable, ReplyError: The number stays.
        """
        reply = await self._bus.script(self._script, [self._key], [self.id, int(GONE_S * 1000)])
        assert isinstance(reply, int)
        self.workers = reply
        if self._observe is not None:
            self._observe(reply)

    async def _count_forever(self) -> None:
        while True:
            try:
                await self.count()
            except (RedisUnavailable, ReplyError):
                pass  # logged by the client; the last number counts
            except Exception:  # the root of a task: the next round tries again
                logger.exception("worker_census_failed")
            await asyncio.sleep(EVERY_S)
