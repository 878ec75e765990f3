"""`/admin-ui/system/upkeep`: usage that was set aside, and the check of all balances."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Final

from starlette.responses import Response

from gateway.console.operators.accounts import search_text
from gateway.console.reporting.amounts import duration
from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access
from gateway.errors import ErrorKind, GatewayError
from gateway.operations.refusals import REFUSALS, refusal

PER_PAGE: Final = 50
EVERY_S: Final = 3
"""How often the page looks for the result of a check."""
_PATH: Final = "/admin-ui/system/upkeep"


async def upkeep(page: Page) -> Response:
    """Show the page."""
    return await _show(page)


async def requeue(page: Page) -> Response:
    """Requeue the chosen events."""
    form = await page.form()
    if not await page.claim(form):
        return page.redirect(_PATH)
    sent = 0
    for letter_id in form.all("letter")[:PER_PAGE]:
        try:
            await page.services.upkeep.requeue(letter_id, page.actor)
        except REFUSALS as error:
            return await _show(page, error=refusal(error).message, sent=sent, status=409)
        sent += 1
    return await _show(page, sent=sent)


async def check(page: Page) -> Response:
    """Ask the ledger process to check all balances."""
    form = await page.form()
    if await page.claim(form):
        await page.services.upkeep.ask_reconcile(page.actor)
    return page.redirect(_PATH)


async def _show(
    page: Page, *, error: str = "", sent: int | None = None, status: int = 200
) -> Response:
    return page.render(
        "service/upkeep.html",
        status=status,
        error=error,
        sent=sent,
        every_s=EVERY_S,
        most=PER_PAGE,
        now=int(time.time()),
        duration=duration,
        idem=page.new_form_token(),
        **await _values(page),
    )


async def _values(page: Page) -> dict[str, Any]:
    operations, before = page.services.upkeep, search_text(page, "before")
    try:
        found, count, last, pending = await asyncio.gather(
            operations.letters(before=before, limit=PER_PAGE + 1),
            operations.letter_count(),
            operations.last_reconcile(),
            operations.reconcile_pending(),
        )
    except GatewayError as error:
        if error.kind is not ErrorKind.STORE_UNAVAILABLE:
            raise
        return {
            "is_away": True, "letters": [], "count": 0, "older": "", "last": None, "pending": False,
        }  # fmt: skip
    letters = found[:PER_PAGE]
    return {
        "is_away": False,
        "letters": letters,
        "count": count,
        "older": letters[-1].id if len(found) > PER_PAGE else "",
        "last": last,
        "pending": pending,
    }


ROUTES = (
    Route("GET", _PATH, Access.OPERATOR, upkeep),
    Route("POST", f"{_PATH}/requeue", Access.OPERATOR, requeue, confirmed=True),
    Route("POST", f"{_PATH}/check", Access.OPERATOR, check),
)
