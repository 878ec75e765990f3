"""
What an account and its keys use at this moment, as the limiter in Redis counts it.

Redis knows an account from its first call on, and counts for a key what the key's limits need: its
running calls if it has any limit, requests and tokens of the minute if these are limited.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import msgspec

from gateway.core.limits import NO_LIMITS, PER_MINUTE_MS, Limits
from gateway.store.hot_state.redis_schema import ACCOUNT_SCOPE, RedisKeys, key_scope
from gateway.store.redis.client import PipelinedRedis, RedisUnavailable
from gateway.store.redis.connection import ReplyError


class MoneyInUse(msgspec.Struct, frozen=True):
    """The part of an account's balance that cannot be spent again. Nano-dollars."""

    running: int = 0
    """Calls that run."""
    held_nanousd: int = 0
    """What they hold until they end."""
    unbooked_nanousd: int = 0
    """What ended calls cost that the ledger does not contain yet: for milliseconds, as a rule."""


class KeyUse(msgspec.Struct, frozen=True):
    """What counts towards a key's limits; None: not counted, since there is no such limit."""

    running: int | None = None
    requests: int | None = None
    tokens: int | None = None


class CurrentUse:
    """
    Reads the limiter's counters.

    Args:
        redis: Redis.
        key_prefix: `redis.key_prefix`.
        now_ms: Unix milliseconds.
    """

    def __init__(self, redis: PipelinedRedis, key_prefix: str, now_ms: Callable[[], int]) -> None:
        self._redis = redis
        self._names = RedisKeys(key_prefix)
        self._now_ms = now_ms

    async def money(self, account_id: str) -> MoneyInUse | None:
        """Return what an account's calls hold; None: Redis is unavailable."""
        fields = await self._read(account_id, f"n{ACCOUNT_SCOPE}", f"h{ACCOUNT_SCOPE}", "pend")
        if fields is None:
            return None
        return MoneyInUse(*[int(value or 0) for value in fields])

    async def key(self, account_id: str, key_id: str, limits: Limits | None) -> KeyUse | None:
        """Return what a key's calls count towards its limits; None: Redis is unavailable."""
        limits = limits or NO_LIMITS
        scope = key_scope(key_id)
        fields = await self._read(account_id, f"n{scope}", f"r{scope}", f"t{scope}")
        if fields is None:
            return None
        running, requests, tokens = fields
        is_counted = any(getattr(limits, name) is not None for name in Limits.__struct_fields__)
        return KeyUse(
            int(running or 0) if is_counted else None,
            None if limits.rpm is None else self._taken(requests, limits.rpm),
            None if limits.tpm is None else self._taken(tokens, limits.tpm),
        )

    async def _read(self, account_id: str, *fields: str) -> list[bytes | None] | None:
        name = self._names.of(account_id).accounts + account_id.encode()
        try:
            reply = await self._redis.command(b"HMGET", name, *(each.encode() for each in fields))
        except (RedisUnavailable, ReplyError):
            return None
        return cast("list[bytes | None]", reply)

    def _taken(self, bucket: bytes | None, limit: int) -> int:
        """Return how much of a minute's limit is taken, as `level_of` in `lua/shard.lua`."""
        if bucket is None:
            return 0
        level, _, at_ms = bucket.partition(b":")
        left = float(level) - max(0, self._now_ms() - float(at_ms)) * limit
        # Rounded up, so that what remains is what the next call may take.
        return max(0, -(-int(left) // PER_MINUTE_MS))
