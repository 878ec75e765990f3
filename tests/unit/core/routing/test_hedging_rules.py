"""How late a deployment must be before another one is asked, and how often that may happen."""

from __future__ import annotations

import pytest

from gateway.core.model import HedgeRules
from gateway.core.routing.hedging import MOST_DELAY_S, HedgeBudget, Hedging, ResponseTimes

RULES = HedgeRules(min_delay_s=0.5, budget_percent=5.0)


def times_of(*seconds: float) -> ResponseTimes:
    """Return response times of these values."""
    times = ResponseTimes()
    for each in seconds:
        times.add(each)
    return times


def test_percentile_is_unknown_before_twenty_responses() -> None:
    """One in twenty is slower than the percentile: fewer say nothing."""
    assert times_of(*[1.0] * 19).slow_s() is None
    assert times_of(*[1.0] * 20).slow_s() == 1.0


def test_percentile_is_the_time_that_one_in_twenty_exceeds() -> None:
    """Of 1 to 100 it is 96: four are larger."""
    assert times_of(*range(1, 101)).slow_s() == 96


def test_percentile_follows_the_last_responses() -> None:
    """A deployment that became slow is not hedged at once for ever."""
    times = times_of(*[0.1] * 128)
    assert times.slow_s() == 0.1

    for _ in range(128):
        times.add(4.0)

    assert times.slow_s() == 4.0


def test_percentile_is_not_computed_for_each_response() -> None:
    """A single slow response moves it within eight responses."""
    times = times_of(*[1.0] * 20)
    assert times.slow_s() == 1.0
    for _ in range(2):
        times.add(9.0)
    assert times.slow_s() == 1.0
    for _ in range(6):
        times.add(9.0)
    assert times.slow_s() == 9.0


@pytest.mark.parametrize(("percent", "calls", "hedges"), [(5, 100, 5), (5, 19, 0), (100, 7, 7)])
def test_budget_is_a_share_of_the_calls(percent: float, calls: int, hedges: int) -> None:
    """Every call is late, and only the share is hedged."""
    budget = HedgeBudget()
    made = 0
    for _ in range(calls):
        budget.record_call(percent)
        made += budget.try_hedge()

    assert made == hedges


def test_budget_saves_no_more_than_ten_hedges() -> None:
    """After a quiet day a slow minute does not double all calls."""
    budget = HedgeBudget()
    for _ in range(10_000):
        budget.record_call(5)

    assert sum(budget.try_hedge() for _ in range(20)) == 10


def test_delay_is_the_percentile_but_at_least_the_floor() -> None:
    """Streams and whole responses are learned apart; unknown deployments are not hedged."""
    hedging = Hedging()
    for _ in range(20):
        hedging.learn("a/m", 2.0, stream=True)
        hedging.learn("a/m", 0.1, stream=False)
        hedging.learn("b/m", MOST_DELAY_S + 1, stream=True)

    assert hedging.delay_s("a/m", RULES, stream=True) == 2.0
    assert hedging.delay_s("a/m", RULES, stream=False) == 0.5
    assert hedging.delay_s("b/m", RULES, stream=True) is None
    assert hedging.delay_s("c/m", RULES, stream=True) is None


def test_budgets_and_times_end_with_their_model_and_deployment() -> None:
    """A reload keeps what is still in the catalogue."""
    hedging = Hedging()
    for _ in range(20):
        for name in ("old", "new"):
            hedging.record_call(name, RULES)
            hedging.learn(f"{name}/m", 2.0, stream=True)

    hedging.keep(frozenset({"new"}), frozenset({"new/m"}))

    assert (hedging.try_hedge("old"), hedging.try_hedge("new")) == (False, True)
    assert hedging.delay_s("old/m", RULES, stream=True) is None
    assert hedging.delay_s("new/m", RULES, stream=True) == 2.0
