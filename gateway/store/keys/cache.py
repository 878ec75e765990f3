"""
Looks up keys in the local cache, then Redis, then SQL; propagates changes to every worker.

Why a revoked key cannot become valid again
    1. Every change of a key increments its version in SQL, in the same transaction.
    2. Redis keeps only the newest version: one script compares and writes. The result of a slow
       SQL read that saw the old state is rejected there, and the reader gets the newer entry.
    3. The script that writes a change publishes it. Each worker evicts the key from its cache; if
       it is loading the key, the load may not return a version older than the change's.
    4. A worker's cached entries are valid only while it provably receives changes, see
       `local_cache`. When the subscription is lost, the worker clears its cache.
    5. A change that Redis missed (it was unavailable, or lost the change in a failover) is
       published again: on every resubscription a worker compares recent changes in SQL with Redis.
    6. An entry in Redis that has not been compared with SQL for `keys.redis_ttl_s` is compared
       again before use. It is used without the comparison only while SQL is unavailable.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, cast

import redis.asyncio

from gateway.core.model import Principal
from gateway.errors import ErrorKind, GatewayError
from gateway.settings import Keys
from gateway.store.keys.entry import (
    Change,
    KeyEntry,
    KeyLifetimes,
    announce_arguments,
    decode_entry,
    decode_message,
    entry_name,
    key_entry_script,
    write_arguments,
)
from gateway.store.keys.local_cache import LocalKeyCache, Proof
from gateway.store.redis.bus import RedisBus
from gateway.store.redis.client import RedisUnavailable, ReplyError

logger = logging.getLogger(__name__)

MAX_LOADS = 2048
"""Concurrent look-ups in Redis or SQL, per worker; one more is rejected."""
_RESYNC_MARGIN_S = 60.0
_RESYNC_RETRY_FIRST_S = 0.1
_RESYNC_RETRY_LONGEST_S = 5.0


class KeySource(Protocol):
    """Keys in SQL. Both methods raise GatewayError (STORE_UNAVAILABLE) within a bounded time."""

    async def load_by_digest(self, digest: bytes) -> Principal | None:
        """Return the principal of the key with this SHA-256, in any state; None: no such key."""

    async def changed_since(self, unix_s: int) -> Sequence[Change]:
        """Return the keys changed at that time or later, except new ones."""


class _Load:
    """A running look-up. `floor` is the lowest version that it may return."""

    __slots__ = ("floor", "task")

    def __init__(self, floor: int) -> None:
        self.floor = floor
        self.task: asyncio.Task[Principal | None] | None = None


class KeyCache:
    """
    `ports.KeyDirectory` of one worker, and the `pubsub.Listener` that keeps it current.

    Args:
        bus: Loads `key_entry_script()` at connect.
        source: SQL.
        settings: The `keys` section: lifetimes and bounds.
        key_prefix: `redis.key_prefix`.
        count: Called once per load with its source: `redis`, `sql`, or `none`.
        clock: Monotonic seconds; the subscription's clock too.
        wall_clock: Unix seconds.
    """

    def __init__(
        self,
        bus: RedisBus,
        source: KeySource,
        settings: Keys,
        key_prefix: str,
        *,
        count: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._bus = bus
        self._source = source
        self._key_prefix = key_prefix
        self._lifetimes = KeyLifetimes(settings.redis_ttl_s, settings.negative_ttl_s)
        self._count = count
        self._clock = clock
        self._wall_clock = wall_clock
        self._script = key_entry_script()
        self._proof = Proof()
        self._known = LocalKeyCache(settings.near_entries, settings.near_ttl_s, self._proof, clock)
        self._unknown = LocalKeyCache(
            settings.negative_entries, settings.negative_ttl_s, self._proof, clock
        )
        self._loads: dict[bytes, _Load] = {}
        self._gaps = 0
        self._unpublished: dict[bytes, Change] = {}
        self._resync_task: asyncio.Task[None] | None = None

    def cached(self, digest: bytes) -> Principal | None:
        """Return the cached principal, without I/O; None: not cached, use `lookup`."""
        entry = self._known.find(digest)
        return None if entry is None else entry.principal

    async def lookup(self, digest: bytes) -> Principal | None:
        """
        Return the principal of the key with this SHA-256, in any state; None: no such key.

        Concurrent look-ups of a key share one load, which continues if one of them is cancelled.

        Raises:
            GatewayError: STORE_UNAVAILABLE if neither Redis nor SQL responds, or too many
                different keys are being looked up.
        """
        entry = self._known.find(digest) or self._unknown.find(digest)
        if entry is not None:
            return entry.principal
        load = self._loads.get(digest) or self._begin(digest)
        assert load.task is not None
        return await asyncio.shield(load.task)

    async def publish(self, change: Change) -> bool:
        """
        Write a change to Redis and publish it to every worker.

        Returns:
            False if Redis is unavailable: the change is published once Redis is back.
        """
        try:
            await self._announce(change, always=True)
        except (RedisUnavailable, ReplyError):
            self._unpublished[change.digest] = change
            self._resync()
            return False
        return True

    async def aclose(self) -> None:
        """Cancel running loads and those who await them. Idempotent."""
        tasks: list[asyncio.Task[Principal | None] | asyncio.Task[None]] = [
            load.task for load in self._loads.values() if load.task is not None
        ]
        if self._resync_task is not None:
            tasks.append(self._resync_task)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    # Called by the subscription.

    def subscribed(self, since: float) -> None:
        """Clear the cache, whose entries may have missed a change, and trust new entries."""
        self._clear()
        self._proof.extend(since)
        self._resync()

    def proven(self, since: float) -> None:
        """Extend the time for which cached entries are valid."""
        self._proof.extend(since)

    def received(self, message: bytes) -> None:
        """Evict a changed key, or all keys if the message is unreadable."""
        change = decode_message(message)
        if change is None:
            logger.warning("key_change_rejected", extra={"size_bytes": len(message)})
            self._clear()
            return
        digest, version = change
        self._known.drop(digest, version)
        self._unknown.drop(digest, version)
        load = self._loads.get(digest)
        if load is not None:
            load.floor = max(load.floor, version)

    def lost(self) -> None:
        """Clear the cache; new entries are short-lived until subscribed again."""
        self._proof.withdraw()
        self._clear()

    def _clear(self) -> None:
        self._gaps += 1
        self._known.clear()
        self._unknown.clear()

    # Loading one key.

    def _begin(self, digest: bytes) -> _Load:
        if len(self._loads) >= MAX_LOADS:
            raise _unavailable("too many concurrent key look-ups")
        load = _Load(self._known.version(digest))
        load.task = asyncio.create_task(self._load(digest, load), name="key-load")
        self._loads[digest] = load
        load.task.add_done_callback(lambda task: self._ended(digest, task))
        return load

    def _ended(self, digest: bytes, task: asyncio.Task[Principal | None]) -> None:
        del self._loads[digest]
        if not task.cancelled():
            task.exception()  # mark as retrieved: all waiters may have been cancelled

    async def _load(self, digest: bytes, load: _Load) -> Principal | None:
        since = self._clock()
        gaps = self._gaps
        try:
            entry = await self._newest(digest, load)
        except GatewayError:
            self._count("none")
            raise
        cache = self._unknown if entry.principal is None else self._known
        cache.keep(digest, entry.principal, since, certain=gaps == self._gaps)
        return entry.principal

    async def _newest(self, digest: bytes, load: _Load) -> KeyEntry:
        """Return the entry from Redis if it is fresh and new enough, else from SQL."""
        held = await self._held(digest)
        if held is not None and self._fresh(held) and held.version >= load.floor:
            self._count("redis")
            return held
        while True:
            floor = load.floor
            try:
                entry = await self._from_sql(digest)
            except GatewayError:
                if held is None or held.version < load.floor:
                    raise
                self._count("redis")
                return held
            if entry.version >= load.floor or floor == load.floor:
                self._count("sql")
                return entry
            # The key changed after the query: query again.

    def _fresh(self, entry: KeyEntry) -> bool:
        return self._wall_clock() - entry.checked_at < self._lifetimes.known_s

    async def _held(self, digest: bytes) -> KeyEntry | None:
        """Return the entry in Redis; None if there is none or Redis is unavailable."""
        try:
            raw = await self._bus.command(b"GET", entry_name(self._key_prefix, digest))
        except (RedisUnavailable, ReplyError):
            return None
        return decode_entry(raw) if isinstance(raw, bytes) else None

    async def _from_sql(self, digest: bytes) -> KeyEntry:
        """Return the entry of SQL, written to Redis, or a newer one that Redis has."""
        now = self._wall_clock()
        principal = await self._source.load_by_digest(digest)
        entry = KeyEntry(0 if principal is None else principal.version, now, principal)
        if principal is None and self._unknown.full:
            return entry  # random keys may fill this cache, but not Redis
        try:
            newer = await self._bus.script(
                self._script,
                [entry_name(self._key_prefix, digest)],
                write_arguments(entry, self._lifetimes),
            )
        except (RedisUnavailable, ReplyError):
            return entry
        return (decode_entry(newer) if isinstance(newer, bytes) else None) or entry

    # Resynchronisation: publish changes that Redis may have missed.

    def _resync(self) -> None:
        if self._resync_task is not None:
            self._resync_task.cancel()
        self._resync_task = asyncio.create_task(self._announce_recent(), name="key-resync")

    async def _announce_recent(self) -> None:
        """Compare recent changes with Redis; retry until it succeeds."""
        retry_s = _RESYNC_RETRY_FIRST_S
        while True:
            try:
                compared = await self._announce_since(
                    self._wall_clock() - self._lifetimes.known_s - _RESYNC_MARGIN_S
                )
            except (GatewayError, RedisUnavailable, ReplyError) as error:
                reason = type(error).__name__
                logger.warning("key_resync_failed", extra={"reason": reason})
                await asyncio.sleep(retry_s)
                retry_s = min(_RESYNC_RETRY_LONGEST_S, retry_s * 2)
            else:
                if compared:
                    logger.info("key_resync_completed", extra={"keys": compared})
                return

    async def _announce_since(self, unix_s: float) -> int:
        for change in list(self._unpublished.values()):
            await self._announce(change, always=True)
            if self._unpublished.get(change.digest) is change:
                del self._unpublished[change.digest]
        recent = await self._source.changed_since(int(unix_s))
        for change in recent:
            await self._announce(change, always=False)
        return len(recent)

    async def _announce(self, change: Change, *, always: bool) -> None:
        arguments = announce_arguments(
            self._key_prefix, change, self._lifetimes, now=self._wall_clock(), always=always
        )
        name = entry_name(self._key_prefix, change.digest)
        await self._bus.script(self._script, [name], arguments)


async def publish_change(
    client: redis.asyncio.Redis,
    key_prefix: str,
    change: Change,
    *,
    settings: Keys = Keys(),  # noqa: B008 - frozen
) -> None:
    """
    Write a change to Redis and publish it to every worker, from a process other than a worker.

    Raises:
        redis.exceptions.RedisError: Redis is unavailable; the change was not published.
    """
    lifetimes = KeyLifetimes(settings.redis_ttl_s, settings.negative_ttl_s)
    arguments = announce_arguments(key_prefix, change, lifetimes, now=time.time(), always=True)
    source = key_entry_script().source.decode()
    await cast(
        "Awaitable[object]",
        client.eval(source, 1, entry_name(key_prefix, change.digest), *arguments),
    )


def _unavailable(detail: str) -> GatewayError:
    return GatewayError(
        ErrorKind.STORE_UNAVAILABLE,
        "The API key cannot be checked at the moment. Retry shortly.",
        retry_after_s=1.0,
        detail=detail,
    )
