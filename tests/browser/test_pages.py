"""
Every page in both themes and widths: no complaint of the browser, of the policy or of axe.

And the way of a new operator, from the setup link to a key, with and without script.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from playwright.async_api import Browser, Page, StorageState, expect

from gateway.demo.server import (
    CHUNKED_END,
    STREAM_HEAD,
    Exchange,
    ScriptedServer,
    each_request,
)
from tests.support.browsing import THEMES, WIDTHS, Theme, visit
from tests.support.gateway_process import GatewayProcess, free_port
from tests.support.waiting import wait_until

EVERY_WIDTH = os.environ.get("CAPIO_BROWSER_LONG") == "1"

pytestmark = [pytest.mark.browser, pytest.mark.process]

CONFIG = """
[[providers]]
name = "p"
[providers.openai]
base_url = "http://127.0.0.1:%d/v1"

[[models]]
name = "deepseek-v4-flash"
prices = { input = "0.07", output = "0.14" }
deployments = [{ provider = "p", model = "m" }]
"""
UPSTREAM_PORT = free_port()
PUBLIC = (
    "/",
    "/models/deepseek-v4-flash",
    "/docs",
    "/docs/api/get-model",
    "/status",
    "/sign-in",
    "/sign-up",
    "/setup",
    "/enter",
    "/invite",
    "/reset",
)
SIGNED_IN = (
    "/app",
    "/app/api-keys",
    "/app/api-keys/new",
    "/app/playground",
    "/app/billing/limits",
    "/app/billing/statement",
    "/app/settings/close",
    "/app/settings/delete",
    "/app/security",
    "/app/security/passkeys/new",
    "/app/settings",
    "/app/team",
    "/confirm",
)
OPERATORS = (
    "/admin-ui",
    "/admin-ui/live",
    "/admin-ui/system/announcements",
    "/admin-ui/accounts",
    "/admin-ui/keys",
    "/admin-ui/requests",
    "/admin-ui/providers",
    "/admin-ui/people",
    "/admin-ui/codes",
    "/admin-ui/system",
    "/admin-ui/system/components",
    "/admin-ui/system/configuration",
    "/admin-ui/margins/simulator",
    "/admin-ui/audit",
)
PASSWORD = "seven quiet herons cross"
KEY = re.compile(r"sk-capio-live-\w+")


class LocalGateway(GatewayProcess):
    """A gateway at `localhost`, where browsers allow passkeys without TLS."""

    @property
    def base_url(self) -> str:
        return super().base_url.replace("127.0.0.1", "localhost")


@pytest.fixture(scope="module")
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


async def set_up(page: Page, link: str, login: str) -> None:
    """Become the first operator by a link."""
    await page.goto(link)
    await page.fill("#name", "Ada Lovelace")
    await page.fill("#login", login)
    await page.fill("#password", PASSWORD)
    await page.get_by_role("button", name="Create operator").click()
    await page.wait_for_url("**/app")


async def sign_in(page: Page, base_url: str) -> None:
    """Sign in with the operator's password."""
    await page.goto(f"{base_url}/sign-in")
    await page.fill("#login", "ada@example.com")
    await page.fill("#password", PASSWORD)
    await page.get_by_role("button", name="Sign in", exact=True).click()
    await page.wait_for_url("**/app")


async def ensure_operator(browser: Browser, pages: GatewayProcess) -> None:
    """Set the service up unless another test has."""
    if "ada@example.com" in pages.capio("users", "list", "--json"):
        return
    context, tab = await visit(browser, pages.base_url)
    await set_up(tab.page, pages.capio("users", "setup-link").strip(), "ada@example.com")
    await context.close()


async def test_new_operator_gets_from_the_link_to_a_key(
    browser: Browser, pages: GatewayProcess
) -> None:
    """The key is in one response only: reload says so, and nothing on disk contains it."""
    context, tab = await visit(browser, pages.base_url)
    page = tab.page
    await ensure_operator(browser, pages)
    link = pages.capio("users", "link", "ada@example.com").strip()
    await page.goto(link)
    await page.wait_for_url("**/app")
    await page.goto(f"{pages.base_url}/app/api-keys/new")
    await page.fill("#name", "laptop")
    await page.get_by_role("button", name="Create key").click()
    key = KEY.findall(await page.inner_text("#new-key"))[0]
    await page.keyboard.press("Escape")
    assert await page.inner_text("#new-key") == key
    assert await tab.faults() == []

    page.once("dialog", lambda dialog: dialog.accept())
    await page.reload()
    after = await page.content()
    state: StorageState = await context.storage_state()
    await context.close()

    assert key not in after
    assert "shown once" in after
    assert key[-20:] not in str(state)
    written = [path for path in pages.home.rglob("*") if path.is_file()]
    assert len(written) > 3
    assert [path for path in written if key[-20:].encode() in path.read_bytes()] == []
    assert link.partition("#")[2] not in pages.log()


