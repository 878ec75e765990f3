"""`/admin-ui/accounts`: all accounts, and creating one."""

from __future__ import annotations

import time
from typing import Final

from starlette.responses import Response

from gateway.console.reporting.filters import LONGEST_VALUE
from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access
from gateway.errors import GatewayError
from gateway.operations.accounts import read_terms
from gateway.operations.values import read_amount, read_text
from gateway.store.accounts.accounts import Billing, Terms
from gateway.store.reports.directory import AccountsQuery, AccountState, Directory

PER_PAGE: Final = 50
SUM_DAYS: Final = 30
_QUARTER_S: Final = 900
_DAY_S: Final = 86_400
PATH: Final = "/admin-ui/accounts"


async def accounts(page: Page) -> Response:
    """Show a page of accounts."""
    return await _list(page)


async def create(page: Page) -> Response:
    """Create an account and show it."""
    form = await page.form()
    fields = {name: form.text(name) for name in ("name", "billing", "credit_limit")}
    errors: dict[str, str] = {}
    name, terms = "", None
    try:
        name = read_text(fields["name"], "name")
    except GatewayError:
        errors["name"] = page.text("Enter a name of 1 to 500 printable characters.")
    try:
        terms = terms_of(fields["billing"], fields["credit_limit"])
    except GatewayError:
        errors["credit_limit"] = page.text("Enter dollars from 0 on, such as 100 or 12.50.")
    if errors:
        return await _list(page, fields=fields, errors=errors, status=422)
    if not await page.claim(form):
        return page.redirect(PATH)
    account = await page.services.accounts.create(name, terms, page.actor)
    return page.redirect(f"{PATH}/{account.id}")


def terms_of(billing: str, credit_limit: str) -> Terms | None:
    """
    Return the terms of a form; None: its billing is none of the choices.

    Raises:
        GatewayError: BAD_REQUEST: the credit limit is not an amount from 0 on.
    """
    if billing not in {each.value for each in Billing}:
        return None
    chosen = Billing(billing)
    limit = None
    if chosen is Billing.POSTPAID and credit_limit:
        limit = read_amount(credit_limit.replace(",", ""), None, "credit_limit")
    return read_terms(chosen, limit)


def sums_since(now: float) -> int:
    """Return the first quarter of an hour of the sums that operators' lists show."""
    return (int(now) - SUM_DAYS * _DAY_S) // _QUARTER_S


def search_text(page: Page, name: str = "q") -> str:
    """Return what a search field contains, if it can be searched for."""
    text = page.query(name).strip()
    return text if len(text) <= LONGEST_VALUE and text.isprintable() else ""


async def _list(
    page: Page,
    *,
    fields: dict[str, str] | None = None,
    errors: dict[str, str] | None = None,
    status: int = 200,
) -> Response:
    now = time.time()
    text, wanted, before = search_text(page), page.query("state"), search_text(page, "before")
    state = next((each for each in AccountState if each.value == wanted), None)
    which = AccountsQuery(text=text, state=state, since_quarter=sums_since(now))
    found = await Directory(page.services.database).accounts(
        which, before=before, limit=PER_PAGE + 1
    )
    lines = found[:PER_PAGE]
    return page.render(
        "operators/accounts.html",
        status=status,
        lines=lines,
        text=text,
        state=state.value if state else "",
        states=[
            ("", page.text("All accounts")),
            (AccountState.NEGATIVE.value, page.text("Below zero")),
            (AccountState.IDLE.value, page.text("No calls for %(days)s days", days=SUM_DAYS)),
        ],
        before=before,
        older=lines[-1].account.id if len(found) > PER_PAGE else "",
        days=SUM_DAYS,
        now=int(now),
        fields=fields or {"name": "", "billing": "prepaid", "credit_limit": ""},
        errors=errors or {},
        idem=page.new_form_token(),
    )


ROUTES = (
    Route("GET", PATH, Access.OPERATOR, accounts),
    Route("POST", PATH, Access.OPERATOR, create),
)
