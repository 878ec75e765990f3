"""Every page in both themes and widths: no complaint of the browser, of the policy or of axe."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser

from tests.support.browsing import THEMES, WIDTHS, visit
from tests.support.gateway_process import GatewayProcess, free_port

pytestmark = [pytest.mark.browser, pytest.mark.process]

CONFIG = """
[[providers]]
name = "p"
[providers.openai]
base_url = "http://127.0.0.1:9/v1"

[[models]]
name = "deepseek-v4-flash"
prices = { input = "0.07", output = "0.14" }
deployments = [{ provider = "p", model = "m" }]
"""
PAGES = ("/", "/models/deepseek-v4-flash", "/docs", "/docs/api/get-model", "/status")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway with a console."""
    home: Path = tmp_path_factory.mktemp("browser")
    extra = f"[console]\nport = {free_port()}\n"
    gateway = GatewayProcess(home, CONFIG, workers=1, extra=extra).start()
    try:
        gateway.wait_console()
        yield gateway
    finally:
        gateway.stop()


@pytest.mark.parametrize("path", PAGES)
async def test_pages_have_no_faults(browser: Browser, pages: GatewayProcess, path: str) -> None:
    """Light and dark, narrow and wide."""
    for theme in THEMES:
        for width in WIDTHS:
            context, tab = await visit(browser, pages.base_url, width=width, theme=theme)
            await tab.open(path)
            assert await tab.faults() == [], (path, theme, width)
            await context.close()
