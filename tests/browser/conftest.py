"""Drives Debian's Chromium on the pages of a real gateway."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, async_playwright

from tests.support.console_gateway import CONFIG, UPSTREAM_PORT, LocalGateway
from tests.support.gateway_process import GatewayProcess, free_port

BROWSER = Path(os.environ.get("CAPIO_BROWSER", "/usr/bin/chromium"))
IS_INSTALLED = BROWSER.exists()


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """A browser; with `CAPIO_NEEDS_BROWSER` set, its absence is a failure."""
    if not IS_INSTALLED:
        if os.environ.get("CAPIO_NEEDS_BROWSER"):
            pytest.fail(f"{BROWSER} does not exist; install chromium or set CAPIO_BROWSER")
        pytest.skip(f"{BROWSER} does not exist")
    async with async_playwright() as playwright:
        opened = await playwright.chromium.launch(
            executable_path=BROWSER, args=["--no-sandbox"] if os.geteuid() == 0 else []
        )
        yield opened
        await opened.close()


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway with a console."""
    home: Path = tmp_path_factory.mktemp("browser")
    extra = f'[console]\nport = {free_port()}\nsignup = "code"\n'
    gateway = LocalGateway(home, CONFIG % UPSTREAM_PORT, workers=1, extra=extra)
    gateway.config_path.write_text(
        f'[brand]\npublic_url = "{gateway.base_url}"\n' + gateway.config_path.read_text()
    )
    gateway.start()
    try:
        gateway.wait_console()
        yield gateway
    finally:
        gateway.stop()
