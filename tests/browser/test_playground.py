"""The playground in a browser: a model, two side by side, and what happens when calls fail."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, Page, expect

from gateway.demo.server import Exchange
from tests.support.browsing import Theme, visit
from tests.support.console_gateway import ensure_operator, sign_in, upstream
from tests.support.gateway_process import GatewayProcess

pytestmark = [pytest.mark.browser, pytest.mark.process]


def top_up(pages: GatewayProcess) -> None:
    """Give the operator's account money."""
    accounts = json.loads(pages.capio("accounts", "list", "--json"))
    account = next(each for each in accounts if each["name"] != "steady")
    pages.capio(
        "credits", "topup", "--account", account["id"], "--amount", "5", "--reason", "a test"
    )


async def send(page: Page, text: str) -> None:
    """Send a message by the keyboard; the focus stays in the field."""
    await page.fill("#message", text)
    await page.press("#message", "Control+Enter")


@pytest.fixture
async def calls() -> AsyncIterator[list[Exchange]]:
    """What the upstream was asked."""
    async with upstream() as found:
        yield found


async def test_playground_streams_shows_the_cost_and_stops(
    browser: Browser, pages: GatewayProcess, calls: list[Exchange]
) -> None:
    """The key is in the page's memory: neither in its text nor in what the browser stores."""
    await ensure_operator(browser, pages)
    top_up(pages)
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

    await send(page, "more")
    await expect(replies.nth(1)).to_contain_text("Hello from here")
    await page.get_by_role("button", name="Stop").click()
    await expect(replies.nth(1)).to_contain_text("stopped")
    await expect(page.get_by_role("button", name="Send")).to_be_enabled()
    assert await tab.faults() == []
    assert key not in await page.content()
    assert key not in str(await context.storage_state())
    await context.close()


@pytest.mark.parametrize(("width", "theme"), [(390, "dark"), (1440, "light")])
async def test_two_models_get_the_same_message(
    browser: Browser, pages: GatewayProcess, calls: list[Exchange], width: int, theme: Theme
) -> None:
    """Each has its own stream, times, tokens and cost, and remembers its own replies."""
    await ensure_operator(browser, pages)
    top_up(pages)
    context, tab = await visit(browser, pages.base_url, width=width, theme=theme)
    page = tab.page
    await sign_in(page, pages.base_url)
    await page.goto(f"{pages.base_url}/app/playground")
    keys: list[str] = []
    page.on("request", lambda each: keys.append(each.url) if "/key" in each.url else None)
    await page.focus("#other")
    await page.keyboard.type("glm")
    await expect(page).to_have_url(
        f"{pages.base_url}/app/playground?model=deepseek-v4-flash&compare=glm-5"
    )
    await send(page, "Who are you?")

    replies = page.locator(".conversation .assistant")
    await expect(replies).to_have_count(2)
    await expect(replies.nth(0)).to_contain_text("$0.00014", timeout=15_000)
    # 1,000 tokens at $1 and 500 at $2 per million.
    await expect(replies.nth(1)).to_contain_text("$0.002", timeout=15_000)
    expected = [("deepseek-v4-flash", "Hello from here"), ("glm-5", "Good day here")]
    for reply, (model, text) in enumerate(expected):
        shown = await replies.nth(reply).inner_text()
        for part in (model, text, "1,000 input, 500 output", "req_"):
            assert part in shown
        assert re.search(r"First token\s+\d+\.\d\d s\s+Total time\s+\d+\.\d\d s", shown)
    boxes = [await replies.nth(n).bounding_box() for n in (0, 1)]
    assert boxes[0] and boxes[1]
    assert (boxes[0]["y"] == boxes[1]["y"]) is (width > 1000)
    assert len(keys) == 1

    await send(page, "And more?")
    await expect(replies.nth(3)).to_contain_text("Good day here")
    assert await page.evaluate("document.activeElement.id") == "message"
    await page.keyboard.press("Escape")
    await expect(page.get_by_text("stopped")).to_have_count(2)
    asked = {each.json["model"]: each.json["messages"] for each in calls[2:]}
    assert [each["content"] for each in asked["m2"]] == [
        "Who are you?",
        "Good day here",
        "And more?",
    ]
    assert [each["content"] for each in asked["m"]][1] == "Hello from here"
    assert await tab.faults() == []
    await context.close()


async def test_one_model_fails_and_the_other_replies(
    browser: Browser, pages: GatewayProcess, calls: list[Exchange]
) -> None:
    """In 简体中文, by the address alone: the error has its kind, and the thread goes on without."""
    await ensure_operator(browser, pages)
    top_up(pages)
    context, tab = await visit(browser, pages.base_url)
    await context.add_cookies([{"name": "language", "value": "zh-CN", "url": pages.base_url}])
    page = tab.page
    await page.goto(pages.capio("users", "link", "ada@example.com").strip())
    await page.wait_for_url("**/app")
    await page.goto(f"{pages.base_url}/app/playground?model=deepseek-v4-flash&compare=glm-5")
    await send(page, "no")
    replies = page.locator(".conversation .assistant")
    await expect(replies.nth(0)).to_contain_text("1,000 输入, 500 输出", timeout=15_000)
    await expect(replies.nth(1)).to_contain_text("调用失败：")
    await expect(replies.nth(1)).to_contain_text("400")
    await expect(replies.nth(1)).to_contain_text("That is not allowed here.")

    await send(page, "Who are you?")
    await expect(replies.nth(3)).to_contain_text("Good day here")
    messages = {each.json["model"]: each.json["messages"] for each in calls[2:]}
    assert [len(messages[model]) for model in ("m", "m2")] == [3, 1]
    assert [text for text in tab.complaints if "400" not in text] == []
    await context.close()
