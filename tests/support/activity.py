"""An account with calls and money, and the console that shows them to one of its people."""

from __future__ import annotations

import tempfile
import time
from typing import NamedTuple

import msgspec

from gateway.core.catalogue import build
from gateway.core.model import AttemptRecord, CallRecord, Usage
from gateway.core.pricing import cost_nanousd
from gateway.settings import Server, parse
from gateway.store.accounts.accounts import Accounts
from gateway.store.accounts.audit import Actor
from gateway.store.accounts.credits import Credits
from gateway.store.keys.repository import KeyDetails, Keys
from gateway.store.sql.database import Database
from tests.support.booking import book_calls
from tests.support.console import ConsoleApp, viewer
from tests.support.usage import usage_event

BY = Actor("cli:tester")
EVIL = '=<script>alert("1")</script>'
"""A name that a client chose."""
MINUTE_MS = 60_000
SETTINGS = parse("""
[[providers]]
name = "p"
[providers.openai]
base_url = "http://127.0.0.1:9/v1"

[[models]]
name = "kimi"
prices = { input = "1", output = "2", cache_read = "0.1" }
deployments = [{ provider = "p", model = "m" }]

[[models]]
name = "deepseek-v4-flash"
prices = { input = "0.07", output = "0.28" }
deployments = [{ provider = "p", model = "m" }]
""")


class Acme(NamedTuple):
    """The account and its calls, newest first, and the pages."""

    console: ConsoleApp
    account_id: str
    key_id: str
    calls: list[CallRecord]

    async def get(self, path: str, status: int = 200) -> str:
        """Return the text of a page."""
        response = await self.console.client.get(path)
        assert response.status_code == status, response.text
        return response.text


async def acme(database: Database) -> Acme:
    """Return an account with a top-up and three calls of today, and a stranger's call."""
    accounts, ledger = Accounts(database), Credits(database)
    account = await accounts.create("Acme")
    other = await accounts.create("Other")
    await ledger.topup(account.id, 10 * 10**9, BY, reason="invoice 7")
    key = (await Keys(database, "sk-").create(account.id, KeyDetails(name=EVIL))).row
    now_ms = int(time.time() * 1000)
    models = build(SETTINGS, {}).names
    calls = []
    for n, (model, outcome) in enumerate(
        (("kimi", "completed"), ("kimi", "failed"), ("deepseek-v4-flash", "completed"))
    ):
        usage = Usage(input=1000, cache_read=2000, output=300, reasoning=20)
        event = usage_event(
            f"req_{n}",
            account_id=account.id,
            key_id=key.id,
            model=model,
            outcome=outcome,
            usage=usage,
            cost_nanousd=cost_nanousd(usage, models[model].prices),
            at_ms=now_ms - n * MINUTE_MS,
            error_kind="upstream_broken" if outcome == "failed" else None,
            status=502 if outcome == "failed" else 200,
        )
        calls.append(event)
    broken = calls[1]
    chain = (
        AttemptRecord("p/m", "kimi", "rate_limited", 429, 50),
        AttemptRecord("q/m", "kimi", "interrupted", 200, 800),
    )
    calls[1] = msgspec.structs.replace(broken, chain=chain, attempts=2, user_agent=EVIL)
    await book_calls(database, *calls)
    await book_calls(
        database, usage_event("req_strange", account_id=other.id, at_ms=now_ms, model="secret")
    )
    # The console keeps its secret there.
    server = Server(data_dir=tempfile.mkdtemp(prefix="capio-console-"))
    settings = msgspec.structs.replace(SETTINGS, server=server)
    return Acme(ConsoleApp(database, settings, viewer(account.id)), account.id, key.id, calls)
