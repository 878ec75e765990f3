"""
The copy of the catalogue in Redis: announces changes, and serves starts while SQL is unavailable.

SQL decides. The copy may be missing or, for seconds, older; it contains no secrets.
"""

from __future__ import annotations

import msgspec

from gateway.store.catalogue.records import StoredCatalogue
from gateway.store.keys.entry import channel_name
from gateway.store.redis.bus import RedisBus

MESSAGE = b"catalogue "
"""The beginning of a message on the channel of changed keys; the revision follows."""
_COPY = msgspec.json.Decoder(StoredCatalogue)


class SharedCatalogue:
    """
    Reads and writes the copy. Every method may raise RedisUnavailable or ReplyError.

    Args:
        redis: The client.
        key_prefix: `redis.key_prefix`.
    """

    def __init__(self, redis: RedisBus, key_prefix: str) -> None:
        self._redis = redis
        self._copy = f"{key_prefix}catalogue:copy"
        self._revision = f"{key_prefix}catalogue:revision"
        self._channel = channel_name(key_prefix)

    async def revision(self) -> str | None:
        """Return the copy's revision; None if there is no copy."""
        found = await self._redis.command("GET", self._revision)
        return found.decode() if isinstance(found, bytes) else None

    async def read(self) -> StoredCatalogue | None:
        """Return the copy; None if there is none, or none of this version."""
        found = await self._redis.command("GET", self._copy)
        if not isinstance(found, bytes):
            return None
        try:
            return _COPY.decode(found)
        except (msgspec.DecodeError, UnicodeDecodeError):
            return None

    async def announce(self, catalogue: StoredCatalogue) -> None:
        """Replace the copy, and let all workers read SQL."""
        # One after the other: in a cluster the keys may be on different masters, and the revision
        # says that the copy is there.
        revision = catalogue.revision.encode()
        await self._redis.command("SET", self._copy, msgspec.json.encode(catalogue))
        await self._redis.command("SET", self._revision, revision)
        await self._redis.command("PUBLISH", self._channel, MESSAGE + revision)
