"""
The ledger writer's end of the usage streams: a consumer group, read and acknowledged in batches.

What is stored is acknowledged and deleted in one step, so that everything that is in a stream still
has to be stored. That makes losing the group harmless: it is made again from the start. The same
step takes the stored events off the accounts' waiting sums and brings the balances that SQL made of
them, see `lua/stored.lua`.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import redis.asyncio
from redis.exceptions import NoScriptError

from gateway.store.accounts.snapshot import Position
from gateway.store.hot_state.redis_schema import RedisKeys, ShardKeys, account_scripts
from gateway.store.usage.sender import DEAD_LETTER_BOUND, FIELD, dead_letter_key

GROUP = b"ledger"
BATCH = 500
"""Entries acknowledged in one step."""
PER_SHARD = 200
"""Entries of one stream in one read."""
BLOCK_MS = 1000
CLAIM_IDLE_MS = 15_000
"""An entry that its reader has not stored for so long is taken over; twice is harmless."""
_FORGET_IDLE_MS = 3_600_000
logger = logging.getLogger(__name__)


class Entry(NamedTuple):
    """
    One entry of a stream.

    `event` is None when it was deleted there: the settlement of an abandoned call has taken its
    place. It is empty when the entry has other fields.
    """

    stream: bytes
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
        self._hot = RedisKeys(key_prefix)
        self._names = {names.usage: names for names in self._hot.shards}
        self._streams = tuple(self._names)
        self._script = account_scripts().stored
        self._dead = dead_letter_key(key_prefix)
        self._claim_idle_ms = claim_idle_ms
        self.consumer = f"{socket.gethostname()}-{os.getpid()}-{time.time_ns():x}"

    async def ensure_group(self) -> None:
        """Make streams and groups that are not there; a new group reads from the start."""
        made = await self._each("XGROUP CREATE", GROUP, "0", "MKSTREAM", errors=True)
        for answer in made:
            if isinstance(answer, Exception) and not str(answer).startswith("BUSYGROUP"):
                raise answer

    async def read_new(self, block_ms: int | None = BLOCK_MS) -> list[Entry]:
        """Return entries that no consumer has; wait for one unless `block_ms` is None."""
        wait = () if block_ms is None else ("BLOCK", block_ms)
        return await self._read(b">", *wait)

    async def read_own(self) -> list[Entry]:
        """Return entries that were delivered to this consumer and are not acknowledged."""
        return await self._read(b"0")

    async def claim(self) -> list[Entry]:
        """Take over entries of consumers that have died, or of this one's lost replies."""
        replies = await self._each(
            "XAUTOCLAIM", GROUP, self.consumer, self._claim_idle_ms, "0-0", "COUNT", PER_SHARD
        )
        return [
            Entry(stream, entry_id, fields.get(FIELD, b""))
            for stream, reply in zip(self._streams, replies, strict=True)
            for entry_id, fields in reply[1]
            if fields
        ]

    async def acknowledge(
        self,
        entries: Sequence[Entry],
        positions: Mapping[str, Position] | None = None,
        repeated: Collection[Entry] = (),
    ) -> None:
        """
        Remove entries from their streams.

        Args:
            entries: SQL has them, or they are parked.
            positions: Account id -> its balance in SQL, for every account of a costly entry.
            repeated: Those whose request id SQL had had before.
        """
        newest = (positions or {}).items()
        by_stream: dict[bytes, list[Entry]] = {}
        for entry in entries:
            by_stream.setdefault(entry.stream, []).append(entry)
        for stream, of_stream in by_stream.items():
            names = self._names[stream]
            of_shard = [pair for pair in newest if self._hot.of(pair[0]) is names]
            for start in range(0, len(of_stream), BATCH):
                batch = of_stream[start : start + BATCH]
                ids: list[bytes] = []
                for entry in batch:
                    ids += (entry.entry_id, b"1" if entry in repeated else b"0")
                await self._remove(names, ids, of_shard)

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
        waiting = [
            stream
            for stream, length in zip(self._streams, await self._each("XLEN"), strict=True)
            if length
        ]
        held = await self._each("XPENDING", GROUP, streams=waiting)
        orphaned = [
            stream for stream, pending in zip(waiting, held, strict=True) if not pending["pending"]
        ]
        await self._each("XGROUP SETID", GROUP, "0", streams=orphaned)
        return bool(orphaned)

    async def length(self) -> int:
        """Return how many entries wait."""
        return sum(await self._each("XLEN"))

    async def oldest_age_s(self, now_ms: int) -> float:
        """Return the age of the oldest entry that waits; 0 when none does."""
        replies = await self._each("XRANGE", "-", "+", "COUNT", 1)
        added_ms = [int(reply[0][0].partition(b"-")[0]) for reply in replies if reply]
        return max([0.0, *((now_ms - added) / 1000 for added in added_ms)])

    async def purge_dead_letters(self, before_ms: int) -> None:
        """Delete dead letters of before `before_ms`."""
        await self._command("XTRIM", self._dead, "MINID", f"{before_ms}-0")

    async def forget_consumers(self) -> None:
        """Delete consumers that have been silent for an hour and hold nothing."""
        for stream, consumers in zip(
            self._streams, await self._each("XINFO CONSUMERS", GROUP), strict=True
        ):
            for consumer in consumers:
                if consumer["pending"] == 0 and consumer["idle"] > _FORGET_IDLE_MS:
                    await self._command("XGROUP DELCONSUMER", stream, GROUP, consumer["name"])

    async def aclose(self) -> None:
        """Close the client."""
        await self._client.aclose()

    async def _read(self, start: bytes, *options: str | int) -> list[Entry]:
        reply: list[Any] = await self._command(
            "XREADGROUP", "GROUP", GROUP, self.consumer, "COUNT", PER_SHARD, *options,
            "STREAMS", *self._streams, *[start] * len(self._streams),
        )  # fmt: skip
        return [
            Entry(stream, entry_id, fields.get(FIELD, b"") if fields else None)
            for stream, entries in reply or ()
            for entry_id, fields in entries
        ]

    async def _remove(
        self, names: ShardKeys, ids: Sequence[bytes], positions: Iterable[tuple[str, Position]]
    ) -> None:
        arguments: list[bytes | str | int] = [GROUP, names.accounts, len(ids) // 2, *ids]
        for account_id, newest in positions:
            arguments += (account_id, newest.position, newest.balance_nanousd)
        keys = (2, names.usage, names.queued, *arguments)
        try:
            reply = await self._command("EVALSHA", self._script.sha, *keys)
        except NoScriptError:
            reply = await self._command("EVAL", self._script.source, *keys)
        if reply[1]:
            logger.error(
                "account_state_damaged",
                extra={"shard": names.shard, "entries": reply[1]},
            )

    async def _each(
        self,
        command: str,
        *arguments: str | bytes | int,
        streams: Iterable[bytes] | None = None,
        errors: bool = False,
    ) -> list[Any]:
        """Send a command for each stream at once; with `errors`, errors are returned."""
        async with self._client.pipeline(transaction=False) as pipeline:
            for stream in self._streams if streams is None else streams:
                pipeline.execute_command(command, stream, *arguments)
            return list(await pipeline.execute(raise_on_error=not errors))
