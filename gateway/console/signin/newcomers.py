"""What a new user enters: name, sign-in name and password."""

from __future__ import annotations

from gateway.console.web.forms import Form
from gateway.console.web.page import Page
from gateway.store.people.links import Newcomer
from gateway.store.people.users import normal_login


def read_login(form: Form) -> str:
    """Return the sign-in name of a form, as it is stored."""
    return normal_login(form.text("login"))[:254]


def read_name(form: Form) -> str:
    """Return the name of a form."""
    return form.text("name")[:100]


async def newcomer_errors(page: Page, form: Form, login: str) -> dict[str, str]:
    """Return what is wrong with a form, in English by the names of its fields."""
    name = read_name(form)
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


async def newcomer(page: Page, form: Form, login: str) -> Newcomer:
    """Return the user of a form, with the hash of the password."""
    hashed = await page.services.people.passwords.hash(form.raw("password"))
    return Newcomer(login, read_name(form), hashed)
