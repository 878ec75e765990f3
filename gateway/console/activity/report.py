"""A usage report: totals, series of a plot and rows of a table, from sums by time and group."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from gateway.console.reporting.filters import Metric
from gateway.console.reporting.plots import Series
from gateway.core.model import TOKEN_COLUMNS
from gateway.store.reports.usage import SumRow, UsageSum, total

MOST_SERIES = 7
"""Further groups are summed in one more series."""
OTHER = 8
"""The colour of that series."""
_CLASSES = tuple(TOKEN_COLUMNS)


class ReportRow(NamedTuple):
    """One row of the table. `color` is that of its series."""

    group: str
    color: int
    sum: UsageSum


class Report(NamedTuple):
    """`series` has one value for each bar of the plot."""

    total: UsageSum
    rows: Sequence[ReportRow]
    series: Sequence[Series]
    is_stacked: bool


_VALUES: dict[Metric, Callable[[UsageSum], float | None]] = {
    Metric.SPEND: lambda each: each.cost_nanousd,
    Metric.CALLS: lambda each: each.calls,
    Metric.TOKENS: lambda each: each.tokens,
    Metric.CACHE: lambda each: each.cache_read / each.prompt_tokens if each.prompt_tokens else None,
    Metric.TTFT_P50: lambda each: each.ttft_ms(0.5),
    Metric.TTFT_P95: lambda each: each.ttft_ms(0.95),
}
_STACKED = (Metric.SPEND, Metric.CALLS, Metric.TOKENS)


def build(
    rows: Sequence[SumRow],
    bars: int,
    metric: Metric,
    names: Mapping[str, str],
    places: Sequence[str] = (),
) -> Report:
    """
    Return the report of some sums.

    Args:
        rows: Sums by time and group.
        bars: Number of bars of the plot.
        metric: What the plot shows.
        names: Labels of groups; a group without a label is shown as it is.
        places: Groups whose colour is given by their position in this sequence.
    """
    groups: dict[str, list[SumRow]] = {}
    for row in rows:
        groups.setdefault(row.group, []).append(row)
    sums = {group: total(found) for group, found in groups.items()}
    ranked = sorted(sums, key=lambda group: (-_rank(sums[group], metric), group))
    colors = _colors(ranked[:MOST_SERIES], places)
    if metric is Metric.TOKENS:
        series = _classes(rows, bars)
    else:
        series = _series(groups, ranked, bars, metric, colors, names)
    return Report(
        total=total(rows),
        rows=[ReportRow(group, colors.get(group, OTHER), sums[group]) for group in ranked],
        series=series,
        is_stacked=metric in _STACKED,
    )


def _rank(each: UsageSum, metric: Metric) -> float:
    """Return the sort key of a group: the metric if it is a sum, otherwise the calls."""
    return (_VALUES[metric](each) or 0) if metric in _STACKED else each.calls


def _colors(ranked: Sequence[str], places: Sequence[str]) -> dict[str, int]:
    fixed = {name: n for n, name in enumerate(places[:MOST_SERIES], 1)}
    taken = {fixed[group] for group in ranked if group in fixed}
    free = iter([n for n in range(1, MOST_SERIES + 1) if n not in taken])
    return {group: fixed[group] if group in fixed else next(free) for group in ranked}


def _series(
    groups: Mapping[str, Sequence[SumRow]],
    ranked: Sequence[str],
    bars: int,
    metric: Metric,
    colors: Mapping[str, int],
    names: Mapping[str, str],
) -> list[Series]:
    value = _VALUES[metric]
    found = [
        Series(names.get(group, group), colors[group], _by_time(groups[group], bars, value))
        for group in ranked[:MOST_SERIES]
    ]
    rest = ranked[MOST_SERIES:]
    if rest and metric in _STACKED:
        others = [row for group in rest for row in groups[group]]
        found.append(Series("", OTHER, _by_time(others, bars, value)))
    return found


def _classes(rows: Sequence[SumRow], bars: int) -> list[Series]:
    """Return one series per token class, named by the field of `UsageSum`."""
    return [
        Series(name, color, _by_time(rows, bars, operator.attrgetter(name)))
        for color, name in enumerate(_CLASSES, 1)
    ]


def _by_time(
    rows: Sequence[SumRow], bars: int, value: Callable[[UsageSum], float | None]
) -> list[float | None]:
    sums: list[UsageSum | None] = [None] * bars
    for row in rows:
        kept = sums[row.time]
        sums[row.time] = row.sum if kept is None else kept + row.sum
    return [None if each is None else value(each) for each in sums]