@pytest.mark.parametrize("theme", THEMES)
async def test_pages_have_no_faults(browser: Browser, pages: GatewayProcess, theme: Theme) -> None:
    """Signed out and signed in, with one key in the account; every theme and width by request."""
    await ensure_operator(browser, pages)
    # Half of the pages in each theme, unless every combination is wanted.
    first, step = (0, 1) if EVERY_WIDTH else (THEMES.index(theme), len(THEMES))
    for width in WIDTHS[first::step]:
        context, tab = await visit(browser, pages.base_url, width=width, theme=theme)
        for path in PUBLIC[first::step]:
            await tab.open(path)
            assert await tab.faults() == [], (path, theme, width)
        await sign_in(tab.page, pages.base_url)
        for path in (*SIGNED_IN, *OPERATORS)[first::step]:
            await tab.open(path)
            assert await tab.faults() == [], (path, theme, width)
        await context.close()


async def test_keys_work_without_script(browser: Browser, pages: GatewayProcess) -> None:
    """Signing in, creating and disabling a key, signing out."""
    await ensure_operator(browser, pages)
    context, tab = await visit(browser, pages.base_url, script=False)
    page = tab.page
    await sign_in(page, pages.base_url)
    await page.goto(f"{pages.base_url}/app/api-keys/new")
    await page.fill("#name", "ci")
    await page.get_by_role("button", name="Create key").click()
    assert KEY.search(await page.inner_text("#new-key"))
    await page.get_by_role("link", name="ci", exact=True).click()
    await page.get_by_role("button", name="Disable").click()
    assert "disabled" in await page.inner_text("main")
    await page.locator("summary", has_text="Ada Lovelace").click()
    await page.get_by_role("button", name="Sign out").click()
    assert page.url == f"{pages.base_url}/sign-in"
    assert tab.complaints == []
    await context.close()


async def test_shortcuts_are_listed_and_work(browser: Browser, pages: GatewayProcess) -> None:
    """`?` opens the list, Escape closes it; `g 3` goes to usage, `/` to its first filter."""
    await ensure_operator(browser, pages)
    context, tab = await visit(browser, pages.base_url)
    page = tab.page
    await sign_in(page, pages.base_url)
    await page.keyboard.press("?")
    assert await page.get_by_role("dialog").is_visible()
    assert await tab.faults() == []
    await page.keyboard.press("Escape")
    await page.keyboard.press("g")
    await page.keyboard.press("3")
    await page.wait_for_url("**/app/usage")
    await page.wait_for_load_state()
    await page.keyboard.press("/")
    assert await page.evaluate("document.activeElement.closest('form[method=get]') !== null")
    await page.keyboard.press("?")
    assert not await page.locator("#shortcuts").is_visible()
    assert tab.complaints == []
    await context.close()


async def test_passkey_is_created_signs_in_and_is_removed(
    browser: Browser, pages: GatewayProcess
) -> None:
    """With the browser's own virtual device, which checks its user."""
    await ensure_operator(browser, pages)
    context, tab = await visit(browser, pages.base_url)
    page = tab.page
    devices = await context.new_cdp_session(page)
    await devices.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
    }
    await devices.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    await sign_in(page, pages.base_url)
    await page.goto(f"{pages.base_url}/app/security")
    await page.get_by_role("link", name="Add passkey").click()
    await page.fill("#name", "virtual")
    await page.get_by_role("button", name="Create passkey").click()
    await page.wait_for_url("**/app/security?done=passkey")
    assert "virtual" in await page.inner_text("main")
    assert await tab.faults() == []

    await context.clear_cookies()
    # The virtual device accepts at once what a real one offers in the field of the name.
    await page.goto(f"{pages.base_url}/sign-in")
    await page.wait_for_url("**/app")
    await page.goto(f"{pages.base_url}/confirm?next=/app/security")
    await page.get_by_role("button", name="Confirm with a passkey").click()
    await page.wait_for_url("**/app/security")
    row = page.get_by_role("row", name="virtual")
    await row.get_by_role("button", name="Remove").click()
    await page.wait_for_url("**/app/security?done=passkey-removed")
    assert "virtual" not in await page.inner_text("main")
    assert tab.complaints == []
    await context.close()


