"""Broken providers are named on the pages of operators and of the public, from all pods."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx2
import msgspec
import pytest

from gateway.demo.server import Exchange, ScriptedServer, each_request
from gateway.settings import Settings, Sql
from gateway.store.accounts.accounts import Accounts, Billing, Terms
from gateway.store.keys.repository import KeyDetails, Keys
from gateway.store.people.sessions import Lifetimes, Sessions
from gateway.store.people.users import Users
from gateway.store.sql.database import Database
from tests.support.gateway_process import GatewayProcess, free_port
from tests.support.postgres import PostgresServer, find_binaries
from tests.support.valkey import ValkeyProcess
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.process, pytest.mark.redis]

NAMES = ("refusing", "stalled", "failing", "fine")
PROVIDER = """
[[providers]]
name = "%(name)s"
openai = { base_url = "http://127.0.0.1:%(port)d/%(name)s" }
timeouts = { first_byte_s = 0.5, first_content_s = 0.5 }

[[models]]
name = "model-%(name)s"
deployments = [{ provider = "%(name)s", model = "m" }]
"""
CALLS = 4
"""Of each model in each pod."""
PAGE_S, STATUS_S = 10, 30
"""The page is 5 s late at most where the machine is idle: it is read again after 4 s."""
_ROW = re.compile(r"<tr>.*?</tr>", re.DOTALL)


class Pod(NamedTuple):
    """A gateway, a key, and an operator's session."""

    process: GatewayProcess
    key: str
    session: str


@pytest.fixture
def redis() -> Iterator[ValkeyProcess]:
    """What both pods share."""
    valkey = ValkeyProcess()
    valkey.start()
    yield valkey
    valkey.close()


@pytest.fixture
def sql() -> Iterator[str]:
    """The URL of an empty database."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL: neither the wheel nor a system package is installed")
    server = PostgresServer(binaries)
    server.start()
    yield server.create_database()
    server.close()


@pytest.fixture
def pods(tmp_path: Path, redis: ValkeyProcess, sql: str) -> Iterator[tuple[list[Pod], int]]:
    """Two gateways with one Redis and one database, and the port of their upstream."""
    port = free_port()
    config = "".join(PROVIDER % {"name": name, "port": port} for name in NAMES)
    started = []
    try:
        for number in range(2):
            extra = f'[redis]\nurl = "{redis.url}"\n[sql]\nurl = "{sql}"\n'
            extra += f"[console]\nport = {free_port()}\n"
            home = tmp_path / str(number)
            process = GatewayProcess(home, config, workers=1, extra=extra)
            started.append(process)
            process.start()  # the first one makes the tables
        for process in started:
            process.wait_console()
        key, session = asyncio.run(_people(sql))
        yield [Pod(each, key, session) for each in started], port
    finally:
        for process in started:
            process.stop()


async def _people(sql: str) -> tuple[str, str]:
    """Make an account with a key and sign an operator in."""
    settings = Settings(sql=Sql(url=sql))
    database = Database(settings)
    account = await Accounts(database).create("Acme", Terms(Billing.POSTPAID))
    made = await Keys(database, settings.brand.key_prefix).create(account.id, KeyDetails(name="k"))
    user = await Users(database).create("ada@example.com", "Ada", is_operator=True)
    session = await Sessions(database, Lifetimes(86_400, 86_400)).begin(user, "a test")
    await database.aclose()
    return made.raw, session


async def answer(exchange: Exchange) -> None:
    """Refuse the credential, stall, fail or respond, by the first part of the path."""
    name = exchange.target.split("/")[1]
    if name == "stalled":
        await exchange.until_gone()
        return
    bodies = {
        "refusing": (401, {"error": {"message": "Incorrect API key", "code": "invalid_api_key"}}),
        "failing": (500, {"error": {"message": "internal error"}}),
    }
    message = {"role": "assistant", "content": "Hello"}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    fine = {
        "id": "c", "object": "chat.completion", "created": 1, "model": "m", "usage": usage,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
    }  # fmt: skip
    status, body = bodies.get(name, (200, fine))
    content = msgspec.json.encode(body)
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n"
    await exchange.send(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)


async def call(pod: Pod) -> None:
    """Call each model a few times, at once."""
    headers = {"authorization": f"Bearer {pod.key}"}
    async with httpx2.AsyncClient(
        base_url=pod.process.base_url, timeout=30, headers=headers
    ) as client:
        bodies = [
            {"model": f"model-{name}", "messages": [{"role": "user", "content": "Hi"}]}
            for name in NAMES
            for _ in range(CALLS)
        ]
        path = "/v1/chat/completions"
        await asyncio.gather(*(client.post(path, json=body) for body in bodies))


async def test_pages_name_each_broken_provider_from_the_attempts_of_two_pods(
    pods: tuple[list[Pod], int],
) -> None:
    """Credential, silence and errors, within seconds; the one that works is healthy."""
    both, port = pods
    upstream = ScriptedServer(each_request(answer))
    await upstream.listen(port)
    await asyncio.gather(*(call(pod) for pod in both))
    began = time.monotonic()
    pod = both[0]
    async with httpx2.AsyncClient(
        base_url=pod.process.base_url,
        timeout=30,
        cookies={"session": pod.session},
        headers={"accept": "text/html"},
    ) as client:

        async def rows() -> dict[str, str]:
            text = (await client.get("/admin-ui/providers")).text
            found = [row for row in _ROW.findall(text) if 'class="deployment"' in row]
            return {name: row for name in NAMES for row in found if f">{name}/m<" in row}

        async def is_complete() -> bool:
            # The first pod alone has half of them.
            every = await rows()
            each = 2 * CALLS
            words = ("credential refused", f"timeout {each}", f"upstream {each}", f">{each}<")
            return all(word in every[name] for word, name in zip(words, NAMES, strict=True))

        await wait_until(is_complete, PAGE_S)
        page_s = time.monotonic() - began

        async def states() -> dict[str, str]:
            models = (await client.get("/status.json")).json()["data"]
            return {each["model"]: each["state"] for each in models}

        expected = {f"model-{name}": "ok" if name == "fine" else "down" for name in NAMES}

        async def is_known() -> bool:
            return await states() == expected

        await wait_until(is_known, STATUS_S)
        status_s = time.monotonic() - began
        every = await rows()
    await upstream.aclose()

    assert page_s <= PAGE_S
    assert status_s <= STATUS_S
    assert ">healthy<" in every["fine"]
    assert all(">healthy<" not in every[name] for name in NAMES[:3])
