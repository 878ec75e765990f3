"""
Every page with names and amounts as long as can be, in widths from 320 to 1440 pixels.

Nothing scrolls sideways, is cut, overflows, or is too small or too near to others to be hit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import pytest
from playwright.async_api import Browser

from gateway.settings import Server, parse
from gateway.store.sql.database import Database
from tests.browser.test_pages import (
    EVERY_WIDTH,
    OPERATORS,
    PUBLIC,
    SIGNED_IN,
    TIMEOUT_S,
)
from tests.support.browsing import visit
from tests.support.console_gateway import LocalGateway
from tests.support.gateway_process import GatewayProcess, free_port
from tests.support.showcase import LONG_MODEL, LONG_MODELS, Shown, catalogue, fill_overlong

pytestmark = [pytest.mark.browser, pytest.mark.process, pytest.mark.timeout(TIMEOUT_S)]

WIDTHS = (320, 390, 768, 1000, 1440)


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
def exhibition(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exhibition]:
    """A gateway whose every text is long; nothing calls its upstream."""
    text = catalogue(LONG_MODELS, free_port())
    gateway = LocalGateway(
        tmp_path_factory.mktemp("looks"),
        text,
        workers=1,
        extra=f"[console]\nport = {free_port()}\noperator_2fa = false\n",
    )
    gateway.config_path.write_text(
        f'[brand]\npublic_url = "{gateway.base_url}"\n' + gateway.config_path.read_text()
    )
    gateway.start()
    try:
        gateway.wait_console()
        yield Exhibition(gateway, asyncio.run(_filled(gateway, text)))
    finally:
        gateway.stop()


async def _filled(gateway: GatewayProcess, text: str) -> Shown:
    server = Server(data_dir=str(gateway.data_dir))
    settings = msgspec.structs.replace(parse(text), server=server)
    database = Database(settings)
    try:
        return await fill_overlong(database, settings)
    finally:
        await database.aclose()


@pytest.mark.parametrize("language", ["en-US", "zh-CN"])
async def test_overlong_contents_fit(
    browser: Browser, exhibition: Exhibition, language: str
) -> None:
    """A tenth of the pages at each width and in each language, unless every one is wanted."""
    base_url, paths = exhibition.gateway.base_url, exhibition.paths
    shift = 0 if language == "en-US" else 1
    for number, width in enumerate(WIDTHS):
        context, tab = await visit(browser, base_url, width=width, language=language)
        cookie = {"name": "session", "value": exhibition.shown.token, "url": base_url}
        await context.add_cookies([cookie])  # type: ignore[list-item]
        first = 2 * number + shift
        for path in paths if EVERY_WIDTH else paths[first :: 2 * len(WIDTHS)]:
            await tab.open(path)
            assert [*tab.complaints, *await tab.blemishes()] == [], (path, width)
        await context.close()
