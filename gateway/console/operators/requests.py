"""`/admin-ui/requests`: the calls of all accounts, with what they cost the service."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Final
from urllib.parse import urlencode

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import Response

from gateway.console.activity.call import call_page
from gateway.console.activity.requests import (
    MOST_NEW,
    calls_query,
    columns_of,
    count_new,
    cursor_of,
    filter_options,
    poll_cursor,
    row_of,
    start_of,
)
from gateway.console.activity.scope import download, viewer_zone
from gateway.console.operators.accounts import search_text
from gateway.console.reporting.downloads import ExportRow
from gateway.console.reporting.filters import (
    MAX_LIST_DAYS,
    CallsFilter,
    Dates,
    Range,
    plain_dollars,
)
from gateway.console.reporting.zones import Period
from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access
from gateway.core.calendar import rfc3339
from gateway.core.model import CallRecord
from gateway.core.money import dollars
from gateway.errors import GatewayError
from gateway.operations.refusals import REFUSALS, refusal
from gateway.operations.values import read_text
from gateway.store.reports.calls import CallLists, CallsQuery
from gateway.store.reports.directory import Directory, KeyNames

PER_PAGE: Final = 50
_HIDABLE: Final = ("in", "cached", "out", "ttft", "total", "rate", "stream")
_PATH: Final = "/admin-ui/requests"
_COLUMNS: Final = (
    "request_id", "time", "account_id", "key_id", "model", "provider", "upstream_model",
    "upstream_request_id", "endpoint", "input_tokens", "cache_read_tokens", "cache_write_tokens",
    "output_tokens", "reasoning_tokens", "ttft_ms", "duration_ms", "charged_usd",
    "upstream_cost_usd", "margin_usd", "outcome", "status", "error_kind", "is_stream",
    "finish_reason", "attempts", "address", "user_agent",
)  # fmt: skip


async def requests(page: Page) -> Response:
    """Show a page of calls."""
    shown = _shown(page)
    account_id, provider = search_text(page, "account"), search_text(page, "provider")
    now_s = time.time()
    period = shown.dates.period(now_s, MAX_LIST_DAYS)
    calls = CallLists(page.services.database)
    which = _selected(page, shown)
    before = await start_of(calls, account_id or None, shown)
    file = download(
        page,
        f"requests-{period.first}-{period.last}",
        _COLUMNS,
        _export(calls.export(which, before=before)),
    )
    if file is not None:
        return file
    found = await calls.page(which, before=before, limit=PER_PAGE + 1)
    rows = found[:PER_PAGE]
    names = await Directory(page.services.database).key_names({each.key_id for each in rows})
    keys = {key_id: each.key for key_id, each in names.items()}
    zone = shown.dates.zone
    more = more_fields(account_id, provider)
    last = rows[-1] if rows and len(found) > PER_PAGE else None
    poll = poll_cursor(shown, rows, period, now_s)
    query = _query(shown, shown.before) + more
    return page.render(
        "operators/requests.html",
        headers={"hx-push-url": f"{_PATH}?{query}"},
        shown=shown,
        period=period,
        rows=[
            {**row_of(page, each, keys, zone), "names": _names(names, each.key_id, each.account_id)}
            for each in rows
        ],
        account_id=account_id,
        provider=provider,
        providers=_providers(page, provider),
        query=query,
        poll=_query(shown, poll) + more if poll else "",
        older=_query(shown, str(cursor_of(last))) + more if last is not None else "",
        newest=_query(shown, "") + more,
        min_cost=plain_dollars(shown.min_cost_nanousd) if shown.min_cost_nanousd else "",
        options=filter_options(page, shown, {}),
        list_days=MAX_LIST_DAYS,
        columns=[each for each in columns_of(page) if each[0] in _HIDABLE],
    )


async def new_requests(page: Page) -> Response:
    """Return the button that says how many calls are newer than those shown."""
    shown = _shown(page)
    more = more_fields(search_text(page, "account"), search_text(page, "provider"))
    return page.render(
        "activity/new_requests.html",
        path=_PATH,
        count=await count_new(page, shown, _selected(page, shown)),
        most=MOST_NEW,
        newest=_query(shown, "") + more,
        poll=_query(shown, shown.before) + more,
    )


def requests_href(period: Period, *, more: str = "", **fields: object) -> str:
    """
    Return the path of the list of all accounts' calls of a period.

    Args:
        period: Its days.
        more: What `more_fields` returns.
        fields: Those of CallsFilter.
    """
    dates = Dates(range=Range.CUSTOM, zone=period.zone, since=period.first, until=period.last)
    return f"{_PATH}?{CallsFilter(dates=dates).query(**fields)}{more}"


def _providers(page: Page, chosen: str) -> list[tuple[str, str]]:
    """Return the choices of the filter, the chosen deployment or former provider among them."""
    names = [each.name for each in page.services.served.providers]
    if chosen and chosen not in names:
        names.append(chosen)
    return [("", page.text("All providers")), *((name, name) for name in names)]


def _shown(page: Page) -> CallsFilter:
    # Without a choice only today's: the calls of all accounts are many.
    return CallsFilter.read({"range": "today", **page.request.query_params}, viewer_zone(page))


def _selected(page: Page, shown: CallsFilter) -> CallsQuery:
    period = shown.dates.period(time.time(), MAX_LIST_DAYS)
    which = calls_query(search_text(page, "account") or None, shown, period)
    provider, _, upstream_model = search_text(page, "provider").partition("/")
    return msgspec.structs.replace(
        which, provider=provider or None, upstream_model=upstream_model or None
    )


def more_fields(account_id: str, provider: str) -> str:
    """Return the fields of a query that customers' lists lack; a provider may be a deployment."""
    fields = {"account": account_id, "provider": provider}
    return "".join(f"&{urlencode({name: value})}" for name, value in fields.items() if value)


