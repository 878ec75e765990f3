"""The comparison of one worker with two, with the measurement replaced."""

import pytest

from bench import scaling
from bench.harness.scenarios import Scenario, chosen
from bench.harness.systems import System


def test_systems_are_measured_in_turn_and_medians_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds are interleaved, and each row has the median and the range of its rounds."""
    order: list[str] = []
    rates = iter((1000.0, 1500.0, 1100.0, 1700.0, 900.0, 1600.0))

    def measure(scenario: Scenario, system: System, seconds: float) -> tuple[float, float]:
        order.append(system.name)
        return next(rates), 500.0

    monkeypatch.setattr(scaling, "measure", measure)
    (short,) = chosen(["short"])

    rows = scaling.compare(short, [System("1 workers", 1), System("2 workers", 2)], 3, 1.0)

    assert order == ["1 workers", "2 workers"] * 3
    assert rows == [
        ["short request", "1 workers", "1000 (900-1100)", "500.0 (500.0-500.0)"],
        ["short request", "2 workers", "1600 (1500-1700)", "500.0 (500.0-500.0)"],
    ]
