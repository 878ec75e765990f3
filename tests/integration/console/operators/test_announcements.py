"""Incidents and notices: an operator writes them, and everyone reads them."""

from __future__ import annotations

import asyncio
import json

from gateway.console.web.banners import Banners
from gateway.store.accounts.audit import Actor
from gateway.store.announcements.notices import Notices
from gateway.store.sql.database import Database
from tests.support.operators import Operator, operator
from tests.support.reports import statements
from tests.support.waiting import wait_until

PATH = "/admin-ui/system/announcements"
BY = Actor("operator:user_1")
EVIL = '<script>alert("1")</script>'


async def act(page: Operator, path: str, **fields: str) -> int:
    """Send a form of the page."""
    idem = await page.idem(PATH)
    return (await page.post(path, idem=idem, **fields)).status_code


async def test_incident_is_on_the_status_page_at_once(database: Database) -> None:
    """With its models and updates, for people and for programs; it ends there as well."""
    page = await operator(database)
    assert "No incident yet" in await page.get(PATH)
    await page.get("/status")

    opened = await act(
        page, "/admin-ui/system/incidents", title=EVIL, text="We look at it.", models="kimi"
    )
    status = json.loads(await page.get("/status.json"))
    (incident,) = status["incidents"]
    text = await page.get("/status")
    assert opened == 303
    assert (incident["title"], incident["models"]) == (EVIL, ["kimi"])
    assert incident["state"] == "investigating"
    assert "Open incidents" in text
    assert EVIL not in text

    path = f"/admin-ui/system/incidents/{incident['id']}"
    assert await act(page, path, state="resolved", text="It is over.") == 303
    assert await act(page, path, state="monitoring", text="Again.") == 409
    assert await act(page, "/admin-ui/system/incidents/inc_x", state="resolved", text="t") == 404
    text = await page.get("/status")
    assert "Past incidents" in text
    assert "Open incidents" not in text
    entries = await page.changes(incident["id"])
    assert {each.actor for each in entries} == {"operator:user_1"}


async def test_form_that_is_wrong_keeps_its_fields(database: Database) -> None:
    """With the error beside the field."""
    page = await operator(database)
    response = await page.post(
        "/admin-ui/system/incidents", idem=await page.idem(PATH), title="Kept", text=""
    )

    assert response.status_code == 422
    assert "&#39;text&#39; must be" in response.text
    assert 'value="Kept"' in response.text


async def test_notice_is_a_banner_on_every_page(database: Database) -> None:
    """Public and signed in, kept or not, until it is ended; pages read no SQL for it."""
    page = await operator(database)
    assert EVIL not in await page.get("/")
    assert await act(page, "/admin-ui/system/notices", notice=EVIL, level="warn") == 303
    with statements(database) as ran:
        shown = [await page.get(path) for path in ("/app", "/admin-ui/system", "/status")]
    page.acme.console.viewers.viewer = None
    page.acme.console.client.cookies.clear()
    shown += [await page.get(path) for path in ("/", "/sign-in", "/docs")]
    assert [text.count('class="banner warn"') for text in shown] == [1] * 6
    assert not any(EVIL in text for text in shown)
    assert not any("FROM notices" in each for each in ran)
    (notice,) = json.loads(await page.get("/status.json"))["notices"]

    services = page.acme.console.services
    await services.announcements.end_notice(notice["id"], BY)
    await services.banners.refresh()
    assert 'class="banner' not in await page.get("/")


async def test_notice_of_another_console_is_shown_within_seconds(database: Database) -> None:
    """A task reads them; without one that is ended it says nothing."""
    page = await operator(database)
    banners, stop = Banners(Notices(database)), asyncio.Event()
    await act(page, "/admin-ui/system/notices", notice="Hello", level="info")
    following = asyncio.create_task(banners.run(stop))
    await wait_until(banners.active)
    stop.set()
    await following

    assert [each.text for each in banners.active()] == ["Hello"]
