"""A model's state follows from the attempts of its deployments."""

from __future__ import annotations

import pytest

from gateway.console.public.health import Day, ModelState, judge
from gateway.store.health.minutes import DeploymentReport


def report(label: str, ok: int, p95: int | None = None, **failures: int) -> DeploymentReport:
    """A deployment's attempts."""
    attempts = ok + sum(failures.values())
    return DeploymentReport(
        deployment=label, attempts=attempts, ok=ok, failures=failures,
        ttft_p50_ms=p95, ttft_p95_ms=p95,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("reports", "state"),
    [
        ([report("a", 0)], ModelState.IDLE),
        ([report("a", 95, upstream=5)], ModelState.OK),
        ([report("a", 94, upstream=6)], ModelState.DEGRADED),
        ([report("a", 50, timeout=50)], ModelState.DEGRADED),
        ([report("a", 49, timeout=51)], ModelState.DOWN),
        ([report("a", 10, client=90)], ModelState.OK),
        ([report("a", 0, client=90)], ModelState.IDLE),
        ([report("a", 0, network=90), report("b", 90)], ModelState.OK),
        ([report("a", 0, network=90), report("b", 90, overload=10)], ModelState.DEGRADED),
        ([report("a", 0, network=90), report("b", 0)], ModelState.DOWN),
    ],
)
def test_model_is_as_healthy_as_its_best_deployment(
    reports: list[DeploymentReport], state: ModelState
) -> None:
    """Over 5 % failed is degraded, over 50 % down; errors of clients do not count."""
    recent = {each.deployment: each for each in reports}

    assert judge("m", "M", list(recent), recent, recent).state is state


@pytest.mark.parametrize(
    ("ok", "now", "usual", "state"),
    [
        (5, 3000, 1000, ModelState.OK),
        (5, 3001, 1000, ModelState.DEGRADED),
        (4, 9000, 1000, ModelState.OK),
        (5, 9000, None, ModelState.OK),
    ],
)
def test_model_that_is_three_times_slower_than_usual_is_degraded(
    ok: int, now: int, usual: int | None, state: ModelState
) -> None:
    """By the 95th percentile of the time to first token, from five attempts on."""
    recent, before = {"a": report("a", ok, now)}, {"a": report("a", 100, usual)}

    assert judge("m", "M", ["a"], recent, before).state is state


def test_counts_are_of_all_deployments() -> None:
    """Attempts that say something about a provider, and the failed ones."""
    recent = {"a": report("a", 1, network=3, client=7), "b": report("b", 5, 40)}

    found = judge("m", "M", ["a", "b"], recent, recent)

    assert (found.attempts, found.failed, found.ttft_p95_ms) == (9, 3, 40)


def test_state_is_unknown_without_redis() -> None:
    assert judge("m", "M", ["a"], None, None).state is ModelState.UNKNOWN


@pytest.mark.parametrize(
    ("calls", "failed", "level"),
    [(0, 0, "none"), (100, 5, "ok"), (100, 6, "warn"), (100, 50, "warn"), (100, 51, "bad")],
)
def test_days_without_calls_are_grey(calls: int, failed: int, level: str) -> None:
    assert Day("2026-11-28", calls, failed).level == level
