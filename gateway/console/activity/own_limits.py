"""`/app/billing/limits`: the budgets and the low-balance notice that owners set."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import Response

from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access
from gateway.console.web.words import money
from gateway.core.limits import NO_LIMITS, Limits
from gateway.core.money import MAX_BALANCE_NANOUSD, dollars
from gateway.errors import GatewayError
from gateway.operations.limits import merge_limits
from gateway.operations.values import read_amount
from gateway.store.accounts.accounts import Account
from gateway.store.accounts.low_balance import LowBalances

_PATH = "/app/billing/limits"
_BUDGETS = ("budget_day", "budget_month", "budget_total")
_AMOUNT = "Enter dollars like 12.50, or nothing."


async def show_limits(page: Page) -> Response:
    """Show the form."""
    account = await page.services.accounts.get(page.account.account_id)
    return _form_page(page, account, fields_of_account(account), {})


async def change_limits(page: Page) -> Response:
    """Set the account's own budgets and the threshold of the notice."""
    account = await page.services.accounts.get(page.account.account_id)
    form = await page.form()
    fields = {name: form.text(name) for name in (*_BUDGETS, "low_balance")}
    errors: dict[str, str] = {}
    budgets = _read_budgets(page, fields, account.limits, errors)
    threshold = _read_threshold(page, fields["low_balance"], errors)
    if errors:
        return _form_page(page, account, fields, errors, status=422)
    if not await page.claim(form):
        return page.redirect("/app/billing")
    await LowBalances(page.services.database).set(account.id, threshold, page.actor)
    if budgets != account.own_budgets:
        await page.services.accounts.change(account.id, page.actor, own_budgets=budgets)
    return page.redirect("/app/billing?saved=1")


def fields_of_account(account: Account) -> dict[str, str]:
    """Return the form's fields as they are in force."""
    amounts = {name: getattr(account.own_budgets, f"{name}_nanousd") for name in _BUDGETS}
    amounts["low_balance"] = account.low_balance_nanousd
    return {name: "" if value is None else dollars(value) for name, value in amounts.items()}


def _read_budgets(
    page: Page, fields: Mapping[str, str], allowed: Limits, errors: dict[str, str]
) -> Limits:
    """Return the budgets as entered, at or below the operator's; puts errors into `errors`."""
    found = NO_LIMITS
    for name in _BUDGETS:
        column = f"{name}_nanousd"
        try:
            value = _amount(fields[name], name)
            found = merge_limits(found, {column: value})
        except GatewayError:
            errors[name] = page.text(_AMOUNT)
            continue
        most = getattr(allowed, column)
        if value is not None and most is not None and value > most:
            errors[name] = page.text("The operator allows at most %(amount)s.", amount=money(most))
    return found


def _read_threshold(page: Page, text: str, errors: dict[str, str]) -> int | None:
    try:
        value = _amount(text, "low_balance")
    except GatewayError:
        value = -1
    if value is not None and not 0 <= value <= MAX_BALANCE_NANOUSD:
        errors["low_balance"] = page.text(_AMOUNT)
    return value


def _amount(text: str, name: str) -> int | None:
    return read_amount(text.replace(",", "").removeprefix("$") or None, None, name)


def _form_page(
    page: Page,
    account: Account,
    fields: Mapping[str, str],
    errors: Mapping[str, str],
    *,
    status: int = 200,
) -> Response:
    allowed = {name: getattr(account.limits, f"{name}_nanousd") for name in _BUDGETS}
    return page.render(
        "activity/own_limits.html",
        status=status,
        account=account,
        fields=fields,
        allowed=allowed,
        errors=errors,
        has_mail=page.services.people.mailer is not None,
        idem=page.new_form_token(),
    )


ROUTES = (
    Route("GET", _PATH, Access.OWNER, show_limits, confirmed=True),
    Route("POST", _PATH, Access.OWNER, change_limits, confirmed=True),
)
