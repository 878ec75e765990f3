"""Security, settings and team: what users change about themselves and their account."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.console.signin.authenticators import SECRET_BYTES, _totp
from gateway.settings import Server, Settings
from gateway.store.accounts.audit import SYSTEM
from gateway.store.people.tokens import new_token
from gateway.store.sql.database import Database
from tests.support.console import ConsoleApp
from tests.support.postgres import copy_migrated

PASSWORD = "seven quiet herons cross"
NEW = "nine loud magpies settle"


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[ConsoleApp]:
    """The pages, with the owner `ada` of `Acme` signed in."""
    settings = Settings(server=Server(data_dir=str(tmp_path)))
    copy_migrated(tmp_path)
    async with ConsoleApp(Database(settings), settings, real_sessions=True) as made:
        people = made.services.people
        hashed = await people.passwords.hash(PASSWORD)
        user = await people.users.create("ada", "Ada", password=hashed)
        account = await made.services.accounts.create("Acme", None, SYSTEM)
        await people.users.join(user.id, account.id, "owner", SYSTEM)
        made.client.cookies.set("session", await people.sessions.begin(user, "Firefox on Linux"))
        yield made


async def test_new_password_ends_all_other_sessions(app: ConsoleApp) -> None:
    """And the session that changed it gets a new token."""
    people = app.services.people
    before = app.client.cookies["session"]
    user = await people.users.find("ada")
    assert user is not None
    other = await people.sessions.begin(user, "Safari on macOS")

    weak = await app.client.post("/app/security/password", data={"password": "password1234"})
    done = await app.client.post("/app/security/password", data={"password": NEW})

    assert (weak.status_code, done.status_code) == (422, 303)
    assert await people.find(before) is None
    assert await people.find(other) is None
    assert (await app.client.get("/app/security")).status_code == 200


async def test_authenticator_is_added_by_its_first_code(app: ConsoleApp) -> None:
    """The secret is stored sealed, and the recovery codes are shown once."""
    people = app.services.people
    shown = await app.client.get("/app/security/authenticator")
    signed = re.search(r'name="secret" value="([^"]+)"', shown.text)
    assert signed is not None
    image = await app.client.get(f"/app/security/authenticator/qr.svg?secret={signed[1]}")
    sealed = people.secret.verify(signed[1], "authenticator")
    user = await people.users.find("ada")
    assert sealed is not None
    assert user is not None
    secret = people.secret.open(bytes.fromhex(sealed), user.id)
    assert secret is not None
    assert len(secret) == SECRET_BYTES
    code = _totp(secret).generate(int(time.time())).decode()

    wrong = await app.client.post(
        "/app/security/authenticator", data={"secret": signed[1], "code": "12345"}
    )
    added = await app.client.post(
        "/app/security/authenticator", data={"secret": signed[1], "code": code}
    )

    assert image.headers["content-type"] == "image/svg+xml"
    assert (wrong.status_code, added.status_code) == (422, 200)
    listed = added.text.partition('id="codes"')[2].partition("</pre>")[0]
    assert len(re.findall(r"\b[0-9a-z]{5}-[0-9a-z]{5}\b", listed)) == 10
    user = await people.users.find("ada")
    assert user is not None
    assert user.totp is not None
    assert secret not in user.totp
    assert await people.factors.count_recovery_codes(user.id) == 10
    await app.client.post("/app/security/authenticator/remove")
    assert await people.factors.count_recovery_codes(user.id) == 0


async def test_sessions_are_listed_and_ended(app: ConsoleApp) -> None:
    """One by one, or all but this one."""
    people = app.services.people
    user = await people.users.find("ada")
    assert user is not None
    others = [await people.sessions.begin(user, f"Browser {at}") for at in range(2)]
    shown = await app.client.get("/app/security")
    first = await people.sessions.find(others[0])
    assert first is not None

    await app.client.post("/app/security/sessions", data={"session": first.session.id})
    alive = [await people.find(each) is not None for each in others]
    await app.client.post("/app/security/sessions", data={"others": "1"})

    assert "Browser 0" in shown.text
    assert alive == [False, True]
    assert await people.find(others[1]) is None
    assert (await app.client.get("/app/security")).status_code == 200


async def test_settings_are_checked_and_kept(app: ConsoleApp) -> None:
    """Name and zone in SQL, the theme in a cookie; an unknown zone is refused."""
    form = {"name": "Ada L", "zone": "Asia/Kathmandu", "theme": "dark"}

    saved = await app.client.post("/app/settings", data=form)
    wrong = await app.client.post("/app/settings", data={**form, "zone": "../etc"})
    renamed = await app.client.post("/app/settings/account", data={"account": "Acme 2"})
    shown = await app.client.get("/app/settings")

    assert (saved.status_code, wrong.status_code, renamed.status_code) == (303, 422, 303)
    assert 'data-theme="dark"' in shown.text
    assert 'value="Ada L"' in shown.text
    assert 'value="Asia/Kathmandu" selected' in shown.text
    assert 'value="Acme 2"' in shown.text


async def test_team_is_invited_changed_and_removed(app: ConsoleApp) -> None:
    """The link is shown once; strangers of the account cannot be changed; an owner remains."""
    users = app.services.people.users
    form = {"role": "member", "idem": new_token()}
    viewer = await app.services.people.find(app.client.cookies["session"])
    assert viewer is not None
    assert viewer.account is not None
    account_id = viewer.account.account_id
    ben = await users.create("ben", "Ben")
    eve = await users.create("eve", "Eve")
    await users.join(ben.id, account_id, "viewer", SYSTEM)

    made = await app.client.post("/app/team/invite", data=form)
    again = await app.client.post("/app/team/invite", data=form)
    (invitation,) = await app.services.people.links.invitations(account_id)
    await app.client.post("/app/team/withdraw", data={"link": invitation.id})
    await app.client.post("/app/team/role", data={"user": ben.id, "role": "member"})
    await app.client.post("/app/team/role", data={"user": eve.id, "role": "owner"})
    alone = await app.client.post("/app/team/remove", data={"user": viewer.user_id})

    assert "/invite#" in made.text
    assert (again.status_code, alone.status_code) == (303, 409)
    assert list(await app.services.people.links.invitations(account_id)) == []
    roles = {each.login: each.role for each in await users.members(account_id)}
    assert roles == {"ada": "owner", "ben": "member"}
    await app.client.post("/app/team/remove", data={"user": ben.id})
    assert [each.login for each in await users.members(account_id)] == ["ada"]
