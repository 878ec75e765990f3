"""`/admin-ui`: how the service does at this moment, and over the last 24 hours."""

from __future__ import annotations

import datetime
import time
from collections.abc import Sequence
from zoneinfo import ZoneInfo

import msgspec
from starlette.responses import Response

from gateway.console.activity.drawing import Drawing, drawing_of
from gateway.console.activity.scope import viewer_zone
from gateway.console.reporting.amounts import compact, duration, percent, rounded_money
from gateway.console.reporting.filters import UTC
from gateway.console.reporting.plots import Bar, Series
from gateway.console.service.board import RECENT_MINUTES, Board
from gateway.console.service.live_board import pods_of
from gateway.console.service.vitals import alerts_of
from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access
from gateway.store.reports.usage import Run, SumRow, SumsFilter, UsageSum, UsageSums, total

HOURS = 24
EVERY_S = 5
"""How often the page refreshes."""
_QUARTER_S = 900
_A_HOUR = 4
_A_DAY = 96


class Attempts(msgspec.Struct, frozen=True, kw_only=True):
    """The attempts of all deployments in the last minutes."""

    attempts: int
    failed: int
    a_second: float
    ttft_p50_ms: int | None
    ttft_p95_ms: int | None


async def now(page: Page) -> Response:
    """Show the page; `hx-request` returns the same, of which the browser takes the figures."""
    services, zone = page.services, viewer_zone(page) or UTC
    at = time.time()
    board = await services.health.read()
    vitals = await services.vitals.read()
    reports = await services.live.reports()
    quarter = int(at) // _QUARTER_S
    first = quarter // _A_HOUR * _A_HOUR - (HOURS - 1) * _A_HOUR
    midnight = quarter // _A_DAY * _A_DAY
    runs = [Run(first, quarter // _A_HOUR * _A_HOUR + _A_HOUR, 0, _A_HOUR)]
    rows = await UsageSums(services.database).read(SumsFilter(), runs)
    sums = [_of_hour(rows, hour) for hour in range(HOURS)]
    starts = [(first + hour * _A_HOUR) * _QUARTER_S for hour in range(HOURS)]
    today = total([row for row in rows if first + row.time * _A_HOUR >= midnight])
    return page.render(
        "service/now.html",
        every_s=EVERY_S,
        minutes=RECENT_MINUTES,
        attempts=None if board is None else attempts_of(board),
        vitals=vitals,
        pods=None if reports is None else pods_of(reports),
        versions=sorted({each.version for each in reports or ()}),
        alerts=[] if vitals is None else alerts_of(vitals, page.text),
        today=today,
        day=total(rows),
        calls_plot=_calls_plot(page, starts, sums, zone),
        money_plot=_money_plot(page, starts, sums, zone),
        zone=zone.key,
        at=int(at),
        compact=compact,
        duration=duration,
        percent=percent,
        rounded_money=rounded_money,
    )


def attempts_of(board: Board) -> Attempts:
    """Return the attempts of all deployments together; the slowest deployment's times."""
    reports = [each.report for each in board.deployments.values()]
    counts = [minute for each in board.deployments.values() for minute in each.strip]
    first = board.at // 60 - RECENT_MINUTES + 1
    recent = [minute for minute in counts if minute.minute >= first]
    attempts = sum(each.attempts for each in recent)
    # The current minute has only just begun.
    seconds = (RECENT_MINUTES - 1) * 60 + board.at % 60
    medians = [each.ttft_p50_ms for each in reports if each.ttft_p50_ms is not None]
    slowest = [each.ttft_p95_ms for each in reports if each.ttft_p95_ms is not None]
    return Attempts(
        attempts=attempts,
        failed=sum(each.failed for each in recent),
        a_second=attempts / seconds if seconds else 0.0,
        ttft_p50_ms=max(medians, default=None),
        ttft_p95_ms=max(slowest, default=None),
    )


def _of_hour(rows: Sequence[SumRow], hour: int) -> UsageSum:
    return total([row for row in rows if row.time == hour])


def _places(page: Page, starts: Sequence[int], zone: ZoneInfo) -> list[Bar]:
    times = [datetime.datetime.fromtimestamp(each, zone) for each in starts]
    return [Bar(at.strftime("%H:%M"), page.date(at, "%b %-d, %H:%M")) for at in times]


def _calls_plot(
    page: Page, starts: Sequence[int], sums: Sequence[UsageSum], zone: ZoneInfo
) -> Drawing:
    series = [
        Series(page.text("served"), 1, [each.calls - each.failed for each in sums]),
        Series(page.text("failed"), 2, [each.failed for each in sums]),
    ]
    calls, failed = sum(each.calls for each in sums), sum(each.failed for each in sums)
    label = page.text(
        "Requests of the last 24 hours: %(calls)s, of which %(failed)s failed",
        calls=f"{calls:,}",
        failed=f"{failed:,}",
    )
    return drawing_of(_places(page, starts, zone), series, label, compact)


def _money_plot(
    page: Page, starts: Sequence[int], sums: Sequence[UsageSum], zone: ZoneInfo
) -> Drawing:
    series = [Series(page.text("charged"), 1, [each.cost_nanousd for each in sums])]
    charged = sum(each.cost_nanousd for each in sums)
    label = page.text("Charged in the last 24 hours: %(amount)s", amount=rounded_money(charged))
    return drawing_of(
        _places(page, starts, zone), series, label, lambda value: rounded_money(round(value))
    )


ROUTES = (Route("GET", "/admin-ui", Access.OPERATOR, now),)
