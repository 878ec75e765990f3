"""`/admin-ui/people`: users, operators among them, and who may sign in."""

from __future__ import annotations

import time
from typing import Final

from starlette.exceptions import HTTPException
from starlette.responses import Response

from gateway.console.operators.accounts import search_text
from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access
from gateway.store.people.links import LinkKind
from gateway.store.people.users import UnknownUserError, User
from gateway.store.reports.directory import Directory

PER_PAGE: Final = 50
_PATH: Final = "/admin-ui/people"


async def people(page: Page) -> Response:
    """Show a page of users."""
    return await _list(page)


async def set_operator(page: Page) -> Response:
    """Make a user an operator, or no longer one."""
    form = await page.form()
    user = await _user(page)
    if user.id == page.viewer.user_id:
        return await _not_oneself(page)
    await page.services.people_operations.set_operator(
        user.login, page.actor, is_operator=form.text("operator") == "yes"
    )
    return page.redirect(_PATH)


async def set_disabled(page: Page) -> Response:
    """Keep a user from signing in, or let them in again."""
    form = await page.form()
    user = await _user(page)
    if user.id == page.viewer.user_id:
        return await _not_oneself(page)
    await page.services.people_operations.set_disabled(
        user.login, page.actor, disabled=form.text("disabled") == "yes"
    )
    return page.redirect(_PATH)


async def end_sessions(page: Page) -> Response:
    """Sign a user out everywhere."""
    user = await _user(page)
    kept = page.viewer.session_id if user.id == page.viewer.user_id else ""
    await page.services.people.sessions.end_all(user.id, but=kept)
    return page.redirect(_PATH)


async def reset(page: Page) -> Response:
    """Make a link with which a user sets a new password, and show it, once."""
    form = await page.form()
    user = await _user(page)
    if not await page.claim(form):
        return page.redirect(_PATH)
    link = await page.services.people_operations.link(user.login, LinkKind.RESET, page.actor)
    return await _list(page, link=link, link_for=user.name)


async def _user(page: Page) -> User:
    try:
        return await page.services.people.users.get(page.name("user_id"))
    except UnknownUserError as error:
        raise HTTPException(404) from error


async def _not_oneself(page: Page) -> Response:
    text = page.text("Ask another operator: you would lock yourself out.")
    return await _list(page, error=text, status=409)


async def _list(
    page: Page, *, link: str = "", link_for: str = "", error: str = "", status: int = 200
) -> Response:
    text, before = search_text(page), search_text(page, "before")
    found = await Directory(page.services.database).people(text, before=before, limit=PER_PAGE + 1)
    lines = found[:PER_PAGE]
    return page.render(
        "operators/people.html",
        status=status,
        headers={"cache-control": "no-store"},
        lines=lines,
        text=text,
        before=before,
        older=lines[-1].user.id if len(found) > PER_PAGE else "",
        link=link,
        link_for=link_for,
        error=error,
        now=int(time.time()),
        idem=page.new_form_token(),
    )


ROUTES = (
    Route("GET", _PATH, Access.OPERATOR, people),
    Route("POST", f"{_PATH}/{{user_id}}/operator", Access.OPERATOR, set_operator, confirmed=True),
    Route("POST", f"{_PATH}/{{user_id}}/disabled", Access.OPERATOR, set_disabled, confirmed=True),
    Route("POST", f"{_PATH}/{{user_id}}/sessions", Access.OPERATOR, end_sessions),
    Route("POST", f"{_PATH}/{{user_id}}/reset", Access.OPERATOR, reset, confirmed=True),
)
