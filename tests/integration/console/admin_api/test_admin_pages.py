"""Pages of the lists of the operator's API."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gateway.store.sql.database import Database
from tests.support.admin_app import AdminApp


@pytest.fixture
async def app(database: Database) -> AsyncIterator[AdminApp]:
    app = AdminApp(database)
    yield app
    await app.client.aclose()


@pytest.mark.parametrize("path", ["accounts", "keys", "codes", "audit", "calls"])
async def test_page_has_at_most_a_thousand_objects(app: AdminApp, path: str) -> None:
    """`limit` is from 1 to 1000 in every list; the error names it."""
    largest = await app.admin("GET", f"{path}?limit=1000")
    above = await app.admin("GET", f"{path}?limit=1001")

    assert (largest.status_code, above.status_code) == (200, 400)
    assert above.json()["error"]["param"] == "limit"
