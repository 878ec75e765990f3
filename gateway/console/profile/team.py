"""`/app/team`: the people of the account, their roles, and invitations."""

from __future__ import annotations

import logging
import time

from starlette.responses import Response

from gateway.console.signin.mail import MailFailedError, is_address
from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access
from gateway.operations.people import ROLES
from gateway.store.people.users import LastOwnerError

logger = logging.getLogger(__name__)

_PATH = "/app/team"
_TOO_MANY = "This account has sent many mails within the last hour. Try again later."
_NOT_SENT = "The mail was not sent: the mail server refused it or is away. Pass the link on."
_LAST_OWNER = "The account needs an owner. Make another member an owner first."


async def show_team(page: Page) -> Response:
    """Show members and open invitations."""
    return await _team_page(page)


async def invite(page: Page) -> Response:
    """Make an invitation, and send its link or show it once."""
    form = await page.form()
    role, address = form.text("role"), form.text("mail")
    people, account = page.services.people, page.account
    if role not in ROLES:
        return await _team_page(page, error="Choose a role from the list.", status=422)
    if people.mailer is not None and not is_address(address):
        return await _team_page(page, error="Enter one mail address.", status=422)
    if not await page.claim(form):
        return page.redirect(_PATH)
    if people.mailer is not None and not await people.throttle.allows_mail(account.account_id):
        return await _team_page(page, error=_TOO_MANY, status=429)
    link = await page.services.people_operations.invite(account.account_id, role, page.actor)
    if people.mailer is None:
        return await _team_page(page, link=link)
    try:
        await people.mailer.send(address, *_invitation(page, link))
    except MailFailedError as error:
        logger.warning("mail_failed", extra={"reason": str(error)})
        return await _team_page(page, link=link, error=_NOT_SENT)
    return await _team_page(page, sent_to=address)


def _invitation(page: Page, link: str) -> tuple[str, str]:
    """Return subject and text of an invitation in the language of who sends it."""
    names = {
        "name": page.viewer.name,
        "account": page.account.account_name,
        "brand": page.services.settings.brand.name,
    }
    subject = page.text("Invitation to %(account)s on %(brand)s", **names)
    text = page.text(
        "%(name)s invites you to the account %(account)s on %(brand)s. Open this link to join; it"
        " works once, within 7 days:",
        **names,
    )
    return " ".join(subject.split()), f"{text}\n\n{link}\n"


async def withdraw(page: Page) -> Response:
    """Withdraw an invitation."""
    form = await page.form()
    await page.services.people.links.withdraw(
        page.account.account_id, form.text("link"), page.actor
    )
    return page.redirect(_PATH)


async def change_role(page: Page) -> Response:
    """Change the role of a member of this account."""
    form = await page.form()
    user_id, role = form.text("user"), form.text("role")
    if role not in ROLES or not await _is_member(page, user_id):
        return page.redirect(_PATH)
    try:
        await page.services.people.users.join(user_id, page.account.account_id, role, page.actor)
    except LastOwnerError:
        return await _team_page(page, error=_LAST_OWNER, status=409)
    return page.redirect(_PATH)


async def remove(page: Page) -> Response:
    """Remove a member from this account."""
    form = await page.form()
    user_id = form.text("user")
    if not await _is_member(page, user_id):
        return page.redirect(_PATH)
    try:
        await page.services.people.users.leave(user_id, page.account.account_id, page.actor)
    except LastOwnerError:
        return await _team_page(page, error=_LAST_OWNER, status=409)
    return page.redirect(_PATH)


async def _is_member(page: Page, user_id: str) -> bool:
    members = await page.services.people.users.members(page.account.account_id)
    return any(each.user_id == user_id for each in members)


async def _team_page(
    page: Page,
    *,
    link: str | None = None,
    sent_to: str = "",
    error: str = "",
    status: int = 200,
) -> Response:
    people, account_id = page.services.people, page.account.account_id
    return page.render(
        "profile/team.html",
        status=status,
        headers={"cache-control": "no-store"},
        members=await people.users.members(account_id),
        invitations=await people.links.invitations(account_id),
        link=link,
        sent_to=sent_to,
        has_mail=people.mailer is not None,
        error=page.text(error) if error else "",
        idem=page.new_form_token(),
        roles=ROLES,
        now=int(time.time()),
    )


ROUTES = (
    Route("GET", _PATH, Access.VIEWER, show_team),
    Route("POST", f"{_PATH}/invite", Access.OWNER, invite),
    Route("POST", f"{_PATH}/withdraw", Access.OWNER, withdraw),
    Route("POST", f"{_PATH}/role", Access.OWNER, change_role, confirmed=True),
    Route("POST", f"{_PATH}/remove", Access.OWNER, remove, confirmed=True),
)
