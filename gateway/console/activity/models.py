"""`/app/models`: what the account's keys may use, and what it used and paid."""

from __future__ import annotations

import time

from starlette.responses import Response

from gateway.console.activity.scope import calls_href, viewer_zone
from gateway.console.reporting.filters import UTC, Dates, Range
from gateway.console.reporting.zones import Step, buckets, segments
from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access
from gateway.core.model import Model
from gateway.store.reports.usage import Run, SumsBy, SumsFilter, UsageSum, UsageSums

_SORTS = ("", "input", "output", "context", "spent")


async def models(page: Page) -> Response:
    """Show all models with their prices and the account's use of them in four weeks."""
    dates = Dates(range=Range.FOUR_WEEKS, zone=viewer_zone(page) or UTC)
    period = dates.period(time.time())
    runs = [Run(*run) for run in segments(buckets(period, Step.DAY))]
    which = SumsFilter(account_id=page.account.account_id)
    used: dict[str, UsageSum] = {}
    for row in await UsageSums(page.services.database).read(which, runs, SumsBy.MODEL):
        used[row.group] = used.get(row.group, UsageSum()) + row.sum
    sort = page.query("sort")
    found = _sorted(page.services.catalogue.models, used, sort)
    return page.render(
        "activity/models.html",
        models=[
            {
                "model": model,
                "used": used.get(model.name, UsageSum()),
                "href": calls_href(period, model=model.name),
            }
            for model in found
        ],
        sort=sort if sort in _SORTS else "",
        period=period,
    )


def _sorted(models: tuple[Model, ...], used: dict[str, UsageSum], sort: str) -> list[Model]:
    """Return the models in the order of the catalogue, unless another one is requested."""
    if sort == "input":
        return sorted(models, key=lambda model: model.prices.input)
    if sort == "output":
        return sorted(models, key=lambda model: model.prices.output)
    if sort == "context":
        return sorted(models, key=lambda model: -model.context)
    if sort == "spent":
        nothing = UsageSum()
        return sorted(models, key=lambda model: -used.get(model.name, nothing).cost_nanousd)
    return list(models)


ROUTES = (Route("GET", "/app/models", Access.VIEWER, models),)
