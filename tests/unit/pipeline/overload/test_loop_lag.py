"""Which share of calls a late event loop refuses."""

from __future__ import annotations

import pytest

from gateway.pipeline.overload.loop_lag import TARGET, LoopLag

LIMIT_S = 0.1


def observed(*lags_s: float, limit_s: float = LIMIT_S) -> LoopLag:
    """Return a controller after some samples, each taken 50 ms after it was due."""
    lag = LoopLag(limit_s)
    for sample_s in lags_s:
        lag.observe(sample_s, 0.05 + sample_s)
    return lag


def refused(lag: LoopLag, calls: int) -> int:
    """Return how many of some calls are refused."""
    return sum(lag.refuses() for _ in range(calls))


@pytest.mark.parametrize(
    "lags_s",
    [[], [LIMIT_S] * 9, [9.0], [9.0, 0.0, 9.0, 0.0], [0.09, 9.0, 0.09]],
    ids=["none", "at the limit", "one long task", "alternating", "one among many"],
)
def test_nothing_is_refused_up_to_the_limit(lags_s: list[float]) -> None:
    """A single late sample is one long task, not a queue."""
    lag = observed(*lags_s)

    assert (lag.share, lag.refusing, refused(lag, 1000)) == (0.0, False, 0)


def test_standing_lag_is_refused_in_proportion() -> None:
    """The further above the limit, the larger the share; and the calls meet it evenly."""
    little, much = observed(0.11, 0.11), observed(0.2, 0.2)

    # error 0.85: 2 * 0.16 s * 0.85 + 0.5 * 0.85; error 1.75 exceeds every share.
    assert little.share == pytest.approx(0.697)
    assert much.share == 1.0
    assert refused(little, 1000) == pytest.approx(697, abs=1)
    assert refused(much, 1000) == 1000


def test_share_holds_at_the_target() -> None:
    """At a quarter of the limit the controller stays on and changes nothing."""
    target_s = LIMIT_S * TARGET
    lag = observed(0.11, 0.11, target_s, target_s)
    share = lag.share

    for _ in range(100):
        lag.observe(target_s, 0.05)

    assert lag.share == share > 0
    assert lag.refusing


def test_lag_between_target_and_limit_raises_a_share_but_starts_none() -> None:
    """That is the hysteresis: it does not begin below the limit, and does not end above."""
    below_s = LIMIT_S * 0.9

    assert not observed(*[below_s] * 50).refusing
    assert observed(0.11, 0.11, *[below_s] * 50).share == 1.0


def test_share_ends_within_two_seconds_without_lag() -> None:
    """Even from refusing everything."""
    lag = observed(*[5.0] * 20)
    assert lag.share == 1.0

    samples = 0
    while lag.refusing:
        lag.observe(0.0, 0.05)
        samples += 1

    assert 1.0 < samples * 0.05 <= 2.1
    assert refused(lag, 1000) == 0


def test_standstill_counts_as_half_a_second() -> None:
    """A minute's pause of the process does not weigh more than a busy half second."""
    lag = LoopLag(100.0)
    for _ in range(2):
        lag.observe(101.0, 60.0)

    assert lag.share < 1.2


def test_zero_refuses_nothing() -> None:
    """The lag is smoothed all the same."""
    lag = observed(9.0, 8.0, limit_s=0.0)

    assert (lag.lag_s, lag.share, lag.refusing) == (8.0, 0.0, False)
