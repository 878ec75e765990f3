"""`/`: what the service is, what it costs, and how to start."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from gateway.console.library.sources import ROOT
from gateway.console.public.kept import page_response
from gateway.console.public.models import table_values
from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access

if TYPE_CHECKING:
    from gateway.console.library.markdown import Snippet

CLIENTS = (
    ("claude-code", "Claude Code"),
    ("opencode", "OpenCode"),
    ("openclaw", "OpenClaw"),
    ("codex", "Codex"),
)


async def show(page: Page) -> Response:
    summary = page.services.status.summary()
    return page_response(
        page, "public/home.html", lambda: _home_values(page, summary), variant=summary
    )


def _home_values(page: Page, summary: str) -> dict[str, Any]:
    from gateway.console.library.markdown import marked  # noqa: PLC0415 -- loads Pygments

    guide = page.services.public.library.guide(ROOT)
    clients = []
    for name, label in CLIENTS:
        snippet = _snippet(page, name)
        clients.append((name, label, snippet.title, marked(snippet)))
    curl = next(each for each in guide.rendered.snippets if each.tab == "curl")
    return {
        "site": page.services.public.site,
        "curl": marked(curl),
        "summary": summary,
        "clients": clients,
        "retention_days": page.services.settings.sql.usage_retention_days,
        **table_values(page),
    }


def _snippet(page: Page, client: str) -> Snippet:
    """Return the set-up of a client as its page shows it, which is what the tests run."""
    doc = page.services.public.library.guide(f"{ROOT}/clients/{client}")
    return next(each for each in doc.rendered.snippets if each.test == client)


async def privacy(page: Page) -> Response:
    """Respond with the data that is stored about calls, by the settings."""
    return page_response(
        page,
        "public/text.html",
        lambda: {"doc": page.services.public.library.guide(f"{ROOT}/privacy")},
    )


ROUTES = (
    Route("GET", "/", Access.PUBLIC, show),
    Route("GET", "/privacy", Access.PUBLIC, privacy),
)
