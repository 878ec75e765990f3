"""A key's page shows its days and what its limiter counts, from the real limiter."""

from __future__ import annotations

import re
import time

import msgspec
import pytest

from gateway.console.keys.key_use import Gauge
from gateway.core.limits import KeyLimits
from gateway.core.model import Usage
from gateway.store.hot_state.current_use import CurrentUse
from gateway.store.keys.repository import KeyDetails, NewKey
from gateway.store.sql.database import Database
from tests.support.activity import BY, Acme, acme
from tests.support.booking import book_calls
from tests.support.metering import MeteringWorld, ask_for
from tests.support.reports import statements
from tests.support.usage import usage_event

LIMITS = KeyLimits(rpm=10, tpm=1000, concurrency=3)
TILE = re.compile(r"<dt>([^<]+)</dt><dd>([^<]+)</dd><dd>([^<]+)")


@pytest.fixture
async def page(database: Database) -> Acme:
    return await acme(database)


async def new_key(page: Acme, limits: KeyLimits | None) -> NewKey:
    details = KeyDetails(name="laptop", limits=limits)
    return await page.console.services.keys.create(page.account_id, details, BY)


def tiles(text: str) -> dict[str, tuple[str, str]]:
    """The gauges of the part: name to value and note."""
    part = text[text.index('id="key-now"') :]
    found = TILE.findall(part[: part.index("</section>")])
    return {name: (value, note.strip()) for name, value, note in found}


@pytest.mark.redis
async def test_part_counts_as_the_limiter_does(page: Acme, world: MeteringWorld) -> None:
    """Running calls, requests and tokens against the limits; with a meter each."""
    key = (await new_key(page, LIMITS)).row
    page.console.services.current_use = CurrentUse(world.worker.bus, world.prefix, world.clock)
    world.sql.put(page.account_id, balance=10**9)
    asked = ask_for(account_id=page.account_id, key_id=key.id, limits=LIMITS)
    headroom = (await world.worker.reserve(asked)).headroom
    await world.worker.reserve(msgspec.structs.replace(asked, request_id="req_second"))

    part = await page.get(f"/app/api-keys/{key.id}/now")
    whole = await page.get(f"/app/api-keys/{key.id}")

    assert headroom.tokens is not None
    taken = 2 * (1000 - headroom.tokens.remaining)
    expected = {
        "Requests this minute": ("2", "of 10"),
        "Tokens this minute": (f"{taken}", "of 1,000"),
        "Running calls": ("2", "of 3"),
    }
    assert tiles(part) == tiles(whole) == expected
    assert part.count('role="meter"') == 3
    assert 'hx-trigger="every 5s"' in part
    assert 'hx-trigger="load, every 5s"' in whole


@pytest.mark.redis
async def test_key_without_limits_shows_ended_calls(page: Acme, world: MeteringWorld) -> None:
    """Of the last minute and of this key only, beside its running calls."""
    key = (await new_key(page, None)).row
    page.console.services.current_use = CurrentUse(world.worker.bus, world.prefix, world.clock)
    now_ms = int(time.time() * 1000)
    calls = [
        usage_event(
            f"req_now_{n}", account_id=page.account_id, key_id=key_id, at_ms=now_ms - age_ms,
            usage=Usage(input=100, cache_read=20, output=3),
        )
        for n, (key_id, age_ms) in enumerate(
            ((key.id, 0), (key.id, 30_000), (key.id, 90_000), (page.key_id, 0))
        )
    ]  # fmt: skip
    await book_calls(page.console.services.database, *calls)
    world.sql.put(page.account_id, balance=10**9)
    await world.worker.reserve(ask_for(account_id=page.account_id, key_id=key.id))

    assert tiles(await page.get(f"/app/api-keys/{key.id}/now")) == {
        "Requests this minute": ("2", "no limit; calls that ended"),
        "Tokens this minute": ("246", "no limit; calls that ended"),
        "Running calls": ("1", "no limit"),
    }


async def test_page_says_that_redis_is_away(database: Database, page: Acme) -> None:
    """With the plot of the key's calls, in at most five statements, the session's aside."""
    with statements(database) as ran:
        text = await page.get(f"/app/api-keys/{page.key_id}")

    assert len(ran) <= 5
    assert "Redis does not respond" in text
    assert "Show as table" in text
    assert f"key={page.key_id}" in text
    assert tiles(text) == {}


async def test_revoked_key_has_no_now(page: Acme) -> None:
    """Its usage stays; a key of another account is not found."""
    await page.console.services.keys.revoke(page.key_id, BY)

    text = await page.get(f"/app/api-keys/{page.key_id}")
    await page.get("/app/api-keys/key_none/now", 404)
    other = await page.console.services.accounts.create("Other", None, BY)
    foreign = await page.console.services.keys.create(other.id, KeyDetails(name="x"), BY)
    await page.get(f"/app/api-keys/{foreign.row.id}/now", 404)

    assert 'id="key-now"' not in text
    assert "Show as table" in text


def test_gauge_of_a_limit_that_is_reached() -> None:
    """The meter is full, not more than full by rounding; nothing counted is empty."""
    assert Gauge("x", 10, 10).share == 1
    assert Gauge("x", None, 10).share == 0
