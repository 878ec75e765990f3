"""Which worker's calls test a deployment that is not ready."""

from __future__ import annotations

import asyncio
from time import monotonic

import pytest

from gateway.core.routing.failures import FailureClass
from gateway.core.routing.health import (
    DeploymentHealth,
    HealthChange,
    HealthCounts,
    HealthRules,
    HealthState,
)
from gateway.core.routing.order import Failure
from gateway.pipeline.routing import probe_rights
from gateway.pipeline.routing.board import HealthBoard
from gateway.pipeline.routing.probe_rights import KEPT_S, ProbeRights
from tests.support.waiting import wait_until

LABEL = "up/up-m"
DOWN = Failure(FailureClass.NETWORK)


class SharedLock:
    """The claims of all workers, as Redis keeps them."""

    def __init__(self) -> None:
        self.holder: str | None = None
        self.asked = 0
        self.kept_s: float | None = None

    def publish(self, change: HealthChange) -> None: ...

    def add(self, label: str, minute: int, counts: HealthCounts, state: HealthState) -> None: ...

    async def claim_probe(self, label: str, kept_s: float | None = None) -> str | None:
        self.asked += 1
        self.kept_s = kept_s
        token = f"{label} {self.asked}"
        await asyncio.sleep(0)
        if self.holder is not None:
            return None
        self.holder = token
        return token

    def release_probe(self, label: str, token: str) -> None:
        if self.holder == token:
            self.holder = None


class Scene:
    """A worker that knows the deployment's breaker to be open and its probe due."""

    def __init__(self, lock: SharedLock) -> None:
        self.board = HealthBoard(HealthRules(failures_to_open=1, open_s=0.0), "worker")
        self.rights = ProbeRights(lock)
        self.board.on_outcome = self.rights.ended
        self.health: DeploymentHealth = self.board.of(LABEL)
        self.board.attempt_failed(self.health, DOWN)

    def tests(self) -> bool:
        """Whether a call that is planned now tests the deployment."""
        return self.rights.try_probe(self.health, monotonic())

    async def granted(self) -> None:
        """Plan calls until one tests the deployment."""
        await wait_until(self.tests)


async def test_one_worker_at_a_time_tests_a_deployment() -> None:
    """The first call claims the right, the next one uses it; nobody else's does meanwhile."""
    lock = SharedLock()
    one, other = Scene(lock), Scene(lock)

    assert not one.tests()
    await one.granted()
    assert lock.kept_s == KEPT_S
    for _ in range(9):
        assert not other.tests()
        assert not one.tests()
        await asyncio.sleep(0)
    assert lock.asked == 2

    one.board.attempt_failed(one.health, DOWN)
    assert lock.holder is None
    other.rights._refused_until.clear()
    await other.granted()


@pytest.mark.parametrize("ended", ["ok", "failed", "rejected", "cancelled"])
async def test_end_of_the_call_passes_the_right_on(ended: str) -> None:
    """However it ended; a response that is the client's fault proves that the upstream works."""
    lock = SharedLock()
    scene = Scene(lock)
    await scene.granted()

    if ended == "ok":
        scene.board.attempt_succeeded(scene.health, None)
    elif ended == "failed":
        scene.board.attempt_failed(scene.health, DOWN)
    elif ended == "rejected":
        scene.board.attempt_failed(scene.health, Failure(FailureClass.CLIENT, 400))
    else:
        scene.board.attempt_unfinished(scene.health)

    assert lock.holder is None
    works = ended in ("ok", "rejected")
    assert scene.board.is_ready(LABEL) is works


async def test_rate_limit_ends_the_test_and_begins_a_rest() -> None:
    """429 with a time: the breaker is closed, and the deployment rests as long as demanded."""
    scene = Scene(SharedLock())
    await scene.granted()

    scene.board.attempt_failed(scene.health, Failure(FailureClass.RATE_LIMIT, 429, 30.0))

    now = monotonic()
    assert scene.health.state(now) is HealthState.RESTING
    assert scene.health.state(now + 31) is HealthState.READY


async def test_unused_right_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker without calls must not keep the others from testing."""
    monkeypatch.setattr(probe_rights, "UNUSED_S", 0.01)
    lock = SharedLock()
    scene = Scene(lock)

    assert not scene.tests()
    await wait_until(lambda: lock.asked == 1 and lock.holder is None)


async def test_end_of_the_worker_passes_all_rights_on() -> None:
    """Those that no call has used, and those of calls that run."""
    lock = SharedLock()
    unused, used = Scene(lock), Scene(SharedLock())
    assert not unused.tests()
    await wait_until(lambda: unused.rights._granted)
    await used.granted()

    await unused.rights.aclose()
    await used.rights.aclose()

    assert lock.holder is None
    assert not used.rights._used


def test_worker_alone_needs_no_right() -> None:
    """Without shared health, each due deployment is tested by the next call."""
    board = HealthBoard(HealthRules(failures_to_open=1, open_s=0.0), "worker")
    health, rights = board.of(LABEL), ProbeRights(None)
    board.attempt_failed(health, DOWN)

    assert rights.try_probe(health, monotonic())
    assert not rights.try_probe(health, monotonic())
