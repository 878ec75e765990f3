"""The routes of the account's pages."""

from __future__ import annotations

from gateway.console.activity.billing import ROUTES as BILLING
from gateway.console.activity.call import ROUTES as CALL
from gateway.console.activity.models import ROUTES as MODELS
from gateway.console.activity.own_limits import ROUTES as OWN_LIMITS
from gateway.console.activity.requests import ROUTES as REQUESTS
from gateway.console.activity.statement import ROUTES as STATEMENT
from gateway.console.activity.usage import ROUTES as USAGE
from gateway.console.web.page import Route

ROUTES: tuple[Route, ...] = (*USAGE, *REQUESTS, *CALL, *BILLING, *OWN_LIMITS, *STATEMENT, *MODELS)
