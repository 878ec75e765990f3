"""`/app/requests`: the account's calls, one line each, newest first."""

from __future__ import annotations

import datetime
import time
from collections.abc import AsyncIterator, Mapping
from zoneinfo import ZoneInfo

from starlette.exceptions import HTTPException
from starlette.responses import Response

from gateway.console.activity.scope import (
    calls_href,
    download,
    key_names,
    outcomes_of,
    period_ms,
    viewer_zone,
    zone_options,
)
from gateway.console.activity.usage import outcome_options, range_options
from gateway.console.reporting.amounts import duration, tokens_per_s
from gateway.console.reporting.downloads import ExportRow
from gateway.console.reporting.filters import (
    HIDABLE,
    MAX_LIST_DAYS,
    CallsFilter,
    Cursor,
    Range,
    plain_dollars,
)
from gateway.console.reporting.zones import Period
from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access
from gateway.core.calendar import rfc3339
from gateway.core.model import CallRecord
from gateway.core.money import dollars
from gateway.store.reports.calls import CallLists, CallPlace, CallsQuery

PER_PAGE = 50
_TIME_FORM = "%b %-d, %H:%M:%S"
MOST_NEW = 100
"""More new calls are shown as `100+`."""
_COLUMNS = (
    "request_id", "time", "model", "key", "endpoint", "input_tokens", "cache_read_tokens",
    "cache_write_tokens", "output_tokens", "reasoning_tokens", "ttft_ms", "duration_ms",
    "cost_usd", "outcome", "status", "error_kind", "is_stream", "finish_reason", "attempts",
    "user_agent",
)  # fmt: skip


async def requests(page: Page) -> Response:
    """Show a page of calls."""
    shown = CallsFilter.read(page.request.query_params, viewer_zone(page))
    now_s = time.time()
    period = shown.dates.period(now_s, MAX_LIST_DAYS)
    calls = CallLists(page.services.database)
    which = calls_query(page.account.account_id, shown, period)
    before = await start_of(calls, page.account.account_id, shown)
    keys = await key_names(page)
    file = download(
        page,
        f"requests-{period.first}-{period.last}",
        _COLUMNS,
        _export(calls.export(which, before=before), keys),
    )
    if file is not None:
        return file
    found = await calls.page(which, before=before, limit=PER_PAGE + 1)
    rows, has_older = found[:PER_PAGE], len(found) > PER_PAGE
    zone = shown.dates.zone
    query = shown.query()
    poll = poll_cursor(shown, rows, period, now_s)
    last = rows[-1] if rows else None
    return page.render(
        "activity/requests.html",
        headers={"hx-push-url": f"/app/requests?{query}"},
        shown=shown,
        period=period,
        rows=[row_of(page, call, keys, zone) for call in rows],
        older=shown.query(before=str(cursor_of(last))) if last is not None and has_older else "",
        newest=shown.query(before=""),
        # The list itself never moves; a button says what is new.
        poll=shown.query(before=poll) if poll else "",
        min_cost=plain_dollars(shown.min_cost_nanousd) if shown.min_cost_nanousd else "",
        options=filter_options(page, shown, keys),
        is_cut=shown.dates.range is not Range.TODAY and shown.dates.period(now_s) != period,
        list_days=MAX_LIST_DAYS,
        query=query,
        clear=calls_href(period),
        columns=columns_of(page),
    )


async def new_requests(page: Page) -> Response:
    """Return the button that says how many calls are newer than those shown."""
    shown = CallsFilter.read(page.request.query_params, viewer_zone(page))
    period = shown.dates.period(time.time(), MAX_LIST_DAYS)
    which = calls_query(page.account.account_id, shown, period)
    return page.render(
        "activity/new_requests.html",
        path="/app/requests",
        count=await count_new(page, shown, which),
        most=MOST_NEW,
        newest=shown.query(before=""),
        poll=shown.query(),
    )


async def count_new(page: Page, shown: CallsFilter, which: CallsQuery) -> int:
    """Return how many calls are newer than the place of the filter, at most MOST_NEW."""
    place = place_of(shown)
    if place is None:
        return 0
    return await CallLists(page.services.database).count_since(which, place, limit=MOST_NEW)


def columns_of(page: Page) -> list[tuple[str, str]]:
    """Return the columns that can be hidden, with their labels."""
    labels = (
        page.text("Key"), page.text("In"), page.text("Cached"), page.text("Out"),
        page.text("First token"), page.text("Total"), page.text("Tokens/s"), page.text("Cost"),
        page.text("streamed"),
    )  # fmt: skip
    return list(zip(HIDABLE, labels, strict=True))


