"""The states of one deployment, by the clock."""

import pytest

from gateway.core.routing.credentials import LONGEST_REST_S
from gateway.core.routing.failures import FailureClass
from gateway.core.routing.health import (
    IN_A_ROW_S,
    DeploymentHealth,
    HealthRules,
    HealthState,
    ttft_bound_s,
    ttft_step,
)
from gateway.core.routing.order import Failure

RULES = HealthRules(failures_to_open=3, open_s=5.0, out_probe_s=30.0)
BUSY = Failure(FailureClass.OVERLOAD, 503)
DOWN = Failure(FailureClass.UPSTREAM, 500)


def a_health() -> DeploymentHealth:
    return DeploymentHealth("p/m", RULES)


def test_failures_in_a_row_open_the_breaker() -> None:
    """A success in between starts the count again."""
    health = a_health()
    health.record_failure(DOWN, 0.0)
    health.record_failure(DOWN, 1.0)
    health.record_ok(2.0, None)
    changes = [health.record_failure(DOWN, 3.0) for _ in range(3)]

    assert changes == [False, False, True]
    assert health.state(3.0) is HealthState.OPEN
    assert not health.is_due(7.9)
    assert health.is_due(8.0)


@pytest.mark.parametrize(
    "kind",
    [FailureClass.CLIENT, FailureClass.UNSUPPORTED, FailureClass.UNKNOWN_MODEL, FailureClass.LOCAL],
)
def test_errors_of_requests_leave_a_deployment_ready(kind: FailureClass) -> None:
    """No client can take a deployment from the others with bad requests."""
    health = a_health()

    assert not any(health.record_failure(Failure(kind, 400), 0.0) for _ in range(50))
    assert not health.blocked
    assert health.state(0.0) is HealthState.READY


def test_rate_limit_rests_for_as_long_as_demanded() -> None:
    """429 is a cool-down with an end, not a breakage; only its start is a change."""
    health = a_health()
    refused = Failure(FailureClass.RATE_LIMIT, 429, 7.0)

    assert health.record_failure(refused, 100.0)
    assert not health.record_failure(refused, 101.0)
    assert (health.demanded, health.rests_until) == (True, 108.0)
    assert health.state(107.9) is HealthState.RESTING
    assert health.state(108.0) is HealthState.READY
    assert not health.blocked


@pytest.mark.parametrize("retry_after_s", [None, 0.0])
def test_rest_is_guessed_without_retry_after_and_doubles(retry_after_s: float | None) -> None:
    """None, 1 s, 2 s, 4 s ... 30 s while refused in a row; a success resets it."""
    health = a_health()
    busy = Failure(FailureClass.RATE_LIMIT, 429, retry_after_s)
    rests = []
    now = 10.0
    for _ in range(8):
        health.record_failure(busy, now)
        rests.append(max(health.rests_until - now, 0))
        now = max(health.rests_until, now)
    health.record_ok(now, None)

    assert rests == [0, 1, 2, 4, 8, 16, 30, 30]
    assert not health.record_failure(busy, now)
    assert health.record_failure(busy, now)
    assert health.rests_until - now == 1
    assert not health.demanded


def test_single_refusals_do_not_let_a_deployment_rest() -> None:
    """Each may concern one request only; those that follow soon after a rest go on doubling it."""
    health = a_health()

    assert not any(health.record_failure(BUSY, now) for now in (0.0, 5.1, 10.2))
    assert health.record_failure(BUSY, 15.2)
    assert health.record_failure(BUSY, 16.2 + IN_A_ROW_S)
    assert health.rests_until == 18.2 + IN_A_ROW_S


def test_refusal_after_a_demanded_rest_is_in_a_row() -> None:
    health = a_health()
    health.record_failure(BUSY, 0.0)
    health.record_failure(Failure(FailureClass.RATE_LIMIT, 429, 60.0), 1.0)

    assert health.record_failure(BUSY, 62.0)
    assert health.rests_until == 63.0


def test_rest_is_bounded() -> None:
    """A `retry-after` of a day is tested again after ten minutes."""
    health = a_health()
    health.record_failure(Failure(FailureClass.RATE_LIMIT, 429, 86_400.0), 0.0)

    assert health.rests_until == LONGEST_REST_S


def test_longest_rest_is_set_by_the_operator() -> None:
    health = DeploymentHealth("d", HealthRules(longest_rest_s=2.0))
    health.record_failure(Failure(FailureClass.RATE_LIMIT, 429, 86_400.0), 0.0)

    assert health.rests_until == 2.0


@pytest.mark.parametrize("kind", [FailureClass.CREDENTIAL, FailureClass.QUOTA])
def test_refused_credential_is_out_until_a_success(kind: FailureClass) -> None:
    """The first probe follows at once, later ones every 30 s; time alone does not help."""
    health = a_health()

    assert health.record_failure(Failure(kind, 401), 10.0)
    assert (health.state(10_000.0), health.out) == (HealthState.OUT, kind)
    assert health.try_probe(10.0)
    assert not health.try_probe(39.9)
    assert health.try_probe(40.0)
    assert health.record_ok(41.0, None)
    assert health.state(41.0) is HealthState.READY


def test_half_open_breaker_has_one_probe() -> None:
    """The probe's success closes it, its failure opens it for another cooldown."""
    health = a_health()
    for _ in range(3):
        health.record_failure(DOWN, 0.0)

    assert [health.try_probe(5.0), health.try_probe(5.0)] == [True, False]
    assert health.state(5.0) is HealthState.HALF_OPEN
    assert health.record_failure(DOWN, 6.0)
    assert health.state(6.0) is HealthState.OPEN
    assert health.try_probe(11.0)
    assert health.record_ok(11.5, None)
    assert health.state(11.5) is HealthState.READY


def test_late_success_of_an_earlier_call_does_not_close_the_breaker() -> None:
    """It was sent before the deployment failed."""
    health = a_health()
    for _ in range(3):
        health.record_failure(DOWN, 0.0)

    assert not health.record_ok(1.0, None)
    assert health.state(1.0) is HealthState.OPEN


def test_unfinished_probe_is_repeated_after_a_cooldown() -> None:
    """A probe whose client left is no verdict, and does not block the next one for ever."""
    health = a_health()
    health.open(0.0)
    assert health.try_probe(5.0)
    health.probe_unfinished(6.0)

    assert not health.try_probe(10.9)
    assert health.try_probe(11.0)


def test_time_to_first_token_is_smoothed() -> None:
    """The newest weighs a fifth."""
    health = a_health()
    health.record_ok(0.0, 1.0)
    health.record_ok(0.0, 2.0)
    health.record_ok(0.0, None)

    assert health.ttft_s == pytest.approx(1.2)


@pytest.mark.parametrize(
    ("seconds", "step"), [(0.0, 0), (0.016, 0), (0.017, 1), (0.032, 2), (1.0, 12), (900.0, 23)]
)
def test_steps_of_the_histogram(seconds: float, step: int) -> None:
    """Two steps to a doubling, from 16 ms on; the last is open."""
    assert ttft_step(seconds) == step
    assert seconds <= ttft_bound_s(step)
