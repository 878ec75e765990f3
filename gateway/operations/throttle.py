"""Per-worker rate limiter for failed logins and expensive reads."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from gateway.errors import ErrorKind, GatewayError

_WINDOW_S = 60.0


class Throttle:
    """
    Counts events by subject in windows of one minute.

    Args:
        limit: Events per minute.
        now: Monotonic seconds.
        subjects: Bound on the subjects remembered; the least recent are evicted.
    """

    def __init__(self, limit: int, now: Callable[[], float], subjects: int = 10_000) -> None:
        self._limit = limit
        self._now = now
        self._bound = subjects
        self._counts: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def check(self, subject: str) -> None:
        """
        Raise an error if the subject has reached the limit.

        Raises:
            GatewayError: RATE_LIMITED, to be retried after the rest of the minute.
        """
        began, count = self._counts.get(subject, (0.0, 0))
        rest_s = began + _WINDOW_S - self._now()
        if count >= self._limit and rest_s > 0:
            raise GatewayError(
                ErrorKind.RATE_LIMITED,
                f"Too many attempts: the limit is {self._limit} per minute. Try again later.",
                retry_after_s=rest_s,
            )

    def count(self, subject: str) -> None:
        now = self._now()
        began, count = self._counts.pop(subject, (now, 0))
        if now - began >= _WINDOW_S:
            began, count = now, 0
        self._counts[subject] = (began, count + 1)
        if len(self._counts) > self._bound:
            self._counts.popitem(last=False)