def _query(shown: CallsFilter, before: str) -> str:
    # The default of the customers' list is a week, so that its query leaves it out.
    query = shown.query(before=before)
    return query if "range=" in query else f"range={shown.dates.range.value}&{query}"


async def _export(calls: AsyncIterator[CallRecord]) -> AsyncIterator[ExportRow]:
    async for call in calls:
        usage, cost = call.usage, call.upstream_cost_nanousd
        yield [
            call.request_id, rfc3339(call.at_ms // 1000), call.account_id, call.key_id, call.model,
            call.provider, call.upstream_model, call.upstream_request_id, call.endpoint,
            usage.input, usage.cache_read, usage.cache_write, usage.output, usage.reasoning,
            call.ttft_ms, call.duration_ms, dollars(call.cost_nanousd),
            None if cost is None else dollars(cost),
            None if cost is None else dollars(call.cost_nanousd - cost),
            call.outcome, call.status, call.error_kind, call.stream, call.finish_reason,
            call.attempts, call.address, call.user_agent,
        ]  # fmt: skip


def _names(names: dict[str, KeyNames], key_id: str, account_id: str) -> KeyNames:
    return names.get(key_id, KeyNames(key_id, account_id, account_id))


async def request(page: Page) -> Response:
    """Show one call."""
    return await _call(page)


async def refund(page: Page) -> Response:
    """Refund what a call cost, at most once."""
    form = await page.form()
    request_id = page.name("request_id")
    try:
        reason = read_text(form.text("reason"), "reason")
    except GatewayError:
        return await _call(page, error=page.text("Say why, for the ledger and the audit log."))
    if not await page.claim(form):
        return page.redirect(f"{_PATH}/{request_id}")
    try:
        await page.services.accounts.refund(request_id, page.actor, reason=reason)
    except REFUSALS as error:
        return await _call(page, error=refusal(error).message)
    return page.redirect(f"{_PATH}/{request_id}")


async def _call(page: Page, *, error: str = "") -> Response:
    request_id = page.name("request_id")
    if not request_id.isprintable() or len(request_id) > 200:
        raise HTTPException(404)
    return await call_page(
        page,
        "operators/request.html",
        None,
        refund_error=error,
        idem=page.new_form_token(),
    )


ROUTES = (
    Route("GET", _PATH, Access.OPERATOR, requests),
    Route("GET", f"{_PATH}/new", Access.OPERATOR, new_requests),
    Route("GET", f"{_PATH}/{{request_id}}", Access.OPERATOR, request),
    Route("POST", f"{_PATH}/{{request_id}}/refund", Access.OPERATOR, refund, confirmed=True),
)
