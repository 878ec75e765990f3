"""Public pages: what they show, their twins, tags, budgets, and that no policy forbids them."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import msgspec
import pytest

from gateway.settings import Prices, Server, Settings
from gateway.store.sql.database import Database
from tests.support.console import ConsoleApp
from tests.support.pages import other_settings

PAGES = ("/", "/docs", "/docs/errors", "/docs/api/create-message", "/models", "/models/nimbus-1")
TEXTS = {
    "/docs.md": "text/markdown",
    "/docs/errors.md": "text/markdown",
    "/llms.txt": "text/markdown",
    "/llms-full.txt": "text/markdown",
    "/robots.txt": "text/plain",
    "/sitemap.xml": "application/xml",
    "/openapi.json": "application/json",
    "/openapi-admin.json": "application/json",
    "/models.json": "application/json",
    "/models/nimbus-1.json": "application/json",
    "/docs/search.json": "application/json",
}
KB = 1024


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[ConsoleApp]:
    settings = msgspec.structs.replace(other_settings(), server=Server(data_dir=str(tmp_path)))
    async with ConsoleApp(Database(settings), settings) as app:
        yield app


async def get(app: ConsoleApp, path: str, **headers: str) -> httpx2.Response:
    """Get a page that exists."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    response = await app.client.get(path, headers=named)
    assert response.status_code == 200, (path, response.text)
    return response


async def test_pages_are_kept_with_a_tag_and_compressed(app: ConsoleApp) -> None:
    """The same bytes each time; 304 for a browser that has them; another theme is another page."""
    for path in PAGES:
        first = await get(app, path)
        again = await get(app, path)
        same = await app.client.get(path, headers={"if-none-match": first.headers["etag"]})
        dark = await get(app, path, cookie="theme=dark")

        assert first.text == again.text
        assert first.headers["content-encoding"] == "gzip"
        assert first.headers["cache-control"] == "no-cache"
        assert (same.status_code, same.content) == (304, b"")
        assert '<html lang="en" data-theme="dark">' in dark.text
        assert dark.headers["etag"] != first.headers["etag"]


async def test_pages_need_nothing_that_the_policy_forbids(app: ConsoleApp) -> None:
    """No inline script, no style attribute, no address of another host."""
    for path in (*PAGES, "/status", "/privacy"):
        text = (await get(app, path)).text

        assert not re.search(r"<script(?![^>]* src=)", text), path
        assert not re.search(r"<[^>]+ (style|on\w+)=", text), path
        assert not re.search(r'(?:src|href)="https?://(?!ai\.test)', text), path
        assert text.count("<h1") == 1, path


async def test_pages_stay_within_their_budgets(app: ConsoleApp) -> None:
    """Compressed: 20 KB of HTML, 30 for documentation; 8 KB of style; 4 KB of script."""
    for page in app.services.public.library.pages.values():
        text = (await get(app, page.path)).content
        assert len(gzip.compress(text, 9)) <= 30 * KB, page.path
    for path in ("/", "/models", "/models/nimbus-1", "/status", "/privacy"):
        assert len(gzip.compress((await get(app, path)).content, 9)) <= 20 * KB, path
    static = app.application.static
    style = static.find(static.url("console.css"))
    scripts = [static.find(static.url(f"js/{name}.js")) for name in ("console", "docs")]
    assert style is not None
    assert len(style.compressed or b"") <= 8 * KB
    assert sum(len(each.compressed or b"") for each in scripts if each) <= 4 * KB


async def test_documents_for_programs_have_their_types(app: ConsoleApp) -> None:
    """And are JSON where they say so."""
    for path, kind in TEXTS.items():
        response = await get(app, path)

        assert response.headers["content-type"].startswith(kind), path
        assert response.headers["etag"], path
        if kind == "application/json":
            json.loads(response.content)


async def test_markdown_is_sent_to_who_asks_for_it(app: ConsoleApp) -> None:
    """By path or by `accept`; links of llms.txt lead to Markdown."""
    twin = await get(app, "/docs/billing.md")
    asked = await get(app, "/docs/billing", accept="text/markdown")
    linked = re.findall(r"\]\(https://ai\.test(/docs[^)]*)\)", (await get(app, "/llms.txt")).text)

    assert twin.text == asked.text
    assert twin.text.startswith("# Billing\n\n> ")
    assert len(linked) == len(app.services.public.library.pages)
    for path in linked[::9]:
        assert (await get(app, path)).headers["content-type"].startswith("text/markdown")


