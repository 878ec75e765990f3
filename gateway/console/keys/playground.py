"""
`/app/playground`: try a model from the page, or compare two with the same messages.

The browser calls `/v1` itself, with a key that only the memory of the page holds: for an hour, for
two calls at once, one to each model, and one dollar. No prompt passes through the console, and
nothing is stored.
"""

from __future__ import annotations

import time
from typing import Final

from starlette.responses import JSONResponse, Response

from gateway.console.web.page import Page, Route
from gateway.console.web.viewer import Access
from gateway.console.web.words import number
from gateway.core.limits import KeyLimits
from gateway.core.model import Usage
from gateway.core.money import dollars
from gateway.operations.refusals import UnknownCallError
from gateway.store.keys.repository import KeyDetails

LIFE_S: Final = 3600
LIMITS: Final = KeyLimits(concurrency=2, budget_total_nanousd=10**9)
ORIGIN: Final = "playground"
_MOST_KEYS: Final = 1000


async def show(page: Page) -> Response:
    """Show the form and an empty conversation."""
    services = page.services
    models = services.catalogue.models
    names = [model.name for model in models]
    wanted, other = page.query("model"), page.query("compare")
    return page.render(
        "keys/playground.html",
        models=models,
        model=wanted if wanted in names else next(iter(names), ""),
        other=other if other in names else "",
        base_url=services.settings.brand.public_url.rstrip("/"),
    )


async def create_key(page: Page) -> Response:
    """Respond with a new key for the page, and revoke the viewer's earlier ones."""
    keys, account_id = page.services.keys, page.account.account_id
    for row in await keys.list(account_id, limit=_MOST_KEYS):
        if row.origin == ORIGIN and row.created_by == page.actor.name and row.state == "active":
            await keys.revoke(row.id, page.actor)
    details = KeyDetails(
        name="Playground",
        expires_at=int(time.time()) + LIFE_S,
        limits=LIMITS,
        origin=ORIGIN,
    )
    created = await keys.create(account_id, details, page.actor)
    return JSONResponse({"key": created.raw}, headers={"cache-control": "no-store"})


async def show_cost(page: Page) -> Response:
    """Respond with what a call of the account used and cost; null until it is recorded."""
    try:
        call = await page.services.records.call(page.query("id"))
    except UnknownCallError:
        call = None
    if call is None or call.account_id != page.account.account_id:
        return JSONResponse(None, headers={"cache-control": "no-store"})
    facts = {"cost": dollars(call.cost_nanousd), "used": _used(page, call.usage)}
    return JSONResponse(facts, headers={"cache-control": "no-store"})


def _used(page: Page, usage: Usage) -> str:
    """Return the tokens of a call in the viewer's words: `1,000 input, 500 output`."""
    names = {
        "input": page.text("input"),
        "cache_read": page.text("cache read"),
        "cache_write": page.text("cache write"),
        "output": page.text("output"),
        "reasoning": page.text("reasoning"),
    }
    amounts = [(getattr(usage, item), name) for item, name in names.items()]
    return ", ".join(f"{number(amount)} {name}" for amount, name in amounts if amount)


ROUTES = (
    Route("GET", "/app/playground", Access.MEMBER, show),
    Route("POST", "/app/playground/key", Access.MEMBER, create_key),
    Route("GET", "/app/playground/cost", Access.MEMBER, show_cost),
)
