"""The landing page: what the service is, its base URLs and its prices."""

from __future__ import annotations

from starlette.responses import Response

from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access


async def home(page: Page) -> Response:
    """Show base URLs and prices."""
    return page.render("public/home.html", models=page.services.catalogue.models)


ROUTES = (Route("GET", "/", Access.PUBLIC, home),)
