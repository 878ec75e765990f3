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
_BLEMISHES = """(roomy) => {
  const found = new Set();
  const targets = "a, button, input:not([type=hidden]), select, textarea, summary";
  const box = (element) => element.getBoundingClientRect();
  const style = (element) => getComputedStyle(element);
  const above = (element, test) => {
    for (let each = element; each; each = each.parentElement) if (test(each)) return each;
    return null;
  };
  const isSeen = (element) =>
    element.checkVisibility({ visibilityProperty: true }) && box(element).width > 0
    && !above(element, (each) => style(each).clipPath !== "none" || each.matches(".skip"));
  const note = (what, element) =>
    found.add(`${what}: ${element.outerHTML.slice(0, 200)}`);
  const scrolls = (element) => ["auto", "scroll"].includes(style(element).overflowX);
  for (const element of document.querySelectorAll("body *:not(svg, svg *, option)")) {
    const hasText = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
    if (!hasText || !isSeen(element)) continue;
    const { overflowX, textOverflow, display } = style(element);
    const isCut = element.scrollWidth > element.clientWidth + 1 && display !== "inline";
    if (isCut && overflowX === "visible" && element.clientWidth) note("overflows", element);
    if (isCut && overflowX === "hidden" && textOverflow !== "ellipsis") note("is cut", element);
    if (box(element).right > innerWidth + 1 && !above(element.parentElement, scrolls))
      note("outside of the page", element);
    const frame = above(element.parentElement, (each) => style(each).overflowX === "hidden");
    const isPast = frame && box(element).right > box(frame).right + 1;
    if (isPast && style(frame).textOverflow !== "ellipsis")
      note("is cut by its frame", element);
  }
  for (const wrap of document.querySelectorAll(".table-wrap:has(.table.cards)"))
    if (wrap.scrollWidth > wrap.clientWidth + 1 && innerWidth >= roomy) note("scrolls", wrap);
  for (const cell of document.querySelectorAll(".table.cards td")) {
    const row = cell.closest("tr");
    const columns = style(row).display === "grid" ? 2 : 1;
    if (style(cell).display === "flow-root" && box(cell).width < (0.7 * box(row).width) / columns)
      note("leaves its row empty", cell);
  }
  for (const text of document.querySelectorAll(".y-axis text"))
    if (box(text).left < box(text.closest("svg")).left - 2) note("leaves its plot", text);
  const seen = [...document.querySelectorAll(targets)].filter(isSeen);
  const frames = seen.map((each) => box(each.closest("label") ?? each));
  seen.forEach((each, at) => {
    const { left, top, width, height } = frames[at];
    const isText = style(each).display === "inline" && each.closest("p, li, dd, h1, h2, h3");
    if ((width >= 23.5 && height >= 23.5) || isText || each.closest(".long")) return;
    // A small target is large enough if a circle of 24 px around its centre touches no other.
    const [x, y] = [left + width / 2, top + height / 2];
    const isNear = frames.some((other, index) => {
      if (index === at || seen[index].contains(each) || each.contains(seen[index])) return false;
      if (seen[index].closest(".long")) return false;
      const across = Math.max(other.left - x, 0, x - other.right);
      return Math.hypot(across, Math.max(other.top - y, 0, y - other.bottom)) < 12;
    });
    if (isNear) note("is a small target", each);
  });
  return [...found];
}"""


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

    async def blemishes(self, roomy: int) -> list[str]:
        """
        Return what does not fit: sideways scrolling, cut or overflowing text, small targets.

        From a width of `roomy` pixels on, tables must not scroll in their cards either.
        """
        found: list[str] = await self.page.evaluate(_BLEMISHES, roomy)
        if await self.page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            found.append("the page scrolls sideways")
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
    language: str = "en-US",
) -> tuple[BrowserContext, Visit]:
    """Return a new context, without cookies, and its tab."""
    context = await browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme=theme,
        java_script_enabled=script,
        locale=language,
        bypass_csp=False,
    )
    await context.add_init_script(_COLLECT)
    return context, Visit(await context.new_page(), base_url)
