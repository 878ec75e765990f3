"""`/app/settings/delete` and `/app/settings/close`: deleting oneself, and closing the account."""

from __future__ import annotations

from starlette.responses import Response

from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access
from gateway.console.web.words import money
from gateway.operations.accounts import CallsRunningError, HoldsUnknownError
from gateway.store.people.departures import LastOperatorError, delete_user
from gateway.store.people.users import LastOwnerError

_DELETE = "/app/settings/delete"
_CLOSE = "/app/settings/close"
_LAST_OPERATOR = "You are the only operator of this service. Make another user an operator first."
_NO_REDIS = "Redis does not respond, so it is not known whether calls run. Try again later."


async def show_delete(page: Page) -> Response:
    """Show what deleting oneself means."""
    return _delete_page(page)


async def delete_me(page: Page) -> Response:
    """Delete the viewer, once their sign-in name was typed."""
    form = await page.form()
    if form.text("login") != page.viewer.login:
        problem = page.text("Type your sign-in name exactly as it is shown.")
        return _delete_page(page, problem=problem, status=422)
    if not await page.claim(form):
        return page.redirect("/app/settings")
    try:
        await delete_user(page.services.database, page.viewer.user_id, page.actor)
    except LastOperatorError:
        return _delete_page(page, problem=page.text(_LAST_OPERATOR), status=409)
    except LastOwnerError as error:
        names = {each.account_id: each.account_name for each in page.viewer.memberships}
        problem = page.text(
            "You are the only owner of “%(name)s”. Make another member an owner, or close it.",
            name=names.get(str(error), str(error)),
        )
        return _delete_page(page, problem=problem, status=409)
    return page.render("profile/left.html", closed=None)


async def show_close(page: Page) -> Response:
    """Show what closing the account means."""
    return await _close_page(page)


async def close_account(page: Page) -> Response:
    """Close the account, once its name was typed."""
    form = await page.form()
    if form.text("name") != page.account.account_name:
        problem = page.text("Type the account's name exactly as it is shown.")
        return await _close_page(page, problem=problem, status=422)
    if not await page.claim(form):
        return page.redirect("/app/settings")
    try:
        closed = await page.services.closing.close(page.account.account_id, page.actor)
    except HoldsUnknownError:
        return await _close_page(page, problem=page.text(_NO_REDIS), status=503)
    except CallsRunningError as error:
        running, held = error.args
        problem = page.text(
            "Calls run (%(num)s) and hold %(amount)s. Wait until they end, or disable the keys.",
            num=running,
            amount=money(held),
        )
        return await _close_page(page, problem=problem, status=409)
    return page.render("profile/left.html", closed=closed)


def _delete_page(page: Page, *, problem: str = "", status: int = 200) -> Response:
    return page.render(
        "profile/delete.html",
        status=status,
        problem=problem,
        login=page.viewer.login,
        idem=page.new_form_token(),
    )


async def _close_page(page: Page, *, problem: str = "", status: int = 200) -> Response:
    account = await page.services.accounts.get(page.account.account_id)
    return page.render(
        "profile/close.html",
        status=status,
        problem=problem,
        account=account,
        in_use=await page.services.current_use.money(account.id),
        usage_days=page.services.settings.sql.usage_retention_days,
        idem=page.new_form_token(),
    )


ROUTES = (
    Route("GET", _DELETE, Access.SIGNED_IN, show_delete, confirmed=True),
    Route("POST", _DELETE, Access.SIGNED_IN, delete_me, confirmed=True),
    Route("GET", _CLOSE, Access.OWNER, show_close, confirmed=True),
    Route("POST", _CLOSE, Access.OWNER, close_account, confirmed=True),
)
