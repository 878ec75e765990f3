"""Medians, ranges and percentiles of the benchmarks."""

import math

import pytest

from bench.harness.summary import Summary, percentile, quantiles_ms, summarise


def test_median_is_not_moved_by_one_bad_round() -> None:
    """An odd round shows in the range, not in the median."""
    assert summarise([3.0, 1.0, 90.0, 2.0, 4.0]) == Summary(3.0, 1.0, 90.0, 5)
    assert summarise([4.0, 1.0]) == Summary(2.5, 1.0, 4.0, 2)
    assert summarise([]) is None


def test_summary_shows_its_range_unless_there_was_one_round() -> None:
    """Readers see the spread beside each median."""
    assert Summary(12.34, 11.0, 14.06, 5).shown() == "12.3 (11.0-14.1)"
    assert Summary(12.34, 12.34, 12.34, 1).shown(2) == "12.34"


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, 50.0), (0.99, 99.0), (0.991, 100.0), (1.0, 100.0), (0.0, 1.0)]
)
def test_percentile_is_the_lowest_value_that_enough_do_not_exceed(
    share: float, expected: float
) -> None:
    """The nearest rank: p99 of a hundred values is the second highest, not the highest."""
    assert percentile([float(value) for value in range(1, 101)], share) == expected


def test_percentile_of_nothing_is_not_a_number() -> None:
    """No value is invented where none was measured."""
    assert math.isnan(percentile([], 0.5))
    assert quantiles_ms([]) == {}


def test_quantiles_are_milliseconds() -> None:
    """Loads measure seconds, results hold milliseconds."""
    assert quantiles_ms([0.004, 0.001, 0.002, 0.003]) == {
        "count": 4, "p50": 2.0, "p90": 4.0, "p99": 4.0, "max": 4.0,
    }  # fmt: skip
