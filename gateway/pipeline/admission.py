"""
Who may start a call now.

The worker's own cap stands here: beyond it a call is refused at once with a second's wait, instead
of waiting in a queue that nobody sees.
"""

from __future__ import annotations

from gateway.errors import ErrorKind, GatewayError
from gateway.telemetry.metrics import CallMetrics


class Admission:
    """
    Counts the calls of this worker: a context manager around each, to the end of its answer.

    Args:
        limit: Calls at the same time.
        metrics: Shows the count.
    """

    __slots__ = ("_limit", "_metrics")

    def __init__(self, limit: int, metrics: CallMetrics) -> None:
        self._limit = limit
        self._metrics = metrics

    def __enter__(self) -> None:
        """
        Take a place.

        Raises:
            GatewayError: OVERLOADED.
        """
        if self._metrics.in_flight >= self._limit:
            raise GatewayError(
                ErrorKind.OVERLOADED, "Too many open requests. Try again.", retry_after_s=1
            )
        self._metrics.in_flight += 1

    def __exit__(self, *_: object) -> None:
        """Give the place back."""
        self._metrics.in_flight -= 1
