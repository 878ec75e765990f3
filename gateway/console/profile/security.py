"""`/app/security`: the password, the authenticator with its recovery codes, and sessions."""

from __future__ import annotations

import time
from collections.abc import Mapping

from starlette.responses import Response

from gateway.console.signin.authenticators import (
    matching_step,
    new_recovery_codes,
    new_secret,
    provisioning_uri,
    qr_code,
    readable,
)
from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access

_SETUP = "authenticator"
_SETUP_S = 900
_PATH = "/app/security"


async def show_security(page: Page) -> Response:
    """Show how the viewer signs in, and where they are signed in."""
    return await _security_page(page, {})


async def change_password(page: Page) -> Response:
    """Set a new password and end the other sessions."""
    form = await page.form()
    people, viewer = page.services.people, page.viewer
    user = await people.users.get(viewer.user_id)
    # A user who signed in by a link may have no password yet.
    if user.password is not None and not page.is_confirmed:
        wait_s = await people.throttle.wait_s(user.login, page.address)
        if wait_s:
            return page.render(
                "signin/wait.html", status=429, headers={"retry-after": str(wait_s)}, wait_s=wait_s
            )
        if not await people.passwords.verify(form.raw("current"), user.password):
            await people.throttle.failed(user.login, page.address)
            return await _security_page(page, {"current": "The password is wrong."}, status=401)
    context = [user.login, user.name, page.services.settings.brand.name]
    weak = await people.passwords.weakness(form.raw("password"), context)
    if weak is not None:
        return await _security_page(page, {"password": weak}, status=422)
    hashed = await people.passwords.hash(form.raw("password"))
    user = await people.users.change(user.id, page.actor, "user.password", password=hashed)
    await people.sessions.end_all(user.id)
    return await page.signed_in(user, f"{_PATH}?done=password")


async def show_authenticator(page: Page) -> Response:
    """Show the QR code of a new authenticator. Its secret is stored once a code was entered."""
    secret = new_secret()
    sealed = page.services.people.secret.seal(secret, page.viewer.user_id)
    signed = page.services.people.secret.sign(sealed.hex(), _SETUP, _SETUP_S)
    return _authenticator_page(page, secret, signed)


async def show_qr_code(page: Page) -> Response:
    """Return the QR code of the secret that a page holds, as an image."""
    secret = _pending_secret(page, page.query("secret"))
    if secret is None:
        return Response(status_code=404)
    brand = page.services.settings.brand.name
    image = qr_code(provisioning_uri(secret, page.viewer.login, brand))
    return Response(image, media_type="image/svg+xml", headers={"cache-control": "no-store"})


async def add_authenticator(page: Page) -> Response:
    """Store an authenticator whose first code is right, and show its recovery codes, once."""
    form = await page.form()
    people, viewer = page.services.people, page.viewer
    secret = _pending_secret(page, form.text("secret"))
    if secret is None:
        return page.redirect(f"{_PATH}/authenticator")
    step = matching_step(secret, form.text("code"))
    if step is None:
        text = page.text(
            "This code is wrong. Check your phone's clock, and wait for the next code."
        )
        return _authenticator_page(page, secret, form.text("secret"), error=text, status=422)
    codes = new_recovery_codes()
    sealed = people.secret.seal(secret, viewer.user_id)
    await people.factors.set_totp(viewer.user_id, sealed, codes, page.actor)
    await people.users.use_totp_step(viewer.user_id, step)
    return page.render("profile/recovery_codes.html", codes=codes)


async def remove_authenticator(page: Page) -> Response:
    """Remove the authenticator and its recovery codes."""
    await page.services.people.factors.set_totp(page.viewer.user_id, None, [], page.actor)
    return page.redirect(f"{_PATH}?done=removed")


async def renew_recovery_codes(page: Page) -> Response:
    """Replace the recovery codes; the old ones stop working."""
    people = page.services.people
    user = await people.users.get(page.viewer.user_id)
    if user.totp is None:
        return page.redirect(_PATH)
    codes = new_recovery_codes()
    await people.factors.set_totp(user.id, user.totp, codes, page.actor)
    await people.users.use_totp_step(user.id, user.totp_step)
    return page.render("profile/recovery_codes.html", codes=codes)


async def end_session(page: Page) -> Response:
    """End one of the viewer's sessions, or all others."""
    form = await page.form()
    sessions, viewer = page.services.people.sessions, page.viewer
    if form.has("others"):
        await sessions.end_all(viewer.user_id, but=viewer.session_id)
    else:
        await sessions.end_one(viewer.user_id, form.text("session"))
    return page.redirect(_PATH)


def _pending_secret(page: Page, signed: str) -> bytes | None:
    """Return the secret of an authenticator that is being added by this user."""
    secrets = page.services.people.secret
    sealed = secrets.verify(signed, _SETUP)
    return None if sealed is None else secrets.open(bytes.fromhex(sealed), page.viewer.user_id)


def _authenticator_page(
    page: Page, secret: bytes, signed: str, *, error: str = "", status: int = 200
) -> Response:
    return page.render(
        "profile/authenticator.html",
        status=status,
        signed=signed,
        readable=readable(secret),
        error=error,
    )


async def _security_page(page: Page, errors: Mapping[str, str], *, status: int = 200) -> Response:
    people, viewer = page.services.people, page.viewer
    user = await people.users.get(viewer.user_id)
    oidc = page.services.settings.console.oidc
    return page.render(
        "profile/security.html",
        status=status,
        user=user,
        sessions=await people.sessions.list(viewer.user_id),
        passkeys=await people.factors.passkeys(viewer.user_id),
        has_passkeys=people.passkeys.is_available,
        oidc=oidc,
        is_connected=oidc is not None and await people.identities.has(user.id, oidc.issuer),
        codes_left=await people.factors.count_recovery_codes(viewer.user_id),
        ask_current=user.password is not None and not page.is_confirmed,
        errors={name: page.text(text) for name, text in errors.items()},
        done=page.query("done"),
        now=int(time.time()),
    )


ROUTES = (
    Route("GET", _PATH, Access.SIGNED_IN, show_security),
    Route("POST", f"{_PATH}/password", Access.SIGNED_IN, change_password),
    Route("GET", f"{_PATH}/authenticator", Access.SIGNED_IN, show_authenticator, confirmed=True),
    Route("POST", f"{_PATH}/authenticator", Access.SIGNED_IN, add_authenticator),
    Route("GET", f"{_PATH}/authenticator/qr.svg", Access.SIGNED_IN, show_qr_code),
    Route(
        "POST",
        f"{_PATH}/authenticator/remove",
        Access.SIGNED_IN,
        remove_authenticator,
        confirmed=True,
    ),
    Route(
        "POST", f"{_PATH}/recovery-codes", Access.SIGNED_IN, renew_recovery_codes, confirmed=True
    ),
    Route("POST", f"{_PATH}/sessions", Access.SIGNED_IN, end_session),
)
