"""Who may open these pages, and whose zone they show."""

from __future__ import annotations

import msgspec
import pytest

from gateway.console.activity.routes import ROUTES
from gateway.console.web.viewer import Role, Viewer
from gateway.store.sql.database import Database
from tests.support.activity import Acme, acme
from tests.support.console import viewer

TABLE = {
    ("GET", "/app/usage"): (303, 403, 200, 200, 200),
    ("GET", "/app/requests"): (303, 403, 200, 200, 200),
    ("GET", "/app/requests/new"): (303, 403, 200, 200, 200),
    ("GET", "/app/requests/{request_id}"): (303, 403, 200, 200, 200),
    ("GET", "/app/billing"): (303, 403, 200, 200, 200),
    ("GET", "/app/billing/statement"): (303, 403, 200, 200, 200),
    ("POST", "/app/billing/redeem"): (303, 403, 403, 422, 422),
    # An owner is asked for the password first.
    ("GET", "/app/billing/limits"): (303, 403, 403, 403, 303),
    ("POST", "/app/billing/limits"): (303, 403, 403, 403, 303),
    ("GET", "/app/models"): (303, 403, 200, 200, 200),
}
"""Signed out, without an account, viewer, member, owner."""


@pytest.fixture
async def page(database: Database) -> Acme:
    """An account with three calls."""
    return await acme(database)


async def test_each_role_gets_what_the_table_says(page: Acme) -> None:
    """A route without a row fails."""
    people: list[Viewer | None] = [
        None,
        msgspec.structs.replace(viewer(page.account_id), account=None, memberships=()),
        *[viewer(page.account_id, role) for role in Role],
    ]

    found = {}
    for route in ROUTES:
        path = route.path.replace("{request_id}", "req_0")
        statuses = []
        for person in people:
            page.console.viewers.viewer = person
            data = {"code": "none"} if route.method == "POST" else None
            response = await page.console.client.request(route.method, path, data=data)
            statuses.append(response.status_code)
        found[route.method, route.path] = tuple(statuses)

    assert found == TABLE


async def test_zone_is_that_of_the_url_then_of_the_viewer_then_of_the_browser(page: Acme) -> None:
    """UTC if none of them is known."""
    client = page.console.client
    client.cookies.set("zone", "Asia/Kathmandu")
    browser = (await client.get("/app/usage")).text
    page.console.viewers.viewer = msgspec.structs.replace(
        viewer(page.account_id), time_zone="Europe/Berlin"
    )
    chosen = (await client.get("/app/usage")).text
    named = (await client.get("/app/usage?zone=Asia/Tokyo")).text
    client.cookies.set("zone", "../../etc/passwd")
    page.console.viewers.viewer = viewer(page.account_id)
    unknown = (await client.get("/app/usage")).text

    assert "days of Asia/Kathmandu" in browser
    assert "days of Europe/Berlin" in chosen
    assert "days of Asia/Tokyo" in named
    assert "days of UTC" in unknown
