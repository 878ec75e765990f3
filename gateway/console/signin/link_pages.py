"""
The pages of links: set-up, entering, invitations and resets.

A link's token stands after `#`, which only the page's script reads: it fills a field, and the form
posts it. Without script the token is pasted. A GET does not use up the link, since mail scanners
and chat programs fetch the links in messages.
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import Response

from gateway.console.signin.pages import START, read_newcomer
from gateway.console.web.forms import Form
from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access
from gateway.store.people.links import (
    LinkKind,
    LinkUsedError,
    Newcomer,
    OperatorExistsError,
)
from gateway.store.people.users import LastOwnerError, LoginTakenError, UnknownUserError

_USED = "This link no longer works: it was used or has expired. Ask for a new one."
_EXISTS = "The service is already set up. Sign in, or ask an operator for an invitation."
_TAKEN = "This name is already taken. If it is yours, sign in and open the link again."


async def show_setup(page: Page) -> Response:
    """Ask the first operator for name and password."""
    return _page(page, LinkKind.SETUP)


async def set_up(page: Page) -> Response:
    """Make the first operator and their account."""
    form = await page.form()
    errors = await _newcomer_errors(page, form)
    if errors:
        return _page(page, LinkKind.SETUP, form, errors, status=422)
    account = form.text("account")[:100] or page.services.settings.brand.name
    try:
        await page.services.people.links.peek(LinkKind.SETUP, form.text("token"))
        newcomer = await _newcomer(page, form)
        user, _ = await page.services.people.links.set_up(form.text("token"), newcomer, account)
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
    try:
        user = await page.services.people.links.enter(form.text("token"))
    except LinkUsedError:
        return _page(page, LinkKind.ENTER, form, {"token": _USED}, status=410)
    return await page.signed_in(user, START)


async def show_invitation(page: Page) -> Response:
    """Ask a new member for name and password; a signed-in user only confirms."""
    return _page(page, LinkKind.INVITE)


async def accept_invitation(page: Page) -> Response:
    """Join an account."""
    form = await page.form()
    people = page.services.people
    viewer = page.maybe_viewer
    errors = {} if viewer else await _newcomer_errors(page, form)
    if errors:
        return _page(page, LinkKind.INVITE, form, errors, status=422)
    try:
        link = await people.links.peek(LinkKind.INVITE, form.text("token"))
        who = await people.users.get(viewer.user_id) if viewer else await _newcomer(page, form)
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
    return await page.signed_in(user, START)


async def _newcomer_errors(page: Page, form: Form) -> dict[str, str]:
    login, name = read_newcomer(form)
    errors: dict[str, str] = {}
    if not login or not login.isprintable() or " " in login:
        errors["login"] = "Enter a mail address or a name without spaces."
    if not name or not name.isprintable():
        errors["name"] = "Enter your name."
    context = [login, name, page.services.settings.brand.name]
    weak = await page.services.people.passwords.weakness(form.raw("password"), context)
    if weak is not None:
        errors["password"] = weak
    return errors


async def _newcomer(page: Page, form: Form) -> Newcomer:
    login, name = read_newcomer(form)
    return Newcomer(login, name, await page.services.people.passwords.hash(form.raw("password")))


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
