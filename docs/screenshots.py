"""
Writes `docs/images`, the pictures of the README, from a gateway with the calls of a small company.

    python docs/screenshots.py

It needs Chromium (`CAPIO_BROWSER`), and replaces the pictures when pages have changed.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path

import msgspec
from playwright.async_api import async_playwright

from gateway.settings import Server, parse
from gateway.store.sql.database import Database
from tests.support.gateway_process import GatewayProcess, free_port
from tests.support.showcase import USUAL_MODELS, catalogue, fill_usual

FOLDER = Path(__file__).parent / "images"
# Name, path, height, theme.
PICTURES = (
    ("landing", "/", 1000, "light"),
    ("usage", "/app/usage", 1000, "light"),
    ("requests", "/app/requests", 900, "dark"),
    ("margins", "/admin-ui/margins", 920, "light"),
)
PUBLIC_URL = "https://llm.example.com"


async def shoot(gateway: GatewayProcess, token: str) -> None:
    """Take all pictures; the landing page shows the address of a real service."""
    browser_path = os.environ.get("CAPIO_BROWSER", "/usr/bin/chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=browser_path, args=["--no-sandbox"] if os.geteuid() == 0 else []
        )
        for name, path, height, theme in PICTURES:
            context = await browser.new_context(
                viewport={"width": 1440, "height": height},
                color_scheme=theme,  # type: ignore[arg-type]
                timezone_id="UTC",
            )
            cookie = {"name": "session", "value": token, "url": gateway.base_url}
            await context.add_cookies([cookie] if path != "/" else [])  # type: ignore[list-item]
            page = await context.new_page()
            await page.goto(gateway.base_url + path)
            await page.evaluate(
                f"document.body.innerHTML = document.body.innerHTML.replaceAll("
                f"'{gateway.base_url}', '{PUBLIC_URL}')"
            )
            await page.evaluate("document.fonts.ready")
            target = FOLDER / f"{name}.png"
            await page.screenshot(path=target)
            await context.close()
            print(f"{target}: {target.stat().st_size // 1024} KiB")
        await browser.close()


async def fill(gateway: GatewayProcess, text: str) -> str:
    """Return the token of an operator's session."""
    server = Server(data_dir=str(gateway.data_dir))
    settings = msgspec.structs.replace(parse(text), server=server)
    database = Database(settings)
    try:
        return (await fill_usual(database, settings)).token
    finally:
        await database.aclose()


def main() -> None:
    """Start a gateway, fill it, and write the pictures."""
    text = catalogue(USUAL_MODELS, free_port())
    extra = f"[console]\nport = {free_port()}\noperator_2fa = false\n"
    with tempfile.TemporaryDirectory() as home:
        gateway = GatewayProcess(Path(home), text, workers=1, extra=extra, forked=False)
        brand = f'[brand]\npublic_url = "{gateway.base_url}"\n'
        gateway.config_path.write_text(brand + gateway.config_path.read_text())
        gateway.start()
        try:
            gateway.wait_console()
            asyncio.run(shoot(gateway, asyncio.run(fill(gateway, text))))
        finally:
            gateway.stop()


if __name__ == "__main__":
    main()
