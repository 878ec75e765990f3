"""The routes of the operators' pages."""

from __future__ import annotations

from gateway.console.operators.audit import ROUTES as AUDIT
from gateway.console.operators.margins import ROUTES as MARGINS
from gateway.console.web.page import Route

ROUTES: tuple[Route, ...] = (*MARGINS, *AUDIT)
