"""
Who may start a call now.

The worker's own cap stands here: beyond it a call is refused at once with a second's wait, instead
of waiting in a queue that nobody sees.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import Gauge

from gateway.errors import ErrorKind, GatewayError


class Admission:
    """
    Counts the calls of this worker.

    Args:
        limit: Calls at the same time, each to the end of its answer.
        gauge: Shows the count.
    """

    def __init__(self, limit: int, gauge: Gauge) -> None:
        self._limit = limit
        self._gauge = gauge
        self.in_flight = 0

    @contextmanager
    def slot(self) -> Iterator[None]:
        """
        Hold a place until the call's answer has ended.

        Raises:
            GatewayError: OVERLOADED.
        """
        if self.in_flight >= self._limit:
            raise GatewayError(
                ErrorKind.OVERLOADED, "Too many open requests. Try again.", retry_after_s=1
            )
        self.in_flight += 1
        self._gauge.inc()
        try:
            yield
        finally:
            self.in_flight -= 1
            self._gauge.dec()
