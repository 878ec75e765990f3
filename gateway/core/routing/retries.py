"""Bounds of retries: full jitter, and a budget that keeps an outage from multiplying load."""

from __future__ import annotations

from typing import Final

import msgspec

WINDOW_S: Final = 10
"""The budget is a share of the calls of this many seconds."""


class RetryLimits(msgspec.Struct, frozen=True, kw_only=True):
    """The bounds of the attempts of one call, see `settings.Routing`."""

    max_attempts: int = 6
    retries: int = 1
    within_s: float = 300.0
    first_wait_s: float = 0.1
    max_wait_s: float = 5.0

    def bound(self, own: int | None) -> int:
        """Return the maximum attempts of a call; `own` is the bound that its client set, if any."""
        return self.max_attempts if own is None else min(own, self.max_attempts)


def wait_s(limits: RetryLimits, number: int, draw: float, retry_after_s: float | None) -> float:
    """
    Return the delay before a deployment is retried: full jitter, or what the upstream demands.

    Args:
        limits: Bounds of the delay.
        number: 0 for the first retry; the range of the delay doubles with each.
        draw: Uniform in [0, 1).
        retry_after_s: From the upstream. It is a minimum: up to a tenth is added, so that not all
            calls return at once. May exceed `max_wait_s`: then the call is not retried.
    """
    if retry_after_s is not None:
        return retry_after_s * (1 + draw / 10)
    return draw * min(limits.first_wait_s * 2.0 ** min(number, 16), limits.max_wait_s)


class RetryBudget:
    """
    Permits retries up to a share of the calls of the last seconds, plus a small number.

    Args:
        percent: Retries per hundred calls.
        floor: Retries that are permitted however few calls there are.
    """

    __slots__ = ("_calls", "_floor", "_percent", "_retries", "_second", "refused_total")

    def __init__(self, percent: float, floor: int) -> None:
        self._percent = percent
        self._floor = floor
        self._second = 0
        self._calls = [0] * WINDOW_S
        self._retries = [0] * WINDOW_S
        self.refused_total = 0

    def record_call(self, now: float) -> None:
        """Count a call."""
        second = int(now)
        if second != self._second:
            self._advance(second)
        self._calls[second % WINDOW_S] += 1

    def try_retry(self, now: float) -> bool:
        """Return whether a retry is within the budget, and count it."""
        second = int(now)
        if second != self._second:
            self._advance(second)
        if sum(self._retries) >= self._floor + sum(self._calls) * self._percent / 100:
            self.refused_total += 1
            return False
        self._retries[second % WINDOW_S] += 1
        return True

    def _advance(self, second: int) -> None:
        """Reset the counts of the seconds that have left the window."""
        passed = min(max(second - self._second, 1), WINDOW_S)
        for offset in range(passed):
            self._calls[(second - offset) % WINDOW_S] = 0
            self._retries[(second - offset) % WINDOW_S] = 0
        self._second = second
