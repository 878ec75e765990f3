"""Signing in and out in the pages, with passwords, codes and links."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.console.signin import passwords
from gateway.console.signin.authenticators import SECRET_BYTES, _totp
from gateway.settings import Server, Settings
from gateway.store.accounts.audit import SYSTEM
from gateway.store.people.links import LinkKind
from gateway.store.people.users import User
from gateway.store.sql.database import Database
from tests.support.console import ConsoleApp
from tests.support.postgres import copy_migrated
from tests.support.reports import statements

PASSWORD = "seven quiet herons cross"


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[ConsoleApp]:
    settings = Settings(server=Server(data_dir=str(tmp_path)))
    copy_migrated(tmp_path)
    async with ConsoleApp(Database(settings), settings, real_sessions=True) as made:
        yield made


async def add_user(app: ConsoleApp, login: str = "ada", *, totp: bytes | None = None) -> User:
    people = app.services.people
    user = await people.users.create(login, "Ada", password=await people.passwords.hash(PASSWORD))
    if totp is not None:
        sealed = people.secret.seal(totp, user.id)
        await people.factors.set_totp(user.id, sealed, ["aaaaa-aaaaa"], SYSTEM)
    return user


async def test_password_signs_in_and_leads_on(app: ConsoleApp) -> None:
    """The cookie is closed to scripts; `next` stays within the service; sign-out ends it."""
    await add_user(app)
    entered = {"login": " ADA ", "password": PASSWORD, "next": "//evil.test"}

    done = await app.client.post("/sign-in", data=entered)

    cookie = done.headers["set-cookie"]
    assert (done.status_code, done.headers["location"]) == (303, "/app")
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    token = app.client.cookies["session"]
    assert await app.services.people.find(token) is not None
    again = await app.client.get("/sign-in")
    assert again.headers["location"] == "/app"
    await app.client.post("/sign-out")
    assert await app.services.people.find(token) is None


async def test_wrong_name_and_wrong_password_look_the_same(app: ConsoleApp) -> None:
    """The response does not disclose who has an account, nor whether the user is disabled."""
    user = await add_user(app)
    wrong = {"login": "ada", "password": "x" * 12}

    first = await app.client.post("/sign-in", data=wrong)
    unknown = await app.client.post("/sign-in", data={**wrong, "login": "bob"})
    await app.services.people.users.change(user.id, SYSTEM, "user.disable", disabled_at=1)
    disabled = await app.client.post("/sign-in", data={"login": "ada", "password": PASSWORD})

    assert [each.status_code for each in (first, unknown, disabled)] == [401, 401, 401]
    assert first.text == unknown.text.replace('value="bob"', 'value="ada"')
    assert "set-cookie" not in disabled.headers


async def test_every_refusal_does_the_same_work(
    app: ConsoleApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One hash with today's parameters, one statement and as many commands: so the same time."""
    people = app.services.people
    await add_user(app)
    disabled = await add_user(app, "eve")
    await people.users.change(disabled.id, SYSTEM, "user.disable", disabled_at=1)
    await people.users.create("carol", "Carol")  # signs in with a passkey, has no password
    hashes: list[str] = []
    commands: list[str] = []
    verify, command = passwords._verify, app.services.redis.command

    def note_hash(password: str, hashed: str) -> bool:
        hashes.append(hashed)
        return verify(password, hashed)

    async def note_command(*words: bytes | str) -> object:
        commands.append(str(words[0]))
        return await command(*words)

    monkeypatch.setattr(passwords, "_verify", note_hash)
    monkeypatch.setattr(people.throttle._redis, "command", note_command)
    work = {}
    for login in ("ada", "eve", "carol", "nobody"):
        hashes.clear()
        commands.clear()
        entered = {"login": login, "password": PASSWORD if login == "eve" else "x" * 12}
        with statements(app.services.database) as ran:
            response = await app.client.post("/sign-in", data=entered)
        parameters = [each.rpartition("$")[0].rpartition("$")[0] for each in hashes]
        words = response.text.replace(f'value="{login}"', "")
        work[login] = (response.status_code, words, parameters, tuple(commands), len(ran))

    assert work["ada"][2] == ["$argon2id$v=19$m=19456,t=2,p=1"]
    assert work["ada"][4] == 1
    assert len(work["ada"][3]) > 3
    assert all(each == work["ada"] for each in work.values())


