"""`/app/requests/{id}`: why a call cost what it did, or why it failed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import msgspec
from markupsafe import Markup
from starlette.exceptions import HTTPException
from starlette.responses import Response

from gateway.console.activity.scope import key_names, viewer_zone, zone_options
from gateway.console.openapi.errors import ERROR_TEXTS
from gateway.console.reporting.amounts import duration, tokens_per_s
from gateway.console.reporting.filters import CallsFilter
from gateway.console.reporting.invoice import Invoice, invoice
from gateway.console.reporting.plots import share_bar
from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access
from gateway.console.web.words import in_dollars, money
from gateway.core.calendar import rfc3339
from gateway.core.catalogue import Catalogue
from gateway.core.model import ABANDONED, AttemptRecord, CallRecord
from gateway.core.money import amount_fields, decimal_text
from gateway.errors import SURFACES, ErrorKind
from gateway.operations.objects import usage_record
from gateway.store.reports.calls import CallLists
from gateway.store.reports.directory import Directory

_TRIES = 4
_TRY_EVERY_S = 1.25


class Line(msgspec.Struct, frozen=True):
    """A line of the invoice, as text."""

    item: str
    count: int
    price: str
    per: str
    amount: str


async def call(page: Page) -> Response:
    """Show one call of the account."""
    return await call_page(page, "activity/call.html", page.account.account_id)


async def call_page(page: Page, template: str, account_id: str | None, **more: Any) -> Response:
    """
    Return the page of the call that the path names.

    Args:
        page: The request.
        template: Extends `activity/call.html`.
        account_id: Whose calls; None, for operators: all, with providers and costs.
        more: For the template.
    """
    request_id = page.name("request_id")
    calls = CallLists(page.services.database)
    shows_provider = account_id is None or page.services.settings.routing.show_provider
    found = await _wait_for(calls, account_id, request_id)
    charges = await calls.charges(account_id, request_id)
    if found is None:
        if not charges:
            raise HTTPException(404)
        return page.render(
            "activity/purged_call.html",
            request_id=request_id,
            charges=charges,
            days=page.services.settings.sql.usage_retention_days,
        )
    record = record_text(found, for_operators=account_id is None, show_provider=shows_provider)
    if page.query("format") == "json":
        headers = {"cache-control": "no-store"}
        return Response(record, media_type="application/json", headers=headers)
    zone = CallsFilter.read(page.request.query_params, viewer_zone(page)).dates.zone
    key, account = await _names(page, found, account_id)
    explained = explain(page.services.catalogue, found)
    rate = tokens_per_s(
        found.usage.output + found.usage.reasoning, found.ttft_ms, found.duration_ms
    )
    return page.render(
        template,
        call=found,
        key=key,
        account_name=account,
        lines=[] if explained is None else _lines(page, explained),
        invoice=explained,
        factors=_factors(explained),
        charges=charges,
        is_charged=bool(found.cost_nanousd),
        sentence=_sentence(page, found),
        error=_error(page, found),
        record=record,
        time_bar=_time_bar(page, found),
        times=_times(page, found),
        attempts=_attempts(found, show_provider=shows_provider),
        rate=rate,
        duration=duration,
        zone=zone.key,
        zones=zone_options(zone),
        **more,
    )


async def _names(page: Page, found: CallRecord, account_id: str | None) -> tuple[str, str]:
    """Return the names of the key and the account of a call."""
    if account_id is not None:
        keys = await key_names(page)
        return keys.get(found.key_id, found.key_id), page.account.account_name
    known = await Directory(page.services.database).key_names([found.key_id])
    names = known.get(found.key_id)
    return (names.key, names.account) if names else (found.key_id, found.account_id)


def explain(catalogue: Catalogue, found: CallRecord) -> Invoice | None:
    """Return the invoice of a call at today's prices; None: its model is no longer offered."""
    # If a fallback model served the call, its prices may apply.
    names = [*(each.model for each in found.chain[-1:]), found.model]
    models = [catalogue.resolve(name) for name in dict.fromkeys(names)]
    invoices = [invoice(found.usage, model.prices) for model in models if model is not None]
    fitting = [each for each in invoices if each.total_nanousd == found.cost_nanousd]
    return next(iter([*fitting, *invoices]), None)


async def _wait_for(calls: CallLists, account_id: str | None, request_id: str) -> CallRecord | None:
    """Return a call; one that has just ended is recorded within seconds."""
    for attempt in range(_TRIES):
        if attempt:
            await asyncio.sleep(_TRY_EVERY_S)
        found = await calls.call(account_id, request_id)
        if found is not None:
            return found
    return None


