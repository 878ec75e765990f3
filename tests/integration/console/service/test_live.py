"""`/admin-ui/live`: running calls of all workers, ended ones, and the stream that follows them."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import Any, cast

import httpx2
import pytest
from starlette.responses import Response, StreamingResponse

from gateway.console.application import Application
from gateway.console.service.live import stream
from gateway.console.service.live_board import MAX_VIEWERS, LiveBoard, merged, pods_of
from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access
from gateway.core.routing.live import LiveLine, LiveReport
from gateway.store.redis.client import RedisUnavailable
from gateway.store.sql.database import Database
from tests.support.activity import EVIL, Acme, acme
from tests.support.console import ORIGIN, viewer
from tests.support.reports import statements

PARTS = ("live-now", "live-calls")
LONG = "pod-" + "x" * 124


def line(model: str, running: int, **counts: int) -> LiveLine:
    return LiveLine(model=model, deployment="p/m", running=running, **counts)


REPORTS = [
    LiveReport(
        worker="a", pod=LONG, version="1.0", running=4,
        lines=(line("kimi", 2, oldest_s=75, started=9, ended=8, failed=3, tokens=600),),
    ),
    LiveReport(worker="b", pod="pod-2", version="1.0", running=1, lines=(line("zzz", 1),)),
    LiveReport(
        worker="c", pod="pod-2", version="1.1", running=1,
        lines=(line("kimi", 1, oldest_s=5, started=1), line("deepseek-v4-flash", 0, ended=1)),
    ),
]  # fmt: skip


class FixedReports:
    """What workers published; None: Redis does not respond."""

    def __init__(self, reports: list[LiveReport] | None) -> None:
        self.reports = reports
        self.reads = 0

    async def read(self) -> list[LiveReport]:
        self.reads += 1
        if self.reports is None:
            raise RedisUnavailable("closed")
        return self.reports


@pytest.fixture
async def page(database: Database) -> Acme:
    """An operator, and the reports of three workers."""
    found = await acme(database)
    found.console.viewers.viewer = viewer(found.account_id, is_operator=True)
    publish(found, REPORTS)
    return found


def publish(page: Acme, reports: list[LiveReport] | None) -> FixedReports:
    fixed = FixedReports(reports)
    board = page.console.services.live = LiveBoard(page.console.services)
    board._reports = cast("Any", fixed)
    return fixed


def test_calls_are_summed_over_workers_in_the_order_of_the_catalogue() -> None:
    """A model that is no longer configured comes last."""
    found = merged(REPORTS, [("deepseek-v4-flash", "p/m"), ("kimi", "p/m")])

    assert found == [
        line("deepseek-v4-flash", 0, ended=1),
        line("kimi", 3, oldest_s=75, started=10, ended=8, failed=3, tokens=600),
        line("zzz", 1),
    ]


def test_hosts_show_every_version() -> None:
    """Two during a rollout."""
    found = {pod.name: (pod.workers, pod.running, pod.versions) for pod in pods_of(REPORTS)}

    assert found == {LONG: (1, 4, ("1.0",)), "pod-2": (2, 2, ("1.0", "1.1"))}


async def test_page_shows_running_and_ended_calls(database: Database, page: Acme) -> None:
    """With the calls whose model is not known yet; two statements beside the session's."""
    with statements(database) as ran:
        text = await page.get("/admin-ui/live")

    assert len(ran) == 2
    assert "<dt>Running calls</dt><dd>6</dd>" in text
    assert "2 calls more are being read." in text
    assert "<dt>Tokens/s</dt><dd>10</dd>" in text
    assert "1.0, 1.1" in text
    assert text.count("data-call=") == 4
    assert "alert(" not in text.replace("alert(&#34;1&#34;)", "")
    assert EVIL not in text


async def test_page_says_what_does_not_respond(page: Acme) -> None:
    """Without Redis the ended calls are shown all the same; without calls it says so."""
    publish(page, None)
    text = await page.get("/admin-ui/live")
    assert "Redis does not respond." in text
    assert text.count("data-call=") == 4

    publish(page, [])
    assert "No worker reports" in await page.get("/admin-ui/live")


async def test_frame_is_read_once_for_all_viewers(page: Acme) -> None:
    """However many look within two seconds."""
    fixed = publish(page, REPORTS)

    await asyncio.gather(*(page.get("/admin-ui/live") for _ in range(5)))

    assert fixed.reads == 1


async def test_stream_sends_the_parts_of_the_page_and_ends(page: Acme) -> None:
    """Each event has both parts; places of viewers are given back."""
    board = page.console.services.live

    async def short(asked: Page) -> Response:
        assert board._viewers == 0
        return StreamingResponse(stream(asked, lasts_s=0.05, every_s=0.03))

    application = Application(
        page.console.services,
        page.console.viewers,
        [Route("GET", "/admin-ui/live/events", Access.OPERATOR, short)],
    )
    transport = httpx2.ASGITransport(app=application)
    client = httpx2.AsyncClient(transport=transport, base_url=ORIGIN, cookies={"session": "any"})
    async with client:
        text = (await client.get("/admin-ui/live/events")).text

    *frames, end, rest = text.split("\n\n")
    assert (end, rest) == ("event: end\ndata:", "")
    assert frames
    assert all(line.startswith("data: ") for line in "\n".join(frames).split("\n"))
    assert all(frame.count(f'id="{part}"') == 1 for frame in frames for part in PARTS)
    assert board._viewers == 0


async def test_viewers_are_bounded(page: Acme) -> None:
    """One more gets the page as it is, and no stream."""
    with ExitStack() as stack:
        for _ in range(MAX_VIEWERS):
            stack.enter_context(page.console.services.live.viewing())
        text = await page.get("/admin-ui/live")
        await page.get("/admin-ui/live/events", 503)

    assert "20 viewers is reached." in text
    assert "data-stream" not in text
    assert 'data-stream="/admin-ui/live/events"' in await page.get("/admin-ui/live")
