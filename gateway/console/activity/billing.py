"""`/app/billing`: balance, ledger, budgets and redemption codes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence

from starlette.responses import Response

from gateway.console.activity.scope import (
    calls_href,
    download,
    period_ms,
    viewer_zone,
    zone_options,
)
from gateway.console.activity.statement import statement_months
from gateway.console.activity.usage import range_options
from gateway.console.reporting.downloads import ExportRow
from gateway.console.reporting.filters import UsageFilter
from gateway.console.reporting.zones import Period, Step, buckets, segments
from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access
from gateway.console.web.words import DAY_FORM
from gateway.core.calendar import DAY_MS, month_of, rfc3339
from gateway.core.limits import Limits
from gateway.core.money import dollars
from gateway.store.accounts.accounts import Account
from gateway.store.accounts.audit import Actor
from gateway.store.accounts.codes import CodeSpentError, UnknownCodeError
from gateway.store.accounts.credits import AmountError, EntryKind, LedgerEntry
from gateway.store.accounts.snapshot import Spent
from gateway.store.hot_state.current_use import MoneyInUse
from gateway.store.reports.statements import Statements
from gateway.store.reports.usage import Run, SumsFilter, UsageSums

PER_PAGE = 100
_COLUMNS = (
    "id", "time", "kind", "amount_usd", "balance_after_usd", "reason", "request_id", "actor",
)  # fmt: skip


async def billing(page: Page) -> Response:
    """Show the account's money."""
    return await _show(page)


async def redeem(page: Page) -> Response:
    """Redeem a code into the account."""
    form = await page.form()
    code = form.text("code")
    try:
        entry = await page.services.accounts.redeem(
            page.account.account_id, code, Actor(f"user:{page.viewer.user_id}")
        )
    except UnknownCodeError:
        problem = page.text("There is no such code. Check each character.")
    except CodeSpentError as error:
        problem = {
            "redeemed": page.text("This code was redeemed already."),
            "revoked": page.text("This code was revoked. Ask who gave it to you."),
            "expired": page.text("This code has expired. Ask who gave it to you."),
        }.get(error.state, str(error))
    except AmountError as error:
        problem = page.text("This code cannot be redeemed: %(reason)s", reason=error)
    else:
        return page.redirect(f"/app/billing?redeemed={entry.id}")
    return await _show(page, code=code, problem=problem)


async def _show(page: Page, *, code: str = "", problem: str = "") -> Response:
    services, account_id = page.services, page.account.account_id
    shown = UsageFilter.read(page.request.query_params, viewer_zone(page))
    now_s = time.time()
    period = shown.dates.period(now_s)
    statements = Statements(services.database)
    every = page.query("view") == "all"
    before_id = _entry_id(page.query("before"))
    file = download(
        page, f"ledger-{account_id}", _COLUMNS,
        _export(
            statements.export(account_id, before_id=before_id),
            None if every else period_ms(period),
        ),
    )  # fmt: skip
    if file is not None:
        return file
    account = await services.accounts.get(account_id)
    in_use = await services.current_use.money(account_id)
    spent = await _spent(statements, account, now_s)
    entries: Sequence[LedgerEntry] = ()
    days: list[dict[str, object]] = []
    if every:
        entries = await statements.entries(account_id, before_id=before_id, limit=PER_PAGE + 1)
    else:
        movements = await statements.movements(account_id, *period_ms(period))
        days = _folded(page, movements, await _charges(page, period), period)
    redeemed = _entry_id(page.query("redeemed"))
    return page.render(
        "activity/billing.html",
        status=422 if problem else 200,
        account=account,
        in_use=in_use,
        available=_available(account, in_use),
        is_low=account.is_low,
        saved=page.query("saved") == "1",
        months=statement_months(account, now_s),
        is_prepaid=account.terms.credit_nanousd == 0,
        budgets=_budgets(page, account.limits_in_force, spent),
        shown=shown,
        period=period,
        every=every,
        entries=entries[:PER_PAGE],
        older=entries[PER_PAGE - 1].id if len(entries) > PER_PAGE else None,
        is_first=before_id is None,
        days=days,
        zone=shown.dates.zone.key,
        options={
            "range": range_options(page),
            "zone": zone_options(shown.dates.zone, viewer_zone(page)),
        },
        code=code,
        problem=problem,
        redeemed=await _redeemed(statements, account_id, redeemed),
        query=shown.query(),
    )


