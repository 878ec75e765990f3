"""`/admin-ui/accounts`: all accounts, and creating one."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Final
from urllib.parse import urlencode

from starlette.responses import Response

from gateway.console.activity.scope import download
from gateway.console.reporting.downloads import ExportRow
from gateway.console.reporting.filters import LONGEST_VALUE
from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access
from gateway.core.calendar import rfc3339
from gateway.core.money import dollars
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
EXPORT_LIMIT: Final = 10_000
_BATCH: Final = 500
_COLUMNS: Final = (
    "id", "name", "billing", "credit_limit_usd", "balance_usd", "available_usd",
    f"charged_{SUM_DAYS}_days_usd", f"margin_{SUM_DAYS}_days_usd", "keys", "last_call",
)  # fmt: skip


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
    directory = Directory(page.services.database)
    if not errors:
        file = download(page, "accounts", _COLUMNS, _export(directory, which, before))
        if file is not None:
            return file
    found = await directory.accounts(which, before=before, limit=PER_PAGE + 1)
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
        query=urlencode({"q": text, "state": state.value if state else "", "before": before}),
        older=lines[-1].account.id if len(found) > PER_PAGE else "",
        days=SUM_DAYS,
        now=int(now),
        fields=fields or {"name": "", "billing": "prepaid", "credit_limit": ""},
        errors=errors or {},
        idem=page.new_form_token(),
    )


async def _export(
    directory: Directory, which: AccountsQuery, before: str
) -> AsyncIterator[ExportRow]:
    """Yield rows of up to EXPORT_LIMIT accounts, newest first."""
    left = EXPORT_LIMIT
    while left > 0:
        batch = await directory.accounts(which, before=before, limit=_BATCH)
        for line in batch:
            account = line.account
            limit, available = account.terms.credit_limit_nanousd, account.available_nanousd
            yield [
                account.id, account.name, account.terms.billing.value,
                None if limit is None else dollars(limit), dollars(account.balance_nanousd),
                None if available is None else dollars(available), dollars(line.cost_nanousd),
                dollars(line.margin_nanousd), line.keys,
                None if line.last_call_ms is None else rfc3339(line.last_call_ms // 1000),
            ]  # fmt: skip
        if len(batch) < _BATCH:
            return
        left -= _BATCH
        before = batch[-1].account.id


ROUTES = (
    Route("GET", PATH, Access.OPERATOR, accounts),
    Route("POST", PATH, Access.OPERATOR, create),
)
