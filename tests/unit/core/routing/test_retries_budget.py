"""Retries are bounded: by their delay, and by a share of the recent calls."""

import pytest

from gateway.core.routing.retries import RetryBudget, RetryLimits, wait_s

LIMITS = RetryLimits(first_wait_s=0.1, max_wait_s=5.0)


@pytest.mark.parametrize(
    ("number", "draw", "expected"),
    [(0, 0.0, 0.0), (0, 0.5, 0.05), (1, 0.5, 0.1), (3, 1.0, 0.8), (10, 1.0, 5.0), (900, 0.5, 2.5)],
)
def test_wait_is_drawn_from_a_range_that_doubles(number: int, draw: float, expected: float) -> None:
    """Full jitter: anything from nothing to the doubled delay, up to the limit."""
    assert wait_s(LIMITS, number, draw, None) == pytest.approx(expected)


def test_wait_is_at_least_what_the_upstream_demands() -> None:
    """`retry-after` is honoured, spread by a tenth, and not cut to the limit."""
    assert wait_s(LIMITS, 0, 0.0, 3.0) == 3.0
    assert wait_s(LIMITS, 0, 0.5, 3.0) == pytest.approx(3.15)
    assert wait_s(LIMITS, 0, 0.0, 60.0) == 60.0


def test_budget_permits_a_share_of_recent_calls_and_a_floor() -> None:
    """100 calls at 20 percent and a floor of 3 permit 23 retries."""
    budget = RetryBudget(20, 3)
    for call in range(100):
        budget.record_call(1000 + call / 100)

    permitted = [budget.try_retry(1001.5) for _ in range(30)]

    assert permitted == [True] * 23 + [False] * 7
    assert budget.refused_total == 7


def test_budget_without_calls_permits_the_floor() -> None:
    """A single failed call of a quiet worker is retried."""
    budget = RetryBudget(20, 2)

    assert [budget.try_retry(5.0) for _ in range(3)] == [True, True, False]


def test_budget_forgets_what_is_older_than_its_window() -> None:
    """Retries count for ten seconds, and so do the calls that permit them."""
    budget = RetryBudget(50, 1)
    for _ in range(10):
        budget.record_call(100.0)
    assert sum(budget.try_retry(100.0) for _ in range(20)) == 6

    assert not budget.try_retry(109.9)
    assert budget.try_retry(110.0)
    assert not budget.try_retry(110.1)


def test_budget_after_a_long_pause_is_fresh() -> None:
    """An idle worker's window is empty, however long it was idle."""
    budget = RetryBudget(0, 1)
    assert budget.try_retry(3.0)

    assert budget.try_retry(5000.0)
    assert not budget.try_retry(5000.5)


def test_budget_bounds_the_load_of_an_outage() -> None:
    """If every call fails and asks for a retry, load grows by the share, not by the retries."""
    budget = RetryBudget(20, 10)
    retried = 0
    for number in range(10_000):
        now = number / 100
        budget.record_call(now)
        retried += budget.try_retry(now)

    assert retried <= 10_000 * 0.2 + 10 * 11
