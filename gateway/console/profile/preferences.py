"""`/app/settings`: name, zone, language and theme of the viewer, and the name of the account."""

from __future__ import annotations

from zoneinfo import available_timezones

from starlette.responses import Response

from gateway.console.web.messages import NAMES
from gateway.console.web.page import THEMES, Page, Route
from gateway.console.web.viewer import Access
from gateway.errors import GatewayError
from gateway.operations.values import read_text

_PATH = "/app/settings"
_YEAR_S = 31_536_000
_LONGEST_NAME = 100


async def show_settings(page: Page) -> Response:
    """Show the viewer's settings."""
    return _settings_page(page)


async def change_settings(page: Page) -> Response:
    """Change name, zone, language and theme."""
    form = await page.form()
    zone, theme = form.text("zone"), form.text("theme")
    language = form.text("language")
    try:
        name = read_text(form.text("name")[: _LONGEST_NAME + 1], "name")
    except GatewayError:
        name = ""
    if not name or len(name) > _LONGEST_NAME:
        return _settings_page(page, {"name": page.text("Use 1 to 100 characters.")}, status=422)
    if zone and zone not in available_timezones():
        return _settings_page(
            page, {"zone": page.text("Choose a time zone from the list.")}, status=422
        )
    await page.services.people.users.change(
        page.viewer.user_id,
        page.actor,
        "user.change",
        name=name,
        time_zone=zone or None,
        language=language if language in NAMES else None,
    )
    response = page.redirect(f"{_PATH}?done=1")
    if theme in THEMES:
        response.set_cookie("theme", theme, max_age=_YEAR_S, path="/", samesite="lax")
    else:
        response.delete_cookie("theme", path="/")
    return response


async def rename_account(page: Page) -> Response:
    """Change the name of the account."""
    form = await page.form()
    try:
        name = read_text(form.text("account")[: _LONGEST_NAME + 1], "account")
    except GatewayError:
        name = ""
    if not name or len(name) > _LONGEST_NAME:
        return _settings_page(page, {"account": page.text("Use 1 to 100 characters.")}, status=422)
    await page.services.accounts.change(page.account.account_id, page.actor, name=name)
    return page.redirect(f"{_PATH}?done=1")


def _settings_page(
    page: Page, errors: dict[str, str] | None = None, *, status: int = 200
) -> Response:
    return page.render(
        "profile/settings.html",
        status=status,
        zones=sorted(available_timezones()),
        languages=list(NAMES.items()),
        browser_zone=page.request.cookies.get("zone", ""),
        errors=errors or {},
        done=page.query("done") == "1",
    )


ROUTES = (
    Route("GET", _PATH, Access.SIGNED_IN, show_settings),
    Route("POST", _PATH, Access.SIGNED_IN, change_settings),
    Route("POST", f"{_PATH}/account", Access.OWNER, rename_account),
)
