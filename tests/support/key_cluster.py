"""Workers' key caches on one Redis, over a fake SQL, for tests."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence

import msgspec

from gateway.core.model import Principal
from gateway.errors import ErrorKind, GatewayError
from gateway.settings import Keys
from gateway.store.keys.cache import KeyCache, KeySource
from gateway.store.keys.entry import channel_name, key_entry_script
from gateway.store.redis.address import parse_address
from gateway.store.redis.client import PipelinedRedis, RedisLimits
from gateway.store.redis.pubsub import Subscription

SETTINGS = Keys()
LIMITS = RedisLimits(
    command_timeout_s=0.2, failures_to_open=2, cooldown_s=0.1, stall_s=0.5, backoff_longest_s=0.1
)


def digest_of(name: str) -> bytes:
    """Return a digest to play with."""
    return hashlib.sha256(name.encode()).digest()


class Changed(msgspec.Struct, frozen=True):
    """A change as SQL reports it."""

    digest: bytes
    principal: Principal


class FakeSql:
    """The truth, in a dict: counts its queries, can be away, and can be held in the middle."""

    def __init__(self) -> None:
        self.rows: dict[bytes, Principal] = {}
        self.changed: dict[bytes, Principal] = {}
        self.queries = 0
        self.away = False
        self.hold: asyncio.Event | None = None
        self.held = 0

    def create(self, name: str) -> bytes:
        """Make a key; return its digest."""
        digest = digest_of(name)
        self.rows[digest] = Principal(f"key_{name}", "acc_1", name, "active", 1)
        return digest

    def change(self, digest: bytes, state: str) -> Changed:
        """Set a key's state."""
        row = self.rows[digest]
        self.rows[digest] = msgspec.structs.replace(row, state=state, version=row.version + 1)
        self.changed[digest] = self.rows[digest]
        return Changed(digest, self.rows[digest])

    async def load_by_digest(self, digest: bytes) -> Principal | None:
        self.queries += 1
        self._answer()
        row = self.rows.get(digest)
        if self.hold is not None:
            self.held += 1
            await self.hold.wait()
            self.held -= 1
        await asyncio.sleep(0)
        return row

    async def changed_since(self, unix_s: int) -> Sequence[Changed]:
        self._answer()
        return [Changed(digest, row) for digest, row in self.changed.items()]

    def _answer(self) -> None:
        if self.away:
            raise GatewayError(ErrorKind.STORE_UNAVAILABLE, "SQL is away")


class Worker:
    """One worker's bus, subscription and cache."""

    def __init__(
        self,
        url: str,
        sql: KeySource,
        prefix: str,
        settings: Keys = SETTINGS,
        limits: RedisLimits = LIMITS,
    ) -> None:
        target = parse_address(url)
        self.sources: list[str] = []
        self.bus = PipelinedRedis(target, limits, scripts=[key_entry_script()])
        self.keys = KeyCache(self.bus, sql, settings, prefix, count=self.sources.append)
        self.subscription = Subscription(target, channel_name(prefix), self.keys)

    async def start(self) -> None:
        """Connect."""
        await self.bus.start()
        await self.subscription.start()

    async def close(self) -> None:
        """Leave nothing behind."""
        await self.subscription.aclose()
        await self.keys.aclose()
        await self.bus.aclose()

    def state(self, digest: bytes) -> str | None:
        """Return the state that the near cache would serve."""
        principal = self.keys.cached(digest)
        return None if principal is None else principal.state

    async def lookup_state(self, digest: bytes) -> str | None:
        """Return the state that a look-up finds."""
        principal = await self.keys.lookup(digest)
        return None if principal is None else principal.state
