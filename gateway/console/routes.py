"""All pages, each with the access it needs. A package of pages adds its `ROUTES` here."""

from __future__ import annotations

from gateway.console.activity.routes import ROUTES as ACTIVITY
from gateway.console.operators.routes import ROUTES as OPERATORS
from gateway.console.public.docs import ROUTES as DOCS
from gateway.console.public.home import ROUTES as HOME
from gateway.console.public.models import ROUTES as MODELS
from gateway.console.public.status import ROUTES as STATUS
from gateway.console.web.page import Route

ROUTES: tuple[Route, ...] = (*HOME, *MODELS, *DOCS, *STATUS, *ACTIVITY, *OPERATORS)
