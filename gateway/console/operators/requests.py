"""`/admin-ui/requests`: the calls of all accounts, with what they cost the service."""

from __future__ import annotations

import time
from typing import Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.responses import Response

from gateway.console.activity.call import call_page
from gateway.console.activity.requests import (
    calls_query,
    cursor_of,
    filter_options,
    place_of,
    row_of,
)
from gateway.console.activity.scope import viewer_zone
from gateway.console.operators.accounts import search_text
from gateway.console.reporting.filters import MAX_LIST_DAYS, CallsFilter, plain_dollars
from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access
from gateway.errors import GatewayError
from gateway.operations.refusals import REFUSALS, refusal
from gateway.operations.values import read_text
from gateway.store.reports.calls import CallLists
from gateway.store.reports.directory import Directory, KeyNames

PER_PAGE: Final = 50
_PATH: Final = "/admin-ui/requests"


async def requests(page: Page) -> Response:
    """Show a page of calls."""
    query = dict(page.request.query_params)
    # Without a choice only today's: the calls of all accounts are many.
    shown = CallsFilter.read({"range": "today", **query}, viewer_zone(page))
    account_id, provider = search_text(page, "account"), search_text(page, "provider")
    period = shown.dates.period(time.time(), MAX_LIST_DAYS)
    which = msgspec.structs.replace(
        calls_query(account_id or None, shown, period), provider=provider or None
    )
    found = await CallLists(page.services.database).page(
        which, before=place_of(shown), limit=PER_PAGE + 1
    )
    calls = found[:PER_PAGE]
    names = await Directory(page.services.database).key_names({each.key_id for each in calls})
    keys = {key_id: each.key for key_id, each in names.items()}
    zone = shown.dates.zone
    more = f"&account={account_id}" if account_id else ""
    more += f"&provider={provider}" if provider else ""
    last = calls[-1] if calls and len(found) > PER_PAGE else None
    return page.render(
        "operators/requests.html",
        shown=shown,
        period=period,
        rows=[
            {**row_of(each, keys, zone), "names": _names(names, each.key_id, each.account_id)}
            for each in calls
        ],
        account_id=account_id,
        provider=provider,
        providers=[
            ("", page.text("All providers")),
            *((each.name, each.name) for each in page.services.settings.providers),
        ],
        older=_query(shown, str(cursor_of(last))) + more if last is not None else "",
        newest=_query(shown, "") + more,
        min_cost=plain_dollars(shown.min_cost_nanousd) if shown.min_cost_nanousd else "",
        options=filter_options(page, shown, {}),
        list_days=MAX_LIST_DAYS,
    )


def _query(shown: CallsFilter, before: str) -> str:
    # The default of the customers' list is a week, so that its query leaves it out.
    query = shown.query(before=before)
    return query if "range=" in query else f"range={shown.dates.range.value}&{query}"


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
    Route("GET", f"{_PATH}/{{request_id}}", Access.OPERATOR, request),
    Route("POST", f"{_PATH}/{{request_id}}/refund", Access.OPERATOR, refund, confirmed=True),
)
