"""`/app`: the account at a glance, and the guide to the first call."""

from __future__ import annotations

import time

from starlette.responses import Response

from gateway.console.keys.list_page import KeyLine, account_activity, key_lines
from gateway.console.keys.snippets import PLACEHOLDER, snippets
from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access
from gateway.core.model import CallRecord
from gateway.store.usage.reports import CallFilter

_LAST_CALLS = 5


async def show_overview(page: Page) -> Response:
    """Show balance, spending, notices and the last calls; before the first call, the guide."""
    viewer = page.viewer
    if viewer.account is None:
        return page.render("keys/no_account.html")
    now = time.time()
    services = page.services
    account = await services.accounts.get(page.account.account_id)
    activity = await account_activity(page, now, last_use=False)
    lines = await key_lines(page, activity, now)
    calls = await _last_calls(page)
    return page.render(
        "keys/overview.html",
        account=account,
        lines=lines,
        notices=_notices(lines, account.balance_nanousd),
        calls=calls,
        names={line.row.id: line.row.name for line in lines},
        day_nanousd=sum(each.day_nanousd for each in activity.values()),
        month_nanousd=sum(each.month_nanousd for each in activity.values()),
        now=int(now),
        guide=not viewer.guide_closed,
        snippets=snippets(services.catalogue, services.settings.brand.public_url),
        placeholder=PLACEHOLDER,
    )


async def show_first_call(page: Page) -> Response:
    """Return the part of the guide that waits for the first call."""
    calls = await _last_calls(page)
    return page.render("keys/first_call.html", calls=calls, now=int(time.time()))


async def close_guide(page: Page) -> Response:
    """Close the guide permanently."""
    await page.services.people.users.change(
        page.viewer.user_id, page.actor, "user.guide", guide_closed_at=int(time.time())
    )
    return page.redirect("/app")


async def switch_account(page: Page) -> Response:
    """Show another account of the viewer."""
    wanted = (await page.form()).text("account")
    if any(wanted == each.account_id for each in page.viewer.memberships):
        await page.services.people.sessions.choose_account(page.viewer.session_id, wanted)
    return page.redirect("/app")


async def _last_calls(page: Page) -> list[CallRecord]:
    which = CallFilter(account_id=page.account.account_id)
    return await page.services.records.calls(_LAST_CALLS, which)


def _notices(lines: list[KeyLine], balance_nanousd: int) -> list[tuple[str, str, str]]:
    """Return notices as (kind, name of the key, its id); the template contains their text."""
    found = [("expires", line.row.name, line.row.id) for line in lines if line.expires_soon]
    found += [
        ("budget", line.row.name, line.row.id)
        for line in lines
        if line.share is not None and line.share >= 0.8 and line.state == "active"
    ]
    if balance_nanousd <= 0:
        found.insert(0, ("balance", "", ""))
    return found


ROUTES = (
    Route("GET", "/app", Access.SIGNED_IN, show_overview),
    Route("GET", "/app/first-call", Access.VIEWER, show_first_call),
    Route("POST", "/app/guide/close", Access.SIGNED_IN, close_guide),
    Route("POST", "/app/switch", Access.SIGNED_IN, switch_account),
)
