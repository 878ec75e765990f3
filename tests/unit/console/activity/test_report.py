"""Totals, series and rows of a usage report."""

from __future__ import annotations

from gateway.console.activity.report import ReportRow, build
from gateway.console.reporting.filters import Metric
from gateway.console.reporting.plots import Series
from gateway.core.latency_histogram import STEPS, step_of
from gateway.store.reports.usage import SumRow, UsageSum


def spent(cost: int, calls: int = 1) -> UsageSum:
    """Return a sum."""
    return UsageSum(calls=calls, cost_nanousd=cost, input=cost, cache_read=3 * cost)


def test_groups_are_ranked_by_the_metric_and_stacked_by_time() -> None:
    """Names are shown, and times without calls have no number."""
    rows = [SumRow(0, "k1", spent(5)), SumRow(2, "k1", spent(1, 9)), SumRow(2, "k2", spent(7))]

    found = build(rows, 3, Metric.SPEND, {"k1": "laptop"})

    assert found.series == [Series("k2", 1, [None, None, 7]), Series("laptop", 2, [5, None, 1])]
    assert found.rows == [ReportRow("k2", 1, spent(7)), ReportRow("k1", 2, spent(6, 10))]
    assert found.total == spent(13, 11)
    assert found.is_stacked
    assert [row.group for row in build(rows, 3, Metric.CALLS, {}).rows] == ["k1", "k2"]


def test_models_keep_the_colour_of_their_place_in_the_catalogue() -> None:
    """Others take those that are left."""
    rows = [SumRow(0, name, spent(9 - n)) for n, name in enumerate(("new", "c", "a"))]

    found = build(rows, 1, Metric.SPEND, {}, places=("a", "b", "c"))

    assert [(row.group, row.color) for row in found.rows] == [("new", 2), ("c", 3), ("a", 1)]


def test_what_is_beyond_seven_groups_is_one_series() -> None:
    """Rows of the table stay single."""
    rows = [SumRow(0, f"m{n}", spent(20 - n)) for n in range(10)]

    found = build(rows, 1, Metric.SPEND, {})

    assert len(found.series) == 8
    assert found.series[-1] == Series("", 8, [13 + 12 + 11])
    assert [row.color for row in found.rows] == [1, 2, 3, 4, 5, 6, 7, 8, 8, 8]
    assert len(build(rows, 1, Metric.CACHE, {}).series) == 7


def test_tokens_are_stacked_by_class() -> None:
    """Whatever the groups are."""
    rows = [SumRow(0, "a", spent(2)), SumRow(0, "b", spent(1))]

    found = build(rows, 1, Metric.TOKENS, {})

    assert [(each.name, each.values[0]) for each in found.series] == [
        ("input", 3), ("cache_read", 9), ("cache_write", 0), ("output", 0), ("reasoning", 0),
    ]  # fmt: skip


def test_shares_and_percentiles_are_lines() -> None:
    """A sum without input or first tokens has no point."""
    counts = tuple(int(step == step_of(120)) for step in range(STEPS))
    rows = [
        SumRow(0, "a", UsageSum(calls=1, input=1, cache_read=3, ttft_counts=counts)),
        SumRow(1, "a", UsageSum(calls=1, ttft_counts=(0,) * STEPS)),
    ]

    cache = build(rows, 2, Metric.CACHE, {})
    ttft = build(rows, 2, Metric.TTFT_P95, {})

    assert cache.series == [Series("a", 1, [0.75, None])]
    assert not cache.is_stacked
    assert ttft.series == [Series("a", 1, [139, None])]
