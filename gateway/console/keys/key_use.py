"""A key's use: its plot of 14 days, and what counts towards its limits at the moment."""

from __future__ import annotations

import datetime
import time
from typing import NamedTuple
from zoneinfo import ZoneInfo

from starlette.exceptions import HTTPException
from starlette.responses import Response

from gateway.console.activity.drawing import Drawing, draw
from gateway.console.activity.report import build
from gateway.console.activity.scope import viewer_zone
from gateway.console.reporting.filters import Metric
from gateway.console.reporting.zones import Period, buckets, segments, today
from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access
from gateway.core.limits import NO_LIMITS
from gateway.store.keys.repository import KeyRow, UnknownKeyError
from gateway.store.reports.usage import Run, SumsBy, SumsFilter, UsageSums, total
from gateway.store.usage.reports import CallFilter

DAYS = 14
EVERY_S = 5
_MINUTE_MS = 60_000
_UTC = ZoneInfo("UTC")


class Gauge(NamedTuple):
    """One limit of a key and what counts towards it."""

    name: str
    value: int | None
    """None: it is not counted."""
    limit: int | None
    """None: there is none."""

    @property
    def share(self) -> float:
        """The used share of the limit."""
        return 1.0 if not self.limit else (self.value or 0) / self.limit


class KeyPlot(NamedTuple):
    """The last 14 days of a key in the viewer's zone."""

    drawing: Drawing
    calls: int


async def key_of_path(page: Page) -> KeyRow:
    """Return the key of the path, if it belongs to the viewer's account."""
    try:
        row = await page.services.keys.get(page.name("key_id"))
    except UnknownKeyError as error:
        raise HTTPException(404) from error
    if row.account_id != page.account.account_id:
        raise HTTPException(404)
    return row


async def show_now(page: Page) -> Response:
    """Return the part of the key's page that is read again while it is visible."""
    row = await key_of_path(page)
    gauges = await key_gauges(page, row)
    if gauges is not None and any(gauge.limit is None for gauge in gauges[:2]):
        gauges = await _with_ended_calls(page, row, gauges)
    return page.render("keys/now.html", row=row, gauges=gauges, every_s=EVERY_S, is_first=False)


async def key_gauges(page: Page, row: KeyRow) -> list[Gauge] | None:
    """Return what the limiter counts for a key; None: Redis is unavailable."""
    limits = row.limits or NO_LIMITS
    use = await page.services.current_use.key(row.account_id, row.id, limits)
    if use is None:
        return None
    return [
        Gauge(page.text("Requests this minute"), use.requests, limits.rpm),
        Gauge(page.text("Tokens this minute"), use.tokens, limits.tpm),
        Gauge(page.text("Running calls"), use.running, limits.concurrency),
    ]


async def _with_ended_calls(page: Page, row: KeyRow, gauges: list[Gauge]) -> list[Gauge]:
    """Return the gauges with the calls that ended in the last minute, where there is no limit."""
    since_ms = time.time_ns() // 1_000_000 - _MINUTE_MS
    which = CallFilter(key_id=row.id, since_ms=since_ms)
    report = await page.services.records.usage((), which, max_lines=1)
    calls = sum(line.calls for line in report.lines)
    tokens = sum(
        sum((u.input, u.cache_read, u.cache_write, u.output))
        for u in (line.usage for line in report.lines)
    )
    return [
        gauge._replace(value=value) if gauge.limit is None and value is not None else gauge
        for gauge, value in zip(gauges, (calls, tokens, None), strict=True)
    ]


async def key_plot(page: Page, row: KeyRow, now_s: float) -> KeyPlot:
    """Return the spending of a key by day and model; one statement."""
    zone = viewer_zone(page) or _UTC
    last = today(now_s, zone)
    period = Period(last - datetime.timedelta(days=DAYS - 1), last, zone)
    bars = buckets(period)
    rows = await UsageSums(page.services.database).read(
        SumsFilter(account_id=row.account_id, key_id=row.id),
        [Run(*run) for run in segments(bars)],
        SumsBy.MODEL,
    )
    models = [model.name for model in page.services.catalogue.models]
    report = build(rows, len(bars), Metric.SPEND, {}, models)
    narrowed = {"key": row.id}
    title = page.text("Spend by day")
    drawing = draw(page, report, bars, period, Metric.SPEND, title, narrowed)
    return KeyPlot(drawing, total(rows).calls)


ROUTES = (Route("GET", "/app/api-keys/{key_id}/now", Access.VIEWER, show_now),)
