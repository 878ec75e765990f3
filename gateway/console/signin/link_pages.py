"""
The pages of links: set-up, entering, invitations and resets.

A link's token stands after `#`, which only the page's script reads: it fills a field, and the form
posts it. Without script the token is pasted. A GET does not use up the link, since mail scanners
and chat programs fetch the links in messages.
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import Response

from gateway.console.signin.newcomers import newcomer, newcomer_errors, read_login
from gateway.console.signin.pages import START, ask_code
from gateway.console.web.forms import Form
from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access
from gateway.store.people.links import (
    LinkKind,
    LinkUsedError,
    OperatorExistsError,
)
from gateway.store.people.users import LastOwnerError, LoginTakenError, UnknownUserError

_USED = "This link no longer works: it was used or has expired. Ask for a new one."
_EXISTS = "The service is already set up. Sign in, or ask an operator for an invitation."
_CLOSED = "This service takes no new people. Sign in, then open the invitation again."
_TAKEN = "This name is already taken. If it is yours, sign in and open the link again."


async def show_setup(page: Page) -> Response:
    """Ask the first operator for name and password."""
    return _page(page, LinkKind.SETUP)


async def set_up(page: Page) -> Response:
    """Make the first operator and their account."""
    form = await page.form()
    login = read_login(form)
    errors = await newcomer_errors(page, form, login)
    if errors:
        return _page(page, LinkKind.SETUP, form, errors, status=422)
    account = form.text("account")[:100] or page.services.settings.brand.name
    try:
        await page.services.people.links.peek(LinkKind.SETUP, form.text("token"))
        who = await newcomer(page, form, login)
        user, _ = await page.services.people.links.set_up(form.text("token"), who, account)
    except LinkUsedError:
        return _page(page, LinkKind.SETUP, form, {"token": _USED}, status=410)
    except OperatorExistsError:
        return _page(page, LinkKind.SETUP, form, {"token": _EXISTS}, status=410)
    except LoginTakenError:
        return _page(page, LinkKind.SETUP, form, {"login": _TAKEN}, status=422)
    return await page.signed_in(user, START)


async def show_enter(page: Page) -> Response:
    """Take a link that signs in."""
    return _page(page, LinkKind.ENTER)


async def enter(page: Page) -> Response:
    """Sign in by a link."""
    form = await page.form()
    links = page.services.people.links
    try:
        link = await links.peek(LinkKind.ENTER, form.text("token"))
        user = await links.enter(form.text("token"))
    except LinkUsedError:
        return _page(page, LinkKind.ENTER, form, {"token": _USED}, status=410)
    if link.is_by_mail and user.totp is not None:
        return ask_code(page, user, START)
    return await page.signed_in(user, START)


async def show_invitation(page: Page) -> Response:
    """Ask a new member for name and password; a signed-in user only confirms."""
    return _page(page, LinkKind.INVITE)


async def accept_invitation(page: Page) -> Response:
    """Join an account."""
    form = await page.form()
    people = page.services.people
    viewer = page.maybe_viewer
    login = read_login(form)
    if viewer is None and page.services.settings.console.signup == "closed":
        return _page(page, LinkKind.INVITE, form, {"token": _CLOSED}, status=403)
    errors = {} if viewer else await newcomer_errors(page, form, login)
    if errors:
        return _page(page, LinkKind.INVITE, form, errors, status=422)
    try:
        link = await people.links.peek(LinkKind.INVITE, form.text("token"))
        who = await (people.users.get(viewer.user_id) if viewer else newcomer(page, form, login))
        user = await people.links.join(form.text("token"), who)
    except LinkUsedError:
        return _page(page, LinkKind.INVITE, form, {"token": _USED}, status=410)
    except LoginTakenError:
        return _page(page, LinkKind.INVITE, form, {"login": _TAKEN}, status=422)
    except LastOwnerError:
        text = "You are the only owner of this account, so your role stays as it is."
        return _page(page, LinkKind.INVITE, form, {"token": text}, status=409)
    if viewer is not None and link.account_id is not None:
        await people.sessions.choose_account(viewer.session_id, link.account_id)
        return page.redirect(START)
    return await page.signed_in(user, START)


async def show_reset(page: Page) -> Response:
    """Ask for a new password."""
    return _page(page, LinkKind.RESET)


async def reset(page: Page) -> Response:
    """Set a new password."""
    form = await page.form()
    people = page.services.people
    try:
        link = await people.links.peek(LinkKind.RESET, form.text("token"))
        user = await people.users.get(link.user_id or "")
        context = [user.login, user.name, page.services.settings.brand.name]
        weak = await people.passwords.weakness(form.raw("password"), context)
        if weak is not None:
            return _page(page, LinkKind.RESET, form, {"password": weak}, status=422)
        hashed = await people.passwords.hash(form.raw("password"))
        user = await people.links.reset(form.text("token"), hashed)
    except (LinkUsedError, UnknownUserError):
        return _page(page, LinkKind.RESET, form, {"token": _USED}, status=410)
    return ask_code(page, user, START) if user.totp else await page.signed_in(user, START)


def _page(
    page: Page,
    kind: LinkKind,
    form: Form | None = None,
    errors: Mapping[str, str] | None = None,
    *,
    status: int = 200,
) -> Response:
    sent = form or Form([])
    return page.render(
        "signin/link.html",
        status=status,
        headers={"cache-control": "no-store"},
        kind=kind.value,
        is_closed=page.services.settings.console.signup == "closed",
        oidc=page.services.settings.console.oidc,
        token=sent.text("token"),
        login=sent.text("login"),
        name=sent.text("name"),
        account=sent.text("account"),
        errors={field: page.text(text) for field, text in (errors or {}).items()},
    )


ROUTES = (
    Route("GET", "/setup", Access.PUBLIC, show_setup),
    Route("POST", "/setup", Access.PUBLIC, set_up),
    Route("GET", "/enter", Access.PUBLIC, show_enter),
    Route("POST", "/enter", Access.PUBLIC, enter),
    Route("GET", "/invite", Access.PUBLIC, show_invitation),
    Route("POST", "/invite", Access.PUBLIC, accept_invitation),
    Route("GET", "/reset", Access.PUBLIC, show_reset),
    Route("POST", "/reset", Access.PUBLIC, reset),
)