async def test_landing_shows_prices_and_set_ups(app: ConsoleApp) -> None:
    """Every model with its prices, both base URLs, a snippet for each agent."""
    text = (await get(app, "/")).text

    for part in ("nimbus-1", "$1,234.50", "262K", "free", "https://ai.test/v1", "acme/nimbus-1"):
        assert part in text, part
    assert re.findall(r'data-tab="([^"]+)"', text) == [
        "claude-code", "opencode", "openclaw", "codex",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", ["nimbus-1", "cirrus"]),
        ("?sort=name", ["cirrus", "nimbus-1"]),
        ("?sort=context", ["cirrus", "nimbus-1"]),
        ("?sort=output", ["nimbus-1", "cirrus"]),
        ("?sort=input_price", ["cirrus", "nimbus-1"]),
        ("?tag=budget", ["cirrus"]),
        ("?tag=none", []),
        ("?sort=nonsense", ["nimbus-1", "cirrus"]),
    ],
)
async def test_models_are_sorted_and_filtered_by_the_address(
    app: ConsoleApp, query: str, names: list[str]
) -> None:
    """A link shows everyone the same list."""
    text = (await get(app, f"/models{query}")).text

    assert re.findall(r'<th scope="row".*?href="/models/([^"]+)"', text) == names


async def test_model_has_a_page_under_its_name_and_alias(app: ConsoleApp) -> None:
    """With prices, limits and how to call it; a JSON twin; 404 for others."""
    page = (await get(app, "/models/nimbus-1")).text
    alias = (await get(app, "/models/nimbus")).text
    twin = (await get(app, "/models/nimbus-1.json")).json()
    missing = await app.client.get("/models/nimbus-2")

    assert "$1,234.50" in page
    assert "98,304 tokens" in page
    assert "https://ai.test/v1/chat/completions" in page
    assert "<h1>nimbus-1</h1>" in alias
    assert twin["prices"] == {
        "input": "0.50", "output": "1234.50", "cache_read": "0.50", "cache_write": "0.50",
        "reasoning": None,
    }  # fmt: skip
    assert missing.status_code == 404


async def test_names_are_escaped(tmp_path: Path) -> None:
    """A brand with markup is text, on pages and in their twins' HTML."""
    settings = other_settings()
    brand = msgspec.structs.replace(settings.brand, name='<b>"A"</b>')
    changed = msgspec.structs.replace(settings, brand=brand, server=Server(data_dir=str(tmp_path)))
    async with ConsoleApp(Database(changed), changed) as app:
        for path in ("/", "/docs", "/docs/clients/codex"):
            assert "<b>" not in (await get(app, path)).text


async def test_pages_show_new_prices_after_a_reload(app: ConsoleApp) -> None:
    """All forms of them: HTML, Markdown and JSON."""
    before = await get(app, "/")
    settings: Settings = app.services.settings
    models = [msgspec.structs.replace(settings.models[0], prices=Prices(input="7", output="8.125"))]

    app.services.reload(msgspec.structs.replace(settings, models=models))

    after = await get(app, "/", if_none_match=before.headers["etag"])
    assert "$8.125" in after.text
    assert "cirrus" not in after.text
    assert "$8.125" in (await get(app, "/docs/models.md")).text
    assert "$8.125" in (await get(app, "/models/nimbus-1")).text


async def test_unknown_pages_of_the_documentation_are_404(app: ConsoleApp) -> None:
    """As HTML and as Markdown."""
    for path in ("/docs/none", "/docs/none.md", "/docs/", "/docs/..%2fapp"):
        assert (await app.client.get(path)).status_code == 404, path


async def test_robots_leave_private_pages_alone(app: ConsoleApp) -> None:
    """With the address of the sitemap."""
    lines = (await get(app, "/robots.txt")).text.split("\n")

    assert {"Disallow: /app", "Disallow: /admin-ui"} <= set(lines)
    assert "Sitemap: https://ai.test/sitemap.xml" in lines


async def test_status_without_stores_says_what_it_does_not_know(app: ConsoleApp) -> None:
    """Neither Redis nor SQL responds: the page stands, and names no model as failing."""
    page = (await get(app, "/status")).text
    twin = (await get(app, "/status.json")).json()

    assert "The present state is not known." in page
    assert [each["state"] for each in twin["data"]] == ["unknown", "unknown"]
    assert [each["days"] for each in twin["data"]] == [[], []]
