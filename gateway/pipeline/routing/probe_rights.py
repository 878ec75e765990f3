"""
Lets single calls of clients test deployments that are not ready, one of all workers at a time.

The right to do so is claimed in the background once a call finds a deployment due, and the next
call uses it: no call waits for Redis. Without Redis each worker has a right of its own.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Final, NamedTuple

from gateway.core.circuit_breaker import LOST_PROBE_S
from gateway.core.routing.health import DeploymentHealth
from gateway.ports import SharedHealth

KEPT_S: Final = LOST_PROBE_S + 5.0
"""How long a worker that disappears, or a call that lasts longer, keeps others from testing."""
UNUSED_S: Final = 5.0
"""How long a right waits for a call before it is given back."""
AGAIN_S: Final = 1.0
"""How long to wait after another worker had the right."""


class _Right(NamedTuple):
    token: str
    timer: asyncio.TimerHandle


class ProbeRights:
    """
    The rights of one worker.

    Args:
        shared: Decides which worker tests a deployment; None: this one.
    """

    def __init__(self, shared: SharedHealth | None) -> None:
        self._shared = shared
        self._claiming: dict[str, asyncio.Task[None]] = {}
        self._refused_until: dict[str, float] = {}
        self._granted: dict[str, _Right] = {}
        self._used: dict[str, str] = {}

    def try_probe(self, health: DeploymentHealth, now: float) -> bool:
        """Return whether the call that is planned now is to test a deployment."""
        if self._shared is None:
            return health.try_probe(now)
        if not health.is_due(now):
            return False
        right = self._granted.pop(health.label, None)
        if right is None:
            self._claim(health.label, now)
            return False
        right.timer.cancel()
        self._used[health.label] = right.token
        return health.try_probe(now)

    def ended(self, label: str) -> None:
        """Pass the right to test a deployment on: the call that did has ended. Idempotent."""
        token = self._used.pop(label, None)
        if token is not None and self._shared is not None:
            # After the outcome was published, so that no other worker repeats the test.
            self._shared.release_probe(label, token)

    async def aclose(self) -> None:
        """Pass all rights on."""
        claiming = [*self._claiming.values()]
        for task in claiming:
            task.cancel()
        await asyncio.gather(*claiming, return_exceptions=True)
        for label in (*self._granted,):
            self._give_back(label)
        for label in (*self._used,):
            self.ended(label)

    def _claim(self, label: str, now: float) -> None:
        if label in self._claiming or now < self._refused_until.get(label, 0.0):
            return
        self.ended(label)  # a call whose outcome changed nothing leaves its right
        task = asyncio.get_running_loop().create_task(self._ask(label))
        self._claiming[label] = task
        task.add_done_callback(lambda _: self._claiming.pop(label, None))

    async def _ask(self, label: str) -> None:
        assert self._shared is not None
        token = await self._shared.claim_probe(label, KEPT_S)
        if token is None:
            self._refused_until[label] = monotonic() + AGAIN_S
            return
        timer = asyncio.get_running_loop().call_later(UNUSED_S, self._give_back, label)
        self._granted[label] = _Right(token, timer)

    def _give_back(self, label: str) -> None:
        """Pass on a right that no call has used."""
        right = self._granted.pop(label, None)
        if right is not None and self._shared is not None:
            right.timer.cancel()
            self._shared.release_probe(label, right.token)
