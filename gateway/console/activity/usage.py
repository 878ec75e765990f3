"""`/app/usage`: the account's calls, summed by time and group."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response

from gateway.console.activity.drawing import bar_name, days_of, draw
from gateway.console.activity.report import Report, ReportRow, build
from gateway.console.activity.scope import (
    calls_href,
    download,
    each,
    key_names,
    outcomes_of,
    viewer_zone,
    zone_options,
)
from gateway.console.reporting.amounts import compact, duration, percent, rounded_money
from gateway.console.reporting.downloads import ExportRow
from gateway.console.reporting.filters import (
    MAX_LIST_DAYS,
    Grouping,
    Metric,
    Outcome,
    Range,
    UsageFilter,
)
from gateway.console.reporting.zones import Bucket, Period, Step, buckets, segments
from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access
from gateway.core.model import Endpoint
from gateway.core.money import dollars
from gateway.store.reports.usage import Run, SumRow, SumsBy, SumsFilter, UsageSum, UsageSums

_BY = {
    Grouping.MODEL: SumsBy.MODEL,
    Grouping.KEY: SumsBy.KEY,
    Grouping.ENDPOINT: SumsBy.ENDPOINT,
    Grouping.OUTCOME: SumsBy.OUTCOME,
    Grouping.DAY: None,
}
_OUTCOMES: dict[str, Outcome] = {outcome.value: outcome for outcome in Outcome}
_TTFT = (Metric.TTFT_P50, Metric.TTFT_P95)
_COLUMNS = (
    "calls", "failed", "input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens",
    "reasoning_tokens", "cost_usd", "share",
)  # fmt: skip


async def usage(page: Page) -> Response:
    """Show sums of the account's calls as tiles, a plot and a table."""
    shown = UsageFilter.read(page.request.query_params, viewer_zone(page))
    now_s = time.time()
    period = shown.dates.period(now_s)
    bars = buckets(period)
    sums = UsageSums(page.services.database)
    with_ttft = shown.metric in _TTFT
    rows = await sums.read(
        _selected(page, shown),
        [Run(*run) for run in segments(bars)],
        _BY[shown.group],
        with_ttft=with_ttft,
    )
    keys = await key_names(page)
    names = _names(page, shown, keys)
    catalogue = [model.name for model in page.services.catalogue.models]
    places = catalogue if shown.group is Grouping.MODEL else ()
    report = build(rows, len(bars), shown.metric, names, places)
    table = _by_bar(rows, bars) if shown.group is Grouping.DAY else report.rows
    if shown.group is Grouping.DAY:
        names = {str(n): bar_name(page, bar, period.step) for n, bar in enumerate(bars)}
    file = download(
        page,
        f"usage-{period.first}-{period.last}",
        _columns(shown),
        each(_export(table, report.total, names, with_ttft=with_ttft)),
    )
    if file is not None:
        return file
    last_ms = await sums.last_call_ms(page.account.account_id)
    query, title = shown.query(), _title(page, shown, period.step)
    return page.render(
        "activity/usage.html",
        headers={"hx-push-url": f"/app/usage?{query}"},
        shown=shown,
        period=period,
        step=period.step.value,
        report=report,
        rows=[_table_row(row, report, names, shown, period, bars) for row in table],
        all_calls=calls_href(period, **_narrowed(shown)),
        all_failed=calls_href(period, **{**_narrowed(shown), "outcome": Outcome.ANY_FAILURE}),
        drawing=draw(page, report, bars, period, shown.metric, title, _narrowed(shown)),
        title=title,
        with_ttft=with_ttft,
        options=_options(page, shown, keys, catalogue),
        last_ms=last_ms,
        now_s=int(now_s),
        query=query,
        list_days=MAX_LIST_DAYS,
        compact=compact, percent=percent, rounded_money=rounded_money, duration=duration,
    )  # fmt: skip


def _selected(page: Page, shown: UsageFilter) -> SumsFilter:
    return SumsFilter(
        account_id=page.account.account_id,
        key_id=shown.key or None,
        model=shown.model or None,
        endpoint=shown.endpoint or None,
        outcomes=outcomes_of(shown.outcome),
    )


def _narrowed(shown: UsageFilter) -> dict[str, Any]:
    """Return the fields of the list of calls that select the same ones."""
    return {
        "key": shown.key,
        "model": shown.model,
        "endpoint": shown.endpoint,
        "outcome": shown.outcome,
    }


def _names(page: Page, shown: UsageFilter, keys: Mapping[str, str]) -> Mapping[str, str]:
    if shown.group is Grouping.KEY:
        return keys
    if shown.group is Grouping.DAY:
        return {"": page.text("All calls")}
    return {}


def _by_bar(rows: Sequence[SumRow], bars: Sequence[Bucket]) -> list[ReportRow]:
    """Return one row for each time with calls, the newest first."""
    sums: dict[int, UsageSum] = {}
    for row in rows:
        sums[row.time] = sums.get(row.time, UsageSum()) + row.sum
    return [ReportRow(str(n), 0, sums[n]) for n in range(len(bars) - 1, -1, -1) if n in sums]


