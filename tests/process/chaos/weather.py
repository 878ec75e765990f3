"""When which upstream fails, and how: periods of faults and of health, drawn from a seed."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

FAULTS: tuple[dict[str, object], ...] = (
    {"kind": "refuse"},
    {"kind": "hang_head"},
    {"kind": "hang_stream", "after": 0},
    {"kind": "hang_stream", "after": 5},
    {"kind": "cut", "after": 0},
    {"kind": "cut", "after": 5},
    {"kind": "end_early", "after": 0},
    {"kind": "end_early", "after": 5},
    {"kind": "garbage", "after": 0},
    {"kind": "garbage", "after": 5},
    {"kind": "wrong_length", "after": 0},
    {"kind": "rate_limit", "retry_after_s": 1},
    {"kind": "status", "status": 401},
    {"kind": "status", "status": 402},
    {"kind": "status", "status": 500},
    {"kind": "status", "status": 503},
    {"kind": "status", "status": 529},
    {"kind": "drip", "pace_s": 0.02, "piece_bytes": 100},
    {"kind": "error_after_200", "after": 0},
    {"kind": "error_after_200", "after": 5},
    {"kind": "duplicate_usage"},
    {"kind": "huge_event", "size_bytes": 100_000},
)
SHARES = (0.3, 0.7, 1.0)
FAULTY_S = (1.0, 4.0)
HEALTHY_S = (1.0, 12.0)


class Period(NamedTuple):
    """A time in which a deployment may fail."""

    deployment: str
    began_at: float
    ended_at: float


class Weather:
    """
    Switches the faults of all deployments, each by itself.

    Args:
        deployments: Their names at the upstream.
        seed: Determines the sequence of faults, shares and durations.
        put: Replaces all rules of the upstream.
    """

    def __init__(
        self,
        deployments: Sequence[str],
        seed: int,
        put: Callable[[list[dict[str, object]]], Awaitable[None]],
    ) -> None:
        self._deployments = deployments
        self._seed = seed
        self._put = put
        self._rules: dict[str, dict[str, object]] = {}
        self.periods: list[Period] = []
        self.kinds: set[str] = set()

    async def blow(self) -> None:
        """Switch faults until cancelled; then all deployments are healthy."""
        try:
            await asyncio.gather(*map(self._one, self._deployments))
        finally:
            self._rules.clear()
            await self._put([])

    def was_healthy(self, deployment: str, since: float, until: float) -> bool:
        """Return whether a deployment had no faults in a time."""
        return not any(
            period.deployment == deployment and period.began_at < until and since < period.ended_at
            for period in self.periods
        )

    async def _one(self, deployment: str) -> None:
        chance = random.Random(f"{self._seed} {deployment}")
        while True:
            await asyncio.sleep(chance.uniform(*HEALTHY_S))
            fault = chance.choice(FAULTS)
            rule = {"fault": fault, "deployment": deployment, "share": chance.choice(SHARES)}
            self.kinds.add(str(fault["kind"]))
            began_at = time.monotonic()
            place = len(self.periods)
            self.periods.append(Period(deployment, began_at, float("inf")))
            self._rules[deployment] = rule
            await self._put(list(self._rules.values()))
            await asyncio.sleep(chance.uniform(*FAULTY_S))
            del self._rules[deployment]
            await self._put(list(self._rules.values()))
            self.periods[place] = Period(deployment, began_at, time.monotonic())
