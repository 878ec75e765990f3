"""A gateway for the browser tests: its configuration, its operator and its upstream."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager

from playwright.async_api import Browser, Page

from gateway.demo.server import CHUNKED_END, STREAM_HEAD, Exchange, ScriptedServer, each_request
from tests.support.browsing import visit
from tests.support.gateway_process import GatewayProcess, free_port

CONFIG = """
[[providers]]
name = "p"
[providers.openai]
base_url = "http://127.0.0.1:%d/v1"

[[models]]
name = "deepseek-v4-flash"
prices = { input = "0.07", output = "0.14" }
deployments = [{ provider = "p", model = "m" }]

[[models]]
name = "glm-5"
prices = { input = "1", output = "2" }
deployments = [{ provider = "p", model = "m2" }]
"""
UPSTREAM_PORT = free_port()
PASSWORD = "seven quiet herons cross"


class LocalGateway(GatewayProcess):
    """A gateway at `localhost`, where browsers allow passkeys without TLS."""

    @property
    def base_url(self) -> str:
        return super().base_url.replace("127.0.0.1", "localhost")


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


async def stream(exchange: Exchange) -> None:
    """Stream three words and the usage; after a question for more, no end; `m2` refuses "no"."""

    def event(**fields: object) -> bytes:
        chunk = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", **fields}
        return f"data: {json.dumps(chunk)}\n\n".encode()

    is_second, asked = exchange.json["model"] == "m2", exchange.json["messages"][-1]["content"]
    if is_second and asked == "no":
        body = (
            b'{"error": {"message": "That is not allowed here.", "type": "invalid_request_error"}}'
        )
        head = f"HTTP/1.1 400 Bad Request\r\ncontent-length: {len(body)}\r\n"
        await exchange.send(f"{head}content-type: application/json\r\n\r\n".encode() + body)
        return
    await exchange.send(STREAM_HEAD)
    for word in ("Good", " day", " here") if is_second else ("Hello", " from", " here"):
        await exchange.chunk(event(choices=[{"index": 0, "delta": {"content": word}}]))
    if "more" in asked:
        await exchange.until_gone()
        return
    await exchange.chunk(event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}]))
    usage = {"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500}
    await exchange.chunk(event(choices=[], usage=usage) + b"data: [DONE]\n\n")
    await exchange.send(CHUNKED_END)


@asynccontextmanager
async def upstream() -> AsyncIterator[list[Exchange]]:
    """Respond to the gateway's calls with `stream`; give the calls."""
    calls: list[Exchange] = []

    def handle(exchange: Exchange) -> Awaitable[None]:
        calls.append(exchange)
        return stream(exchange)

    server = ScriptedServer(each_request(handle))
    await server.listen(UPSTREAM_PORT)
    try:
        yield calls
    finally:
        await server.aclose()
