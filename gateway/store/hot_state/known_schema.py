"""
The revision of SQL's schema that a start has seen, kept in Redis.

A start that finds PostgreSQL unavailable reads it: if it is the program's own, it need not wait.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging

from redis.exceptions import RedisError

from gateway.settings import Secrets, Settings
from gateway.store.redis.address import redis_address
from gateway.store.redis.cluster.kinds import cold_client, detect

_TIMEOUT_S = 2.0
logger = logging.getLogger(__name__)


class KnownSchema:
    """
    Implements `store.sql.preparation.SchemaMemory` for the database of `sql.url`.

    Args:
        settings: With the URL of a Redis, not the embedded one.
        secrets: Its password.
    """

    def __init__(self, settings: Settings, secrets: Secrets) -> None:
        self._target = redis_address(settings, secrets, "capio-start")
        database = hashlib.sha256(settings.sql.url.encode()).hexdigest()[:16]
        self._key = f"{settings.redis.key_prefix}schema:{database}"

    async def recall(self) -> str | None:
        """Return the revision; None: it is unknown, or Redis is unavailable."""
        client = cold_client(await detect(self._target), timeout_s=_TIMEOUT_S)
        try:
            async with asyncio.timeout(_TIMEOUT_S):  # the client retries
                revision = await client.get(self._key)
        except (RedisError, OSError):
            return None
        finally:
            await client.aclose()
        return revision.decode() if isinstance(revision, bytes) else None

    async def remember(self, revision: str) -> None:
        """Store the revision, if Redis is available."""
        client = cold_client(await detect(self._target), timeout_s=_TIMEOUT_S)
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                await client.set(self._key, revision)
        except (RedisError, OSError) as error:
            logger.warning("schema_save_failed", extra={"error": type(error).__name__})
        finally:
            await client.aclose()
