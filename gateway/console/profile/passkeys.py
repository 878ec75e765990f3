"""`/app/security/passkeys`: the viewer adds and removes passkeys here."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.responses import Response

from gateway.console.signin.passkeys import MOST, PasskeyRefusedError
from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access
from gateway.console.web.words import browser_of

_SECURITY = "/app/security"
_PATH = f"{_SECURITY}/passkeys"
_LONGEST_NAME = 100


async def show_new(page: Page) -> Response:
    """Ask for a name and let the browser create a passkey."""
    return await _new_page(page)


async def add(page: Page) -> Response:
    """Store the passkey that the browser has created."""
    people, form = page.services.people, await page.form()
    user = await people.users.get(page.viewer.user_id)
    name = form.text("name")[:_LONGEST_NAME]
    if not name.isprintable() or not name:
        return await _new_page(page, "Enter a name.", status=422)
    try:
        await people.passkeys.register(user, form.text("state"), form.raw("credential"), name)
    except PasskeyRefusedError:
        return await _new_page(page, "The passkey was not created. Try again.", status=422)
    return page.redirect(f"{_SECURITY}?done=passkey")


async def remove(page: Page) -> Response:
    """Remove a passkey, unless it is the only way to sign in."""
    people, form = page.services.people, await page.form()
    user = await people.users.get(page.viewer.user_id)
    own = {each.id.hex(): each for each in await people.factors.passkeys(user.id)}
    passkey = own.get(form.text("passkey"))
    if passkey is None:
        raise HTTPException(404)
    oidc = page.services.settings.console.oidc
    is_connected = oidc is not None and await people.identities.has(user.id, oidc.issuer)
    if len(own) == 1 and user.password is None and not is_connected:
        return page.redirect(f"{_SECURITY}?done=only-passkey")
    await people.factors.remove_passkey(user.id, passkey.id, page.actor)
    return page.redirect(f"{_SECURITY}?done=passkey-removed")


async def _new_page(page: Page, error: str = "", *, status: int = 200) -> Response:
    people = page.services.people
    if not people.passkeys.is_available:
        raise HTTPException(404)
    user = await people.users.get(page.viewer.user_id)
    own = await people.factors.passkeys(user.id)
    if len(own) >= MOST:
        return page.redirect(_SECURITY)
    return page.render(
        "profile/passkey.html",
        status=status,
        ceremony=people.passkeys.creation(user, own),
        name=browser_of(page.request.headers.get("user-agent", "")),
        error=page.text(error) if error else "",
    )


ROUTES = (
    Route("GET", f"{_PATH}/new", Access.SIGNED_IN, show_new, confirmed=True),
    Route("POST", _PATH, Access.SIGNED_IN, add, confirmed=True),
    Route("POST", f"{_PATH}/remove", Access.SIGNED_IN, remove, confirmed=True),
)