def _table_row(
    row: ReportRow,
    report: Report,
    names: Mapping[str, str],
    shown: UsageFilter,
    period: Period,
    bars: Sequence[Bucket],
) -> dict[str, object]:
    fields, days = _narrowed(shown), period
    if shown.group is Grouping.DAY:
        days = days_of(bars[int(row.group)], period)
    elif shown.group is Grouping.OUTCOME:
        fields["outcome"] = _OUTCOMES.get(row.group, shown.outcome)
    else:
        fields[shown.group.value] = row.group
    return {
        "name": names.get(row.group, row.group),
        "color": row.color,
        "sum": row.sum,
        "share": percent(row.sum.cost_nanousd, report.total.cost_nanousd),
        "calls": calls_href(days, **fields),
        "failed": calls_href(days, **{**fields, "outcome": Outcome.ANY_FAILURE}),
    }


def _title(page: Page, shown: UsageFilter, step: Step) -> str:
    what = {
        Metric.SPEND: page.text("Spend"),
        Metric.CALLS: page.text("Requests"),
        Metric.TOKENS: page.text("Tokens by class"),
        Metric.CACHE: page.text("Share of input read from caches"),
        Metric.TTFT_P50: page.text("Time to first token, median"),
        Metric.TTFT_P95: page.text("Time to first token, 95th percentile"),
    }[shown.metric]
    by = {
        Step.HOUR: page.text("by hour"),
        Step.DAY: page.text("by day"),
        Step.MONTH: page.text("by month"),
    }[step]
    return f"{what} {by}" if shown.metric is not Metric.TOKENS else f"{what}, {by}"


def _options(
    page: Page,
    shown: UsageFilter,
    keys: Mapping[str, str],
    catalogue: Sequence[str],
) -> dict[str, list[tuple[str, str]]]:
    text = page.text
    # All, not only those with calls in the period: finding these is as slow as summing the calls.
    models = sorted({*catalogue, shown.model} - {""})
    endpoints = [endpoint.value for endpoint in Endpoint]
    return {
        "range": range_options(page),
        "key": [("", text("All keys")), *sorted(keys.items(), key=lambda item: item[1].lower())],
        "model": [("", text("All models")), *((name, name) for name in models)],
        "endpoint": [("", text("All endpoints")), *((name, name) for name in endpoints)],
        "outcome": outcome_options(page),
        "group": [
            ("model", text("By model")), ("key", text("By key")), ("day", text("By time")),
            ("endpoint", text("By endpoint")), ("outcome", text("By outcome")),
        ],
        "metric": [
            ("spend", text("Spend")), ("calls", text("Requests")), ("tokens", text("Tokens")),
            ("cache", text("Cache share")), ("ttft-p50", text("First token, p50")),
            ("ttft-p95", text("First token, p95")),
        ],
        "zone": zone_options(shown.dates.zone, viewer_zone(page)),
    }  # fmt: skip


def range_options(page: Page) -> list[tuple[str, str]]:
    """Return the periods of a select."""
    text = page.text
    return [
        (Range.TODAY.value, text("Today")),
        (Range.WEEK.value, text("Last 7 days")),
        (Range.FOUR_WEEKS.value, text("Last 28 days")),
        (Range.QUARTER.value, text("Last 90 days")),
        (Range.MONTH.value, text("This month")),
        (Range.CUSTOM.value, text("Custom dates")),
    ]


def outcome_options(page: Page) -> list[tuple[str, str]]:
    """Return the outcomes of a select."""
    text = page.text
    return [
        ("", text("All outcomes")),
        (Outcome.ANY_FAILURE.value, text("Any failure")),
        (Outcome.COMPLETED.value, text("completed")),
        (Outcome.CANCELLED.value, text("cancelled")),
        (Outcome.DRAINED.value, text("drained")),
        (Outcome.FAILED.value, text("failed")),
        (Outcome.INSURED.value, text("insured")),
        (Outcome.ABANDONED.value, text("abandoned")),
    ]


def _columns(shown: UsageFilter) -> list[str]:
    first = "time" if shown.group is Grouping.DAY else shown.group.value
    ttft = ["ttft_p50_ms", "ttft_p95_ms"] if shown.metric in _TTFT else []
    return [first, *_COLUMNS, *ttft]


def _export(
    rows: Sequence[ReportRow], whole: UsageSum, names: Mapping[str, str], *, with_ttft: bool
) -> list[ExportRow]:
    found: list[ExportRow] = []
    for row in rows:
        line = row.sum
        share = line.cost_nanousd / whole.cost_nanousd if whole.cost_nanousd else 0
        ttft = [line.ttft_ms(0.5), line.ttft_ms(0.95)] if with_ttft else []
        found.append(
            [
                names.get(row.group, row.group), line.calls, line.failed, line.input,
                line.cache_read, line.cache_write, line.output, line.reasoning,
                dollars(line.cost_nanousd), round(share, 6), *ttft,
            ]
        )  # fmt: skip
    return found


ROUTES = (Route("GET", "/app/usage", Access.VIEWER, usage),)
