"""Signing up in each mode, with a mail server and without."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import pytest

from gateway.console.signin.throttle import MOST_BY_ADDRESS, MOST_LINKS, MOST_SIGN_UPS
from gateway.settings import Brand, Console, Secrets, Server, Settings
from gateway.store.accounts.audit import SYSTEM
from gateway.store.accounts.codes import CodeDetails
from gateway.store.people.tokens import new_token
from gateway.store.sql.database import Database
from tests.support.console import ORIGIN, ConsoleApp
from tests.support.postgres import copy_migrated
from tests.support.smtp import PASSWORD as MAIL_PASSWORD
from tests.support.smtp import MailServer
from tests.support.waiting import wait_until

PASSWORD = "seven quiet herons cross"
Mode = Literal["closed", "invite", "code", "open"]


@pytest.fixture
def server() -> Iterator[MailServer]:
    with MailServer() as running:
        yield running


@asynccontextmanager
async def opened(
    home: Path, mode: Mode, server: MailServer | None = None
) -> AsyncIterator[ConsoleApp]:
    mail = None if server is None else server.settings()
    settings = Settings(
        server=Server(data_dir=str(home)),
        brand=Brand(public_url=ORIGIN, name="Acme AI"),
        console=Console(signup=mode, mail=mail),
    )
    copy_migrated(home)
    secrets = Secrets({}, mail=MAIL_PASSWORD)
    async with ConsoleApp(Database(settings), settings, real_sessions=True, secrets=secrets) as app:
        yield app


def form(**fields: str) -> dict[str, str]:
    return {
        "login": "ada@example.com", "name": "Ada", "password": PASSWORD, "account": "Acme",
        "idem": new_token(), **fields,
    }  # fmt: skip


@pytest.mark.parametrize("mode", ["closed", "invite"])
async def test_without_sign_up_its_pages_do_not_exist(tmp_path: Path, mode: Mode) -> None:
    """With `closed`, an invitation makes no users either."""
    async with opened(tmp_path, mode) as app:
        account = await app.services.accounts.create("Acme", None, SYSTEM)
        links = app.services.people.links
        token = await links.create_invitation(account.id, "member", SYSTEM)

        assert (await app.client.get("/sign-up")).status_code == 404
        assert (await app.client.post("/sign-up", data=form())).status_code == 404
        assert "/sign-up" not in (await app.client.get("/sign-in")).text
        shown = await app.client.get("/invite")
        joined = await app.client.post("/invite", data=form(token=token))

        assert ("takes no new people" in shown.text) == (mode == "closed")
        assert joined.status_code == (403 if mode == "closed" else 303)
        assert len(await app.services.people.users.list()) == (0 if mode == "closed" else 1)


async def test_code_opens_an_account_once(tmp_path: Path) -> None:
    """Signed in as its owner; the same code, a double click and a wrong code make nobody."""
    async with opened(tmp_path, "code") as app:
        details = CodeDetails(amount_nanousd=25 * 10**9)
        code, other = (each.raw for each in await app.services.codes.create(details, 2, SYSTEM))
        sent = form(code=code.lower())

        done = await app.client.post("/sign-up", data=sent)
        viewer = await app.services.people.find(app.client.cookies["session"])
        app.client.cookies.clear()
        again = await app.client.post("/sign-up", data=form(code=code, login="ben"))
        taken = await app.client.post("/sign-up", data=form(code=other))
        twice = form(code=other, login="eve")
        statuses = [(await app.client.post("/sign-up", data=twice)).status_code for _ in "ab"]

        assert (done.status_code, done.headers["location"]) == (303, "/app")
        assert viewer is not None
        assert viewer.account is not None
        assert (viewer.account.account_name, viewer.account.role.value) == ("Acme", "owner")
        assert not viewer.is_operator
        account = await app.services.accounts.get(viewer.account.account_id)
        assert account.balance_nanousd == 25 * 10**9
        assert (again.status_code, taken.status_code) == (422, 422)
        assert "cannot be redeemed" in again.text
        assert "already taken" in taken.text
        assert statuses == [303, 422]
        assert len(await app.services.people.users.list()) == 2


async def test_wrong_codes_and_many_sign_ups_wait(tmp_path: Path) -> None:
    """By address; a wrong code does not tell whether the name is taken."""
    async with opened(tmp_path, "code") as app:
        await app.services.people.users.create("ada@example.com", "Ada")
        first = await app.client.post("/sign-up", data=form(code="x"))
        assert first.status_code == 422
        assert "already taken" not in first.text
        for _ in range(MOST_BY_ADDRESS - 1):
            await app.services.people.throttle.address_failed("127.0.0.1")
        waiting = await app.client.post("/sign-up", data=form(code="x"))
        assert waiting.status_code == 429
        assert int(waiting.headers["retry-after"]) > 3500

        allowed = [await app.services.people.throttle.allows_sign_up("::1") for _ in range(11)]
        assert allowed == [True] * MOST_SIGN_UPS + [False]


async def test_open_without_mail_makes_an_empty_account(tmp_path: Path) -> None:
    """A taken name is refused, and a weak password; neither is a new user."""
    async with opened(tmp_path, "open") as app:
        assert 'name="code"' not in (await app.client.get("/sign-up")).text
        weak = await app.client.post("/sign-up", data=form(password="ada@example.com"))
        done = await app.client.post("/sign-up", data=form(account=""))
        app.client.cookies.clear()
        taken = await app.client.post("/sign-up", data=form())

        assert (weak.status_code, done.status_code, taken.status_code) == (422, 303, 422)
        [account] = await app.services.accounts.list()
        assert (account.name, account.balance_nanousd) == ("Ada", 0)


async def test_with_mail_the_page_does_not_tell_who_has_an_account(
    tmp_path: Path, server: MailServer
) -> None:
    """Both addresses get a mail; the link of a new one finishes the sign-up, once."""
    async with opened(tmp_path, "open", server) as app:
        await app.services.people.users.create("ben@example.com", "Ben")
        pages = {}
        for name in ("ada", "ben"):
            sent = await app.client.post("/sign-up", data={"mail": f"{name.upper()}@example.com"})
            pages[name] = sent.text.replace(name, "x")
            await wait_until(lambda: len(server.messages) == len(pages))

        assert pages["ada"] == pages["ben"]
        new, known = (each.get_content() for each in server.messages)
        assert f"{ORIGIN}/sign-in" in known.split()
        found = re.search(rf"{ORIGIN}/sign-up/finish#(\S+)", new)
        assert found is not None
        assert (await app.client.get("/sign-up/finish")).status_code == 200
        forged = await app.client.post("/sign-up/finish", data=form(token=f"{found[1]}x"))
        sent_form = form(token=found[1], login="eve@example.com")
        done = await app.client.post("/sign-up/finish", data=sent_form)
        app.client.cookies.clear()
        again = await app.client.post("/sign-up/finish", data={**sent_form, "idem": new_token()})

        assert (forged.status_code, done.status_code, again.status_code) == (410, 303, 410)
        logins = [each.login for each in await app.services.people.users.list()]
        assert logins == ["ben@example.com", "ada@example.com"]


async def test_mails_to_a_recipient_are_bounded(tmp_path: Path, server: MailServer) -> None:
    """To anyone who asks; no address, no mail."""
    async with opened(tmp_path, "open", server) as app:
        asked = {"mail": "ada@example.com"}
        statuses = [
            (await app.client.post("/sign-up", data=asked)).status_code
            for _ in range(MOST_LINKS + 1)
        ]
        wrong = await app.client.post("/sign-up", data={"mail": "ada@b\nbcc: c@d"})
        await wait_until(lambda: len(server.messages) == MOST_LINKS)

        assert statuses == [200] * MOST_LINKS + [429]
        assert wrong.status_code == 422
