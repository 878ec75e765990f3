"""
Settles the calls of dead workers; one worker sweeps at a time.

A lease expires because its worker died, or because Redis was unavailable. So a worker does not
sweep for one lease after Redis was unavailable, after its own start, and after a pause of its own
process: live workers renew their leases first.

A worker may be alive and only have been paused. Then its calls continue and are settled twice: the
second settlement supersedes the first, see `booking`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Any, cast

import msgspec

from gateway.store.hot_state.redis_schema import SHARD_FULL, RedisKeys, ShardKeys, account_scripts
from gateway.store.redis.batches import TRANSIENT
from gateway.store.redis.bus import RedisBus
from gateway.store.redis.client import RedisUnavailable
from gateway.store.redis.connection import ReplyError
from gateway.store.usage.sender import dead_letter, dead_letter_key

EVERY_S = 2.0
BATCH = 100
RETRY_MS = 3_600_000
"""When a call that cannot be settled is tried again, if it was not moved to the dead letters."""
logger = logging.getLogger(__name__)


class Sweeper:
    """
    Sweeps all shards every EVERY_S, unless another worker does.

    Args:
        bus: Redis.
        key_prefix: `redis.key_prefix`.
        lease_s: See `money.lease_s`.
        count: Called with the number of settled calls.
        count_refused: Called for each call that was moved to the dead letters.
        now_ms: Unix milliseconds for the scripts; None: the server's clock.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        bus: RedisBus,
        key_prefix: str,
        *,
        lease_s: float,
        count: Callable[[int], None],
        count_refused: Callable[[], None],
        now_ms: Callable[[], int] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bus = bus
        self._names = RedisKeys(key_prefix)
        self._guard = f"{key_prefix}sweeper"
        self._scripts = account_scripts()
        self._lease_s = lease_s
        self._count = count
        self._count_refused = count_refused
        self._dead = dead_letter_key(key_prefix)
        self._now_ms = now_ms
        self._clock = clock
        self._rest_until = clock() + lease_s
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._sweep_forever(), name="sweep-calls")

    async def aclose(self) -> None:
        """Stop sweeping. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    async def sweep(self) -> int:
        """
        Settle every call whose lease has expired; return their number.

        Raises:
            RedisUnavailable, ReplyError: Redis is unavailable; calls settled before stay settled.
        """
        ended = 0
        results = await asyncio.gather(
            *map(self._sweep_shard, self._names.shards), return_exceptions=True
        )
        failure: BaseException | None = None
        for names, result in zip(self._names.shards, results, strict=True):
            if isinstance(result, int):
                ended += result
            elif isinstance(result, ReplyError) and result.code not in TRANSIENT:
                logger.error("sweep_refused", extra={"shard": names.shard, "code": result.code})
            else:
                failure = result
        if ended:
            self._count(ended)
            logger.warning("abandoned_calls_settled", extra={"calls": ended})
        if failure is not None:
            raise failure
        return ended

    async def _sweep_shard(self, names: ShardKeys) -> int:
        ended = 0
        while True:
            now = b"" if self._now_ms is None else self._now_ms()
            found = await self._bus.script(
                self._scripts.expired, (names.calls, names.leases), (now, BATCH)
            )
            calls = _owners(cast("list[Any]", found))
            if not calls:
                return ended
            accounts = dict.fromkeys(names.accounts + owner for _, owner in calls if owner)
            arguments = [part for call in calls for part in call]
            reply = await self._bus.script(
                self._scripts.sweep,
                (names.calls, names.leases, names.queued, names.usage, *accounts),
                (now, names.accounts, SHARD_FULL, RETRY_MS, *arguments),
            )
            count, *failed = cast("list[Any]", reply)
            batch = int(count)
            for start in range(0, len(failed), 3):
                await self._set_aside(names, *failed[start : start + 3])
            ended += batch
            if batch + len(failed) // 3 < BATCH:
                return ended

    async def _set_aside(
        self, names: ShardKeys, request_id: bytes, record: bytes, reason: bytes
    ) -> None:
        """Move the record of a call that cannot be settled to the dead letters."""
        logger.error(
            "abandoned_call_refused",
            extra={"request_id": request_id.decode(errors="replace"), "shard": names.shard},
        )
        await self._bus.command(*dead_letter(self._dead, record, reason))
        await self._bus.command(b"HDEL", names.calls, request_id)
        await self._bus.command(b"ZREM", names.leases, request_id)
        self._count_refused()

    def rest_after(self, pause_s: float) -> None:
        """Do not sweep for one lease after a pause of this process: others may have paused too."""
        if pause_s > self._lease_s / 2:
            self._rest_until = self._clock() + self._lease_s
            logger.warning("worker_paused", extra={"seconds": round(pause_s, 1)})

    def rest_after_outage(self) -> None:
        """Do not sweep for one lease: Redis, or a master of the cluster, was unavailable."""
        self._rest_until = self._clock() + self._lease_s

    async def turn(self) -> bool:
        """Sweep if it is this worker's turn; return whether it was."""
        if self._clock() < self._rest_until:
            await self._bus.command(b"EXISTS", self._guard)  # raises if Redis is unavailable
            return False
        taken = await self._bus.command(
            b"SET", self._guard, b"1", b"NX", b"PX", int(EVERY_S * 1000) - 100
        )
        if taken is None:
            return False
        try:
            await self.sweep()
        except (RedisUnavailable, ReplyError):
            # Of a cluster, a part may be away that other workers have not noticed.
            lease_ms = int(self._lease_s * 1000)
            with contextlib.suppress(RedisUnavailable, ReplyError):
                await self._bus.command(b"SET", self._guard, b"1", b"PX", lease_ms)
            raise
        return True

    async def _sweep_forever(self) -> None:
        while True:
            before = self._clock()
            await asyncio.sleep(EVERY_S)
            self.rest_after(self._clock() - before - EVERY_S)
            try:
                await self.turn()
            except (RedisUnavailable, ReplyError):
                self._rest_until = self._clock() + self._lease_s
            except Exception:  # the root of a task: the next round tries again
                logger.exception("sweep_failed")


def _owners(found: list[Any]) -> list[tuple[bytes, bytes]]:
    """Return request and account id of each call that `lua/expired.lua` found."""
    return [(name, _owner(record)) for name, record in zip(found[::2], found[1::2], strict=True)]


def _owner(record: bytes | None) -> bytes:
    """Return the account id in a call's record; empty if there is none."""
    try:
        parts = msgspec.msgpack.decode(record or b"")
    except (msgspec.DecodeError, UnicodeDecodeError):
        return b""
    first = parts[0] if isinstance(parts, list) and parts else None
    return first.encode() if isinstance(first, str) else b""
