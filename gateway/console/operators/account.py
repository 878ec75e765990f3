"""`/admin-ui/accounts/{id}`: one account, its money, terms, limits and people."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from starlette.exceptions import HTTPException
from starlette.responses import Response

from gateway.console.activity.scope import actor_names, viewer_zone
from gateway.console.operators.accounts import PATH, SUM_DAYS, sums_since, terms_of
from gateway.console.reporting.filters import UTC
from gateway.console.web.forms import Form
from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access
from gateway.console.web.words import money as shown_money
from gateway.core.limits import Limits
from gateway.core.money import dollars
from gateway.errors import GatewayError
from gateway.operations.limits import merge_limits
from gateway.operations.people import ROLES
from gateway.operations.refusals import REFUSALS, refusal
from gateway.operations.values import InvalidValueError, read_amount, read_text, require_amount
from gateway.store.accounts.accounts import UnknownAccountError
from gateway.store.accounts.credits import EntryKind
from gateway.store.reports.directory import AccountLine, AccountsQuery, Directory

ENTRIES: Final = 20
COUNTS: Final = ("rpm", "tpm", "concurrency")
BUDGETS: Final = ("budget_day", "budget_month", "budget_total")
_PATH: Final = f"{PATH}/{{account_id}}"


async def show(page: Page) -> Response:
    """Show one account."""
    return await _account(page)


async def book(page: Page) -> Response:
    """Book a top-up or an adjustment."""
    account_id, form = page.name("account_id"), await page.form()
    kind = EntryKind.ADJUSTMENT if form.text("kind") == "adjustment" else EntryKind.TOPUP
    fields = {name: form.text(name) for name in ("kind", "amount", "reason")}
    errors: dict[str, str] = {}
    amount, reason = 0, ""
    try:
        text = fields["amount"].replace(",", "").replace("\N{MINUS SIGN}", "-")
        amount = require_amount(read_amount(text or None, None, "amount"))
    except GatewayError:
        errors["amount"] = page.text("Enter dollars, such as 25 or 12.50.")
    if not errors and (amount == 0 or (amount < 0 and kind is EntryKind.TOPUP)):
        errors["amount"] = page.text(
            "A top-up is more than 0; take money back with an adjustment below 0."
        )
    try:
        reason = read_text(fields["reason"], "reason")
    except GatewayError:
        errors["reason"] = page.text("Say why, such as an invoice's number.")
    if errors:
        return await _account(page, money=fields, errors=errors, status=422)
    try:
        # The key makes a form that is sent again book nothing more, whatever became of the first.
        booked = await page.services.accounts.book(
            account_id,
            kind,
            amount,
            page.actor,
            reason=reason,
            idempotency_key=page.form_key(form),
        )
    except REFUSALS as error:
        errors["amount"] = _message(error)
        return await _account(page, money=fields, errors=errors, status=409)
    return page.redirect(f"{PATH}/{account_id}?booked={booked.entry.id}#ledger")


async def change_terms(page: Page) -> Response:
    """Change name, billing, credit limit and trust."""
    account_id, form = page.name("account_id"), await page.form()
    errors: dict[str, str] = {}
    name, terms = "", None
    try:
        name = read_text(form.text("name"), "name")
    except GatewayError:
        errors["name"] = page.text("Enter a name of 1 to 500 printable characters.")
    try:
        terms = terms_of(form.text("billing"), form.text("credit_limit"))
    except GatewayError:
        errors["credit_limit"] = page.text("Enter dollars from 0 on, such as 100 or 12.50.")
    if errors:
        return await _account(page, errors=errors, status=422)
    return await _changed(page, account_id, name=name, terms=terms, trusted=form.has("trusted"))


async def change_limits(page: Page) -> Response:
    """Replace the limits; an empty field is no limit."""
    form = await page.form()
    limits, errors = limits_of(form, page)
    if errors:
        return await _account(page, limits=_entered(form), errors=errors, status=422)
    return await _changed(page, page.name("account_id"), limits=limits)


async def invite(page: Page) -> Response:
    """Make an invitation into the account and show its link, once."""
    form = await page.form()
    role = form.text("role")
    if role not in ROLES:
        raise HTTPException(422)
    if not await page.claim(form):
        return page.redirect(f"{PATH}/{page.name('account_id')}")
    try:
        link = await page.services.people_operations.invite(
            page.name("account_id"), role, page.actor
        )
    except UnknownAccountError as error:
        raise HTTPException(404) from error
    return await _account(page, link=link)


def limits_of(form: Form, page: Page) -> tuple[Limits, dict[str, str]]:
    """Return the limits of a form, and what is wrong with which field."""
    limits, errors = Limits(), {}
    for name in (*COUNTS, *BUDGETS):
        text = form.text(name).replace(",", "")
        if not text:
            continue
        is_count = name in COUNTS
        column = name if is_count else f"{name}_nanousd"
        try:
            value = _count(text, name) if is_count else read_amount(text, None, name)
            limits = merge_limits(limits, {column: value})
        except GatewayError:
            errors[name] = (
                page.text("Enter a whole number from 1 on.")
                if is_count
                else page.text("Enter dollars from 0 on, such as 100 or 12.50.")
            )
    return limits, errors


def _count(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 12):
        raise InvalidValueError(name, "must be a whole number")
    return int(text)


def _entered(form: Form) -> dict[str, str]:
    return {name: form.text(name) for name in (*COUNTS, *BUDGETS)}


def _limit_fields(limits: Limits) -> dict[str, str]:
    found = {}
    for name in COUNTS:
        value = getattr(limits, name)
        found[name] = "" if value is None else str(value)
    for name in BUDGETS:
        value = getattr(limits, f"{name}_nanousd")
        found[name] = "" if value is None else dollars(value)
    return found


def _own_budgets(page: Page, limits: Limits) -> str:
    """Return the budgets that the account's owners set, in words."""
    found = (
        (page.text("%(amount)s a day"), limits.budget_day_nanousd),
        (page.text("%(amount)s a month"), limits.budget_month_nanousd),
        (page.text("%(amount)s in all"), limits.budget_total_nanousd),
    )
    return ", ".join(
        words % {"amount": shown_money(each)} for words, each in found if each is not None
    )


