"""`/admin-ui/margins/simulator`: what the last 30 days would have been at other prices."""

from __future__ import annotations

import time
from collections.abc import Mapping
from fractions import Fraction
from typing import Final

import msgspec
from starlette.responses import Response

from gateway.console.operators.accounts import SUM_DAYS, sums_since
from gateway.console.reporting.amounts import percent
from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access
from gateway.core.model import Model, TokenPrices
from gateway.core.money import dollars, read_dollars
from gateway.store.reports.usage import Run, SumsFilter, UsageSum, UsageSums, total

CLASSES: Final = ("input", "cache_read", "cache_write", "output", "reasoning")
FREE: Final = ("insured",)
"""Outcomes of calls that are not charged."""
MOST_NANOUSD: Final = 10**15
_PER: Final = 10**6
_QUARTER_S: Final = 900


class Simulation(msgspec.Struct, frozen=True, kw_only=True):
    """The charges of a period at some prices, and their margin over the known costs."""

    charged_nanousd: int
    margin_nanousd: int | None
    """None: not the cost of every call is known."""


def simulate(usage: UsageSum, prices: Mapping[str, int]) -> int:
    """
    Return what tokens cost at prices per million, rounded up to a nano-dollar.

    Service tiers and prices of long contexts are left out, since sums do not keep them apart.
    """
    exact = sum(
        (Fraction(getattr(usage, name) * prices[name], _PER) for name in CLASSES), Fraction()
    )
    return -int(-exact // 1)


def compare(usage: UsageSum, charged_nanousd: int) -> Simulation:
    """Return the charges with the margin, if every call of the period has a known cost."""
    is_known = usage.calls > 0 and usage.calls_without_cost == 0
    margin = charged_nanousd - usage.upstream_cost_nanousd if is_known else None
    return Simulation(charged_nanousd=charged_nanousd, margin_nanousd=margin)


def toml_of(model: str, prices: Mapping[str, int]) -> str:
    """Return the lines of the configuration that would set these prices."""
    fields = ", ".join(f'{name} = "{dollars(prices[name])}"' for name in CLASSES)
    return f"[[models]]\nname = {msgspec.json.encode(model).decode()}\nprices = {{ {fields} }}"


async def simulator(page: Page) -> Response:
    """Show a model's last 30 days at its prices and at those of the form."""
    models = {model.name: model for model in page.services.catalogue.models}
    model = models.get(page.query("model")) or next(iter(models.values()), None)
    if model is None:
        return page.render("operators/simulator.html", model=None)
    today = _prices_of(model)
    entered = {name: page.query(name) for name in CLASSES}
    prices, errors = _read(page, entered, today)
    usage = await _usage(page, model.name)
    listed = compare(usage, simulate(usage, today))
    other = compare(usage, simulate(usage, prices))
    return page.render(
        "operators/simulator.html",
        model=model,
        models=[(name, name) for name in models],
        fields={
            name: entered[name] if name in errors else dollars(prices[name]) for name in CLASSES
        },
        errors=errors,
        usage=usage,
        actual=compare(usage, usage.cost_nanousd),
        listed=listed,
        other=other,
        change=_change(listed.charged_nanousd, other.charged_nanousd),
        toml=toml_of(model.name, prices),
        days=SUM_DAYS,
        percent=percent,
    )


async def _usage(page: Page, model: str) -> UsageSum:
    now = time.time()
    since, until = sums_since(now), int(now) // _QUARTER_S + 1
    sums, runs = UsageSums(page.services.database), [Run(since, until, 0, until - since)]
    served = total(await sums.read(SumsFilter(model=model), runs))
    return served - total(await sums.read(SumsFilter(model=model, outcomes=FREE), runs))


def _prices_of(model: Model) -> dict[str, int]:
    prices: TokenPrices = model.prices
    return {name: getattr(prices, name) for name in CLASSES}


def _read(
    page: Page, entered: Mapping[str, str], today: Mapping[str, int]
) -> tuple[dict[str, int], dict[str, str]]:
    prices, errors = dict(today), {}
    for name, text in entered.items():
        if not text.strip():
            continue
        try:
            value = read_dollars(text.strip().replace(",", ""))
        except ValueError:
            value = -1
        if 0 <= value <= MOST_NANOUSD:
            prices[name] = value
        else:
            errors[name] = page.text("Enter dollars per million tokens, from 0 on.")
    return prices, errors


def _change(before: int, after: int) -> str:
    if before == after:
        return ""
    sign = "+" if after > before else "\N{MINUS SIGN}"
    return f"{sign}{percent(abs(after - before), before)}" if before else ""


ROUTES = (Route("GET", "/admin-ui/margins/simulator", Access.OPERATOR, simulator),)
