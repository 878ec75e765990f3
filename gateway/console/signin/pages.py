"""The pages to sign in, to enter a second factor, to confirm, and to sign out."""

from __future__ import annotations

import logging

from starlette.responses import Response

from gateway.console.signin.authenticators import matching_step, normal_code
from gateway.console.signin.passwords import is_outdated
from gateway.console.web.page import Page, Route, local_path
from gateway.console.web.security import session_cookie
from gateway.console.web.viewer import Access
from gateway.store.accounts.audit import SYSTEM
from gateway.store.people.users import User, normal_login

logger = logging.getLogger(__name__)

START = "/app"
_PENDING = "second factor"
_PENDING_S = 300
_WRONG = "The name or the password is wrong."
_WRONG_CODE = "This code is wrong or was used. Wait for the next one."


async def show_sign_in(page: Page) -> Response:
    """Show the form, or redirect a signed-in user."""
    following = local_path(page.query("next"), START)
    if page.maybe_viewer is not None:
        return page.redirect(following)
    return show_sign_in_page(page, login="", following=following)


async def sign_in(page: Page) -> Response:
    """Check name and password; ask for a code if the user has an authenticator."""
    form = await page.form()
    people = page.services.people
    login, following = normal_login(form.text("login")), local_path(form.text("next"), START)
    refused = await refusal(page, login)
    if refused is not None:
        return refused
    user = await people.users.find(login)
    password = form.raw("password")
    hashed = None if user is None or user.disabled_at is not None else user.password
    if not await people.passwords.verify(password, hashed) or user is None:
        await people.throttle.failed(login, page.address)
        return show_sign_in_page(
            page, login=form.text("login"), following=following, error=_WRONG, status=401
        )
    if hashed is not None and is_outdated(hashed):
        renewed = await people.passwords.hash(password)
        user = await people.users.change(user.id, SYSTEM, "user.rehash", password=renewed)
    if user.totp is not None:
        return ask_code(page, user, following)
    await people.throttle.succeeded(login, page.address)
    return await page.signed_in(user, following)


def ask_code(page: Page, user: User, following: str) -> Response:
    """Return the page that asks a user for a code of their authenticator."""
    pending = page.services.people.secret.sign(user.id, _PENDING, _PENDING_S)
    return _code_page(page, pending=pending, following=following)


async def enter_code(page: Page) -> Response:
    """Check the code of an authenticator, or a recovery code, after the password."""
    form = await page.form()
    people = page.services.people
    following = local_path(form.text("next"), START)
    user_id = people.secret.verify(form.text("pending"), _PENDING)
    if user_id is None:
        return page.redirect("/sign-in")
    user = await people.users.get(user_id)
    refused = await refusal(page, user.login)
    if refused is not None:
        return refused
    if not await is_second_factor(page, user, form.text("code")):
        await people.throttle.failed(user.login, page.address)
        return _code_page(
            page, pending=form.text("pending"), following=following, error=_WRONG_CODE, status=401
        )
    await people.throttle.succeeded(user.login, page.address)
    return await page.signed_in(user, following)


async def is_second_factor(page: Page, user: User, code: str) -> bool:
    """Return whether a code of the user's authenticator, or a recovery code, is valid now."""
    people = page.services.people
    if user.totp is None or not code:
        return False
    secret = people.secret.open(user.totp, user.id)
    if secret is None:
        logger.error("authenticator_decryption_failed", extra={"user": user.id})
        return await people.factors.use_recovery_code(user.id, normal_code(code))
    step = matching_step(secret, code)
    if step is not None:
        return await people.users.use_totp_step(user.id, step)
    return await people.factors.use_recovery_code(user.id, normal_code(code))


async def show_confirm(page: Page) -> Response:
    """Ask for the password or a passkey again before a sensitive action."""
    return await show_confirm_page(page, local_path(page.query("next"), START))


async def confirm(page: Page) -> Response:
    """Check the password again."""
    form = await page.form()
    people, viewer = page.services.people, page.viewer
    following = local_path(form.text("next"), START)
    refused = await refusal(page, viewer.login)
    if refused is not None:
        return refused
    user = await people.users.get(viewer.user_id)
    if not await people.passwords.verify(form.raw("password"), user.password):
        await people.throttle.failed(viewer.login, page.address)
        return await show_confirm_page(page, following, "The password is wrong.", status=401)
    await people.throttle.succeeded(viewer.login, page.address)
    await people.sessions.confirm(viewer.session_id)
    return page.redirect(following)


async def sign_out(page: Page) -> Response:
    """End the session."""
    token = page.session_token
    if token is not None:
        await page.services.people.sessions.end(token)
    response = page.redirect("/sign-in")
    public_url = page.services.settings.brand.public_url
    response.delete_cookie(
        session_cookie(public_url), path="/", secure=public_url.startswith("https://")
    )
    return response


async def refusal(page: Page, login: str) -> Response | None:
    """Return a page that asks to wait, if too many attempts failed."""
    wait_s = await page.services.people.throttle.wait_s(login, page.address)
    return show_wait(page, wait_s) if wait_s else None


def show_wait(page: Page, wait_s: int) -> Response:
    """Return the page that asks to wait."""
    return page.render(
        "signin/wait.html", status=429, headers={"retry-after": str(wait_s)}, wait_s=wait_s
    )


async def show_confirm_page(
    page: Page, following: str, error: str | None = None, *, status: int = 200
) -> Response:
    """Return the page that confirms the viewer's identity; `error` is in English."""
    people = page.services.people
    user = await people.users.get(page.viewer.user_id)
    passkeys = await people.factors.passkeys(user.id) if people.passkeys.is_available else ()
    return page.render(
        "signin/confirm.html",
        status=status,
        following=following,
        has_password=user.password is not None,
        has_passkey=bool(passkeys),
        error=None if error is None else page.text(error),
    )


def show_sign_in_page(
    page: Page, *, login: str, following: str, error: str | None = None, status: int = 200
) -> Response:
    return page.render(
        "signin/sign_in.html",
        status=status,
        login=login,
        following=following,
        has_passkeys=page.services.people.passkeys.is_available,
        has_mail=page.services.people.mailer is not None,
        oidc=page.services.settings.console.oidc,
        error=None if error is None else page.text(error),
    )


def _code_page(
    page: Page, *, pending: str, following: str, error: str | None = None, status: int = 200
) -> Response:
    return page.render(
        "signin/code.html",
        status=status,
        headers={"cache-control": "no-store"},
        pending=pending,
        following=following,
        error=None if error is None else page.text(error),
    )


ROUTES = (
    Route("GET", "/sign-in", Access.PUBLIC, show_sign_in),
    Route("POST", "/sign-in", Access.PUBLIC, sign_in),
    Route("POST", "/sign-in/code", Access.PUBLIC, enter_code),
    Route("GET", "/confirm", Access.SIGNED_IN, show_confirm),
    Route("POST", "/confirm", Access.SIGNED_IN, confirm),
    Route("POST", "/sign-out", Access.PUBLIC, sign_out),
)
