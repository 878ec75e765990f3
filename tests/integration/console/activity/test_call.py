"""`/app/requests/{id}`."""

from __future__ import annotations

import html
import json

import pytest

from gateway.console.activity import call as call_page
from gateway.core.money import dollars
from gateway.store.sql.database import Database
from gateway.store.usage.retention import purge_usage
from tests.support.activity import EVIL, Acme, acme
from tests.support.reports import statements


@pytest.fixture
async def page(database: Database, monkeypatch: pytest.MonkeyPatch) -> Acme:
    """An account with three calls; unknown ones are not awaited."""
    monkeypatch.setattr(call_page, "_TRIES", 1)
    return await acme(database)


async def test_page_explains_the_cost_line_by_line(database: Database, page: Acme) -> None:
    """Tokens times prices, their exact products and the sum, which is the charge."""
    with statements(database) as ran:
        text = await page.get("/app/requests/req_0")

    charged = page.calls[0].cost_nanousd
    assert charged == 1_840_000
    assert len(ran) <= 3
    for part in ("× $1.00", "$0.001<", "× $0.10", "$0.0002<", "× $2.00", "$0.0006<", "$0.00004<"):
        assert part in text, part
    assert f"${dollars(charged)}" in text
    assert f"\N{MINUS SIGN}${dollars(charged)}" in text
    assert "The response was delivered to its end." in text


async def test_failed_call_shows_the_error_with_advice_and_its_attempts(page: Acme) -> None:
    """What clients chose is escaped."""
    text = await page.get("/app/requests/req_1")

    assert "Error: upstream_broken" in text
    assert "The upstream was the cause." in text
    assert "rate_limited" in text
    assert "q/m" in text
    assert EVIL not in text


async def test_record_is_there_as_json(page: Acme) -> None:
    """Without upstream costs and addresses."""
    found = json.loads(await page.get("/app/requests/req_1?format=json"))

    assert (found["request_id"], found["outcome"], found["status"]) == ("req_1", "failed", 502)
    assert found["usage"]["cache_read_tokens"] == 2000
    assert [each["result"] for each in found["attempts"]] == ["rate_limited", "interrupted"]
    assert not {"address", "upstream_cost", "provider"} & set(found)
    text = await page.get("/app/requests/req_1")
    shown = text.partition('<pre id="record-json" tabindex="0"><code>')[2].partition("</code>")[0]
    assert json.loads(html.unescape(shown)) == found


async def test_error_is_in_the_viewers_language(page: Acme) -> None:
    """Names of settings and headers are code."""
    page.console.client.cookies.set("language", "zh-CN")

    text = await page.get("/app/requests/req_1")

    assert "连接或流中断。" in text


async def test_other_and_unknown_calls_are_not_there(page: Acme) -> None:
    """A call of another account looks like one that does not exist."""
    assert await page.get("/app/requests/req_strange", 404) == await page.get(
        "/app/requests/req_nothing", 404
    )


async def test_purged_call_is_still_explained_by_the_ledger(database: Database, page: Acme) -> None:
    """Its record is gone, its charge is not."""
    await purge_usage(database, page.calls[0].at_ms + 1)

    text = await page.get("/app/requests/req_0")

    assert "no longer kept" in text
    assert dollars(page.calls[0].cost_nanousd) in text
