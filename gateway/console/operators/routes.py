"""The routes of the operators' pages about accounts, money and people."""

from __future__ import annotations

from gateway.console.operators.account import ROUTES as ACCOUNT
from gateway.console.operators.accounts import ROUTES as ACCOUNTS
from gateway.console.operators.announcements import ROUTES as ANNOUNCEMENTS
from gateway.console.operators.audit import ROUTES as AUDIT
from gateway.console.operators.codes import ROUTES as CODES
from gateway.console.operators.keys import ROUTES as KEYS
from gateway.console.operators.margins import ROUTES as MARGINS
from gateway.console.operators.people import ROUTES as PEOPLE
from gateway.console.operators.requests import ROUTES as REQUESTS
from gateway.console.operators.simulator import ROUTES as SIMULATOR
from gateway.console.operators.view_as import ROUTES as VIEW_AS
from gateway.console.web.page import Route

ROUTES: tuple[Route, ...] = (
    *ACCOUNTS,
    *ACCOUNT,
    *KEYS,
    *REQUESTS,
    *CODES,
    *MARGINS,
    *SIMULATOR,
    *AUDIT,
    *PEOPLE,
    *ANNOUNCEMENTS,
    *VIEW_AS,
)
