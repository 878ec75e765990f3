"""Passkeys in the pages: created, used to sign in and to confirm, refused when they do not fit."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path

import pytest

from gateway.console.signin.passkeys import Passkeys
from gateway.settings import Brand, Server, Settings
from gateway.store.accounts.audit import SYSTEM
from gateway.store.people.users import User
from gateway.store.sql.database import Database
from tests.support.console import ConsoleApp
from tests.support.passkeys import Device
from tests.support.postgres import copy_migrated

ORIGIN = "https://pages.test"
PASSWORD = "seven quiet herons cross"


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[ConsoleApp]:
    settings = Settings(server=Server(data_dir=str(tmp_path)), brand=Brand(public_url=ORIGIN))
    copy_migrated(tmp_path)
    async with ConsoleApp(Database(settings), settings, real_sessions=True) as made:
        made.client.base_url = ORIGIN
        yield made


async def signed_in(app: ConsoleApp, login: str = "ada") -> User:
    """Return a user who has signed in with their password."""
    people = app.services.people
    user = await people.users.create(login, "Ada", password=await people.passwords.hash(PASSWORD))
    await app.client.post("/sign-in", data={"login": login, "password": PASSWORD})
    return user


async def add_passkey(app: ConsoleApp, device: Device, name: str = "laptop") -> int:
    """Create a passkey on a device; return the status of the response."""
    page = (await app.client.get("/app/security/passkeys/new")).text
    options = re.search(r'data-options="([^"]+)"', page)
    state = re.search(r'name="state" value="([^"]+)"', page)
    assert options is not None
    assert state is not None
    credential = device.create(json.loads(unescape(options[1])))
    sent = {"state": state[1], "credential": json.dumps(credential), "name": name}
    return (await app.client.post("/app/security/passkeys", data=sent)).status_code


async def request(app: ConsoleApp, path: str = "/sign-in/passkey") -> tuple[dict[str, object], str]:
    """Return the options of a ceremony, and its state."""
    found = (await app.client.post(f"{path}/options")).json()
    return json.loads(found["options"]), found["state"]


async def use(app: ConsoleApp, device: Device, path: str = "/sign-in/passkey") -> int:
    """Use the device's passkey; return the status of the response."""
    options, state = await request(app, path)
    sent = {"state": state, "credential": json.dumps(device.get(options))}
    return (await app.client.post(path, data=sent)).status_code


async def test_passkey_signs_in_without_name_and_password(app: ConsoleApp) -> None:
    """It counts as a second factor, and its last use is stored."""
    user = await signed_in(app)
    device = Device(ORIGIN)
    assert await add_passkey(app, device) == 303
    app.client.cookies.clear()

    assert await use(app, device) == 303

    found = await app.services.people.sessions.find(app.client.cookies["__Host-session"])
    assert found is not None
    assert (found.user.id, found.has_second_factor) == (user.id, True)
    [passkey] = await app.services.people.factors.passkeys(user.id)
    assert (passkey.name, passkey.sign_count, passkey.used_at is not None) == ("laptop", 2, True)


@pytest.mark.parametrize(
    "device",
    [
        Device("https://evil.test"),
        Device(ORIGIN, rp_id="evil.test"),
        Device(ORIGIN, verifies_user=False),
        Device(ORIGIN, forged=True),
    ],
    ids=["origin", "party", "no user verification", "signature"],
)
async def test_response_that_does_not_fit_is_refused(app: ConsoleApp, device: Device) -> None:
    """From a page of another site, for another site, without a finger, or signed by another key."""
    await signed_in(app)
    good = Device(ORIGIN)
    assert await add_passkey(app, good) == 303
    device.take(good)
    app.client.cookies.clear()

    assert await use(app, device) == 401
    assert "__Host-session" not in app.client.cookies


async def test_response_works_once_and_a_copy_is_noticed(app: ConsoleApp) -> None:
    """The challenge is used up, also by a failure; a counter that stands still is a copy's."""
    await signed_in(app)
    device = Device(ORIGIN)
    await add_passkey(app, device)
    app.client.cookies.clear()
    options, state = await request(app)
    sent = {"state": state, "credential": json.dumps(device.get(options))}

    first = await app.client.post("/sign-in/passkey", data=sent)
    again = await app.client.post("/sign-in/passkey", data=sent)
    device.counter -= 1

    assert (first.status_code, again.status_code) == (303, 401)
    assert await use(app, device) == 401


async def test_creation_is_bound_to_its_user_and_challenge(app: ConsoleApp) -> None:
    """Another user's state is refused; so is one that was used, and what is not JSON."""
    await signed_in(app, "bob")
    page = (await app.client.get("/app/security/passkeys/new")).text
    state = re.search(r'name="state" value="([^"]+)"', page)
    options = re.search(r'data-options="([^"]+)"', page)
    assert state is not None
    assert options is not None
    credential = json.dumps(Device(ORIGIN).create(json.loads(unescape(options[1]))))
    app.client.cookies.clear()
    await signed_in(app, "ada")
    sent = {"state": state[1], "credential": credential, "name": "laptop"}

    stolen = await app.client.post("/app/security/passkeys", data=sent)
    garbage = await app.client.post("/app/security/passkeys", data={**sent, "credential": "[1]"})

    assert (stolen.status_code, garbage.status_code) == (422, 422)


async def test_passkey_confirms_for_its_own_user_only(app: ConsoleApp) -> None:
    """The page asks for the viewer's passkeys; another's does not confirm."""
    user = await signed_in(app)
    device, other = Device(ORIGIN), Device(ORIGIN)
    await add_passkey(app, device)
    app.client.cookies.clear()
    await signed_in(app, "bob")
    await add_passkey(app, other)
    app.client.cookies.clear()
    await use(app, device)
    options, _ = await request(app, "/confirm/passkey")

    assert [each["id"] for each in options["allowCredentials"]] == [device.id]  # type: ignore[attr-defined]
    assert await use(app, other, "/confirm/passkey") == 401
    assert await use(app, device, "/confirm/passkey") == 303
    assert (await app.services.people.users.get(user.id)).login == "ada"


async def test_only_way_in_is_not_removed(app: ConsoleApp) -> None:
    """Another user's passkey does not exist; the last one stays until there is a password."""
    user = await signed_in(app)
    device = Device(ORIGIN)
    await add_passkey(app, device)
    people = app.services.people
    [passkey] = await people.factors.passkeys(user.id)
    await people.users.change(user.id, SYSTEM, "user.password", password=None)

    async def remove(passkey_id: str) -> tuple[int, str]:
        sent = await app.client.post("/app/security/passkeys/remove", data={"passkey": passkey_id})
        return sent.status_code, sent.headers.get("location", "")

    assert await remove("00") == (404, "")
    assert await remove(passkey.id.hex()) == (303, "/app/security?done=only-passkey")
    await people.users.change(user.id, SYSTEM, "user.password", password="x")
    assert await remove(passkey.id.hex()) == (303, "/app/security?done=passkey-removed")
    assert await people.factors.passkeys(user.id) == []


@pytest.mark.parametrize(
    ("url", "available"),
    [
        ("https://pages.test", True),
        ("http://localhost:8080", True),
        ("http://pages.test", False),
        ("http://127.0.0.1:8080", False),
        ("https://192.0.2.1", False),
    ],
)
async def test_passkeys_exist_where_browsers_allow_them(
    app: ConsoleApp, url: str, available: bool
) -> None:
    """On HTTPS and localhost, for names."""
    people = app.services.people

    assert Passkeys(url, "Capio", people.secret, people.factors).is_available is available
