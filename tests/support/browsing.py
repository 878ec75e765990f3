"""What every page is checked for in a browser."""

from __future__ import annotations

from typing import Literal

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, BrowserContext, Page

Theme = Literal["light", "dark"]
WIDTHS = (390, 1440)
THEMES: tuple[Theme, ...] = ("light", "dark")
_COLLECT = """
addEventListener("securitypolicyviolation", (event) =>
  console.error("policy", event.violatedDirective, event.blockedURI));
"""


class Visit:
    """
    One tab that records what should not happen.

    Args:
        page: The tab.
        base_url: The only origin that it may load from.
    """

    def __init__(self, page: Page, base_url: str) -> None:
        self.page = page
        self.base_url = base_url
        self.complaints: list[str] = []
        page.on("console", lambda message: self._take_message(message.text))
        page.on("pageerror", lambda error: self._take_error(str(error)))
        page.on("request", lambda request: self._check_host(request.url))

    async def open(self, path: str) -> None:
        """Open a page of the service."""
        await self.page.goto(f"{self.base_url}{path}")

    async def faults(self) -> list[str]:
        """Return what is wrong with the page: messages, foreign hosts, overflow, axe's findings."""
        found = list(self.complaints)
        if await self.page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            found.append("the page scrolls sideways")
        result = await Axe().run(self.page)
        found += [
            f"axe: {each['id']}: {each['nodes'][0]['html'][:200]}"
            for each in result.response["violations"]
        ]
        return found

    def _take_error(self, text: str) -> None:
        # A test may leave a page before the transition to it has begun.
        if not text.startswith("Transition was"):
            self.complaints.append(f"script: {text}")

    def _take_message(self, text: str) -> None:
        # A test may use a field before the browser has come to focus one.
        if "Autofocus processing was blocked" not in text:
            self.complaints.append(f"console: {text}")

    def _check_host(self, url: str) -> None:
        if not url.startswith((self.base_url, "data:")):
            self.complaints.append(f"foreign: {url}")


async def visit(
    browser: Browser,
    base_url: str,
    *,
    width: int = 1440,
    theme: Theme = "light",
    script: bool = True,
) -> tuple[BrowserContext, Visit]:
    """Return a new context, without cookies, and its tab."""
    context = await browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme=theme,
        java_script_enabled=script,
        bypass_csp=False,
    )
    await context.add_init_script(_COLLECT)
    return context, Visit(await context.new_page(), base_url)
