"""Routing, access, errors, headers and static files of the console."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.responses import Response

from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access, Role
from gateway.errors import ErrorKind, GatewayError
from gateway.settings import Server, Settings
from gateway.store.sql.database import Database
from tests.support.console import ConsoleApp, viewer


async def _text(page: Page) -> Response:
    return Response("fine")


async def _form(page: Page) -> Response:
    form = await page.form()
    return Response(f"{form.text('name')}|{','.join(form.all('models'))}")


async def _no_store(page: Page) -> Response:
    raise GatewayError(ErrorKind.STORE_UNAVAILABLE, "away")


async def _bug(page: Page) -> Response:
    raise RuntimeError("secret detail")


ROUTES = (
    Route("GET", "/viewer", Access.VIEWER, _text),
    Route("GET", "/owner", Access.OWNER, _text),
    Route("GET", "/operator", Access.OPERATOR, _text),
    Route("POST", "/form", Access.PUBLIC, _form),
    Route("GET", "/no-store", Access.PUBLIC, _no_store),
    Route("GET", "/bug", Access.PUBLIC, _bug),
)


@pytest.fixture
async def app(tmp_path: Path) -> ConsoleApp:
    settings = Settings(server=Server(data_dir=str(tmp_path)))
    return ConsoleApp(Database(settings), settings, viewer("acct_1", Role.VIEWER), ROUTES)


async def test_access_decides_what_a_request_gets(app: ConsoleApp) -> None:
    """Allowed, not allowed, hidden, and signed out."""
    async with app:
        statuses = [(await app.client.get(path)).status_code for path in ("/viewer", "/owner")]
        hidden = await app.client.get("/operator")
        app.viewers.viewer = None
        signed_out = await app.client.get("/viewer?a=1&b=2")
        part = {"hx-request": "true", "hx-current-url": "https://ai.test/viewer?a=3"}
        signed_out_part = await app.client.get("/viewer?a=1", headers=part)

    assert statuses == [200, 403]
    assert hidden.status_code == 404
    assert signed_out.status_code == 303
    assert signed_out.headers["location"] == "/sign-in?next=%2Fviewer%3Fa%3D1%26b%3D2"
    assert signed_out_part.headers["hx-redirect"] == "/sign-in?next=%2Fviewer%3Fa%3D3"


async def test_forms_are_read_and_bounded(app: ConsoleApp) -> None:
    """Repeated fields are lists; other content types and large forms are refused."""
    async with app:
        good = await app.client.post("/form", data={"name": " é ", "models": ["a", "b"]})
        json = await app.client.post("/form", json={})
        large = await app.client.post("/form", data={"name": "x" * 300_000})
        fields = await app.client.post("/form", data={"models": ["x"] * 1001})

    assert good.text == "é|a,b"
    assert (json.status_code, large.status_code, fields.status_code) == (415, 413, 400)


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none"])
async def test_other_sites_change_nothing(app: ConsoleApp, site: str) -> None:
    """A POST from elsewhere is refused before its route is looked up."""
    async with app:
        refused = await app.client.post("/form", data={}, headers={"sec-fetch-site": site})

    assert refused.status_code == 403


async def test_errors_are_pages_without_details(app: ConsoleApp) -> None:
    """What failed inside is in the log only."""
    async with app:
        away = await app.client.get("/no-store")
        bug = await app.client.get("/bug")
        missing = await app.client.get("/nothing")
        method = await app.client.post("/viewer")

    assert (away.status_code, away.headers["retry-after"]) == (503, "2")
    assert bug.status_code == 500
    assert "secret detail" not in bug.text
    assert (missing.status_code, method.status_code) == (404, 405)
    assert "There is nothing here" in missing.text


async def test_every_response_has_the_security_headers(app: ConsoleApp) -> None:
    """Pages, errors, redirects and static files; signed-in pages are stored nowhere."""
    async with app:
        page = await app.client.get("/nothing")
        style = await app.client.get(app.application.static.url("console.css"))
        missing = await app.client.get("/static/nothing.css")

    for response in (page, style, missing):
        assert response.headers["content-security-policy"].startswith("default-src 'none'")
        assert response.headers["x-content-type-options"] == "nosniff"
    assert page.headers["cache-control"] == "no-store"
    assert style.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert style.headers["content-encoding"] == "gzip"
    assert missing.status_code == 404
