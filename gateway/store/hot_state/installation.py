"""
Refuses a Redis whose key prefix belongs to another database.

Two installations with different databases under one prefix would book each other's usage as dead
letters. So the first start records the database's installation id under the prefix, and every start
compares both. The id is in SQL: a database that is moved or restored keeps it, and an emptied Redis
gets it again.
"""

from __future__ import annotations

import asyncio
import logging

import sqlalchemy as sa
from redis.exceptions import RedisError

from gateway.errors import GatewayError
from gateway.settings import Secrets, Settings
from gateway.settings.embedded import is_redis_embedded
from gateway.store.redis.address import redis_address
from gateway.store.redis.cluster.kinds import cold_client, detect
from gateway.store.sql.catalogue_tables import SERVICE_VALUES
from gateway.store.sql.database import Database

_TIMEOUT_S = 2.0
logger = logging.getLogger(__name__)


class ForeignRedisError(ValueError):
    """The prefix belongs to another database; the message has the remedy."""


async def check_installation(settings: Settings, secrets: Secrets) -> None:
    """
    Record the database's id in Redis, or compare it with the one that is recorded.

    Without Redis or SQL nothing is checked, since a start does not depend on them. The embedded
    Redis belongs to the data directory and needs no check.

    Raises:
        ForeignRedisError: Redis has the id of another database.
    """
    if is_redis_embedded(settings):
        return
    key = f"{settings.redis.key_prefix}installation"
    try:
        ours = await _read_id(settings, secrets)
        recorded = None if ours is None else await _recorded(settings, secrets, key, ours)
    except (GatewayError, RedisError, OSError) as failure:
        logger.warning("installation_check_skipped", extra={"reason": type(failure).__name__})
        return
    if recorded not in (None, ours):
        raise ForeignRedisError(
            f"redis.key_prefix: the keys under {settings.redis.key_prefix!r} belong to the "
            f"installation {recorded}, and the database of sql.url is {ours}. Give each "
            "installation a prefix or a Redis of its own. If this database replaces the other, "
            f"empty this Redis, or delete its key {key}."
        )


async def _read_id(settings: Settings, secrets: Secrets) -> str | None:
    """Return the database's id; None before the migration."""
    database = Database(settings, secrets.sql_password)
    query = sa.select(SERVICE_VALUES.c.value).where(SERVICE_VALUES.c.name == "installation_id")
    try:
        async with database.read(timeout_s=_TIMEOUT_S) as connection:
            found: str | None = (await connection.execute(query)).scalar_one_or_none()
            return found
    finally:
        await database.aclose()


async def _recorded(settings: Settings, secrets: Secrets, key: str, ours: str) -> str:
    """Return the id in Redis, which is this one's if there was none."""
    client = cold_client(
        await detect(redis_address(settings, secrets, "capio-start")), timeout_s=_TIMEOUT_S
    )
    try:
        async with asyncio.timeout(_TIMEOUT_S):  # the client retries
            if await client.set(key, ours, nx=True):
                return ours
            found = await client.get(key)
            return found.decode(errors="replace") if isinstance(found, bytes) else ours
    finally:
        await client.aclose()
