"""`/admin-ui/margins`: what was charged, what upstreams cost, and the difference."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from starlette.responses import Response

from gateway.console.activity.drawing import days_of, drawing_of
from gateway.console.activity.scope import download, each, viewer_zone, zone_options
from gateway.console.activity.usage import range_options
from gateway.console.operators.requests import more_fields, requests_href
from gateway.console.reporting.amounts import percent, rounded_money
from gateway.console.reporting.downloads import ExportRow
from gateway.console.reporting.filters import MAX_LIST_DAYS, MarginFilter, MarginGroup
from gateway.console.reporting.plots import Bar, Series
from gateway.console.reporting.zones import Bucket, Period, Step, buckets, segments
from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access
from gateway.core.money import dollars
from gateway.store.reports.usage import Run, SumRow, SumsBy, SumsFilter, UsageSum, UsageSums, total

MAX_ACCOUNTS = 1000
_PATH = "/admin-ui/margins"
_BY = {
    MarginGroup.MODEL: SumsBy.MODEL,
    MarginGroup.DEPLOYMENT: SumsBy.DEPLOYMENT,
    MarginGroup.ACCOUNT: SumsBy.ACCOUNT,
    MarginGroup.DAY: None,
}
_LABELS = {Step.HOUR: "%H:%M", Step.DAY: "%b %-d", Step.MONTH: "%b"}
_NAMES = {Step.HOUR: "%b %-d, %H:%M", Step.DAY: "%a, %b %-d, %Y", Step.MONTH: "%B %Y"}
_COLUMNS = (
    "calls", "charged_usd", "charged_with_known_cost_usd", "upstream_cost_usd", "margin_usd",
    "margin_share", "calls_without_cost",
)  # fmt: skip


async def margins(page: Page) -> Response:
    """Show charges, costs and margins of all accounts."""
    shown = MarginFilter.read(page.request.query_params, viewer_zone(page))
    period = shown.dates.period(time.time())
    bars = buckets(period)
    rows = await UsageSums(page.services.database).read(
        SumsFilter(), [Run(*run) for run in segments(bars)], _BY[shown.group]
    )
    names = await _names(page, shown, bars, period.step)
    sums = _grouped(rows, shown)
    file = download(
        page,
        f"margins-{period.first}-{period.last}",
        (shown.group.value, *_COLUMNS),
        each(_export(sums, names)),
    )
    if file is not None:
        return file
    whole = total(rows)
    series = [
        Series(page.text("charged"), 1, _by_time(rows, len(bars), charged=True)),
        Series(page.text("upstream cost"), 2, _by_time(rows, len(bars), charged=False)),
    ]
    label = page.text(
        "Charges and upstream costs, %(first)s to %(last)s; margin %(margin)s",
        first=period.first,
        last=period.last,
        margin=rounded_money(whole.margin_nanousd),
    )
    places = [
        Bar(page.date(bar.at, _LABELS[period.step]), page.date(bar.at, _NAMES[period.step]))
        for bar in bars
    ]
    query = shown.query()
    return page.render(
        "operators/margins.html",
        headers={"hx-push-url": f"{_PATH}?{query}"},
        shown=shown,
        period=period,
        total=whole,
        share=margin_share(whole),
        rows=[
            (names.get(group, group), line, margin_share(line), _href(group, shown, period, bars))
            for group, line in sums
        ],
        all_calls=requests_href(period),
        list_days=MAX_LIST_DAYS,
        drawing=drawing_of(
            places, series, label, lambda value: rounded_money(round(value)), is_stacked=False
        ),
        options=_options(page, shown),
        query=query,
        rounded_money=rounded_money,
    )


def margin_share(each_sum: UsageSum) -> str:
    """Return the margin as a share of the charges of calls with a known upstream price."""
    charged = each_sum.margin_nanousd + each_sum.upstream_cost_nanousd
    if each_sum.margin_nanousd < 0 < charged:
        return f"\N{MINUS SIGN}{percent(-each_sum.margin_nanousd, charged)}"
    return percent(each_sum.margin_nanousd, charged) if charged > 0 else percent(0, 0)


def _options(page: Page, shown: MarginFilter) -> dict[str, list[tuple[str, str]]]:
    """Return the choices of each filter."""
    return {
        "range": range_options(page),
        "group": [
            ("model", page.text("By model")),
            ("deployment", page.text("By deployment")),
            ("account", page.text("By account")),
            ("day", page.text("By time")),
        ],
        "zone": zone_options(shown.dates.zone, viewer_zone(page)),
    }


def _href(group: str, shown: MarginFilter, period: Period, bars: Sequence[Bucket]) -> str:
    """Return the list of the calls of a row; "": calls without an upstream cannot be selected."""
    if shown.group is MarginGroup.DAY:
        return requests_href(days_of(bars[int(group)], period))
    if shown.group is MarginGroup.MODEL:
        return requests_href(period, model=group)
    if shown.group is MarginGroup.ACCOUNT:
        return requests_href(period, more=more_fields(group, ""))
    return requests_href(period, more=more_fields("", group)) if group else ""


async def _names(
    page: Page, shown: MarginFilter, bars: Sequence[Bucket], step: Step
) -> Mapping[str, str]:
    if shown.group is MarginGroup.ACCOUNT:
        accounts = await page.services.accounts.list(limit=MAX_ACCOUNTS)
        return {account.id: account.name for account in accounts}
    if shown.group is MarginGroup.DAY:
        return {str(n): page.date(bar.at, _NAMES[step]) for n, bar in enumerate(bars)}
    return {"": page.text("no upstream")}


def _grouped(rows: Sequence[SumRow], shown: MarginFilter) -> list[tuple[str, UsageSum]]:
    """Return the sum of each group: times newest first, other groups by their charges."""
    by_time = shown.group is MarginGroup.DAY
    sums: dict[str, UsageSum] = {}
    for row in rows:
        group = str(row.time) if by_time else row.group
        sums[group] = sums.get(group, UsageSum()) + row.sum
    if by_time:
        return sorted(sums.items(), key=lambda item: -int(item[0]))
    return sorted(sums.items(), key=lambda item: (-item[1].cost_nanousd, item[0]))


def _by_time(rows: Sequence[SumRow], bars: int, *, charged: bool) -> list[float | None]:
    values: list[float | None] = [None] * bars
    for row in rows:
        amount = row.sum.cost_nanousd if charged else row.sum.upstream_cost_nanousd
        values[row.time] = (values[row.time] or 0) + amount
    return values


def _export(sums: Sequence[tuple[str, UsageSum]], names: Mapping[str, str]) -> list[ExportRow]:
    rows: list[ExportRow] = []
    for group, line in sums:
        known = line.margin_nanousd + line.upstream_cost_nanousd
        rows.append(
            [
                names.get(group, group), line.calls, dollars(line.cost_nanousd), dollars(known),
                dollars(line.upstream_cost_nanousd), dollars(line.margin_nanousd),
                round(line.margin_nanousd / known, 6) if known else None, line.calls_without_cost,
            ]
        )  # fmt: skip
    return rows


ROUTES = (Route("GET", _PATH, Access.OPERATOR, margins),)
