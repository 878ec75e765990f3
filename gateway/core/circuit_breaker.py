"""
A circuit breaker as a pure state machine; time is passed in.

Closed: requests pass; `failures_to_open` consecutive failures open it. Open: no requests pass for
`cooldown_s`. Half open: one probe is in flight; its success closes the breaker, its failure opens
it again. A probe without an outcome for `LOST_PROBE_S` is lost: another one may be sent.
"""

from __future__ import annotations

import enum
from typing import Final

LOST_PROBE_S: Final = 60.0


class BreakerState(enum.Enum):
    """The state of a breaker. The value is the label in metrics and logs."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class CircuitBreaker:
    """
    Opens after consecutive failures.

    Args:
        failures_to_open: At least 1.
        cooldown_s: Time in the open state before a probe may be sent.
    """

    __slots__ = ("_changed_at", "_cooldown_s", "_failures", "_failures_to_open", "_state")

    def __init__(self, *, failures_to_open: int, cooldown_s: float) -> None:
        self._failures_to_open = failures_to_open
        self._cooldown_s = cooldown_s
        self._failures = 0
        self._changed_at = 0.0
        self._state = BreakerState.CLOSED

    @property
    def state(self) -> BreakerState:
        """The state after the last method call; it does not change with time."""
        return self._state

    def record_failure(self, now: float) -> bool:
        """Count a failure; return True if it opened the breaker."""
        self._failures += 1
        if self._state is BreakerState.OPEN:
            return False
        if self._state is BreakerState.CLOSED and self._failures < self._failures_to_open:
            return False
        self._state = BreakerState.OPEN
        self._changed_at = now
        return True

    def record_success(self) -> None:
        """Reset the failure count, and close a half-open breaker."""
        # A success in the open state belongs to an earlier request and proves nothing.
        if self._state is not BreakerState.OPEN:
            self.close()

    def is_due(self, now: float) -> bool:
        """Return whether a probe may be sent."""
        if self._state is BreakerState.CLOSED:
            return False
        wait_s = self._cooldown_s
        if self._state is BreakerState.HALF_OPEN:
            wait_s = max(wait_s, LOST_PROBE_S)
        return now - self._changed_at >= wait_s

    def try_probe(self, now: float) -> bool:
        """Return True, and become half open, if a probe may be sent."""
        if not self.is_due(now):
            return False
        self._state = BreakerState.HALF_OPEN
        self._changed_at = now
        return True

    def open(self, now: float) -> None:
        """Open the breaker, or keep it open for another cooldown: the service is known to fail."""
        self._state = BreakerState.OPEN
        self._changed_at = now

    def close(self) -> None:
        """Close the breaker: the service is known to be available."""
        self._failures = 0
        self._state = BreakerState.CLOSED
