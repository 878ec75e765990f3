"""Drives Debian's Chromium on the pages of a real gateway."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, async_playwright

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
