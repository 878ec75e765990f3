"""
Decides which share of new calls a worker refuses while its event loop is late.

Everything that a worker does waits for its loop, so the loop's lag is the length of the queue for
its CPU. Refusing all calls above a limit and none below it would make that queue swing between
full and empty. Instead a proportional-integral controller, switched on at the limit, finds the
share that keeps the lag at a quarter of it, and is switched off when that share is zero.
"""

from __future__ import annotations

TARGET = 0.25
"""The lag to keep while refusing, as a part of the limit."""
_INTEGRAL = 2.0
_PROPORTIONAL = 0.5
_LEAST_SHARE = 0.01
_MOST_ERROR = 2.0
_MOST_ELAPSED_S = 0.5
"""The most that the time between two samples counts: a standstill must not saturate the share."""


class LoopLag:
    """
    The smoothed lag, and the share of new calls to refuse.

    Args:
        limit_s: The lag at which refusing begins; 0 refuses nothing.
    """

    __slots__ = ("_due", "_integral", "_last_s", "_limit_s", "lag_s", "share")

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._last_s = 0.0
        self._integral = 0.0
        self._due = 0.0
        self.lag_s = 0.0
        """The lesser of the latest two samples: one long task is no queue."""
        self.share = 0.0
        """Share of new calls that are refused, from 0 to 1."""

    @property
    def refusing(self) -> bool:
        """The controller is on, even if its share is zero for now."""
        return self._integral > 0

    def observe(self, sample_s: float, elapsed_s: float) -> None:
        """Take one sample, `elapsed_s` after the last one."""
        self.lag_s = min(self._last_s, sample_s)
        self._last_s = sample_s
        if not self._limit_s or (not self._integral and self.lag_s <= self._limit_s):
            return
        error = min(self.lag_s / self._limit_s - TARGET, _MOST_ERROR)
        change = _INTEGRAL * min(elapsed_s, _MOST_ELAPSED_S) * error
        self._integral = min(max(self._integral + change, 0.0), 1.0)
        self.share = min(max(self._integral + _PROPORTIONAL * error, 0.0), 1.0)
        if self._integral < _LEAST_SHARE:
            self.share = self._integral = self._due = 0.0

    def refuses(self) -> bool:
        """Return whether to refuse the next call; refusals are spread evenly over the calls."""
        if not self.share:
            return False
        self._due += self.share
        if self._due < 1.0:
            return False
        self._due -= 1.0
        return True