def _message(error: Exception) -> str:
    return refusal(error).message


async def _changed(page: Page, account_id: str, **values: Any) -> Response:
    try:
        await page.services.accounts.change(account_id, page.actor, **values)
    except UnknownAccountError as error:
        raise HTTPException(404) from error
    return page.redirect(f"{PATH}/{account_id}")


async def _line(page: Page, account_id: str, now: float) -> AccountLine:
    which = AccountsQuery(account_id=account_id, since_quarter=sums_since(now))
    found = await Directory(page.services.database).accounts(which, limit=1)
    if not found:
        raise HTTPException(404)
    return found[0]


async def _account(
    page: Page,
    *,
    money: Mapping[str, str] | None = None,
    limits: Mapping[str, str] | None = None,
    errors: Mapping[str, str] | None = None,
    link: str = "",
    status: int = 200,
) -> Response:
    services, now = page.services, time.time()
    line = await _line(page, page.name("account_id"), now)
    account = line.account
    before = page.query("before")
    before_id = int(before) if before.isascii() and before.isdigit() and len(before) < 19 else None
    entries = await services.accounts.entries(account.id, before_id=before_id, limit=ENTRIES + 1)
    credit = account.terms.credit_limit_nanousd
    return page.render(
        "operators/account.html",
        status=status,
        headers={"cache-control": "no-store"},
        line=line,
        account=account,
        credit_limit="" if credit is None else dollars(credit),
        entries=entries[:ENTRIES],
        booked=next((each for each in entries if str(each.id) == page.query("booked")), None),
        names=await actor_names(page, [each.actor for each in entries[:ENTRIES]]),
        older=entries[ENTRIES - 1].id if len(entries) > ENTRIES else None,
        before=before_id,
        members=await services.people.users.members(account.id),
        money=money or {"kind": "topup", "amount": "", "reason": ""},
        limits=limits or _limit_fields(account.limits),
        own_budgets=_own_budgets(page, account.own_budgets),
        errors=errors or {},
        link=link,
        roles=ROLES,
        days=SUM_DAYS,
        zone=(viewer_zone(page) or UTC).key,
        now=int(now),
        idem=page.new_form_token(),
    )


ROUTES = (
    Route("GET", _PATH, Access.OPERATOR, show),
    Route("POST", f"{_PATH}/credits", Access.OPERATOR, book, confirmed=True),
    Route("POST", f"{_PATH}/terms", Access.OPERATOR, change_terms, confirmed=True),
    Route("POST", f"{_PATH}/limits", Access.OPERATOR, change_limits),
    Route("POST", f"{_PATH}/invite", Access.OPERATOR, invite),
)
