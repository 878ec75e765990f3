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

import httpx2
import pytest
from playwright.async_api import Browser, StorageState, expect

from gateway.demo.server import (
    ScriptedServer,
    each_request,
)
from tests.support.browsing import THEMES, WIDTHS, Theme, visit
from tests.support.console_gateway import (
    UPSTREAM_PORT,
    ensure_operator,
    sign_in,
    stream,
)
from tests.support.gateway_process import GatewayProcess
from tests.support.waiting import wait_until

EVERY_WIDTH = os.environ.get("CAPIO_BROWSER_LONG") == "1"

# The default of all tests, or time for every combination on a busy machine.
TIMEOUT_S = 1800 if EVERY_WIDTH else 120

pytestmark = [pytest.mark.browser, pytest.mark.process, pytest.mark.timeout(TIMEOUT_S)]

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
    "/admin-ui/catalogue",
    "/admin-ui/people",
    "/admin-ui/codes",
    "/admin-ui/system",
    "/admin-ui/system/components",
    "/admin-ui/system/configuration",
    "/admin-ui/margins/simulator",
    "/admin-ui/audit",
)
KEY = re.compile(r"sk-capio-live-\w+")


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


async def test_part_that_cannot_be_read_is_said_and_retried(
    browser: Browser, pages: GatewayProcess
) -> None:
    """The filters stay; an ended session leads to the sign-in page and back to the filters."""
    await ensure_operator(browser, pages)
    context, tab = await visit(browser, pages.base_url, width=390)
    page = tab.page
    await sign_in(page, pages.base_url)
    await tab.open("/app/requests")
    await page.route("**/app/requests?*", lambda route: route.fulfill(status=503, body="away"))
    await page.select_option("#outcome", "failed")
    notice = page.get_by_role("alert")
    await expect(notice).to_contain_text("could not be renewed")
    assert await page.input_value("#outcome") == "failed"
    assert "outcome" not in page.url
    await page.unroute_all()
    await notice.get_by_role("button", name="Retry").click()
    await expect(notice).to_have_count(0)
    await page.wait_for_url("**/app/requests?*outcome=failed*")

    await context.clear_cookies(name="session")
    await page.select_option("#outcome", "completed")
    await page.wait_for_url("**/sign-in?next=*outcome%3Dfailed*")
    assert [text for text in tab.complaints if "503" not in text] == []
    await context.close()


async def test_filters_of_a_renewed_part_apply_at_once(
    browser: Browser, pages: GatewayProcess
) -> None:
    """A filter that changes right after the part was replaced does not load the whole page."""
    await ensure_operator(browser, pages)
    context, tab = await visit(browser, pages.base_url)
    page = tab.page
    await sign_in(page, pages.base_url)
    await tab.open("/app/requests")
    await page.evaluate("""() => {
      window.stayed = true;
      document.addEventListener("htmx:afterSwap", () => setTimeout(() => {
        const select = document.getElementById("status");
        select.value = "4xx";
        select.dispatchEvent(new Event("change", { bubbles: true }));
      }), { once: true });
    }""")
    await page.select_option("#outcome", "failed")
    await page.wait_for_url("**/app/requests?*outcome=failed*status=4xx*")
    assert await page.evaluate("window.stayed")
    assert tab.complaints == []
    await context.close()
