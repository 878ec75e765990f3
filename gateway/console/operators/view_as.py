"""Lets an operator look at an account's pages, and ends that."""

from __future__ import annotations

from typing import Final

from starlette.exceptions import HTTPException
from starlette.responses import Response

from gateway.console.operators.accounts import PATH
from gateway.console.web.page import Page, Route
from gateway.console.web.view_as import COOKIE, LIVES_S, PREFIX, view_as_cookie, viewing_as
from gateway.console.web.viewer import Access
from gateway.store.accounts.accounts import UnknownAccountError

_END: Final = "/admin-ui/view-as/end"


async def view_as(page: Page) -> Response:
    """Start viewing an account's pages."""
    try:
        account = await page.services.accounts.view_as(page.name("account_id"), page.actor)
    except UnknownAccountError as error:
        raise HTTPException(404) from error
    signer = page.services.people.secret
    response = page.redirect(PREFIX)
    response.set_cookie(
        COOKIE,
        view_as_cookie(signer, page.viewer, account.id, account.name),
        max_age=LIVES_S,
        path="/",
        secure=page.services.settings.brand.public_url.startswith("https://"),
        httponly=True,
        samesite="lax",
    )
    return response


async def end(page: Page) -> Response:
    """Stop viewing; return to the account."""
    cookie = page.request.cookies.get(COOKIE)
    seen = viewing_as(page.services.people.secret, page.viewer, cookie, PREFIX)
    shown = seen.account if seen.views_as else None
    response = page.redirect(PATH if shown is None else f"{PATH}/{shown.account_id}")
    response.delete_cookie(COOKIE, path="/")
    return response


ROUTES = (
    Route("POST", f"{PATH}/{{account_id}}/view-as", Access.OPERATOR, view_as),
    Route("POST", _END, Access.OPERATOR, end),
)
