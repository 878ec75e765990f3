"""
`/sign-in/mail`: a link by mail that signs in or sets a new password.

The response is the same whether or not a user signs in with the address: the user is looked up, and
the mail sent, after it. Operators get no links by mail, since their rights would then depend on a
mailbox. Without a mail server the page does not exist.
"""

from __future__ import annotations

from typing import Final

from starlette.exceptions import HTTPException
from starlette.responses import Response

from gateway.console.signin.mail import Mailer, is_address
from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access
from gateway.store.people.links import BY_MAIL, LinkKind
from gateway.store.people.users import normal_login

_PATH: Final = "/sign-in/mail"
_KINDS: Final = {kind.value: kind for kind in (LinkKind.ENTER, LinkKind.RESET)}
_ADDRESS = "Enter one mail address."
_MANY_MAILS = "Many links were sent within the last hour. Check your mail, or try later."


async def show_mail(page: Page) -> Response:
    """Ask for the address, and what the link is for."""
    _mailer(page)
    return _page(page)


async def send_mail(page: Page) -> Response:
    """Send a link to the user who signs in with the address, if there is one."""
    mailer = _mailer(page)
    form = await page.form()
    address, kind = normal_login(form.text("mail")), _KINDS.get(form.text("kind"))
    if not is_address(address) or kind is None:
        return _page(page, address, _ADDRESS, status=422)
    if not await page.services.people.throttle.allows_link(address, page.address):
        return _page(page, address, _MANY_MAILS, status=429)
    page.services.people.outbox.add(_send(page, mailer, address, kind))
    return _page(page, address, is_sent=True)


async def _send(page: Page, mailer: Mailer, address: str, kind: LinkKind) -> None:
    user = await page.services.people.users.find(address)
    if user is None or user.disabled_at is not None or user.is_operator:
        return
    link = await page.services.people_operations.link(address, kind, BY_MAIL)
    brand = page.services.settings.brand.name
    if kind is LinkKind.ENTER:
        subject = page.text("Sign in to %(brand)s", brand=brand)
        text = page.text("Open this link to sign in; it works once, within an hour:")
    else:
        subject = page.text("New password for %(brand)s", brand=brand)
        text = page.text("Open this link to set a new password; it works once, within an hour:")
    note = page.text("If you did not ask for this, ignore this mail.")
    await mailer.send(address, subject, f"{text}\n\n{link}\n\n{note}\n")


def _mailer(page: Page) -> Mailer:
    mailer = page.services.people.mailer
    if mailer is None:
        raise HTTPException(404)
    return mailer


def _page(
    page: Page, address: str = "", error: str = "", *, is_sent: bool = False, status: int = 200
) -> Response:
    return page.render(
        "signin/mail.html",
        status=status,
        headers={"cache-control": "no-store"},
        address=address,
        is_sent=is_sent,
        error=page.text(error) if error else "",
    )


ROUTES = (
    Route("GET", _PATH, Access.PUBLIC, show_mail),
    Route("POST", _PATH, Access.PUBLIC, send_mail),
)
