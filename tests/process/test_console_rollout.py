"""Calls do not notice what happens to the console: it is replaced, or stands still."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import msgspec
import pytest

from gateway.demo.server import (
    CHUNKED_END,
    STREAM_HEAD,
    Exchange,
    ScriptedServer,
    each_request,
)
from gateway.settings import Server, Settings
from gateway.store.accounts.accounts import Accounts, Billing, Terms
from gateway.store.accounts.audit import SYSTEM
from gateway.store.keys.repository import KeyDetails, Keys
from gateway.store.people.sessions import Lifetimes, Sessions
from gateway.store.people.users import Users
from gateway.store.sql.database import Database
from tests.support.gateway_process import GatewayProcess, free_port
from tests.support.waiting import wait_until, wait_until_sync

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

CONFIG = """
[[providers]]
name = "p"
openai = { base_url = "http://127.0.0.1:%d/v1" }

[[models]]
name = "deepseek-v4-flash"
deployments = [{ provider = "p", model = "m" }]
"""
EVERY_S = 0.05
CALLS = 20
PATH = "/v1/chat/completions"
_USAGE = b'"usage":{"prompt_tokens":3,"completion_tokens":3,"total_tokens":6}'
_CHUNK = b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"m",'
END = (
    _CHUNK
    + b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],'
    + _USAGE
    + b"}\n\ndata: [DONE]\n\n"
)


@contextmanager
def console(gateway: GatewayProcess) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A `capio console` of its own; its URL and process, once it serves pages."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "gateway.cli", "console", "--config", str(gateway.config_path)],
        env={**os.environ, "CAPIO_CONSOLE__PORT": str(port)},
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_sync(lambda: status_of(f"{url}/sign-in") == 200, 60)
        yield url, process
    finally:
        process.kill()
        process.wait()


def status_of(url: str, session: str = "") -> int:
    """The status of a page; 0: nobody listens."""
    headers = {"accept": "text/html", "cookie": f"session={session}"}
    try:
        return httpx2.get(url, headers=headers, timeout=30).status_code
    except httpx2.TransportError:
        return 0


async def people(gateway: GatewayProcess) -> tuple[str, str]:
    """Make an account; return a key, and a session of its owner."""
    settings = Settings(server=Server(data_dir=str(gateway.data_dir)))
    database = Database(settings)
    account = await Accounts(database).create("Acme", Terms(Billing.POSTPAID))
    made = await Keys(database, settings.brand.key_prefix).create(account.id, KeyDetails(name="k"))
    user = await Users(database).create("ada@example.com", "Ada")
    await Users(database).join(user.id, account.id, "owner", SYSTEM)
    session = await Sessions(database, Lifetimes(86_400, 86_400)).begin(user, "a test")
    await database.aclose()
    return made.raw, session


def leave_no_memory(pid: int) -> None:
    """Refuse a process all memory that it does not have: new mappings, and growing heaps."""
    sizes = Path(f"/proc/{pid}/statm").read_text().split()
    for kind, size in ((resource.RLIMIT_AS, sizes[0]), (resource.RLIMIT_DATA, sizes[5])):
        _, hard = resource.prlimit(pid, kind)
        resource.prlimit(pid, kind, (int(size) * resource.getpagesize(), hard))


def console_of(gateway: GatewayProcess) -> list[int]:
    """The process of the pages, if there is one."""
    return [pid for pid, line in gateway.children().items() if "gateway.console" in line]


async def count(exchange: Exchange) -> None:
    """Stream numbers: three, or until the client leaves."""
    await exchange.send(STREAM_HEAD)
    number = 0
    while number < 3 or "long" in exchange.json["messages"][0]["content"]:
        chunk = {
            "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [{"index": 0, "delta": {"content": f"<{number}>"}}],
        }  # fmt: skip
        await exchange.chunk(b"data: " + msgspec.json.encode(chunk) + b"\n\n")
        number += 1
        await asyncio.sleep(EVERY_S)
    await exchange.chunk(END)
    await exchange.send(CHUNKED_END)


def body(text: str) -> dict[str, object]:
    """A streaming request."""
    messages = [{"role": "user", "content": text}]
    return {"model": "deepseek-v4-flash", "stream": True, "messages": messages}


async def test_streams_and_sessions_outlive_a_console(tmp_path: Path) -> None:
    """The gateway has no console of its own; the old one ends after the new one serves."""
    port = free_port()
    gateway = GatewayProcess(tmp_path, CONFIG % port, workers=1)
    upstream = ScriptedServer(each_request(count))
    await upstream.listen(port)
    try:
        gateway.start()
        key, session = await people(gateway)
        headers = {"authorization": f"Bearer {key}"}
        async with (
            httpx2.AsyncClient(timeout=30, headers=headers) as client,
            client.stream("POST", gateway.base_url + PATH, json=body("long")) as response,
        ):
            texts = response.aiter_text()

            async def read_to(number: int) -> None:
                while f"<{number}>" not in await anext(texts):
                    pass

            await read_to(2)
            with ExitStack() as stack:
                old_url, old = await asyncio.to_thread(stack.enter_context, console(gateway))
                before = await asyncio.to_thread(status_of, f"{old_url}/app", session)
                new_url, _ = await asyncio.to_thread(stack.enter_context, console(gateway))
                old.send_signal(signal.SIGTERM)
                code = await asyncio.to_thread(old.wait, 30)
                after = await asyncio.to_thread(status_of, f"{new_url}/app", session)
                stranger = await asyncio.to_thread(status_of, f"{new_url}/app", "another")
                await read_to(20)
            await read_to(30)
    finally:
        gateway.stop()
        await upstream.aclose()

    assert (before, after, code) == (200, 200, 0)
    assert stranger == 303  # to the page that signs in


async def test_calls_complete_while_the_console_stands_still(tmp_path: Path) -> None:
    """A page waits for it, and is shown when it goes on. Without memory it is started anew."""
    port = free_port()
    extra = f"[console]\nport = {free_port()}\n"
    gateway = GatewayProcess(tmp_path, CONFIG % port, workers=1, extra=extra)
    upstream = ScriptedServer(each_request(count))
    await upstream.listen(port)
    try:
        gateway.start()
        await asyncio.to_thread(gateway.wait_console)
        key, _ = await people(gateway)
        (pid,) = console_of(gateway)
        headers = {"authorization": f"Bearer {key}", "accept": "text/html"}
        async with httpx2.AsyncClient(
            base_url=gateway.base_url, timeout=60, headers=headers
        ) as client:
            os.kill(pid, signal.SIGSTOP)
            page = asyncio.create_task(client.get("/sign-in"))
            calls = [client.post(PATH, json=body("short")) for _ in range(CALLS)]
            answers = await asyncio.gather(*calls)
            waited = not page.done()
            os.kill(pid, signal.SIGCONT)
            shown = await page

            leave_no_memory(pid)
            # A password takes 19 MiB, which cannot be had.
            form = {"login": "ada@example.com", "password": "a dozen of characters"}
            origin = {"origin": gateway.base_url}
            without = await client.post("/sign-in", data=form, headers=origin)
            calls = [client.post(PATH, json=body("short")) for _ in range(CALLS)]
            answers += await asyncio.gather(*calls)
            await wait_until(lambda: console_of(gateway) not in ([pid], []), 30)
            await asyncio.to_thread(gateway.wait_console)
            again = await client.post("/sign-in", data=form, headers=origin)
    finally:
        gateway.stop()
        await upstream.aclose()

    assert [each.status_code for each in answers] == [200] * CALLS * 2
    assert all(each.text.rstrip().endswith("[DONE]") for each in answers)
    assert waited
    assert shown.status_code == 200
    assert (without.status_code, again.status_code) == (503, 401)
    assert "Calls are not affected" in without.text
    assert "console_memory_exhausted" in gateway.log()
