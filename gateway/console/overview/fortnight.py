"""The last 14 days of an account: its calls, a plot, and how long the balance lasts."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import NamedTuple
from zoneinfo import ZoneInfo

from gateway.console.activity.drawing import Drawing, draw
from gateway.console.activity.report import build
from gateway.console.activity.scope import calls_href, viewer_zone
from gateway.console.reporting.filters import Metric, Outcome
from gateway.console.reporting.zones import QUARTER_S, Bucket, Period, buckets, segments, today
from gateway.console.web.page import Page
from gateway.core.calendar import DAY_MS
from gateway.store.reports.usage import (
    Run,
    SumRow,
    SumsBy,
    SumsFilter,
    UsageSum,
    UsageSums,
    total,
)

DAYS = 14
_WEEK = 7
_DAY_S = DAY_MS / 1000
_UTC = ZoneInfo("UTC")


class Fortnight(NamedTuple):
    """What the overview shows of the last 14 days of the viewer's zone."""

    period: Period
    total: UsageSum
    drawing: Drawing
    pace_nanousd: float
    """As `pace` returns it."""
    calls: str
    """Path of the list of all calls."""
    failed: str
    """Path of the list of those that failed."""


async def read_fortnight(page: Page, now_s: float) -> Fortnight:
    """Return the last 14 days of the account; one statement."""
    zone = viewer_zone(page) or _UTC
    last = today(now_s, zone)
    period = Period(last - datetime.timedelta(days=DAYS - 1), last, zone)
    bars = buckets(period)
    rows = await UsageSums(page.services.database).read(
        SumsFilter(account_id=page.account.account_id),
        [Run(*run) for run in segments(bars)],
        SumsBy.MODEL,
    )
    models = [model.name for model in page.services.catalogue.models]
    report = build(rows, len(bars), Metric.SPEND, {}, models)
    return Fortnight(
        period=period,
        total=total(rows),
        drawing=draw(page, report, bars, period, Metric.SPEND, page.text("Spend by day"), {}),
        pace_nanousd=pace(rows, bars, now_s),
        calls=calls_href(period),
        failed=calls_href(period, outcome=Outcome.ANY_FAILURE),
    )


def pace(rows: Sequence[SumRow], bars: Sequence[Bucket], now_s: float) -> float:
    """
    Return the nano-dollars spent per day in the last week, today included as far as it has passed.

    Days before the first charge of the week are left out: an account that began yesterday has not
    saved for five days.
    """
    first = len(bars) - _WEEK
    spent = [row for row in rows if row.time >= first and row.sum.cost_nanousd > 0]
    if not spent:
        return 0
    began = bars[min(row.time for row in spent)].start * QUARTER_S
    days = max((now_s - began) / _DAY_S, 1)
    return sum(row.sum.cost_nanousd for row in spent) / days


def days_left(available_nanousd: int | None, pace_nanousd: float) -> int | None:
    """Return for how many whole days the money lasts at a pace; None: it is not limited by it."""
    if available_nanousd is None or pace_nanousd <= 0:
        return None
    return int(available_nanousd / pace_nanousd)
