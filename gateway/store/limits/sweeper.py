"""
Ends the calls of workers that died: any worker sweeps, one at a time.

A lease runs out because its worker is dead, or because Redis was away. So for the length of a lease
after Redis was away, and after its own start, a worker sweeps nothing: the living are to be heard
first.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from gateway.store.hot_state.redis_schema import SHARD_FULL, HotNames, ShardNames, hot_scripts
from gateway.store.redis.client import Bus, BusUnavailable
from gateway.store.redis.connection import ReplyError

EVERY_S = 2.0
BATCH = 100
logger = logging.getLogger(__name__)


class Sweeper:
    """
    Sweeps all shards every EVERY_S, unless another worker does.

    Args:
        bus: To Redis.
        key_prefix: `redis.key_prefix`.
        lease_s: See `money.lease_s`.
        count: Called with the number of calls ended.
        now_ms: Unix milliseconds for the scripts; None: the server's clock.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        bus: Bus,
        key_prefix: str,
        *,
        lease_s: float,
        count: Callable[[int], None],
        now_ms: Callable[[], int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bus = bus
        self._names = HotNames(key_prefix)
        self._guard = f"{key_prefix}sweeper"
        self._script = hot_scripts().sweep
        self._lease_s = lease_s
        self._count = count
        self._now_ms = now_ms
        self._clock = clock
        self._rest_until = clock() + lease_s
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._sweep_forever(), name="sweep-calls")

    async def aclose(self) -> None:
        """End. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    async def sweep(self) -> int:
        """
        End every call whose lease has run out; return how many.

        Raises:
            BusUnavailable, ReplyError: Redis is away.
        """
        ended = 0
        for shard in await asyncio.gather(*map(self._sweep_shard, self._names.shards)):
            ended += shard
        if ended:
            self._count(ended)
            logger.warning("calls of dead workers settled", extra={"calls": ended})
        return ended

    async def _sweep_shard(self, names: ShardNames) -> int:
        ended = 0
        while True:
            now = b"" if self._now_ms is None else self._now_ms()
            batch = await self._bus.script(
                self._script,
                (names.calls, names.leases, names.queued, names.usage),
                (now, names.accounts, BATCH, SHARD_FULL),
            )
            assert isinstance(batch, int)
            ended += batch
            if batch < BATCH:
                return ended

    async def turn(self) -> bool:
        """Sweep if it is this worker's turn and time; return whether it was."""
        if self._clock() < self._rest_until:
            await self._bus.command(b"EXISTS", self._guard)  # to learn whether Redis is there
            return False
        taken = await self._bus.command(
            b"SET", self._guard, b"1", b"NX", b"PX", int(EVERY_S * 1000) - 100
        )
        if taken is None:
            return False
        await self.sweep()
        return True

    async def _sweep_forever(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self.turn()
            except (BusUnavailable, ReplyError):
                self._rest_until = self._clock() + self._lease_s
            except Exception:  # a task root: the next round comes
                logger.exception("sweep failed")
