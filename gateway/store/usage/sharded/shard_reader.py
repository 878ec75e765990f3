"""
Reads the usage streams of a cluster: shard by shard, over all masters.

A stream that cannot be read is left out until it can, and delays no other: then its group is
ensured and its entries that were delivered but not acknowledged are read again, which repeats at
most what SQL ignores.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final

import redis.asyncio
from redis.exceptions import ClusterError, ReadOnlyError, RedisError, ResponseError, TryAgainError
from redis.exceptions import ConnectionError as RedisConnectionError

from gateway.store.accounts.snapshot import Position
from gateway.store.hot_state.redis_schema import ShardKeys
from gateway.store.redis.cluster.cold import ClusterClient
from gateway.store.usage.reader import (
    BLOCK_MS,
    CLAIM_IDLE_MS,
    GROUP,
    StreamEntry,
    UsageReader,
    entries_of,
)
from gateway.store.usage.sharded.shard_leases import ShardLeases

PER_READ: Final = 100
"""Entries per stream and read."""
IDLE_S: Final = 0.05
"""The pause after a read that found nothing."""
_JOIN_EVERY_S: Final = 0.5
_ORPHANS_EVERY_S: Final = 2.0
_UNREACHABLE: Final = (RedisConnectionError, ClusterError, ReadOnlyError, TryAgainError)
"""Errors about a master or a slot that moves, not about a command."""
logger = logging.getLogger(__name__)


class ShardReader(UsageReader):
    """
    One consumer of the group, which reads the shards that it holds a lease of.

    Args:
        client: The cluster.
        key_prefix: `redis.key_prefix`.
        claim_idle_ms: See `reader.CLAIM_IDLE_MS`.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        client: ClusterClient,
        key_prefix: str,
        *,
        claim_idle_ms: int = CLAIM_IDLE_MS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(client, key_prefix, claim_idle_ms=claim_idle_ms)
        self._leases = ShardLeases(client, key_prefix, self.consumer)
        self._joined: set[bytes] = set()
        self._clock = clock
        self._join_at = 0.0
        self._orphans_at = 0.0

    def streams(self) -> Collection[bytes]:
        """Return the streams of the leased shards that can be read."""
        held = self._leases.held
        return [stream for stream in self._joined if self._names[stream].shard in held]

    @property
    def unreachable(self) -> int:
        """Streams that cannot be read."""
        return len(self._leases.held) - len(self.streams()) + self._leases.unreachable

    async def ensure_group(self) -> None:
        """Join all streams anew, at the next read."""
        self._joined.clear()
        self._join_at = 0.0

    async def read_own(self) -> list[StreamEntry]:
        """Return nothing: `read_new` begins with these."""
        return []

    async def read_new(self, block_ms: int | None = BLOCK_MS) -> list[StreamEntry]:
        """Return undelivered entries; without any, wait a moment unless `block_ms` is None."""
        await self._leases.renew()
        entries = await self._join() or await self._read_each(self.streams(), b">")
        if not entries and block_ms is not None:
            await asyncio.sleep(IDLE_S)
        return entries

    async def redeliver_orphans(self) -> bool:
        """Restart streams whose entries would not be delivered, see `UsageReader`; now and then."""
        if self._clock() < self._orphans_at:
            return False
        self._orphans_at = self._clock() + _ORPHANS_EVERY_S
        return await super().redeliver_orphans()

    async def aclose(self) -> None:
        """Release the leases and close the client."""
        await self._leases.release()
        await super().aclose()

    async def _join(self) -> list[StreamEntry]:
        """Ensure the groups of streams that are not read yet; return what was delivered before."""
        if self._clock() < self._join_at:
            return []
        missing = [
            stream
            for stream, names in self._names.items()
            if names.shard in self._leases.held and stream not in self._joined
        ]
        if not missing:
            return []
        self._join_at = self._clock() + _JOIN_EVERY_S
        created = await super()._each(
            "XGROUP CREATE", GROUP, "0", "MKSTREAM", streams=missing, errors=True
        )
        ready = [stream for stream, reply in created if _has_group(reply)]
        self._joined.update(ready)
        entries = await self._read_each(ready, b"0")
        counts: dict[bytes, int] = {}
        for entry in entries:
            counts[entry.stream] = counts.get(entry.stream, 0) + 1
        if more := [stream for stream, count in counts.items() if count >= PER_READ]:
            self._joined.difference_update(more)
            self._join_at = 0.0
        return entries

    async def _read_each(self, streams: Collection[bytes], start: bytes) -> list[StreamEntry]:
        wanted = list(streams)
        async with self._client.pipeline(transaction=False) as pipeline:
            for stream in wanted:
                pipeline.execute_command(
                    *("XREADGROUP", "GROUP", GROUP, self.consumer, "COUNT", PER_READ),
                    *("STREAMS", stream, start),
                )
            replies = await pipeline.execute(raise_on_error=False)
        found = self._reachable(list(zip(wanted, replies, strict=True)))
        return [entry for _, reply in found for entry in entries_of(reply)]

    async def _remove(
        self,
        names: ShardKeys,
        batch: Sequence[StreamEntry],
        repeated: Collection[StreamEntry],
        positions: Iterable[tuple[str, Position]],
    ) -> None:
        try:
            await super()._remove(names, batch, repeated, positions)
        except _UNREACHABLE as error:  # its entries are read again once it is back
            self._leave(names.usage, error)

    async def _each(
        self,
        command: str,
        *arguments: str | bytes | int,
        streams: Iterable[bytes] | None = None,
        errors: bool = False,
    ) -> list[tuple[bytes, Any]]:
        """Pipeline a command for each stream, see `UsageReader`; leave out unreachable ones."""
        found = await super()._each(command, *arguments, streams=streams, errors=True)
        return found if errors else self._reachable(found)

    def _reachable(self, found: list[tuple[bytes, Any]]) -> list[tuple[bytes, Any]]:
        """Return the streams with a reply; leave those without one."""
        for stream, reply in found:
            if isinstance(reply, _UNREACHABLE) or _lacks_group(reply):
                self._leave(stream, reply)
            elif isinstance(reply, RedisError):
                raise reply
        return [(stream, reply) for stream, reply in found if not isinstance(reply, Exception)]

    def _leave(self, stream: bytes, error: Exception) -> None:
        if stream in self._joined:
            self._joined.discard(stream)
            fields = {"shard": self._names[stream].shard, "error": type(error).__name__}
            logger.warning("usage_stream_lost", extra=fields)


def _has_group(reply: object) -> bool:
    return not isinstance(reply, Exception) or str(reply).startswith("BUSYGROUP")


def _lacks_group(reply: object) -> bool:
    """Return whether a failover has lost the consumer group, which was created last."""
    return isinstance(reply, ResponseError) and str(reply).startswith("NOGROUP")


def usage_reader(
    client: redis.asyncio.Redis, key_prefix: str, *, claim_idle_ms: int = CLAIM_IDLE_MS
) -> UsageReader:
    """Return the reader for a client of one server or of a cluster."""
    if isinstance(client, ClusterClient):
        return ShardReader(client, key_prefix, claim_idle_ms=claim_idle_ms)
    return UsageReader(client, key_prefix, claim_idle_ms=claim_idle_ms)