async def stream(exchange: Exchange) -> None:
    """Stream three words and the usage; after a question for more, no end."""

    def event(**fields: object) -> bytes:
        chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", **fields}
        return f"data: {json.dumps(chunk)}\n\n".encode()

    await exchange.send(STREAM_HEAD)
    for word in ("Hello", " from", " here"):
        await exchange.chunk(event(choices=[{"index": 0, "delta": {"content": word}}]))
    if "more" in exchange.json["messages"][-1]["content"]:
        await exchange.until_gone()
        return
    await exchange.chunk(event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}]))
    usage = {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500}
    await exchange.chunk(event(choices=[], usage=usage) + b"data: [DONE]\n\n")
    await exchange.send(CHUNKED_END)


async def test_calls_go_on_while_the_console_is_away(pages: GatewayProcess) -> None:
    """Killed: pages say so until it is back; an open stream stays, and calls complete."""
    pages.capio("accounts", "create", "steady", "--postpaid")
    made = pages.capio("keys", "create", "--account", "steady", "--name", "k", "--json")
    headers = {"authorization": f"Bearer {json.loads(made)['key']}", "accept": "text/html"}
    upstream = ScriptedServer(each_request(stream))
    await upstream.listen(UPSTREAM_PORT)
    (console,) = [pid for pid, line in pages.children().items() if "gateway.console" in line]

    def chat(text: str) -> dict[str, object]:
        messages = [{"role": "user", "content": text}]
        return {"model": "deepseek-v4-flash", "stream": True, "messages": messages}

    async def is_away() -> bool:
        return (await client.get("/sign-in")).status_code == 503

    path = "/v1/chat/completions"
    async with httpx2.AsyncClient(base_url=pages.base_url, timeout=20, headers=headers) as client:
        async with client.stream("POST", path, json=chat("more")) as kept:
            words = kept.aiter_text()
            assert "Hello" in await anext(words)
            os.kill(console, signal.SIGKILL)
            await wait_until(is_away, 5)
            away = await client.get("/sign-in")
            done = await client.post(path, json=chat("hi"))
            assert not kept.is_closed
        await asyncio.to_thread(pages.wait_console)
        back = await client.get("/sign-in")
    await upstream.aclose()

    assert "Calls are not affected" in away.text
    assert (done.status_code, done.text.rstrip().endswith("[DONE]")) == (200, True)
    assert back.status_code == 200


async def test_playground_streams_shows_the_cost_and_stops(
    browser: Browser, pages: GatewayProcess
) -> None:
    """The key is in the page's memory: neither in its text nor in what the browser stores."""
    await ensure_operator(browser, pages)
    accounts = json.loads(pages.capio("accounts", "list", "--json"))
    account = next(each for each in accounts if each["name"] != "steady")
    pages.capio(
        "credits", "topup", "--account", account["id"], "--amount", "5", "--reason", "a test"
    )
    upstream = ScriptedServer(each_request(stream))
    await upstream.listen(UPSTREAM_PORT)
    context, tab = await visit(browser, pages.base_url)
    page = tab.page
    await sign_in(page, pages.base_url)
    await page.goto(f"{pages.base_url}/app/playground")
    async with page.expect_response("**/app/playground/key") as made:
        await page.fill("#message", "It's me")
        assert "It'\\''s me" in await page.inner_text("#curl")
        await page.select_option("#effort", "low")
        code = await page.text_content("#python code") or ""
        compile(code, "snippet", "exec")
        assert '"reasoning_effort": "low"' in code
        assert '"stream": true' in (await page.text_content("#typescript code") or "")
        await page.get_by_role("button", name="Send").click()
    key = (await (await made.value).json())["key"]
    replies = page.locator(".conversation .assistant")
    # 1,000 tokens at $0.07 and 500 at $0.14 per million.
    await expect(replies.first).to_contain_text("$0.00014", timeout=15_000)
    await expect(replies.first).to_contain_text("Hello from here")

    await page.fill("#message", "more")
    await page.get_by_role("button", name="Send").click()
    await expect(replies.nth(1)).to_contain_text("Hello from here")
    await page.get_by_role("button", name="Stop").click()
    await expect(replies.nth(1)).to_contain_text("stopped")
    await expect(page.get_by_role("button", name="Send")).to_be_enabled()
    assert await tab.faults() == []
    assert key not in await page.content()
    assert key not in str(await context.storage_state())
    await context.close()
    await upstream.aclose()
