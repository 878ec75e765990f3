"""`/admin-ui/system/components`: every part that pages are made of, to look at."""

from __future__ import annotations

import time

from starlette.responses import Response

from gateway.console.reporting.amounts import compact
from gateway.console.reporting.plots import Bar, Series, lines, share_bar, stacked_bars
from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access

LONG_NAME = f"a-name-of-128-characters-{'0123456789' * 10}-ab"
_BARS = 14
_COLORS = 8


async def components(page: Page) -> Response:
    """Show the page; its numbers are samples."""
    bars = [Bar(str(n + 1), page.text("Sample %(num)s", num=n + 1)) for n in range(_BARS)]
    series = [
        Series(f"series-{color}", color, [(n * color) % 7 + 1 for n in range(_BARS)])
        for color in range(1, _COLORS + 1)
    ]
    label = page.text("Sample numbers")
    return page.render(
        "service/components.html",
        now=int(time.time()),
        long=LONG_NAME,
        stacked=stacked_bars(bars, series, label, compact),
        lined=lines(bars, series[:2], label, compact),
        share=share_bar([(each.name, each.color, each.color) for each in series[:4]], label),
        series=[(each.name, each.color) for each in series],
        options=[("a", "deepseek-v4-flash"), ("b", "kimi-k3"), ("c", LONG_NAME)],
    )


ROUTES = (Route("GET", "/admin-ui/system/components", Access.OPERATOR, components),)
