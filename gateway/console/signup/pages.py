"""
`/sign-up`: opening an account, with a redemption code or without.

With a mail server, the page asks for an address only, and a link to the rest goes there: nobody
learns which addresses are in use. Without one, a name that is taken has to be refused; each such
refusal counts as a wrong attempt of the client's address.
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.responses import Response

from gateway.console.signin.mail import Mailer, is_address
from gateway.console.signin.newcomers import newcomer, newcomer_errors, read_login, read_name
from gateway.console.signin.pages import START, show_wait
from gateway.console.web.forms import Form
from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access
from gateway.store.accounts.codes import CodeSpentError, UnknownCodeError
from gateway.store.people.links import HOUR_S
from gateway.store.people.users import LoginTakenError, normal_login

_PURPOSE = "sign-up"
_ADDRESS = "Enter one mail address."
_CODE = "This code cannot be redeemed: it is unknown, used or expired."
_TAKEN = "This name is already taken. Choose another one, or sign in."
_USED = "This link no longer works: it was used or has expired. Sign in, or ask for a new one."
_MANY_SIGN_UPS = "Many people have signed up from your network within the last hour. Try later."
_MANY_MAILS = "Many links were sent within the last hour. Check your mail, or try later."


async def show_sign_up(page: Page) -> Response:
    """Ask for a mail address, or without a mail server for everything."""
    _check_open(page)
    if page.maybe_viewer is not None:
        return page.redirect(START)
    return _page(page)


async def sign_up(page: Page) -> Response:
    """Send a link, or create the user at once where there is no mail server."""
    _check_open(page)
    form = await page.form()
    mailer = page.services.people.mailer
    if mailer is None:
        return await _create(page, form, read_login(form))
    address = normal_login(form.text("mail"))
    if not is_address(address):
        return _page(page, form, {"mail": _ADDRESS}, status=422)
    if not await page.services.people.throttle.allows_link(address, page.address):
        return _page(page, form, {"mail": _MANY_MAILS}, status=429)
    page.services.people.outbox.add(_send(page, mailer, address))
    return page.render("signup/sent.html", address=address)


async def show_finish(page: Page) -> Response:
    """Take the link of the mail, and ask for name and password."""
    _check_mail(page)
    return _page(page, finish=True)


async def finish(page: Page) -> Response:
    """Create the user of the mail address that the link was sent to."""
    _check_mail(page)
    form = await page.form()
    address = page.services.people.secret.verify(form.text("token"), _PURPOSE)
    if address is None:
        return _page(page, form, {"token": _USED}, finish=True, status=410)
    return await _create(page, form, address, finish=True)


async def _create(page: Page, form: Form, login: str, *, finish: bool = False) -> Response:
    people = page.services.people
    wait_s = await people.throttle.address_wait_s(page.address)
    if wait_s:
        return show_wait(page, wait_s)
    errors = await newcomer_errors(page, form, login)
    code = form.text("code") if page.services.settings.console.signup == "code" else None
    if not errors and code is not None and not await page.services.codes.is_open(code):
        await people.throttle.address_failed(page.address)
        errors["code"] = _CODE
    if errors:
        return _page(page, form, errors, finish=finish, status=422)
    if not await people.throttle.allows_sign_up(page.address):
        return _page(page, form, {"form": _MANY_SIGN_UPS}, finish=finish, status=429)
    if not await page.claim(form):
        return page.redirect(START)
    who = await newcomer(page, form, login)
    account = form.text("account")[:100] or read_name(form)
    try:
        user = await people.sign_ups.sign_up(who, account, code)
    except LoginTakenError:
        await people.throttle.address_failed(page.address)
        if finish:
            return _page(page, form, {"token": _USED}, finish=True, status=410)
        return _page(page, form, {"login": _TAKEN}, status=422)
    except (UnknownCodeError, CodeSpentError):
        return _page(page, form, {"code": _CODE}, finish=finish, status=422)
    return await page.signed_in(user, START)


async def _send(page: Page, mailer: Mailer, address: str) -> None:
    """Mail a link to sign up; an existing user gets the address to sign in instead."""
    people, brand = page.services.people, page.services.settings.brand
    base_url = brand.public_url.rstrip("/")
    if await people.users.find(address) is None:
        token = people.secret.sign(address, _PURPOSE, HOUR_S)
        text = page.text(
            "Open this link to finish signing up for %(brand)s; it works once, within an hour:",
            brand=brand.name,
        )
        text += f"\n\n{base_url}/sign-up/finish#{token}\n"
    else:
        text = page.text(
            "Someone wants to sign up for %(brand)s with your address, with which you sign in"
            " there already. If it was you, sign in:",
            brand=brand.name,
        )
        text += f"\n\n{base_url}/sign-in\n"
    note = page.text("If you did not ask for this, ignore this mail.")
    subject = page.text("Sign up for %(brand)s", brand=brand.name)
    await mailer.send(address, subject, f"{text}\n{note}\n")


def _check_open(page: Page) -> None:
    if not page.can_sign_up:
        raise HTTPException(404)


def _check_mail(page: Page) -> None:
    _check_open(page)
    if page.services.people.mailer is None:
        raise HTTPException(404)


def _page(
    page: Page,
    form: Form | None = None,
    errors: Mapping[str, str] | None = None,
    *,
    finish: bool = False,
    status: int = 200,
) -> Response:
    sent = form or Form([])
    fields = ("token", "mail", "login", "name", "account", "code")
    return page.render(
        "signup/form.html",
        status=status,
        headers={"cache-control": "no-store"},
        finish=finish,
        asks_mail=page.services.people.mailer is not None and not finish,
        needs_code=page.services.settings.console.signup == "code",
        sent={field: sent.text(field) for field in fields},
        errors={field: page.text(text) for field, text in (errors or {}).items()},
        idem=page.new_form_token(),
    )


ROUTES = (
    Route("GET", "/sign-up", Access.PUBLIC, show_sign_up),
    Route("POST", "/sign-up", Access.PUBLIC, sign_up),
    Route("GET", "/sign-up/finish", Access.PUBLIC, show_finish),
    Route("POST", "/sign-up/finish", Access.PUBLIC, finish),
)