def calls_query(account_id: str | None, shown: CallsFilter, period: Period) -> CallsQuery:
    """Return the query of a filter."""
    since_ms, until_ms = period_ms(period)
    statuses = None
    if shown.status:
        low = int(shown.status.replace("x", "0"))
        statuses = (low, low + 99 if "x" in shown.status else low)
    return CallsQuery(
        account_id=account_id,
        since_ms=since_ms,
        until_ms=until_ms,
        key_id=shown.key or None,
        model=shown.model or None,
        endpoint=shown.endpoint or None,
        outcomes=outcomes_of(shown.outcome),
        statuses=statuses,
        min_cost_nanousd=shown.min_cost_nanousd,
        request_id=shown.request_id or None,
    )


def place_of(shown: CallsFilter) -> CallPlace | None:
    """Return the place after which a page begins; None: at the newest."""
    cursor = Cursor.read(shown.before)
    return None if cursor is None else CallPlace(cursor.at_ms, cursor.id)


async def start_of(
    calls: CallLists, account_id: str | None, shown: CallsFilter
) -> CallPlace | None:
    """
    Return the place after which a list or a download begins; None: at the newest.

    `before` is a cursor, or the id of a call: a download that reached its limit is continued by the
    id in its last row.
    """
    place = place_of(shown)
    if place is not None or not shown.before:
        return place
    found = await calls.call(account_id, shown.before)
    if found is None:
        raise HTTPException(404)
    return CallPlace(found.at_ms, found.request_id)


def cursor_of(call: CallRecord) -> Cursor:
    """Return the place of a call in the list."""
    return Cursor(call.at_ms, call.request_id)


def poll_cursor(shown: CallsFilter, rows: list[CallRecord], period: Period, now_s: float) -> str:
    """Return the place after which calls are new; "": this page cannot have any."""
    if shown.before or shown.request_id or period_ms(period)[1] < now_s * 1000:
        return ""
    return str(cursor_of(rows[0]) if rows else Cursor(period_ms(period)[0], ""))


def row_of(
    page: Page, call: CallRecord, keys: Mapping[str, str], zone: ZoneInfo
) -> dict[str, object]:
    """Return a call as a row of the list, in the viewer's language; `keys` are names by id."""
    usage = call.usage
    rate = tokens_per_s(usage.output + usage.reasoning, call.ttft_ms, call.duration_ms)
    at = datetime.datetime.fromtimestamp(call.at_ms // 1000, zone)
    return {
        "call": call,
        "time": page.date(at, _TIME_FORM),
        "key": keys.get(call.key_id, call.key_id),
        "in": usage.input + usage.cache_read + usage.cache_write,
        "out": usage.output + usage.reasoning,
        "ttft": duration(call.ttft_ms),
        "total": duration(call.duration_ms),
        "rate": "\N{EN DASH}" if rate is None else f"{rate:,.0f}",
    }


def filter_options(
    page: Page, shown: CallsFilter, keys: Mapping[str, str]
) -> dict[str, list[tuple[str, str]]]:
    """Return the choices of each filter."""
    text = page.text
    models = sorted({*(m.name for m in page.services.catalogue.models), shown.model} - {""})
    statuses = ["2xx", "4xx", "5xx"]
    if shown.status and shown.status not in statuses:
        statuses.append(shown.status)
    return {
        "range": [each for each in range_options(page) if each[0] != Range.QUARTER.value],
        "key": [("", text("All keys")), *sorted(keys.items(), key=lambda item: item[1].lower())],
        "model": [("", text("All models")), *((name, name) for name in models)],
        "outcome": outcome_options(page),
        "status": [("", text("All statuses")), *((each, each) for each in statuses)],
        "zone": zone_options(shown.dates.zone, viewer_zone(page)),
    }


async def _export(
    calls: AsyncIterator[CallRecord], keys: Mapping[str, str]
) -> AsyncIterator[ExportRow]:
    async for call in calls:
        usage = call.usage
        yield [
            call.request_id, rfc3339(call.at_ms // 1000), call.model,
            keys.get(call.key_id, call.key_id), call.endpoint, usage.input, usage.cache_read,
            usage.cache_write, usage.output, usage.reasoning, call.ttft_ms, call.duration_ms,
            dollars(call.cost_nanousd), call.outcome, call.status, call.error_kind, call.stream,
            call.finish_reason, call.attempts, call.user_agent,
        ]  # fmt: skip


ROUTES = (
    Route("GET", "/app/requests", Access.VIEWER, requests),
    Route("GET", "/app/requests/new", Access.VIEWER, new_requests),
)
