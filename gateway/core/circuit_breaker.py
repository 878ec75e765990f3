"""
A circuit breaker as a pure state machine: the caller brings the time and does what it says.

Closed: requests pass; `failures_to_open` failures in a row open it. Open: nothing passes until
`cooldown_s` is over. Half open: one probe is under way; its success closes the breaker, its failure
opens it for another cooldown.
"""

from __future__ import annotations

import enum


class BreakerState(enum.Enum):
    """Whether requests pass. The value is the label in metrics and logs."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class CircuitBreaker:
    """
    Counts failures in a row.

    Args:
        failures_to_open: At least 1.
        cooldown_s: How long it stays open before a probe may be sent.
    """

    __slots__ = ("_cooldown_s", "_failures", "_failures_to_open", "_opened_at", "_state")

    def __init__(self, *, failures_to_open: int, cooldown_s: float) -> None:
        self._failures_to_open = failures_to_open
        self._cooldown_s = cooldown_s
        self._failures = 0
        self._opened_at = 0.0
        self._state = BreakerState.CLOSED

    @property
    def state(self) -> BreakerState:
        """The state after the last call; only calls change it, not the time."""
        return self._state

    def record_failure(self, now: float) -> bool:
        """Count a failure; return True if it opened the breaker, or opened it again."""
        self._failures += 1
        if self._state is BreakerState.OPEN:
            return False
        if self._state is BreakerState.CLOSED and self._failures < self._failures_to_open:
            return False
        self._state = BreakerState.OPEN
        self._opened_at = now
        return True

    def record_success(self) -> None:
        """End a row of failures, and close a half-open breaker."""
        # A success while it is open belongs to a request from before: it proves nothing.
        if self._state is not BreakerState.OPEN:
            self.close()

    def try_probe(self, now: float) -> bool:
        """Return True if the caller may send the probe: open, and the cooldown is over."""
        if self._state is not BreakerState.OPEN or now - self._opened_at < self._cooldown_s:
            return False
        self._state = BreakerState.HALF_OPEN
        return True

    def close(self) -> None:
        """Close it: the other side is known to be back."""
        self._failures = 0
        self._state = BreakerState.CLOSED
