"""Asks the workers for a probe of a deployment, and waits for its outcomes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Final, Protocol

from gateway.core.routing.probes import TIMEOUT_S, Probe
from gateway.errors import ErrorKind, GatewayError
from gateway.operations.refusals import (
    ProbedLatelyError,
    ProbeTimedOutError,
    UnknownDeploymentError,
)
from gateway.store.accounts.audit import Actor, record
from gateway.store.people.tokens import new_token
from gateway.store.redis.client import RedisUnavailable, ReplyError
from gateway.store.sql.database import Database

WAIT_S: Final = TIMEOUT_S + 3.0
_POLL_S: Final = 0.1


class ProbeBus(Protocol):
    """Carries probes to the workers, see `store.health.probes`."""

    async def may_ask(self, deployment: str) -> bool:
        """Return False if the deployment was probed a moment ago."""

    async def ask(self, probe: Probe) -> int:
        """Publish a probe; return how many workers received it."""

    async def outcome(self, probe_id: str) -> Probe | None:
        """Return a probe with its outcomes; None: it is not finished."""


class ProbeOperations:
    """
    Probes of deployments.

    Args:
        database: The SQL database, for the audit log.
        bus: The connection to the workers.
        labels: Returns the labels of all deployments.
        wait_s: How long to wait for the outcomes.
    """

    def __init__(
        self,
        database: Database,
        bus: ProbeBus,
        labels: Callable[[], Collection[str]],
        *,
        wait_s: float = WAIT_S,
    ) -> None:
        self._database = database
        self._bus = bus
        self._labels = labels
        self._wait_s = wait_s

    async def probe(self, deployment: str, by: Actor) -> Probe:
        """
        Test a deployment with each credential of its provider, by the smallest possible call.

        A deployment that is out and responds takes calls again at once, in all workers.

        Raises:
            UnknownDeploymentError: No model has it.
            ProbedLatelyError: It was probed a moment ago.
            ProbeTimedOutError: No worker sent the probe in time.
            GatewayError: STORE_UNAVAILABLE: Redis or SQL does not respond.
        """
        try:
            return await self._probe(deployment, by)
        except (RedisUnavailable, ReplyError) as error:
            raise GatewayError(
                ErrorKind.STORE_UNAVAILABLE,
                "Redis is unavailable, through which workers are asked for a probe.",
            ) from error

    async def _probe(self, deployment: str, by: Actor) -> Probe:
        if deployment not in self._labels():
            raise UnknownDeploymentError(deployment)
        if not await self._bus.may_ask(deployment):
            raise ProbedLatelyError(deployment)
        asked = Probe(probe=new_token(), deployment=deployment)
        async with self._database.write() as connection:
            await record(connection, by, "deployment.probe", deployment)
        if not await self._bus.ask(asked):
            raise ProbeTimedOutError(deployment)
        try:
            async with asyncio.timeout(self._wait_s):
                while True:
                    found = await self._bus.outcome(asked.probe)
                    if found is not None:
                        return found
                    await asyncio.sleep(_POLL_S)
        except TimeoutError as error:
            raise ProbeTimedOutError(deployment) from error
