"""
The key directory: near cache, then Redis, then SQL; and how a change reaches every worker.

Why a revoked key cannot come back
    1. Every change of a key raises its version in SQL, in the same transaction.
    2. Redis keeps the newest version only: one script compares and writes. A slow SQL read that
       saw the old state is refused there, and its caller gets the newer entry instead.
    3. The script that writes a change publishes it. A worker forgets what it remembers of the key;
       if a load of it is under way, the change's version is the least that load may end with.
    4. What a worker remembers counts only while it provably hears of changes, see `near_cache`.
       When the subscription breaks, it forgets everything.
    5. A change that Redis missed (it was away, or lost it in a failover) is announced again: each
       worker, when it is subscribed again, compares the recent changes in SQL with Redis.
    6. An entry in Redis that has not been compared with SQL for `keys.redis_ttl_s` is compared
       again before it is used. Only if SQL is away it is used as it is.
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
from gateway.store.redis.client import RedisClient, RedisUnavailable, ReplyError

logger = logging.getLogger(__name__)

MAX_LOADS = 2048
"""Keys looked for in Redis or SQL at once, per worker; one more is refused."""
_RECALL_MARGIN_S = 60.0
_RECALL_RETRY_FIRST_S = 0.1
_RECALL_RETRY_LONGEST_S = 5.0


class KeySource(Protocol):
    """What is needed of SQL. Both raise GatewayError (STORE_UNAVAILABLE) within a bounded time."""

    async def load_by_digest(self, digest: bytes) -> Principal | None:
        """Return whom the key with this SHA-256 speaks for, whatever its state."""

    async def changed_since(self, unix_s: int) -> Sequence[Change]:
        """Return the keys changed at that time or after it, but those that are merely new."""


class _Load:
    """A look-up under way. `floor` is the least version that it may end with."""

    __slots__ = ("floor", "task")

    def __init__(self, floor: int) -> None:
        self.floor = floor
        self.task: asyncio.Task[Principal | None] | None = None


def _ignore_source(source: str) -> None:
    """Count nothing."""


class KeyCache:
    """
    `ports.KeyDirectory` for one worker, and the `subscription.Listener` that keeps it true.

    Args:
        bus: For Redis; give it `key_entry_script()` to load at connect.
        source: SQL.
        settings: The `keys` section: lifetimes and bounds.
        key_prefix: `redis.key_prefix`.
        count: Called once per load with what answered it: `redis`, `sql`, or `none`.
        clock: Monotonic seconds; the subscription's clock too.
        wall_clock: Unix seconds.
    """

    def __init__(
        self,
        bus: RedisClient,
        source: KeySource,
        settings: Keys,
        key_prefix: str,
        *,
        count: Callable[[str], None] = _ignore_source,
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
        self._untold: dict[bytes, Change] = {}
        self._recall_task: asyncio.Task[None] | None = None

    def cached(self, digest: bytes) -> Principal | None:
        """Return what is remembered, without I/O; None: not known here, use `lookup`."""
        entry = self._known.find(digest)
        return None if entry is None else entry.principal

    async def lookup(self, digest: bytes) -> Principal | None:
        """
        Return the principal of the key with this SHA-256, whatever its state; None: no such key.

        Callers that ask for the same key at once share one load, which a caller that leaves does
        not end.

        Raises:
            GatewayError: STORE_UNAVAILABLE when neither Redis nor SQL answers, or too many
                different keys are being looked for.
        """
        entry = self._known.find(digest) or self._unknown.find(digest)
        if entry is not None:
            return entry.principal
        load = self._loads.get(digest) or self._begin(digest)
        assert load.task is not None
        return await asyncio.shield(load.task)

    async def publish(self, change: Change) -> bool:
        """
        Put a change into Redis and tell every worker.

        Returns:
            False when Redis is away: then it is told as soon as Redis is back.
        """
        try:
            await self._announce(change, always=True)
        except (RedisUnavailable, ReplyError):
            self._untold[change.digest] = change
            self._recall()
            return False
        return True

    async def aclose(self) -> None:
        """End what is under way; its callers are cancelled. Idempotent."""
        tasks: list[asyncio.Task[Principal | None] | asyncio.Task[None]] = [
            load.task for load in self._loads.values() if load.task is not None
        ]
        if self._recall_task is not None:
            tasks.append(self._recall_task)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    # What the subscription says.

    def subscribed(self, since: float) -> None:
        """Begin to remember; what was loaded before may have missed a change."""
        self._forget()
        self._proof.extend(since)
        self._recall()

    def proven(self, since: float) -> None:
        """Rely on what is remembered for a while longer."""
        self._proof.extend(since)

    def heard(self, message: bytes) -> None:
        """Forget a key that has changed; everything, if the message cannot be read."""
        change = decode_message(message)
        if change is None:
            logger.warning("key_change_unreadable", extra={"size_bytes": len(message)})
            self._forget()
            return
        digest, version = change
        self._known.drop(digest, version)
        self._unknown.drop(digest, version)
        load = self._loads.get(digest)
        if load is not None:
            load.floor = max(load.floor, version)

    def broken(self) -> None:
        """Forget everything, and remember only shortly until subscribed again."""
        self._proof.withdraw()
        self._forget()

    def _forget(self) -> None:
        self._gaps += 1
        self._known.clear()
        self._unknown.clear()

    # Loading one key.

    def _begin(self, digest: bytes) -> _Load:
        if len(self._loads) >= MAX_LOADS:
            raise _unavailable("too many keys are being looked for")
        load = _Load(self._known.version(digest))
        load.task = asyncio.create_task(self._load(digest, load), name="key-load")
        self._loads[digest] = load
        load.task.add_done_callback(lambda task: self._ended(digest, task))
        return load

    def _ended(self, digest: bytes, task: asyncio.Task[Principal | None]) -> None:
        del self._loads[digest]
        if not task.cancelled():
            task.exception()  # its callers have it, or have gone

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
        """Return the entry from Redis if it will do, else from SQL."""
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
            # The key changed after SQL was asked: ask again.

    def _fresh(self, entry: KeyEntry) -> bool:
        return self._wall_clock() - entry.checked_at < self._lifetimes.known_s

    async def _held(self, digest: bytes) -> KeyEntry | None:
        """Return what Redis holds; None when it holds nothing or is away."""
        try:
            raw = await self._bus.command(b"GET", entry_name(self._key_prefix, digest))
        except (RedisUnavailable, ReplyError):
            return None
        return decode_entry(raw) if isinstance(raw, bytes) else None

    async def _from_sql(self, digest: bytes) -> KeyEntry:
        """Return what SQL says, or what Redis knows to be newer; Redis is told of the former."""
        now = self._wall_clock()
        principal = await self._source.load_by_digest(digest)
        entry = KeyEntry(0 if principal is None else principal.version, now, principal)
        if principal is None and self._unknown.full:
            return entry  # noise may fill this cache, but not Redis
        try:
            newer = await self._bus.script(
                self._script,
                [entry_name(self._key_prefix, digest)],
                write_arguments(entry, self._lifetimes),
            )
        except (RedisUnavailable, ReplyError):
            return entry
        return (decode_entry(newer) if isinstance(newer, bytes) else None) or entry

    # Announcing again what Redis may have missed.

    def _recall(self) -> None:
        if self._recall_task is not None:
            self._recall_task.cancel()
        self._recall_task = asyncio.create_task(self._announce_recent(), name="key-recall")

    async def _announce_recent(self) -> None:
        """Compare recent changes with Redis until that has succeeded once."""
        retry_s = _RECALL_RETRY_FIRST_S
        while True:
            try:
                compared = await self._announce_since(
                    self._wall_clock() - self._lifetimes.known_s - _RECALL_MARGIN_S
                )
            except (GatewayError, RedisUnavailable, ReplyError) as error:
                reason = type(error).__name__
                logger.warning("key_resync_failed", extra={"reason": reason})
                await asyncio.sleep(retry_s)
                retry_s = min(_RECALL_RETRY_LONGEST_S, retry_s * 2)
            else:
                logger.info("key_resync_completed", extra={"keys": compared})
                return

    async def _announce_since(self, unix_s: float) -> int:
        for change in list(self._untold.values()):
            await self._announce(change, always=True)
            if self._untold.get(change.digest) is change:
                del self._untold[change.digest]
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
    Put a change into Redis and tell every worker, from a process without a bus.

    Raises:
        redis.exceptions.RedisError: Redis is away or refuses; the workers were not told.
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
