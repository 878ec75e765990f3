"""Reads the minutes of all deployments from Redis, once for all viewers."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

import msgspec
from redis.exceptions import RedisError

from gateway.core.catalogue import deployment_labels
from gateway.settings.embedded import redis_url
from gateway.store.health.minutes import DeploymentMinutes, read_minutes
from gateway.store.redis.address import parse_address
from gateway.store.redis.cluster.kinds import cold_client, detect

if TYPE_CHECKING:
    from gateway.console.stores import Stores

logger = logging.getLogger(__name__)

KEPT_S: Final = 4.0
RECENT_MINUTES: Final = 15
_REDIS_S: Final = 3.0


class Board(msgspec.Struct, frozen=True, kw_only=True):
    """The attempts of all workers and pods, at one time."""

    at: int
    """Unix seconds."""
    deployments: dict[str, DeploymentMinutes]
    """By label."""


class HealthBoard:
    """
    Reads the board, at most every 4 seconds for any number of viewers.

    Args:
        stores: Redis and the deployments.
    """

    def __init__(self, stores: Stores) -> None:
        self._stores = stores
        self._kept: Board | None = None
        self._read_at = float("-inf")
        self._lock = asyncio.Lock()

    async def read(self) -> Board | None:
        """Return the board; None: Redis does not respond."""
        async with self._lock:
            if time.monotonic() - self._read_at > KEPT_S:
                self._kept = await self._read()
                self._read_at = time.monotonic()
            return self._kept

    async def _read(self) -> Board | None:
        stores = self._stores
        labels = deployment_labels(stores.catalogue)
        target = parse_address(
            redis_url(stores.settings),
            password=stores.secrets.redis_password,
            client_name="capio-health",
        )
        client = cold_client(await detect(target), timeout_s=_REDIS_S)
        try:
            async with asyncio.timeout(_REDIS_S):
                found = await read_minutes(
                    client, stores.settings.redis.key_prefix, labels, recent=RECENT_MINUTES
                )
        except (RedisError, OSError, TimeoutError):
            logger.warning("health_read_failed")
            return None
        finally:
            await client.aclose()
        return Board(
            at=int(time.time()), deployments={each.report.deployment: each for each in found}
        )
