"""All pages, each with the access it needs. A package of pages adds its `ROUTES` here."""

from __future__ import annotations

from gateway.console.public.home import ROUTES as HOME
from gateway.console.web.page import Route

ROUTES: tuple[Route, ...] = (*HOME,)
