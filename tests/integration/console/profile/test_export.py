"""The downloads of a user's and of an account's data."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from gateway.console.profile import export
from gateway.console.web.viewer import Role
from gateway.store.keys.repository import KeyDetails
from gateway.store.people.users import Users
from gateway.store.sql.database import Database
from gateway.store.sql.tables import API_KEYS
from tests.support.activity import BY, Acme, acme
from tests.support.booking import book_calls
from tests.support.console import viewer
from tests.support.usage import usage_event

ACCOUNT = "/app/settings/account/export"


@pytest.fixture
async def page(database: Database) -> Acme:
    return await acme(database)


async def lines(page: Acme, path: str) -> list[dict[str, Any]]:
    text = await page.get(path)
    return [msgspec.json.decode(line) for line in text.splitlines()]


def of(found: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [line for line in found if line["type"] == kind]


async def test_account_export_has_everything_but_secrets(database: Database, page: Acme) -> None:
    """Calls, ledger and keys of this account only; no hash of a key, no price of an upstream."""
    found = await lines(page, ACCOUNT)
    text = await page.get(ACCOUNT)

    assert [line["request_id"] for line in of(found, "call")] == ["req_0", "req_1", "req_2"]
    assert [line["kind"] for line in of(found, "ledger_entry")] == ["charge"] * 3 + ["topup"]
    assert [line["id"] for line in of(found, "key")] == [page.key_id]
    assert of(found, "account")[0]["id"] == page.account_id
    assert of(found, "audit")[-1]["action"] == "account.create"
    assert [line["action"] for line in of(found, "key_audit")] == ["key.create"]
    assert found[-1] == {"type": "end", "complete": True}
    assert of(found, "call")[0]["address"] == "192.0.2.7"
    shown = text.replace("upstream_broken", "")
    assert not any(word in shown for word in ("digest", "upstream_", "req_strange", "provider"))
    async with database.read() as connection:
        for row in await connection.execute(API_KEYS.select()):
            assert bytes(row.digest).hex() not in text


async def test_export_goes_on_where_it_stopped(
    database: Database, page: Acme, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However early a download ends, following it gives each line once, in the same order."""
    await page.console.services.keys.create(page.account_id, KeyDetails(name="b"), BY)
    await book_calls(
        database,
        *[usage_event(f"req_s{n}", account_id=page.account_id, at_ms=n + 1) for n in range(7)],
    )
    whole = await lines(page, ACCOUNT)
    monkeypatch.setattr(export, "TIME_S", -1.0)
    monkeypatch.setattr(export, "BATCH", 2)
    path, part, parts = ACCOUNT, whole, []
    for _ in range(len(whole) * 2):
        part = await lines(page, path)
        parts += [line for line in part if line["type"] != "end"]
        if part[-1]["complete"]:
            break
        path = part[-1]["next"]

    assert [line for line in whole if line["type"] != "end"] == parts
    assert part[-1]["complete"]


async def test_user_export_is_about_the_viewer(database: Database, page: Acme) -> None:
    """With the sign-in name, without the password's hash."""
    user = await Users(database).create("ada@x.test", "Ada", password="$argon2id$secret")
    someone = viewer(page.account_id)
    page.console.viewers.viewer = msgspec.structs.replace(someone, user_id=user.id)

    found = await lines(page, "/app/settings/export")

    assert of(found, "profile")[0]["sign_in_name"] == "ada@x.test"
    assert of(found, "membership")[0]["role"] == "owner"
    assert [line["action"] for line in of(found, "audit")] == ["user.create"]
    assert "secret" not in await page.get("/app/settings/export")
    await page.get("/app/settings/export?from=call.1", 404)


@pytest.mark.parametrize("role", [Role.VIEWER, Role.MEMBER])
async def test_only_owners_export_the_account(page: Acme, role: Role) -> None:
    page.console.viewers.viewer = viewer(page.account_id, role)
    await page.get(ACCOUNT, 403)
