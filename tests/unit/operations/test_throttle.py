"""The throttle counts by the minute, and forgets."""

from __future__ import annotations

import pytest

from gateway.errors import ErrorKind, GatewayError
from gateway.operations.throttle import Throttle


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_throttle_refuses_beyond_the_limit_until_the_minute_is_over() -> None:
    """The error says how long to wait; other subjects are not affected."""
    clock = Clock()
    throttle = Throttle(2, clock)
    for _ in range(2):
        throttle.check("a")
        throttle.count("a")
    clock.now += 20

    with pytest.raises(GatewayError) as caught:
        throttle.check("a")
    throttle.check("b")
    clock.now += 40
    throttle.check("a")
    throttle.count("a")
    throttle.check("a")

    assert (caught.value.kind, caught.value.retry_after_s) == (ErrorKind.RATE_LIMITED, 40.0)


def test_throttle_remembers_no_more_than_its_bound() -> None:
    """The least recent subjects are evicted."""
    throttle = Throttle(1, Clock(), subjects=100)

    for number in range(1000):
        throttle.count(str(number))

    assert len(throttle._counts) == 100
    throttle.check("0")
    with pytest.raises(GatewayError):
        throttle.check("999")
