"""Signs users in, and confirms their identity, with a passkey."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from gateway.console.signin.pages import START, refusal, show_confirm_page, show_sign_in_page
from gateway.console.signin.passkeys import Ceremony, PasskeyRefusedError, Passkeys
from gateway.console.web.page import Page, Route, local_path
from gateway.console.web.viewer import Access

_REFUSED = "The passkey was not accepted. Try again, or sign in another way."
_COUNTED = "passkey"
"""The name that wrong attempts are counted under, with the address."""


async def sign_in_options(page: Page) -> Response:
    """Respond with what the browser needs to offer its passkeys."""
    return _options(_available(page).request())


async def sign_in(page: Page) -> Response:
    """Sign in the user whose passkey it is."""
    passkeys, form = _available(page), await page.form()
    following = local_path(form.text("next"), START)
    counted = f"{_COUNTED} {page.address}"
    refused = await refusal(page, counted)
    if refused is not None:
        return refused
    try:
        user = await passkeys.verify(form.text("state"), form.text("credential"))
    except PasskeyRefusedError:
        await page.services.people.throttle.failed(counted, page.address)
        return show_sign_in_page(page, login="", following=following, error=_REFUSED, status=401)
    return await page.signed_in(user, following)


async def confirm_options(page: Page) -> Response:
    """Respond with what the browser needs to use one of the viewer's passkeys."""
    passkeys = _available(page)
    own = await page.services.people.factors.passkeys(page.viewer.user_id)
    return _options(passkeys.request(own))


async def confirm(page: Page) -> Response:
    """Confirm the viewer's identity."""
    passkeys, form = _available(page), await page.form()
    people, viewer = page.services.people, page.viewer
    following = local_path(form.text("next"), START)
    refused = await refusal(page, viewer.login)
    if refused is not None:
        return refused
    try:
        user = await passkeys.verify(form.text("state"), form.text("credential"))
        if user.id != viewer.user_id:
            raise PasskeyRefusedError
    except PasskeyRefusedError:
        await people.throttle.failed(viewer.login, page.address)
        return await show_confirm_page(page, following, _REFUSED, status=401)
    await people.sessions.confirm(viewer.session_id)
    return page.redirect(following)


def _available(page: Page) -> Passkeys:
    passkeys = page.services.people.passkeys
    if not passkeys.is_available:
        raise HTTPException(404)
    return passkeys


def _options(ceremony: Ceremony) -> Response:
    return JSONResponse(ceremony._asdict(), headers={"cache-control": "no-store"})


ROUTES = (
    Route("POST", "/sign-in/passkey/options", Access.PUBLIC, sign_in_options),
    Route("POST", "/sign-in/passkey", Access.PUBLIC, sign_in),
    Route("POST", "/confirm/passkey/options", Access.SIGNED_IN, confirm_options),
    Route("POST", "/confirm/passkey", Access.SIGNED_IN, confirm),
)
