"""Links by mail that sign in or set a password: once, for users, past no second factor."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway.console.signin.authenticators import SECRET_BYTES, _totp
from gateway.console.signin.mail import MOST_WAITING, MailFailedError, Outbox
from gateway.console.signin.throttle import MOST_LINKS
from gateway.settings import Brand, Console, Secrets, Server, Settings
from gateway.store.accounts.audit import SYSTEM, AuditLog
from gateway.store.people.users import User
from gateway.store.sql.database import Database
from tests.support.console import ORIGIN, ConsoleApp
from tests.support.postgres import copy_migrated
from tests.support.smtp import PASSWORD as MAIL_PASSWORD
from tests.support.smtp import MailServer
from tests.support.waiting import wait_until

PASSWORD, NEW = "seven quiet herons cross", "nine loud magpies settle"
ADDRESS = "ada@example.com"
SECRET = b"k" * SECRET_BYTES


@pytest.fixture
def server() -> Iterator[MailServer]:
    with MailServer() as running:
        yield running


@pytest.fixture
async def app(tmp_path: Path, server: MailServer) -> AsyncIterator[ConsoleApp]:
    settings = Settings(
        server=Server(data_dir=str(tmp_path)),
        brand=Brand(public_url=ORIGIN, name="Acme AI"),
        console=Console(mail=server.settings()),
    )
    copy_migrated(tmp_path)
    secrets = Secrets({}, mail=MAIL_PASSWORD)
    async with ConsoleApp(
        Database(settings), settings, real_sessions=True, secrets=secrets
    ) as made:
        yield made


async def add_user(app: ConsoleApp, *, totp: bool = False, is_operator: bool = False) -> User:
    people = app.services.people
    user = await people.users.create(ADDRESS, "Ada", password="phc", is_operator=is_operator)
    if totp:
        await people.factors.set_totp(user.id, people.secret.seal(SECRET, user.id), [], SYSTEM)
    return user


async def mailed_token(app: ConsoleApp, server: MailServer, kind: str) -> str:
    """Ask for a link; return the token in the mail."""
    count = len(server.messages)
    sent = await app.client.post("/sign-in/mail", data={"mail": " ADA@example.com", "kind": kind})
    assert sent.status_code == 200
    await wait_until(lambda: len(server.messages) == count + 1)
    text = server.messages[-1].get_content()
    found = re.search(rf"{ORIGIN}/{kind}#(\S+)", text)
    assert found is not None, text
    assert found[1] not in sent.text
    return found[1]


async def enter_code(app: ConsoleApp, page: str) -> int:
    pending = re.search(r'name="pending" value="([^"]+)"', page)
    assert pending is not None
    code = _totp(SECRET).generate(int(time.time())).decode()
    done = await app.client.post("/sign-in/code", data={"pending": pending[1], "code": code})
    return done.status_code


async def test_link_signs_in_once(app: ConsoleApp, server: MailServer) -> None:
    """The audit log has its making, and the table only its digest."""
    user = await add_user(app)
    token = await mailed_token(app, server, "enter")

    first = await app.client.post("/enter", data={"token": token})
    viewer = await app.services.people.find(app.client.cookies["session"])
    second = await app.client.post("/enter", data={"token": token})

    assert (first.status_code, second.status_code) == (303, 410)
    assert viewer is not None
    assert viewer.user_id == user.id
    made = next(
        each
        for each in await AuditLog(app.services.database).list(limit=20)
        if each.action == "link.create"
    )
    assert (made.actor, made.object) == ("mail", user.id)
    assert token not in str(made)


async def test_page_is_the_same_for_all_addresses(app: ConsoleApp, server: MailServer) -> None:
    """Unknown people, operators and disabled users get no mail, and nobody learns that."""
    user = await add_user(app, is_operator=True)
    users = app.services.people.users

    async def ask(address: str) -> str:
        sent = await app.client.post("/sign-in/mail", data={"mail": address, "kind": "enter"})
        assert sent.status_code == 200
        return sent.text.replace(address, "x")

    pages = [await ask(ADDRESS), await ask("ben@example.com")]
    await users.change(user.id, SYSTEM, "user.operator", is_operator=False)
    await users.change(user.id, SYSTEM, "user.disable", disabled_at=1)
    pages.append(await ask(ADDRESS))
    await users.change(user.id, SYSTEM, "user.disable", disabled_at=None)
    await mailed_token(app, server, "enter")  # the only one that is sent

    assert len(set(pages)) == 1
    assert len(server.messages) == 1


async def test_link_of_who_became_an_operator_is_dead(app: ConsoleApp, server: MailServer) -> None:
    user = await add_user(app)
    token = await mailed_token(app, server, "enter")
    await app.services.people.users.change(user.id, SYSTEM, "user.operator", is_operator=True)

    assert (await app.client.post("/enter", data={"token": token})).status_code == 410


async def test_authenticator_is_asked_for_after_either_link(
    app: ConsoleApp, server: MailServer
) -> None:
    """A mailbox is not enough: a new password by mail keeps the second factor."""
    user = await add_user(app, totp=True)
    entered = await app.client.post(
        "/enter", data={"token": await mailed_token(app, server, "enter")}
    )
    assert "session" not in app.client.cookies
    assert await enter_code(app, entered.text) == 303
    app.client.cookies.clear()

    form = {"token": await mailed_token(app, server, "reset"), "password": NEW}
    changed = await app.client.post("/reset", data=form)
    assert (changed.status_code, "session" in app.client.cookies) == (200, False)
    assert "Enter a code" in changed.text
    people = app.services.people
    kept = await people.users.get(user.id)
    assert kept.totp is not None
    assert await people.passwords.verify(NEW, kept.password)
    assert (await app.client.post("/reset", data=form)).status_code == 410


async def test_links_are_bounded_and_checked(app: ConsoleApp) -> None:
    """By recipient, also one that does not exist; only for the two purposes."""
    asked = {"mail": "nobody@example.com", "kind": "reset"}
    statuses = [
        (await app.client.post("/sign-in/mail", data=asked)).status_code
        for _ in range(MOST_LINKS + 1)
    ]
    wrong = [{**asked, "kind": "setup"}, {**asked, "mail": "ada"}]
    refused = [(await app.client.post("/sign-in/mail", data=each)).status_code for each in wrong]

    assert statuses == [200] * MOST_LINKS + [429]
    assert refused == [422, 422]


async def test_without_mail_the_page_does_not_exist(tmp_path: Path) -> None:
    """The sign-in page does not lead to it."""
    settings = Settings(server=Server(data_dir=str(tmp_path)))
    async with ConsoleApp(Database(settings), settings) as app:
        app.client.cookies.clear()
        app.viewers.viewer = None
        statuses = [
            (await app.client.request(method, "/sign-in/mail")).status_code
            for method in ("GET", "POST")
        ]
        assert "/sign-in/mail" not in (await app.client.get("/sign-in")).text

    assert statuses == [404, 404]


async def test_outbox_is_bounded_and_survives_failures(caplog: pytest.LogCaptureFixture) -> None:
    """What is dropped or fails is logged without addresses."""
    done: list[int] = []

    async def work(at: int) -> None:
        if at == 0:
            raise MailFailedError("SMTPRecipientsRefused")
        done.append(at)

    outbox = Outbox()
    for at in range(MOST_WAITING + 1):
        outbox.add(work(at))
    await wait_until(lambda: len(done) == MOST_WAITING - 1)

    assert [each.message for each in caplog.records] == ["mail_dropped", "mail_failed"]
