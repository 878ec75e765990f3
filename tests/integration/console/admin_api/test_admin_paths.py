"""Access to the operator's API: one spelling of each path, and none through a proxy."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest

from gateway.store.sql.database import Database
from tests.support.admin_app import TOKEN, AdminApp


@pytest.fixture
async def app(database: Database) -> AsyncIterator[AdminApp]:
    app = AdminApp(database)
    yield app
    await app.client.aclose()


@pytest.mark.parametrize(
    "path",
    [
        "/%61dmin/accounts", "/admin%2Faccounts", "/admin/%61ccounts", "/admin/accounts%2f",
        "//admin/accounts", "/admin//accounts",
        "/ADMIN/accounts", "/admin/accounts;a", "/admin/accounts/", "/%2e/admin/accounts",
    ],
)  # fmt: skip
async def test_only_one_spelling_of_a_path_is_known(app: AdminApp, path: str) -> None:
    """Spellings that a proxy blocking `/admin` might miss do not match any route."""
    url = httpx2.URL("http://gateway").copy_with(raw_path=path.encode())

    response = await app.client.get(url, headers={"authorization": f"Bearer {TOKEN}"})

    assert response.status_code == 404
    assert "accounts" not in response.json()


@pytest.mark.parametrize(
    "name", ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"]
)
async def test_request_through_a_proxy_finds_nothing(database: Database, name: str) -> None:
    """Even with the right token, unless the settings allow it."""
    for allowed, status in ((False, 404), (True, 200)):
        app = AdminApp(database, allow_forwarded=allowed)

        response = await app.client.get(
            "/admin/accounts", headers={"authorization": f"Bearer {TOKEN}", name: "192.0.2.7"}
        )
        await app.client.aclose()

        assert response.status_code == status


@pytest.mark.parametrize(
    ("peer", "named", "recorded"),
    [
        ("127.0.0.1", "203.0.113.9", "203.0.113.9"),  # a worker on this host
        ("127.0.0.1", "", None),  # its client uses a UNIX socket
        ("127.0.0.1", "no address", "127.0.0.1"),
        ("127.0.0.1", None, "127.0.0.1"),
        ("198.51.100.2", "203.0.113.9", "198.51.100.2"),  # anyone may send the header
    ],
)
async def test_address_of_the_audit_log_is_the_clients(
    database: Database, peer: str, named: str | None, recorded: str | None
) -> None:
    """Only a process on the same host may name the client."""
    app = AdminApp(database, peer=peer)
    headers = {} if named is None else {"x_capio_client": named}

    await app.admin("POST", "accounts", {"name": "acme"}, **headers)
    (entry,) = (await app.admin("GET", "audit")).json()["data"]
    await app.client.aclose()

    assert entry["address"] == recorded
