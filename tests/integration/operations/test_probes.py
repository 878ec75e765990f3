"""Probes on behalf of an operator: who may be asked, and what follows without a response."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from gateway.core.routing.failures import FailureClass
from gateway.core.routing.probes import Probe, ProbeOutcome
from gateway.errors import ErrorKind, GatewayError
from gateway.operations.probes import ProbeOperations
from gateway.operations.refusals import (
    ProbedLatelyError,
    ProbeTimedOutError,
    UnknownDeploymentError,
)
from gateway.settings import Server, Settings
from gateway.store.accounts.audit import Actor, AuditLog
from gateway.store.redis.client import RedisUnavailable
from gateway.store.sql.database import Database
from gateway.store.sql.migrations import migrate

BY = Actor("operator:user_1")
OUTCOME = ProbeOutcome(credential=1, accepted=False, status=401, failure=FailureClass.CREDENTIAL)


class Workers:
    """Workers that respond at the second look, or never."""

    def __init__(self, *, receivers: int = 1, answers: bool = True, lately: bool = False) -> None:
        self.receivers, self.answers, self.lately = receivers, answers, lately
        self.asked: list[Probe] = []
        self.looked = 0

    async def may_ask(self, deployment: str) -> bool:
        return not self.lately

    async def ask(self, probe: Probe) -> int:
        self.asked.append(probe)
        return self.receivers

    async def outcome(self, probe_id: str) -> Probe | None:
        self.looked += 1
        if not self.answers or self.looked < 2:
            return None
        return msgspec.structs.replace(self.asked[-1], outcomes=(OUTCOME,))


class AwayWorkers(Workers):
    """Redis does not respond."""

    async def may_ask(self, deployment: str) -> bool:
        raise RedisUnavailable("closed")


@pytest.fixture
async def database(tmp_path: Path) -> Database:
    settings = Settings(server=Server(data_dir=str(tmp_path)))
    await migrate(settings)
    return Database(settings)


async def test_outcomes_are_awaited_and_the_probe_is_audited(database: Database) -> None:
    """By its deployment, before it is sent."""
    workers = Workers()
    found = await ProbeOperations(database, workers, lambda: ["p/m"]).probe("p/m", BY)
    (entry,) = await AuditLog(database).list(object_id="p/m")
    await database.aclose()

    assert (found.deployment, found.outcomes) == ("p/m", (OUTCOME,))
    assert (entry.actor, entry.action) == ("operator:user_1", "deployment.probe")


@pytest.mark.parametrize(
    ("deployment", "workers", "error"),
    [
        ("p/other", Workers(), UnknownDeploymentError),
        ("p/m", Workers(lately=True), ProbedLatelyError),
        ("p/m", Workers(receivers=0), ProbeTimedOutError),
        ("p/m", Workers(answers=False), ProbeTimedOutError),
    ],
    ids=["unknown", "lately", "no worker", "no answer"],
)
async def test_probe_that_cannot_be_made_says_why(
    database: Database, deployment: str, workers: Workers, error: type[Exception]
) -> None:
    """It does not wait for ever."""
    operations = ProbeOperations(database, workers, lambda: ["p/m"], wait_s=0.05)
    with pytest.raises(error):
        await operations.probe(deployment, BY)
    await database.aclose()


async def test_probe_without_redis_is_refused(database: Database) -> None:
    """Workers are reached through it."""
    operations = ProbeOperations(database, AwayWorkers(), lambda: ["p/m"])
    with pytest.raises(GatewayError) as caught:
        await operations.probe("p/m", BY)
    await database.aclose()

    assert caught.value.kind is ErrorKind.STORE_UNAVAILABLE
