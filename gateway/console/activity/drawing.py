"""Plots with their legends and tables of the same numbers."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from gateway.console.activity.report import Report
from gateway.console.activity.scope import calls_href
from gateway.console.reporting.amounts import compact, duration, percent, rounded_money
from gateway.console.reporting.filters import Metric
from gateway.console.reporting.plots import Bar, Series, lines, stacked_bars
from gateway.console.reporting.zones import Bucket, Period, Step
from gateway.console.web.page import Page

_TTFT = (Metric.TTFT_P50, Metric.TTFT_P95)
_LABELS = {Step.HOUR: "%H:%M", Step.DAY: "%b %-d", Step.MONTH: "%b"}
_NAMES = {Step.HOUR: "%b %-d, %H:%M", Step.DAY: "%a, %b %-d, %Y", Step.MONTH: "%B %Y"}


class Drawing(NamedTuple):
    """What the macro `figure` of `activity/parts.html` shows."""

    plot: Markup
    series: Sequence[tuple[str, int]]
    """Names and colours of the legend."""
    rows: Sequence[tuple[str, Sequence[str]]]
    """Of the table: the name of a bar with calls, and one cell for each series."""


def draw(
    page: Page,
    report: Report,
    bars: Sequence[Bucket],
    period: Period,
    metric: Metric,
    title: str,
    narrowed: Mapping[str, Any],
) -> Drawing:
    """
    Return the plot of a report.

    Args:
        page: Whose language is used.
        report: Its series have one value for each bar.
        bars: The times of the plot.
        period: The days that they cover.
        metric: What the numbers are.
        title: What the plot shows.
        narrowed: Fields of CallsFilter that select the calls of the report.
    """
    show = _show(metric)
    places = [
        Bar(
            page.date(bar.at, _LABELS[period.step]),
            bar_name(page, bar, period.step),
            calls_href(days_of(bar, period), **narrowed),
        )
        for bar in bars
    ]
    series = [line._replace(name=_series_name(page, line.name)) for line in report.series]
    label = page.text(
        "%(title)s, %(first)s to %(last)s; in all %(calls)s requests for %(cost)s",
        title=title,
        first=period.first,
        last=period.last,
        calls=f"{report.total.calls:,}",
        cost=rounded_money(report.total.cost_nanousd),
    )
    return drawing_of(places, series, label, show, is_stacked=report.is_stacked)


def drawing_of(
    bars: Sequence[Bar],
    series: Sequence[Series],
    label: str,
    show: Callable[[float], str],
    *,
    is_stacked: bool = True,
) -> Drawing:
    """Return bars or lines and the table of their numbers; bars without any have no row."""
    rows = []
    for n, bar in enumerate(bars):
        values = [line.values[n] for line in series]
        if any(value is not None for value in values):
            rows.append((bar.title, ["" if value is None else show(value) for value in values]))
    plot = (stacked_bars if is_stacked else lines)(bars, series, label, show)
    return Drawing(plot, [(line.name, line.color) for line in series], rows)


def bar_name(page: Page, bar: Bucket, step: Step) -> str:
    """Return the time of a bar in words."""
    return page.date(bar.at, _NAMES[step])


def days_of(bar: Bucket, period: Period) -> Period:
    """Return the days of a bar: those of an hour are its day."""
    first = bar.at.date()
    if period.step is not Step.MONTH:
        return Period(first, first, period.zone)
    end = datetime.datetime.fromtimestamp(bar.end * 900 - 1, period.zone).date()
    return Period(first, end, period.zone)


def _show(metric: Metric) -> Callable[[float], str]:
    if metric is Metric.SPEND:
        return lambda value: rounded_money(round(value))
    if metric is Metric.CACHE:
        return lambda value: percent(value, 1)
    if metric in _TTFT:
        return lambda value: duration(round(value))
    return compact


def _series_name(page: Page, name: str) -> str:
    return {
        "": page.text("other"),
        "input": page.text("input"),
        "cache_read": page.text("cache read"),
        "cache_write": page.text("cache write"),
        "output": page.text("output"),
        "reasoning": page.text("reasoning"),
    }.get(name, name)
