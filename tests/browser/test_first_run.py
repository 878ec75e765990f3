"""
`make run`: from the printed link to the first calls, seen with their cost.

At most five clicks and a minute, with what the page's copy buttons put into the clipboard.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from playwright.async_api import Browser, Page, expect

from tests.support.browsing import visit
from tests.support.gateway_process import free_port
from tests.support.waiting import wait_until_sync

pytestmark = [pytest.mark.browser, pytest.mark.process]

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"Dashboard, signed in: +(\S+)")
MOST_CLICKS, MOST_S = 5, 60
WHOLE = ("/", "/docs", "/models", "/status", "/app", "/app/usage", "/admin-ui", "/admin-ui/live")
# What Claude Code sends with the variables of the snippet: `claude` itself is run in tests/agents.
CLAUDE = """
curl -sSN --fail "$ANTHROPIC_BASE_URL/v1/messages" \
  -H "Authorization: Bearer $ANTHROPIC_AUTH_TOKEN" -H "Content-Type: application/json" \
  -d '{"model": "'"$ANTHROPIC_MODEL"'", "max_tokens": 50, "stream": true,
       "messages": [{"role": "user", "content": "Hello"}]}'
"""


class Demo(NamedTuple):
    """What `make run` started."""

    url: str
    link: str


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    """A demo on an empty directory, as on a fresh machine."""
    port, log = free_port(), tmp_path / "demo.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway.cli", "demo", "--port", str(port)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        wait_until_sync(lambda: LINK.search(log.read_text()) is not None, 30)
        found = LINK.search(log.read_text())
        assert found is not None
        url = f"http://127.0.0.1:{port}"
        wait_until_sync(lambda: _is_up(f"{url}/sign-in"), 30)
        yield Demo(url, found[1])
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _is_up(url: str) -> bool:
    command = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", url]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout == "200"


async def run(script: str, cwd: Path) -> str:
    """Run what was copied in a shell; return what it prints."""
    process = await asyncio.create_subprocess_exec(
        "bash", "-euc", script, cwd=cwd, stdout=asyncio.subprocess.PIPE
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0
    return printed.decode()


async def test_link_leads_to_streamed_calls_with_their_cost(
    browser: Browser, demo: Demo, tmp_path: Path
) -> None:
    """A key, two copied snippets, and both calls in the list; the key is needed nowhere else."""
    context, tab = await visit(browser, demo.url)
    await context.grant_permissions(["clipboard-read", "clipboard-write"])
    page, began, clicks = tab.page, time.monotonic(), 0

    async def click(role: str, name: str, within: str = "main") -> None:
        nonlocal clicks
        clicks += 1
        await page.locator(within).get_by_role(role, name=name, exact=True).click()  # type: ignore[arg-type]

    await page.goto(demo.link)
    await page.wait_for_url("**/app")
    await click("link", "Create another")
    await page.fill("#name", "first")
    await click("button", "Create key")
    await click("button", "Copy", "#new-claude-code")
    claude = await run(_variables(await _copied(page)) + CLAUDE, tmp_path)
    await click("tab", "curl")
    await click("button", "Copy", "#new-curl")
    curl = await run(await _copied(page), tmp_path)
    await page.goto(f"{demo.url}/app")
    await expect(page.locator("#first-call")).to_contain_text("Your first call", timeout=15_000)
    await expect(page.locator("#first-call")).to_contain_text(re.compile(r"\$0\.0\d+"))
    took_s = time.monotonic() - began

    assert "event: message_stop" in claude
    assert curl.rstrip().endswith("data: [DONE]")
    assert clicks <= MOST_CLICKS
    assert took_s <= MOST_S
    for path in WHOLE:
        await tab.open(path)
        assert await tab.faults() == [], path  # requests to other hosts among them
    await context.close()


async def _copied(page: Page) -> str:
    text: str = await page.evaluate("navigator.clipboard.readText()")
    return text


def _variables(snippet: str) -> str:
    """The snippet without its last line, which starts the agent."""
    *lines, command = snippet.strip().split("\n")
    assert command == "claude"
    return "\n".join(lines)
