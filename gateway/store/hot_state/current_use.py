"""
What an account and its keys use at this moment, as the limiter in Redis counts it.

Redis knows an account from its first call on, and counts for a key what the key's limits need: its
running calls if it has any limit, requests and tokens of the minute if these are limited. The
running calls of a key without limits are counted here, from the records of the account's shard: the
hot path writes nothing for a number that only a page shows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, cast

import msgspec

from gateway.core.limits import NO_LIMITS, PER_MINUTE_MS, Limits
from gateway.store.hot_state.redis_schema import ACCOUNT_SCOPE, EPOCH, RedisKeys, key_scope
from gateway.store.redis.bus import RedisBus
from gateway.store.redis.client import RedisUnavailable
from gateway.store.redis.connection import ReplyError

MOST_SCANNED: Final = 5_000
"""Running calls of a shard that are read for one key, a few milliseconds of work."""
_SCAN_STEP: Final = b"200"
_KEY: Final = 1
"""The place of the key's id in a record, see `lua/shard.lua`."""

_decode = msgspec.msgpack.Decoder(list).decode


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
    """None: too many calls run to look for those of a key without limits."""
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

    def __init__(self, redis: RedisBus, key_prefix: str, now_ms: Callable[[], int]) -> None:
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
        names = (f"n{scope}", f"r{scope}", f"t{scope}", f"n{ACCOUNT_SCOPE}")
        fields = await self._read(account_id, *names)
        if fields is None:
            return None
        running, requests, tokens, of_account = fields
        is_counted = any(getattr(limits, name) is not None for name in Limits.__struct_fields__)
        count: int | None = int(running or 0)
        if not is_counted:
            count = await self._search(account_id, key_id) if int(of_account or 0) else 0
        return KeyUse(
            count,
            None if limits.rpm is None else self._taken(requests, limits.rpm),
            None if limits.tpm is None else self._taken(tokens, limits.tpm),
        )

    async def _search(self, account_id: str, key_id: str) -> int | None:
        """Count a key's calls among those of the shard; None: too many, or Redis went away."""
        calls, cursor = self._names.of(account_id).calls, b"0"
        found: dict[bytes, bool] = {}  # a scan may return a call twice
        while len(found) <= MOST_SCANNED:
            try:
                reply = await self._redis.command(b"HSCAN", calls, cursor, b"COUNT", _SCAN_STEP)
            except (RedisUnavailable, ReplyError):
                return None
            cursor, pairs = cast("tuple[bytes, list[bytes]]", reply)
            for request_id, record in zip(pairs[::2], pairs[1::2], strict=True):
                found[request_id] = request_id != EPOCH and _is_of(key_id, record)
            if cursor == b"0":
                return sum(found.values())
        return None

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


def _is_of(key_id: str, record: bytes) -> bool:
    try:
        fields = _decode(record)
    except msgspec.DecodeError:  # the sweeper moves it to the dead letters
        return False
    return len(fields) > _KEY and fields[_KEY] == key_id
