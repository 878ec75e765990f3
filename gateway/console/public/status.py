"""`/status` and `/status.json`: the health of models by real calls, now and over 90 days."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import JSONResponse, Response

from gateway.console.public.health import DEGRADED_ABOVE, DOWN_ABOVE, SLOWER
from gateway.console.public.kept import page_response
from gateway.console.public.status_board import DAYS, KEPT_S, RECENT_MINUTES
from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access
from gateway.operations.objects import incident_object, notice_object


async def show(page: Page) -> Response:
    """Respond with the page."""
    board = await page.services.status.read()
    return page_response(
        page,
        "public/status.html",
        lambda: {
            "board": board,
            "days": DAYS,
            "minutes": RECENT_MINUTES,
            "degraded": round(100 * DEGRADED_ABOVE),
            "down": round(100 * DOWN_ABOVE),
            "slower": SLOWER,
        },
        variant=f"{board.at} {board.incidents[0].id if board.incidents else ''}",
    )


async def as_json(page: Page) -> Response:
    """Respond with the same for programs."""
    status = await page.services.status.read()
    data: list[dict[str, Any]] = [
        {
            "model": each.name,
            "state": each.state.value,
            "attempts": each.attempts,
            "failed": each.failed,
            "ttft_p50_ms": each.ttft_p50_ms,
            "ttft_p95_ms": each.ttft_p95_ms,
            "days": [msgspec.to_builtins(day) for day in status.days.get(each.name, ())],
        }
        for each in status.models
    ]
    return JSONResponse(
        {
            "object": "status",
            "at": status.at,
            "minutes": RECENT_MINUTES,
            "data": data,
            "incidents": [incident_object(each) for each in status.incidents],
            "notices": [notice_object(each) for each in page.services.banners.active()],
        },
        headers={"cache-control": f"public, max-age={KEPT_S:.0f}"},
    )


ROUTES = (
    Route("GET", "/status", Access.PUBLIC, show),
    Route("GET", "/status.json", Access.PUBLIC, as_json),
)