def _available(account: Account, in_use: MoneyInUse | None) -> int | None:
    """Return what further calls may cost; None: unlimited. Without Redis, what SQL knows."""
    credit = account.terms.credit_nanousd
    if credit is None or in_use is None:
        return account.available_nanousd
    used = in_use.held_nanousd + in_use.unbooked_nanousd
    return max(0, account.balance_nanousd + credit - used)


async def _spent(statements: Statements, account: Account, now_s: float) -> Spent:
    """Return the spending that budgets are checked against; reads nothing if there are none."""
    limits = account.limits_in_force
    if (limits.budget_day_nanousd, limits.budget_month_nanousd, limits.budget_total_nanousd) == (
        None, None, None,
    ):  # fmt: skip
        return Spent()
    day = int(now_s * 1000) // DAY_MS
    return await statements.spent(account.id, day=day, month=month_of(day))


def _budgets(page: Page, limits: Limits, spent: Spent) -> list[dict[str, object]]:
    found = (
        (page.text("Today (UTC)"), limits.budget_day_nanousd, spent.day_nanousd),
        (page.text("This month (UTC)"), limits.budget_month_nanousd, spent.month_nanousd),
        (page.text("In total"), limits.budget_total_nanousd, spent.total_nanousd),
    )
    return [
        {"name": name, "budget": budget, "spent": used, "share": used / budget if budget else 1.0}
        for name, budget, used in found
        if budget is not None
    ]


async def _charges(page: Page, period: Period) -> Mapping[int, tuple[int, int]]:
    """Return calls and cost of each day that has calls, by the day's index in the period."""
    runs = [Run(*run) for run in segments(buckets(period, Step.DAY))]
    which = SumsFilter(account_id=page.account.account_id)
    rows = await UsageSums(page.services.database).read(which, runs)
    return {row.time: (row.sum.calls, row.sum.cost_nanousd) for row in rows}


def _folded(
    page: Page,
    movements: Sequence[LedgerEntry],
    charges: Mapping[int, tuple[int, int]],
    period: Period,
) -> list[dict[str, object]]:
    """Return the lines of a statement, newest first: movements, and the charges of each day."""
    bars = buckets(period, Step.DAY)
    lines: list[tuple[int, dict[str, object]]] = []
    for n, (calls, cost_nanousd) in charges.items():
        day = bars[n].at.date()
        line: dict[str, object] = {
            "day": page.date(day, DAY_FORM),
            "calls": calls,
            "amount": -cost_nanousd,
            "href": calls_href(Period(day, day, period.zone)),
        }
        lines.append((bars[n].end * 900_000 - 1, line))
    lines += [(entry.at_ms, {"entry": entry}) for entry in movements]
    lines.sort(key=lambda line: line[0], reverse=True)
    return [line for _, line in lines]


async def _redeemed(
    statements: Statements, account_id: str, entry_id: int | None
) -> LedgerEntry | None:
    """Return the entry of a code that was just redeemed, for the confirmation."""
    if entry_id is None:
        return None
    found = await statements.entries(account_id, before_id=entry_id + 1, limit=1)
    is_it = bool(found) and found[0].id == entry_id and found[0].kind is EntryKind.CODE
    return found[0] if is_it else None


def _entry_id(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


async def _export(
    entries: AsyncIterator[LedgerEntry], within_ms: tuple[int, int] | None
) -> AsyncIterator[ExportRow]:
    """Yield rows of entries, newest first; of a period, if one is given."""
    async for entry in entries:
        if within_ms is not None and entry.at_ms >= within_ms[1]:
            continue
        if within_ms is not None and entry.at_ms < within_ms[0]:
            return
        yield [
            entry.id, rfc3339(entry.at_ms // 1000), entry.kind.value,
            dollars(entry.amount_nanousd), dollars(entry.balance_after_nanousd), entry.reason,
            entry.request_id, entry.actor,
        ]  # fmt: skip


ROUTES = (
    Route("GET", "/app/billing", Access.VIEWER, billing),
    Route("POST", "/app/billing/redeem", Access.MEMBER, redeem),
)
