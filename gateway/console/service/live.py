"""`/admin-ui/live`: the calls that run in all workers and pods, and those that ended last."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from time import monotonic
from typing import Any, Final

from starlette.responses import Response, StreamingResponse

from gateway.console.activity.requests import row_of
from gateway.console.activity.scope import viewer_zone
from gateway.console.reporting.amounts import duration
from gateway.console.reporting.filters import UTC
from gateway.console.service.live_board import (
    LAST_CALLS,
    MAX_VIEWERS,
    LiveFrame,
    merged,
    pods_of,
)
from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access
from gateway.core.routing.live import EVERY_S, WINDOW_S
from gateway.store.reports.directory import KeyNames

STREAM_S: Final = 590.0
"""How long a stream lasts; workers relay one for 10 minutes."""
CHECK_S: Final = 30.0
"""How often a stream looks whether its viewer is still an operator."""
_PATH: Final = "/admin-ui/live"


async def live(page: Page) -> Response:
    """Show the page, which follows `events`."""
    return page.render(
        "service/live.html",
        is_full=page.services.live.is_full,
        most=MAX_VIEWERS,
        minutes=round(STREAM_S / 60),
        **_values(page, await page.services.live.read()),
    )


async def events(page: Page) -> Response:
    """Respond with a frame of the page every 2 seconds, as a stream of events."""
    if page.services.live.is_full:
        return Response(page.text("Too many viewers."), 503, media_type="text/plain")
    return StreamingResponse(
        stream(page),
        media_type="text/event-stream",
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )


async def stream(
    page: Page, *, lasts_s: float = STREAM_S, every_s: float = EVERY_S
) -> AsyncIterator[str]:
    """Yield events with the parts of the page that change, and `end` after the last one."""
    board, began = page.services.live, monotonic()
    checked = began
    with board.viewing():
        while monotonic() - began < lasts_s:
            if monotonic() - checked > CHECK_S:
                checked = monotonic()
                viewer = await page.services.people.find(page.session_token)
                if viewer is None or not viewer.may(Access.OPERATOR):
                    return
            html = page.fragment("service/live_parts.html", **_values(page, await board.read()))
            yield "".join(f"data: {line}\n" for line in html.split("\n")) + "\n"
            await asyncio.sleep(every_s)
        yield "event: end\ndata:\n\n"


def _values(page: Page, frame: LiveFrame) -> dict[str, Any]:
    zone = viewer_zone(page) or UTC
    order = [
        (model.name, each.label)
        for model in page.services.catalogue.models
        for each in model.deployments
    ]
    reports, calls = frame.reports or (), frame.calls or ()
    names = frame.names
    keys = {key_id: each.key for key_id, each in names.items()}
    lines = merged(reports, order)
    return {
        "frame": frame,
        "lines": lines,
        "pods": pods_of(reports),
        "running": sum(each.running for each in reports),
        "unrouted": sum(each.running for each in reports) - sum(each.running for each in lines),
        "window_s": round(WINDOW_S),
        "last_calls": LAST_CALLS,
        "rows": [
            {
                **row_of(page, each, keys, zone),
                "names": names.get(
                    each.key_id, KeyNames(each.key_id, each.account_id, each.account_id)
                ),
            }
            for each in calls
        ],
        "zone": zone.key,
        "duration": duration,
    }


ROUTES = (
    Route("GET", _PATH, Access.OPERATOR, live),
    Route("GET", f"{_PATH}/events", Access.OPERATOR, events),
)
