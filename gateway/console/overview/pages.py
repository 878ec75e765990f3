"""`/app`: the account at a glance, and the guide to the first call."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from starlette.responses import Response

from gateway.console.keys.list_line import KeyLine
from gateway.console.keys.list_page import account_activity, key_lines
from gateway.console.keys.snippets import PLACEHOLDER, snippets
from gateway.console.overview.fortnight import days_left, read_fortnight
from gateway.console.reporting.amounts import percent, rounded_money
from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access
from gateway.core.limits import Limits
from gateway.core.model import CallRecord
from gateway.store.accounts.accounts import Account
from gateway.store.keys.activity import KeyActivity
from gateway.store.usage.reports import CallFilter

FEW_DAYS = 3
"""A balance that lasts less is low."""
NEARLY_SPENT = 0.8
"""The share of a budget from which there is a notice."""
GUIDE_CALLS = 20
"""An account with as many calls in the last fortnight needs no guide."""
_LAST_CALLS = 5


class Notice(NamedTuple):
    """What needs attention; the template contains the text of each kind."""

    kind: str
    name: str = ""
    """The key's name."""
    key_id: str = ""


class Spending(NamedTuple):
    """Spending of a period, and the account's budget for it, if there is one."""

    name: str
    nanousd: int
    budget_nanousd: int | None

    @property
    def share(self) -> float:
        """The spent share of the budget."""
        return self.nanousd / self.budget_nanousd if self.budget_nanousd else 1.0


async def show_overview(page: Page) -> Response:
    """Show balance, spending, the last days and calls; before the first call, the guide."""
    viewer = page.viewer
    if viewer.account is None:
        return page.render("overview/no_account.html")
    now = time.time()
    services = page.services
    account = await services.accounts.get(page.account.account_id)
    activity = await account_activity(page, now, last_use=False)
    lines = await key_lines(page, activity, now)
    calls = await _last_calls(page)
    fortnight = await read_fortnight(page, now)
    left = days_left(account.available_nanousd, fortnight.pace_nanousd)
    spending = _spending(page, account.limits_in_force, activity)
    return page.render(
        "overview/overview.html",
        account=account,
        days_left=left,
        spending=spending,
        fortnight=fortnight,
        notices=notices(account, left, spending, lines),
        lines=lines,
        calls=calls,
        names={line.row.id: line.row.name for line in lines},
        now=int(now),
        guide=not viewer.guide_closed,
        guide_calls=GUIDE_CALLS,
        snippets=snippets(services.catalogue, services.settings.brand.public_url),
        placeholder=PLACEHOLDER,
        percent=percent,
        rounded_money=rounded_money,
    )


async def show_first_call(page: Page) -> Response:
    """Return the part of the guide that waits for the first call."""
    calls = await _last_calls(page)
    return page.render("overview/first_call.html", calls=calls, now=int(time.time()))


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


def _spending(page: Page, limits: Limits, activity: Mapping[str, KeyActivity]) -> list[Spending]:
    """Return the account's spending of the UTC day and month: keys' budgets count these, too."""
    day = sum(each.day_nanousd for each in activity.values())
    month = sum(each.month_nanousd for each in activity.values())
    return [
        Spending(page.text("Spent today"), day, limits.budget_day_nanousd),
        Spending(page.text("Spent this month"), month, limits.budget_month_nanousd),
    ]


def notices(
    account: Account, left: int | None, spending: Sequence[Spending], lines: Sequence[KeyLine]
) -> list[Notice]:
    """
    Return what needs attention: the account first, then its keys.

    Args:
        account: The account.
        left: For how many days its money lasts.
        spending: Of its budgets.
        lines: Its keys.
    """
    found = []
    if account.available_nanousd == 0:
        found.append(Notice("balance"))
    elif left is not None and left < FEW_DAYS:
        found.append(Notice("low"))
    if any(each.budget_nanousd is not None and each.share >= NEARLY_SPENT for each in spending):
        found.append(Notice("account"))
    active = [line for line in lines if line.state == "active"]
    found += [Notice("expires", line.row.name, line.row.id) for line in active if line.expires_soon]
    found += [
        Notice("budget", line.row.name, line.row.id)
        for line in active
        if line.share is not None and line.share >= NEARLY_SPENT
    ]
    return found


ROUTES = (
    Route("GET", "/app", Access.SIGNED_IN, show_overview),
    Route("GET", "/app/first-call", Access.VIEWER, show_first_call),
    Route("POST", "/app/guide/close", Access.SIGNED_IN, close_guide),
    Route("POST", "/app/switch", Access.SIGNED_IN, switch_account),
)