def _lines(page: Page, explained: Invoice) -> list[Line]:
    names = {
        "input": page.text("Input tokens"),
        "cache_read": page.text("Input tokens read from a cache"),
        "cache_write": page.text("Input tokens written to a cache"),
        "cache_write_1h": page.text("Input tokens written to a one-hour cache"),
        "output": page.text("Output tokens"),
        "reasoning": page.text("Reasoning tokens"),
        "web_searches": page.text("Web searches"),
    }
    return [
        Line(
            names[line.item],
            line.count,
            money(line.price_nanousd),
            page.text("per thousand") if line.per == 1000 else page.text("per million"),
            exact_dollars(line.amount_nanousd),
        )
        for line in explained.lines
    ]


def _factors(explained: Invoice | None) -> list[tuple[str, str]]:
    if explained is None:
        return []
    return [(tier, f"{float(factor):g}") for tier, factor in explained.factors]


def exact_dollars(nanousd: Fraction) -> str:
    """Return dollars with all digits of the product; prices have nine, counts none."""
    # In millionths of a nano-dollar: a price per million times a count.
    return in_dollars(decimal_text(int(nanousd * 10**6), 15))


def _sentence(page: Page, found: CallRecord) -> str:
    text = page.text
    return {
        "completed": text("The response was delivered to its end."),
        "cancelled": text(
            "The client disconnected. The upstream was closed, and the tokens until then were "
            "charged."
        ),
        "drained": text(
            "The client disconnected. The gateway waited for the upstream's usage, which was "
            "charged."
        ),
        "failed": text("The request failed. Output that had been delivered before was charged."),
        "insured": text("The request failed without output. Nothing was charged."),
        ABANDONED: text(
            "The gateway process ended during the request. What was counted until then is charged "
            "unless a settlement follows."
        ),
    }.get(found.outcome, found.outcome)


def _error(page: Page, found: CallRecord) -> dict[str, object] | None:
    try:
        kind = ErrorKind(found.error_kind)
    except ValueError:
        return None
    row, text = SURFACES[kind], ERROR_TEXTS[kind]
    return {
        "kind": kind.value,
        "meaning": page.text(text.meaning),
        "remedy": page.text(text.remedy),
        "source": row.source.value,
    }


def _time_bar(page: Page, found: CallRecord) -> Markup:
    times = _times(page, found)
    parts = [(f"{name}: {duration(ms)}", color, float(ms)) for name, color, ms in times]
    return share_bar(parts, page.text("Time of the request"))


def _times(page: Page, found: CallRecord) -> list[tuple[str, int, int]]:
    """Return (name, colour, milliseconds): failed attempts, the first token, the rest."""
    failed = sum(each.ms for each in found.chain[:-1])
    if found.ttft_ms is None:
        rest = max(found.duration_ms - failed, 0)
        parts = [(page.text("failed attempts"), 2, failed), (page.text("until the end"), 8, rest)]
    else:
        failed = min(failed, found.ttft_ms)
        parts = [
            (page.text("failed attempts"), 2, failed),
            (page.text("until the first token"), 3, found.ttft_ms - failed),
            (page.text("response"), 1, max(found.duration_ms - found.ttft_ms, 0)),
        ]
    return [part for part in parts if part[2]]


def _attempts(found: CallRecord, *, show_provider: bool) -> Sequence[AttemptRecord]:
    if show_provider:
        return found.chain
    return [
        msgspec.structs.replace(each, deployment=f"#{n}") for n, each in enumerate(found.chain, 1)
    ]


def record_text(found: CallRecord, *, for_operators: bool, show_provider: bool) -> str:
    """
    Return the record of a call as indented JSON.

    Args:
        found: The call.
        for_operators: Whether upstream, costs and address are included.
        show_provider: Whether the deployments of the attempts are named.
    """
    record = {
        "request_id": found.request_id,
        "created_at": rfc3339(found.at_ms // 1000),
        "model": found.model,
        "endpoint": found.endpoint,
        "stream": found.stream,
        "status": found.status,
        "outcome": found.outcome,
        "error_kind": found.error_kind,
        "usage": usage_record(found.usage),
        "estimated": found.estimated,
        **amount_fields("cost", found.cost_nanousd),
        "finish_reason": found.finish_reason,
        "ttft_ms": found.ttft_ms,
        "duration_ms": found.duration_ms,
        "attempts": [
            {"deployment": each.deployment, "model": each.model, "result": each.result,
             "status": each.status, "ms": each.ms}
            for each in _attempts(found, show_provider=show_provider)
        ],
        "key_id": found.key_id,
        "user_agent": found.user_agent,
    }  # fmt: skip
    if for_operators:
        cost = found.upstream_cost_nanousd
        record |= {
            "account_id": found.account_id,
            "provider": found.provider,
            "upstream_model": found.upstream_model,
            "upstream_request_id": found.upstream_request_id,
            **amount_fields("upstream_cost", cost),
            **amount_fields("margin", None if cost is None else found.cost_nanousd - cost),
            "address": found.address,
        }
    return msgspec.json.format(msgspec.json.encode(record), indent=2).decode()


ROUTES = (Route("GET", "/app/requests/{request_id}", Access.VIEWER, call),)
