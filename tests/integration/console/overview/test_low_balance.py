"""The mail about a low balance: once for each crossing, to owners, in their language."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gateway.settings import Brand, Console, Secrets, Server, Settings
from gateway.store.accounts.audit import SYSTEM, Actor
from gateway.store.accounts.credits import EntryKind
from gateway.store.accounts.low_balance import LowBalance, LowBalances
from gateway.store.sql.database import Database
from tests.support.console import ORIGIN, ConsoleApp, viewer
from tests.support.postgres import copy_migrated
from tests.support.smtp import PASSWORD, MailServer

BY = Actor("cli:tester")


@pytest.fixture
def server() -> Iterator[MailServer]:
    with MailServer() as running:
        yield running


@pytest.fixture
async def app(tmp_path: Path, server: MailServer) -> AsyncIterator[ConsoleApp]:
    """An account whose two owners read different languages."""
    settings = Settings(
        server=Server(data_dir=str(tmp_path)),
        brand=Brand(public_url=ORIGIN, name="Acme AI"),
        console=Console(mail=server.settings()),
    )
    copy_migrated(tmp_path)
    secrets = Secrets({}, mail=PASSWORD)
    async with ConsoleApp(Database(settings), settings, secrets=secrets) as made:
        account = await made.services.accounts.create("Acme", None, SYSTEM)
        made.viewers.viewer = viewer(account.id)
        users = made.services.people.users
        for login, role in (
            ("ada@acme.test", "owner"), ("li@acme.test", "owner"), ("no-address", "owner"),
            ("bob@acme.test", "member"),
        ):  # fmt: skip
            user = await users.create(login, login)
            await users.join(user.id, account.id, role, BY)
            if login.startswith("li"):
                await users.change(user.id, BY, "user.change", language="zh-CN")
        yield made


async def book(app: ConsoleApp, amount: int) -> None:
    assert app.viewers.viewer is not None
    assert app.viewers.viewer.account is not None
    await app.services.accounts.book(
        app.viewers.viewer.account.account_id, EntryKind.ADJUSTMENT, amount, BY,
        reason="x", idempotency_key=None,
    )  # fmt: skip


async def test_owners_get_one_mail_for_each_crossing(app: ConsoleApp, server: MailServer) -> None:
    """Members and owners without an address get none."""
    mails = app.services.low_balance_mails
    assert mails is not None
    assert app.viewers.viewer is not None
    assert app.viewers.viewer.account is not None
    await book(app, 10**9)
    await LowBalances(app.services.database).set(
        app.viewers.viewer.account.account_id, 5 * 10**8, BY
    )
    before = await mails.send_due()
    await book(app, -6 * 10**8)
    sent = [await mails.send_due() for _ in range(2)]

    assert (before, sent) == (0, [2, 0])
    assert sorted(server.recipients) == ["<ada@acme.test>", "<li@acme.test>"]
    by_address = {message["To"]: message for message in server.messages}
    english, chinese = by_address["ada@acme.test"], by_address["li@acme.test"]
    assert english["Subject"] == "Low balance of Acme on Acme AI"
    assert "is $0.40, below the $0.50" in " ".join(english.get_content().split())
    assert f"{ORIGIN}/app/billing" in english.get_content()
    assert "余额较低" in chinese["Subject"]


async def test_account_stays_due_while_the_mail_server_refuses(
    app: ConsoleApp, server: MailServer
) -> None:
    """The next round tries again."""
    mails = app.services.low_balance_mails
    assert mails is not None
    assert app.viewers.viewer is not None
    assert app.viewers.viewer.account is not None
    await LowBalances(app.services.database).set(app.viewers.viewer.account.account_id, 1, BY)
    server.accepts = False
    refused = await mails.send_due()
    server.accepts = True

    assert (refused, await mails.send_due(), await mails.send_due()) == (0, 2, 0)


async def test_failure_of_one_mail_leaves_the_others_due(
    app: ConsoleApp, server: MailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An account whose mail cannot be written is due again; the next account gets its mail."""
    services = app.services
    mails = services.low_balance_mails
    assert mails is not None
    other = await services.accounts.create("Other", None, SYSTEM)
    user = await services.people.users.create("zoe@acme.test", "zoe")
    await services.people.users.join(user.id, other.id, "owner", BY)
    for account in await services.accounts.list():
        await LowBalances(services.database).set(account.id, 1, BY)
    write = mails._mail

    def fails_for_acme(account: LowBalance, language: str | None) -> tuple[str, str]:
        if account.name == "Acme":
            raise KeyError("balance")
        return write(account, language)

    monkeypatch.setattr(mails, "_mail", fails_for_acme)
    sent = [await mails.send_due() for _ in range(2)]
    monkeypatch.undo()

    assert sent == [1, 0]
    assert server.recipients == ["<zoe@acme.test>"]
    assert await mails.send_due() == 2
