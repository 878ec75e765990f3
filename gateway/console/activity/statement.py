"""`/app/billing/statement`: the statement of a month, as a page to print."""

from __future__ import annotations

import re
import time

from starlette.exceptions import HTTPException
from starlette.responses import Response

from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access
from gateway.core.calendar import DAY_MS, date_of, first_day_of, month_of
from gateway.store.accounts.accounts import Account
from gateway.store.reports.month_statement import month_statement
from gateway.store.reports.statements import MOST_MOVEMENTS

_LISTED = 36
"""Months that the billing page offers; older ones have pages, too."""
_MONTH = re.compile(r"([12]\d{3})-(0[1-9]|1[0-2])", re.ASCII)


async def show_statement(page: Page) -> Response:
    """Show the month of the URL, by default the current one."""
    now_s = time.time()
    current = _month_at(now_s)
    month = read_month(page.query("month") or month_name(current))
    if month is None or not _month_at(0) <= month <= current:
        raise HTTPException(404)
    found = await month_statement(page.services.database, page.account.account_id, month)
    last = first_day_of(month + 1) - 1
    return page.render(
        "activity/statement.html",
        statement=found,
        account=found.account,
        month=month_name(month),
        first=date_of(first_day_of(month)).isoformat(),
        last=date_of(last).isoformat(),
        days=[(date_of(day).isoformat(), amount) for day, amount in found.days],
        is_current=month == current,
        months=statement_months(found.account, now_s),
        most=MOST_MOVEMENTS,
        has_more=sum(n for _, n, _ in found.kinds) > len(found.movements),
        printed_at=int(now_s),
    )


def statement_months(account: Account, now_s: float) -> list[tuple[str, str]]:
    """Return the months of an account's life as options of a select, newest first."""
    current = _month_at(now_s)
    first = min(max(_month_at(account.created_at), current - _LISTED + 1), current)
    return [(month_name(month), month_name(month)) for month in range(current, first - 1, -1)]


def month_name(month: int) -> str:
    """Return a month as `2027-02`."""
    year, before = divmod(month, 12)
    return f"{year:04}-{before + 1:02}"


def read_month(text: str) -> int | None:
    """Return the month of a text like `2027-02`; None: it is none."""
    match = _MONTH.fullmatch(text)
    return None if match is None else int(match[1]) * 12 + int(match[2]) - 1


def _month_at(unix_s: float) -> int:
    return month_of(int(unix_s * 1000) // DAY_MS)


ROUTES = (Route("GET", "/app/billing/statement", Access.VIEWER, show_statement),)
