"""Invitations by mail: sent, limited, and shown instead where the mail server refuses."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Literal

import pytest

from gateway.console.signin.mail import Mailer, MailFailedError, is_address
from gateway.console.signin.throttle import MOST_MAILS
from gateway.settings import Brand, Console, Mail, Secrets, Server, Settings
from gateway.store.accounts.audit import SYSTEM
from gateway.store.people.links import LinkKind
from gateway.store.people.tokens import new_token
from gateway.store.sql.database import Database
from tests.support.console import ORIGIN, ConsoleApp, viewer
from tests.support.postgres import copy_migrated
from tests.support.smtp import PASSWORD, USERNAME, MailServer


@pytest.fixture
def server() -> Iterator[MailServer]:
    with MailServer() as running:
        yield running


def settings_of(port: int, security: Literal["none", "starttls"] = "none") -> Mail:
    """Return settings of a mail server on this machine."""
    return Mail(
        host="127.0.0.1",
        port=port,
        security=security,
        username=USERNAME,
        password_env="MAIL",
        sender="pages@acme.test",
    )


@pytest.fixture
async def app(tmp_path: Path, server: MailServer) -> AsyncIterator[ConsoleApp]:
    settings = Settings(
        server=Server(data_dir=str(tmp_path)),
        brand=Brand(public_url=ORIGIN, name="Acme AI"),
        console=Console(mail=settings_of(server.port)),
    )
    copy_migrated(tmp_path)
    secrets = Secrets({}, mail=PASSWORD)
    async with ConsoleApp(Database(settings), settings, secrets=secrets) as made:
        account = await made.services.accounts.create("Acme", None, SYSTEM)
        made.viewers.viewer = viewer(account.id)
        yield made


async def invite(app: ConsoleApp, address: str) -> tuple[int, str]:
    """Invite someone by mail; return status and text of the page."""
    form = {"role": "member", "mail": address, "idem": new_token()}
    response = await app.client.post("/app/team/invite", data=form)
    return response.status_code, response.text


async def test_invitation_is_sent_and_not_shown(app: ConsoleApp, server: MailServer) -> None:
    """Its link works; the page contains neither the link nor its token."""
    status, page = await invite(app, "bob@example.com")

    [message] = server.messages
    found = re.search(rf"{ORIGIN}/invite#(\S+)", message.get_content())
    assert found is not None
    link = await app.services.people.links.peek(LinkKind.INVITE, found[1])
    assert (link.role, message["To"]) == ("member", "bob@example.com")
    assert message["From"] == "Acme AI <pages@acme.test>"
    assert server.recipients == ["<bob@example.com>"]
    assert server.was_authenticated
    assert status == 200
    assert found[1] not in page
    assert "The invitation is on its way to bob@example.com." in page


async def test_mail_that_is_refused_leaves_a_link_to_pass_on(app: ConsoleApp) -> None:
    """The invitation is not lost."""
    with MailServer(accepts=False) as refusing:
        people = app.services.people
        people.mailer = Mailer(settings_of(refusing.port), PASSWORD, "Acme AI")
        status, page = await invite(app, "bob@example.com")

    assert status == 200
    assert f"{ORIGIN}/invite#" in page
    assert "The mail was not sent" in page


async def test_wrong_addresses_and_too_many_mails_are_refused(
    app: ConsoleApp, server: MailServer
) -> None:
    """An account sends a bounded number of mails an hour."""
    for address in ("", "bob", "a@b\nbcc: c@d", "Bob <bob@example.com>"):
        assert (await invite(app, address))[0] == 422, address
    statuses = [(await invite(app, f"u{n}@example.com"))[0] for n in range(MOST_MAILS + 1)]

    assert statuses == [200] * MOST_MAILS + [429]
    assert len(server.messages) == MOST_MAILS


async def test_nothing_is_sent_in_clear_text_to_a_server_without_starttls(
    server: MailServer,
) -> None:
    """Neither the password nor the mail."""
    mailer = Mailer(settings_of(server.port, "starttls"), PASSWORD, "Acme AI")

    with pytest.raises(MailFailedError):
        await mailer.send("bob@example.com", "Subject", "text")

    assert (server.was_authenticated, server.messages) == (False, [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ada@example.com", True),
        ("a.b+c@mail.example.com", True),
        ("ada", False),
        ("ada@example.com, bob@example.com", False),
        ("ada@exämple.com", False),
        ("ada@example.com\n", False),
        (f"{'a' * 64}@{'b' * 200}.com", False),
    ],
)
def test_address_is_one_plain_mail_address(text: str, expected: bool) -> None:
    assert is_address(text) is expected