async def test_sixth_wrong_password_waits(app: ConsoleApp) -> None:
    """The name is not locked: another address is not needed, only time, or a link."""
    user = await add_user(app)
    wrong = {"login": "ada", "password": "x" * 12}
    statuses = [(await app.client.post("/sign-in", data=wrong)).status_code for _ in range(5)]

    sixth = await app.client.post("/sign-in", data={"login": "ada", "password": PASSWORD})

    assert statuses == [401] * 5
    assert (sixth.status_code, sixth.headers["retry-after"]) == (429, "2")
    token = await app.services.people.links.create_for_user(LinkKind.ENTER, user.id, SYSTEM)
    assert (await app.client.post("/enter", data={"token": token})).status_code == 303


async def test_authenticator_is_asked_after_the_password(app: ConsoleApp) -> None:
    """A code works once; a recovery code too; without the first step there is no second."""
    secret = b"k" * SECRET_BYTES
    await add_user(app, totp=secret)
    entered = {"login": "ada", "password": PASSWORD}

    async def enter(code: str) -> int:
        asked = await app.client.post("/sign-in", data=entered)
        assert asked.status_code == 200
        assert "session" not in app.client.cookies
        pending = re.search(r'name="pending" value="([^"]+)"', asked.text)
        assert pending is not None
        done = await app.client.post("/sign-in/code", data={"pending": pending[1], "code": code})
        app.client.cookies.clear()
        return done.status_code

    code = _totp(secret).generate(int(time.time())).decode()
    assert await enter("000000" if code != "000000" else "111111") == 401
    assert await enter(code) == 303
    assert await enter(code) == 401
    assert await enter("AAAAA AAAAA") == 303
    assert await enter("aaaaa-aaaaa") == 401
    forged = await app.client.post("/sign-in/code", data={"pending": "1.x.y", "code": code})
    assert forged.headers["location"] == "/sign-in"


async def test_setup_makes_the_operator_once(app: ConsoleApp) -> None:
    """A GET and a rejected form do not use the link up; a second use is rejected."""
    token = await app.services.people.links.create_setup(SYSTEM)
    form = {"token": token, "login": "ada@example.com", "name": "Ada", "account": "Acme"}

    shown = await app.client.get("/setup")
    weak = await app.client.post("/setup", data={**form, "password": "ada@example.com"})
    done = await app.client.post("/setup", data={**form, "password": PASSWORD})
    viewer = await app.services.people.find(app.client.cookies["session"])
    again = await app.client.post("/setup", data={**form, "password": PASSWORD})

    assert (shown.status_code, weak.status_code, done.status_code) == (200, 422, 303)
    assert "easily guessed" in weak.text
    assert viewer is not None
    assert viewer.is_operator
    assert viewer.account is not None
    assert (viewer.account.account_name, viewer.account.role.value) == ("Acme", "owner")
    assert again.status_code == 410


async def test_invited_user_joins_signed_out_and_signed_in(app: ConsoleApp) -> None:
    """A newcomer chooses name and password; a user only confirms."""
    links, users = app.services.people.links, app.services.people.users
    account = await app.services.accounts.create("Acme", None, SYSTEM)
    other = await app.services.accounts.create("Other", None, SYSTEM)
    first = await links.create_invitation(account.id, "member", SYSTEM)
    second = await links.create_invitation(other.id, "viewer", SYSTEM)
    form = {"token": first, "login": "ben", "name": "Ben", "password": PASSWORD}

    assert (await app.client.post("/invite", data=form)).status_code == 303
    assert (await app.client.post("/invite", data={"token": second})).status_code == 303

    viewer = await app.services.people.find(app.client.cookies["session"])
    assert viewer is not None
    assert viewer.account is not None
    assert (viewer.account.account_name, viewer.account.role.value) == ("Other", "viewer")
    assert [each.role for each in await users.members(account.id)] == ["member"]


async def test_reset_link_sets_a_password(app: ConsoleApp) -> None:
    """A weak one is refused without using the link up."""
    people = app.services.people
    user = await add_user(app)
    token = await people.links.create_for_user(LinkKind.RESET, user.id, SYSTEM)
    new = "nine loud magpies settle"

    assert (
        await app.client.post("/reset", data={"token": token, "password": "x"})
    ).status_code == 422
    assert (
        await app.client.post("/reset", data={"token": token, "password": new})
    ).status_code == 303
    assert (
        await app.client.post("/reset", data={"token": token, "password": new})
    ).status_code == 410

    assert await people.passwords.verify(new, (await people.users.get(user.id)).password)
