"""
The ledger writer's end of the usage stream: a consumer group, read and acknowledged in batches.

What is stored is acknowledged and deleted in one step, so that everything that is in the stream
still has to be stored. That makes losing the group harmless: it is made again from the start.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import redis.asyncio
from redis.exceptions import ResponseError

from gateway.store.usage_stream import FIELD, dead_letter_key, usage_stream_key

GROUP = b"ledger"
BATCH = 500
BLOCK_MS = 250
"""Also how long a stop may have to wait."""
CLAIM_IDLE_MS = 15_000
"""An entry that its reader has not stored for so long is taken over; twice is harmless."""
DEAD_LETTER_BOUND = 100_000
_FORGET_IDLE_MS = 3_600_000


class Entry(NamedTuple):
    """One entry of the stream. `event` is None when the stream's bound has trimmed it away."""

    entry_id: bytes
    event: bytes | None


class UsageReader:
    """
    One consumer of the group. Any method may raise redis.exceptions.RedisError.

    Args:
        client: Replies are bytes; its socket timeout is longer than BLOCK_MS.
        key_prefix: `redis.key_prefix`.
        claim_idle_ms: See CLAIM_IDLE_MS.
    """

    def __init__(
        self,
        client: redis.asyncio.Redis,
        key_prefix: str,
        *,
        claim_idle_ms: int = CLAIM_IDLE_MS,
    ) -> None:
        self._client = client
        self._command: Callable[..., Awaitable[Any]] = client.execute_command
        self._stream = usage_stream_key(key_prefix)
        self._dead = dead_letter_key(key_prefix)
        self._claim_idle_ms = claim_idle_ms
        self.consumer = f"{socket.gethostname()}-{os.getpid()}-{time.time_ns():x}"

    async def ensure_group(self) -> None:
        """Make the stream and its group unless they are there; a new group reads from the start."""
        try:
            await self._command("XGROUP CREATE", self._stream, GROUP, "0", "MKSTREAM")
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    async def read_new(self, block_ms: int | None = BLOCK_MS) -> list[Entry]:
        """Return entries that no consumer has; wait for one unless `block_ms` is None."""
        wait = () if block_ms is None else ("BLOCK", block_ms)
        return await self._read(b">", *wait)

    async def read_own(self) -> list[Entry]:
        """Return entries that were delivered to this consumer and are not acknowledged."""
        return await self._read(b"0")

    async def claim(self) -> list[Entry]:
        """Take over entries of consumers that have died, or of this one's lost replies."""
        reply = await self._command(
            "XAUTOCLAIM", self._stream, GROUP, self.consumer, self._claim_idle_ms, "0-0",
            "COUNT", BATCH,
        )  # fmt: skip
        return [Entry(entry_id, fields.get(FIELD)) for entry_id, fields in reply[1] if fields]

    async def acknowledge(self, entries: list[Entry]) -> None:
        """Remove entries from the stream."""
        ids = [entry.entry_id for entry in entries]
        async with self._client.pipeline(transaction=True) as pipeline:
            pipeline.execute_command("XACK", self._stream, GROUP, *ids)
            pipeline.execute_command("XDEL", self._stream, *ids)
            await pipeline.execute()

    async def park(self, entry: Entry, reason: str) -> None:
        """Copy an entry to the dead-letter stream, its reason beside it. It stays here, too."""
        await self._command(
            "XADD", self._dead, "MAXLEN", "~", DEAD_LETTER_BOUND, "*",
            FIELD, entry.event or b"", "reason", reason, "entry_id", entry.entry_id,
        )  # fmt: skip

    async def redeliver_orphans(self) -> bool:
        """
        Start over when entries are left that no consumer holds and none will be given.

        That is so after a consumer was deleted by hand, or a failover forgot deliveries. Call it
        when there is nothing new.
        """
        length = await self.length()
        if length == 0:
            return False
        pending = await self._command("XPENDING", self._stream, GROUP)
        if pending["pending"]:
            return False
        await self._command("XGROUP SETID", self._stream, GROUP, "0")
        return True

    async def length(self) -> int:
        """Return how many entries wait."""
        return int(await self._command("XLEN", self._stream))

    async def oldest_age_s(self, now_ms: int) -> float:
        """Return the age of the oldest entry that waits; 0 when none does."""
        reply = await self._command("XRANGE", self._stream, "-", "+", "COUNT", 1)
        if not reply:
            return 0.0
        added_ms = int(reply[0][0].partition(b"-")[0])
        return max(0.0, (now_ms - added_ms) / 1000)

    async def purge_dead_letters(self, before_ms: int) -> None:
        """Delete dead letters of before `before_ms`."""
        await self._command("XTRIM", self._dead, "MINID", f"{before_ms}-0")

    async def forget_consumers(self) -> None:
        """Delete consumers that have been silent for an hour and hold nothing."""
        consumers = await self._command("XINFO CONSUMERS", self._stream, GROUP)
        for consumer in consumers:
            if consumer["pending"] == 0 and consumer["idle"] > _FORGET_IDLE_MS:
                await self._command("XGROUP DELCONSUMER", self._stream, GROUP, consumer["name"])

    async def aclose(self) -> None:
        """Close the client."""
        await self._client.aclose()

    async def _read(self, start: bytes, *options: str | int) -> list[Entry]:
        reply: list[Any] = await self._command(
            "XREADGROUP", "GROUP", GROUP, self.consumer, "COUNT", BATCH, *options,
            "STREAMS", self._stream, start,
        )  # fmt: skip
        if not reply:
            return []
        return [Entry(entry_id, fields.get(FIELD)) for entry_id, fields in reply[0][1]]
