"""
Every page with names and amounts as long as can be, in widths from 320 to 1440 pixels.

Nothing scrolls sideways, is cut, overflows, or is too small or too near to others to be hit. With
usual contents, tables fit beside the sidebar where it leaves them the least room.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from playwright.async_api import Browser, BrowserContext

from gateway.settings import Server, Settings, parse
from gateway.store.sql.database import Database
from tests.browser.test_pages import (
    EVERY_WIDTH,
    OPERATORS,
    PUBLIC,
    SIGNED_IN,
    TIMEOUT_S,
)
from tests.support.browsing import Visit, visit
from tests.support.console_gateway import LocalGateway
from tests.support.gateway_process import GatewayProcess, free_port
from tests.support.showcase import (
    LONG_MODEL,
    LONG_MODELS,
    USUAL_MODELS,
    Kind,
    Shown,
    catalogue,
    fill_overlong,
    fill_usual,
)

pytestmark = [pytest.mark.browser, pytest.mark.process, pytest.mark.timeout(TIMEOUT_S)]

WIDTHS = (320, 390, 768, 1000, 1440)
# From here on, tables fit in their cards whatever they contain.
ROOMY = 1440
# The narrowest page with a sidebar.
NARROWEST = 1200
# Tables with more than six columns.
WIDE_TABLES = (
    "/app/api-keys",
    "/app/usage",
    "/app/requests",
    "/app/billing?view=all",
    "/app/models",
    "/admin-ui/live",
    "/admin-ui/accounts",
    "/admin-ui/keys",
    "/admin-ui/requests?range=7d",
    "/admin-ui/codes",
    "/admin-ui/providers",
    "/admin-ui/people",
    "/admin-ui/margins",
    "/admin-ui/audit",
)


class Exhibition(NamedTuple):
    """A running gateway and who looks at it."""

    gateway: GatewayProcess
    shown: Shown

    @property
    def paths(self) -> tuple[str, ...]:
        """All pages but those for visitors who are not signed in."""
        key, account = self.shown.key_id, self.shown.account_id
        calls = (self.shown.failed_id, self.shown.completed_id)
        return (
            *PUBLIC[:5],
            f"/models/{LONG_MODEL}",
            *SIGNED_IN,
            f"/app/api-keys/{key}",
            "/app/usage",
            "/app/usage?range=7d&group=key&metric=calls",
            "/app/requests",
            *(f"/app/requests/{each}" for each in calls),
            "/app/billing",
            "/app/billing?view=all",
            "/app/models",
            *OPERATORS,
            f"/admin-ui/accounts/{account}",
            *(f"/admin-ui/requests/{each}" for each in calls),
            "/admin-ui/margins",
            "/admin-ui/margins?group=account",
            "/admin-ui/system/upkeep",
        )


@pytest.fixture(scope="module")
def overlong(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exhibition]:
    """A gateway whose every text is long."""
    with _exhibit(tmp_path_factory.mktemp("looks"), LONG_MODELS, fill_overlong) as made:
        yield made


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exhibition]:
    """A gateway of a small company."""
    with _exhibit(tmp_path_factory.mktemp("looks"), USUAL_MODELS, fill_usual) as made:
        yield made


@contextmanager
def _exhibit(
    home: Path, models: tuple[Kind, ...], fill: Callable[[Database, Settings], Awaitable[Shown]]
) -> Iterator[Exhibition]:
    """Run a gateway with contents; nothing calls its upstream."""
    text = catalogue(models, free_port())
    gateway = LocalGateway(
        home,
        text,
        workers=1,
        extra=f"[console]\nport = {free_port()}\noperator_2fa = false\n",
    )
    gateway.config_path.write_text(
        f'[brand]\npublic_url = "{gateway.base_url}"\n' + gateway.config_path.read_text()
    )

    async def filled() -> Shown:
        server = Server(data_dir=str(gateway.data_dir))
        settings = msgspec.structs.replace(parse(text), server=server)
        database = Database(settings)
        try:
            return await fill(database, settings)
        finally:
            await database.aclose()

    gateway.start()
    try:
        gateway.wait_console()
        yield Exhibition(gateway, asyncio.run(filled()))
    finally:
        gateway.stop()


async def _enter(
    browser: Browser, shown: Exhibition, width: int, language: str
) -> tuple[BrowserContext, Visit]:
    """Return a new context of who looks at the pages, and its tab."""
    base_url = shown.gateway.base_url
    context, tab = await visit(browser, base_url, width=width, language=language)
    cookie = {"name": "session", "value": shown.shown.token, "url": base_url}
    await context.add_cookies([cookie])  # type: ignore[list-item]
    return context, tab


@pytest.mark.parametrize("language", ["en-US", "zh-CN"])
async def test_overlong_contents_fit(browser: Browser, overlong: Exhibition, language: str) -> None:
    """A tenth of the pages at each width and in each language, unless every one is wanted."""
    shift = 0 if language == "en-US" else 1
    for number, width in enumerate(WIDTHS):
        context, tab = await _enter(browser, overlong, width, language)
        first = 2 * number + shift
        paths = overlong.paths
        for path in paths if EVERY_WIDTH else paths[first :: 2 * len(WIDTHS)]:
            await tab.open(path)
            assert [*tab.complaints, *await tab.blemishes(ROOMY)] == [], (path, width)
        await context.close()


@pytest.mark.parametrize("language", ["en-US", "zh-CN"])
async def test_usual_tables_fit_beside_the_sidebar(
    browser: Browser, usual: Exhibition, language: str
) -> None:
    """None scrolls in its card."""
    context, tab = await _enter(browser, usual, NARROWEST, language)
    for path in WIDE_TABLES:
        await tab.open(path)
        assert await tab.page.locator(".table.cards").count() > 0, path
        assert [*tab.complaints, *await tab.blemishes(NARROWEST)] == [], path
    await context.close()
