"""Every page is closed to those who may not open it: each route with each role."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.responses import Response

from gateway.console.routes import ROUTES
from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access, Role, Viewer
from gateway.settings import Server, Settings
from gateway.store.sql.database import Database
from tests.support.console import ConsoleApp, viewer

PEOPLE: dict[str, Viewer | None] = {
    "signed out": None,
    "no account": Viewer(user_id="user_1", name="Ada", session_id="sess_1", confirmed_at=2**40),
    **{role.value: viewer("acct_1", role) for role in Role},
    "operator": Viewer(
        user_id="user_1", name="Ada", session_id="sess_1", is_operator=True, confirmed_at=2**40
    ),
}
ALLOWED = {
    Access.PUBLIC: {*PEOPLE},
    Access.SIGNED_IN: {*PEOPLE} - {"signed out"},
    Access.VIEWER: {"viewer", "member", "owner"},
    Access.MEMBER: {"member", "owner"},
    Access.OWNER: {"owner"},
    Access.OPERATOR: {"operator"},
}
# What a user does to themselves; everything else that is posted below `/app` needs a role.
OWN = ("/app/security/", "/app/settings", "/app/switch", "/app/guide/")


async def _reached(page: Page) -> Response:
    return Response("reached", headers={"x-route": page.request.scope["path"]})


STUBS = [route._replace(handle=_reached, confirmed=False) for route in ROUTES]


@pytest.mark.parametrize("route", STUBS, ids=[f"{each.method} {each.path}" for each in STUBS])
async def test_route_opens_for_its_access_only(tmp_path: Path, route: Route) -> None:
    """Signed out: to the sign-in page; without the role: 403; operators' pages: 404."""
    settings = Settings(server=Server(data_dir=str(tmp_path)))
    path = re.sub(r"\{\w+(:path)?\}", "x", route.path)
    found: dict[str, int] = {}
    async with ConsoleApp(Database(settings), settings, routes=STUBS) as app:
        for name, someone in PEOPLE.items():
            app.viewers.viewer = someone
            found[name] = (await app.client.request(route.method, path)).status_code

    refused = 404 if route.access is Access.OPERATOR else 403
    expected = {
        name: 200 if name in ALLOWED[route.access] else 303 if someone is None else refused
        for name, someone in PEOPLE.items()
    }
    assert found == expected


def test_paths_are_closed_by_their_prefix() -> None:
    """Pages below `/app` need a sign-in, changes there a role, operators' pages the flag."""
    wrong = [
        f"{route.method} {route.path}"
        for route in ROUTES
        if (route.path.startswith("/admin-ui") and route.access is not Access.OPERATOR)
        or (re.match(r"/app(/|\Z)", route.path) and route.access is Access.PUBLIC)
        or (
            route.path.startswith("/app/")
            and route.method == "POST"
            and not route.path.startswith(OWN)
            and route.access not in (Access.MEMBER, Access.OWNER)
        )
    ]

    assert wrong == []


async def test_change_that_matters_asks_who_it_is(tmp_path: Path) -> None:
    """A confirmed route leads to the confirmation, and back to the page of the form."""
    settings = Settings(server=Server(data_dir=str(tmp_path)))
    route = Route("POST", "/app/team/remove", Access.OWNER, _reached, confirmed=True)
    async with ConsoleApp(Database(settings), settings, viewer("acct_1"), routes=[route]) as app:
        asked = await app.client.post(
            "/app/team/remove", headers={"referer": "http://console.test/app/team?x=1"}
        )

    assert (asked.status_code, asked.headers["location"]) == (303, "/confirm?next=%2Fapp%2Fteam")
