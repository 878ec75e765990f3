"""The state of a deployment in words, and its strip."""

from __future__ import annotations

import pytest

from gateway.console.service.board import Board
from gateway.console.service.now import attempts_of
from gateway.console.service.providers import bars, deployment_lines, state_of
from gateway.core.catalogue import build
from gateway.core.routing.health import HealthState
from gateway.store.health.minutes import DeploymentMinutes, DeploymentReport, MinuteCounts
from gateway.store.reports.usage import UsageSum
from tests.support.activity import SETTINGS


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (DeploymentReport(deployment="d"), ("idle", "")),
        (DeploymentReport(deployment="d", attempts=9, ok=9), ("healthy", "ok")),
        (DeploymentReport(deployment="d", ok=9, failures={"timeout": 1}), ("degraded", "warn")),
        (DeploymentReport(deployment="d", ok=4, failures={"upstream": 5}), ("failing", "bad")),
        (DeploymentReport(deployment="d", ok=9, failures={"client": 90}), ("healthy", "ok")),
        (DeploymentReport(deployment="d", state=HealthState.OPEN), ("failing", "bad")),
        (DeploymentReport(deployment="d", state=HealthState.RESTING), ("resting", "warn")),
        (
            DeploymentReport(deployment="d", state=HealthState.OUT, reason="credential"),
            ("credential refused", "bad"),
        ),
        (
            DeploymentReport(deployment="d", state=HealthState.OUT, reason="quota"),
            ("out of credit", "bad"),
        ),
    ],
)
def test_state_is_what_an_operator_has_to_do(
    report: DeploymentReport, expected: tuple[str, str]
) -> None:
    """A published state comes before the attempts; failures of requests do not count."""
    assert state_of(report) == expected


def test_strip_has_a_bar_for_three_minutes() -> None:
    """Without attempts it is empty, not green; failures of requests are no attempts."""
    strip = [
        MinuteCounts(100, 2, 1, 1), MinuteCounts(101, 0, 0, 0), MinuteCounts(102, 3, 2, 0),
        *(MinuteCounts(minute, 0, 0, 0) for minute in (103, 104, 105)),
        MinuteCounts(106, 10, 3, 0), MinuteCounts(107, 0, 0, 0), MinuteCounts(108, 90, 90, 0),
    ]  # fmt: skip

    found = bars(strip)

    assert [(each.minutes_ago, each.attempts, each.failed) for each in found] == [
        (9, 4, 1), (6, 0, 0), (3, 100, 7),
    ]  # fmt: skip
    assert [each.level for each in found] == ["warn", "none", "warn"]


def test_attempts_are_those_of_the_last_minutes() -> None:
    """A rate counts the current minute only as far as it has passed."""
    old, new = MinuteCounts(85, 1000, 0, 0), MinuteCounts(100, 870, 800, 10)
    report = DeploymentReport(deployment="d", ttft_p50_ms=90, ttft_p95_ms=500)
    board = Board(at=6030, deployments={"d": DeploymentMinutes(report, (old, new))})

    found = attempts_of(board)

    assert (found.attempts, found.failed, found.a_second) == (870, 60, 1.0)
    assert (found.ttft_p50_ms, found.ttft_p95_ms) == (90, 500)


def test_deployments_are_listed_by_their_models() -> None:
    """One without a report has an unknown state, not a good one."""
    models = build(SETTINGS, {}).models
    label = models[0].deployments[0].label
    known = {label: DeploymentMinutes(DeploymentReport(deployment=label, ok=3), ())}

    lines = deployment_lines(models, known, {label: UsageSum(calls=1)}, {label: 40.0})
    unknown = deployment_lines(models, {}, {}, {})

    assert [(line.model.name, line.state) for line in lines] == [
        ("kimi", "healthy"), ("deepseek-v4-flash", "healthy"),
    ]  # fmt: skip
    assert lines[0].tokens_per_s == 40.0
    assert {line.state for line in unknown} == {"unknown"}
