"""The circuit breaker: transitions by value, and that it never locks up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.circuit_breaker import BreakerState, CircuitBreaker


def breaker(failures: int = 3, cooldown_s: float = 10.0) -> CircuitBreaker:
    return CircuitBreaker(failures_to_open=failures, cooldown_s=cooldown_s)


def test_failures_in_a_row_open_it_once() -> None:
    """Only the failure that opens it says so."""
    subject = breaker()

    opened = [subject.record_failure(now) for now in (1.0, 2.0, 3.0, 4.0)]

    assert opened == [False, False, True, False]
    assert subject.state is BreakerState.OPEN


def test_success_ends_a_row_of_failures() -> None:
    """Failures count only in a row."""
    subject = breaker()
    subject.record_failure(1.0)
    subject.record_failure(2.0)

    subject.record_success()

    assert [subject.record_failure(now) for now in (3.0, 4.0)] == [False, False]
    assert subject.state is BreakerState.CLOSED


def test_success_of_an_earlier_request_leaves_it_open() -> None:
    """A reply that was under way when it opened proves nothing about now."""
    subject = breaker(failures=1)
    subject.record_failure(1.0)

    subject.record_success()

    assert subject.state is BreakerState.OPEN


@pytest.mark.parametrize(("now", "allowed"), [(10.9, False), (11.0, True), (99.0, True)])
def test_probe_waits_for_the_cooldown(now: float, allowed: bool) -> None:
    """It was opened at 1.0 and cools down for 10 seconds."""
    subject = breaker(failures=1)
    subject.record_failure(1.0)

    assert subject.try_probe(now) is allowed


def test_one_probe_at_a_time_decides() -> None:
    """A failed probe opens it for another cooldown, a successful one closes it."""
    subject = breaker(failures=3)
    for now in (1.0, 1.0, 1.0):
        subject.record_failure(now)

    assert subject.try_probe(11.0)
    assert not subject.try_probe(11.0)
    assert subject.record_failure(12.0)
    assert not subject.try_probe(21.0)
    assert subject.try_probe(22.0)
    subject.record_success()
    assert subject.state is BreakerState.CLOSED


def test_probe_without_an_outcome_is_lost_after_a_minute() -> None:
    """The probe may never have been sent: the breaker does not stay half open."""
    subject = breaker(failures=1)
    subject.record_failure(1.0)

    assert subject.try_probe(11.0)
    assert not subject.try_probe(70.9)
    assert subject.try_probe(71.0)
    assert not subject.try_probe(72.0)


@given(st.lists(st.sampled_from(["fail", "succeed", "probe"]), max_size=60), st.integers(1, 5))
def test_it_opens_only_after_enough_failures_and_can_always_be_closed(
    steps: list[str], failures: int
) -> None:
    """Against a model that counts; and from every state a probe leads back to closed."""
    subject, row = breaker(failures, cooldown_s=1.0), 0
    for now, step in enumerate(steps):
        if step == "fail":
            row += 1
            before = subject.state
            opened = subject.record_failure(float(now))
            if before is BreakerState.CLOSED:
                assert opened == (row >= failures)
        elif step == "succeed":
            subject.record_success()
            row = 0 if subject.state is BreakerState.CLOSED else row
        else:
            subject.try_probe(float(now))

    if subject.state is BreakerState.OPEN:
        assert subject.try_probe(1_000.0)
    subject.record_success()
    assert subject.state is BreakerState.CLOSED
