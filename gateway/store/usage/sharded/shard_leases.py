"""
Divides the shards of a cluster among the ledger writers.

A stream may be read by several writers: its consumer group gives each entry to one of them. But
streams of a cluster cannot be waited for with one command, so each is asked again and again, and a
writer asks only for the shards that it holds a lease of. Writers register, and each holds at most
its share. A lease that is lost costs nothing but a second reader for a moment.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Final

import redis.asyncio
from redis.exceptions import RedisError

from gateway.store.redis.shards import SHARDS

EVERY_S: Final = 2.0
LEASE_MS: Final = 8_000
"""Four times EVERY_S: how long the shards of a dead writer wait."""
_LISTED_S: Final = 10.0
_LEASE: Final = """
local held = redis.call('GET', KEYS[1])
if ARGV[3] == '0' then
  if held == ARGV[1] then redis.call('DEL', KEYS[1]) end
  return 0
end
if held and held ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1"""


class ShardLeases:
    """
    The leases of one ledger writer.

    Args:
        client: The cluster.
        key_prefix: `redis.key_prefix`.
        owner: The writer's name.
        clock: Unix seconds.
    """

    def __init__(
        self,
        client: redis.asyncio.Redis,
        key_prefix: str,
        owner: str,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._names = [f"{key_prefix}{{s{shard}}}ledger:reader" for shard in range(SHARDS)]
        self._writers = f"{key_prefix}ledger:writers"
        self._owner = owner
        self._clock = clock
        self._due = 0.0
        self._count = 1
        # Writers begin at different shards, so that they do not compete for the same ones.
        self._first = sum(owner.encode()) % SHARDS
        self.held: frozenset[int] = frozenset()
        """The shards to read."""
        self.unreachable = 0
        """Shards that could not be asked for and are not held."""

    async def renew(self) -> None:
        """Renew the leases every EVERY_S, take free ones up to the share, release the rest."""
        if self._clock() < self._due:
            return
        self._due = self._clock() + EVERY_S
        self.unreachable = 0
        share = math.ceil(SHARDS / await self._writer_count())
        order = [(self._first + step) % SHARDS for step in range(SHARDS)]
        mine = [shard for shard in order if shard in self.held]
        held = await self._ask(mine[:share], wanted=True)
        await self._ask(mine[share:], wanted=False)
        free = [shard for shard in order if shard not in self.held]
        while free and len(held) < share:
            wanted, free = free[: share - len(held)], free[share - len(held) :]
            held |= await self._ask(wanted, wanted=True)
        self.held = frozenset(held)

    async def release(self) -> None:
        """Release all leases, as far as the cluster responds."""
        held, self.held = self.held, frozenset()
        await self._ask(sorted(held), wanted=False)
        try:
            await self._client.zrem(self._writers, self._owner)
        except RedisError:
            return

    async def _ask(self, shards: list[int], *, wanted: bool) -> set[int]:
        """Take or release leases; return which are held. A shard without a master is kept."""
        async with self._client.pipeline(transaction=False) as pipeline:
            for shard in shards:
                pipeline.execute_command(
                    *("EVAL", _LEASE, 1, self._names[shard]),
                    *(self._owner, LEASE_MS, int(wanted)),
                )
            replies: list[Any] = await pipeline.execute(raise_on_error=False)
        failed = {
            shard
            for shard, reply in zip(shards, replies, strict=True)
            if isinstance(reply, Exception)
        }
        taken = {shard for shard, reply in zip(shards, replies, strict=True) if reply == 1}
        if not wanted:
            return taken
        self.unreachable += len(failed - self.held)
        return taken | (failed & self.held)

    async def _writer_count(self) -> int:
        """Register this writer; return how many there are, or were when Redis last responded."""
        now = self._clock()
        try:
            async with self._client.pipeline(transaction=False) as pipeline:
                pipeline.zadd(self._writers, {self._owner: now})
                pipeline.zremrangebyscore(self._writers, "-inf", now - _LISTED_S)
                pipeline.expire(self._writers, 60)
                pipeline.zcard(self._writers)
                *_, count = await pipeline.execute()
        except RedisError:
            return self._count
        self._count = max(1, int(count))
        return self._count
