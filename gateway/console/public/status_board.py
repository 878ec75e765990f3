"""Reads the health of models from the attempts in Redis and the sums in SQL."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec
from redis.exceptions import RedisError

from gateway.console.public.health import Day, ModelHealth, ModelState, judge, read_days
from gateway.errors import GatewayError
from gateway.store.announcements.incidents import Incident, Incidents
from gateway.store.health.minutes import DeploymentReport, read_health
from gateway.store.redis.address import redis_address
from gateway.store.redis.cluster.kinds import cold_client, detect

if TYPE_CHECKING:
    from gateway.console.services import Services

logger = logging.getLogger(__name__)

KEPT_S: Final = 15.0
RECENT_MINUTES: Final = 15
USUAL_MINUTES: Final = 120
DAYS: Final = 90
MAX_INCIDENTS: Final = 50
_REDIS_S: Final = 3.0


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What the page shows."""

    at: int
    """Unix seconds at which it was read."""
    models: tuple[ModelHealth, ...]
    days: Mapping[str, tuple[Day, ...]]
    """By model, the oldest first; empty while SQL does not respond."""
    incidents: Sequence[Incident] = ()
    """Open ones and those of the same time, the newest first; none while SQL does not respond."""
    has_health: bool
    """Redis responded, so that the states are known."""


class StatusBoard:
    """
    Reads the status, at most once in 15 seconds for all requests.

    Args:
        services: Stores.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._kept: Status | None = None
        self._kept_at = 0.0
        self._reading: asyncio.Task[Status] | None = None
        self._lock = asyncio.Lock()

    def summary(self) -> str:
        """
        Return the worst state of the last reading, for other pages: `ok`, `degraded`, `down`, or ""
        if it is not known or nothing was called. Starts a new reading if the last one is old, but
        does not wait for it.
        """
        if time.monotonic() - self._kept_at > KEPT_S and not self._lock.locked():
            self._reading = asyncio.get_running_loop().create_task(self.read())
        if self._kept is None or not self._kept.has_health:
            return ""
        states = {each.state for each in self._kept.models}
        ranked = (ModelState.DOWN, ModelState.DEGRADED, ModelState.OK)
        return next((each.value for each in ranked if each in states), "")

    async def forget(self) -> None:
        """Drop the cached status: an operator has written about an incident."""
        async with self._lock:
            self._kept = None

    async def read(self) -> Status:
        """Return the status, which may be 15 seconds old."""
        async with self._lock:
            if self._kept is None or time.monotonic() - self._kept_at > KEPT_S:
                self._kept = await self._read()
                self._kept_at = time.monotonic()
            return self._kept

    async def _read(self) -> Status:
        catalogue = self._services.catalogue
        labels = {
            model.name: [each.label for each in model.deployments] for model in catalogue.models
        }
        now = int(time.time())
        recent: dict[str, DeploymentReport] | None = None
        usual: dict[str, DeploymentReport] | None = None
        try:
            async with asyncio.timeout(_REDIS_S):
                recent, usual = await self._reports(
                    list(dict.fromkeys(itertools.chain(*labels.values())))
                )
        except (RedisError, OSError, TimeoutError):
            logger.warning("status_history_failed")
        models = tuple(
            judge(model.name, model.display_name or model.name, labels[model.name], recent, usual)
            for model in catalogue.models
        )
        try:
            days = await read_days(self._services.database, list(labels), now, DAYS)
        except GatewayError:
            days = {}
        incidents: Sequence[Incident] = ()
        try:
            incidents = await Incidents(self._services.database).list(
                limit=MAX_INCIDENTS, since=now - DAYS * 86_400
            )
        except GatewayError:
            logger.warning("status_incidents_failed")
        return Status(
            at=now,
            models=models,
            days=days,
            incidents=incidents,
            has_health=recent is not None,
        )

    async def _reports(
        self, labels: Sequence[str]
    ) -> tuple[dict[str, DeploymentReport], dict[str, DeploymentReport]]:
        settings = self._services.settings
        client = cold_client(
            await detect(redis_address(settings, self._services.secrets, "capio-status"))
        )
        prefix = settings.redis.key_prefix
        try:
            recent = await read_health(client, prefix, labels, RECENT_MINUTES)
            usual = await read_health(client, prefix, labels, USUAL_MINUTES)
        finally:
            await client.aclose()
        return (
            {each.deployment: each for each in recent},
            {each.deployment: each for each in usual},
        )
