"""A gateway under attack: prepaid accounts, priced models, one scripted upstream."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import closing, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.gateway_process import GatewayProcess
from tests.support.raw_client import Answer, Connection, render
from tests.support.raw_upstream import RawUpstream, Slot

ADMIN_TOKEN = "operator-0123456789abcdefghijklmnopqrstuv"
UPSTREAM_KEY = "sk-provider-7d21c0"
FREE_MODEL = "free"
"""Costs nothing."""
AGENT_MODEL = "agent"
"""$5 in, $25 out, 64,000 tokens of output: what coding agents use."""
LONG = os.environ.get("CAPIO_ABUSE_LONG") == "1"
"""Attacks at the size of an attacker with time, see README; the default is sized for CI."""

PROVIDER = """
[[providers]]
name = "{name}"
openai = {{ base_url = "http://127.0.0.1:{port}/{name}/v1" }}
anthropic = {{ base_url = "http://127.0.0.1:{port}/{name}" }}
api_key_file = {key_file}
"""
MODEL = """
[[models]]
name = "{name}"
context = 1000000
max_output = 64000
prices = {{ input = "{input}", output = "{output}" }}
deployments = [{{ provider = "{provider}", model = "up", wires = ["{wire}"] }}]
"""


class Customer(NamedTuple):
    """A prepaid account and its key."""

    account: str
    key: str


class AbusedGateway:
    """
    One gateway, and everything a test asks of it.

    Each slot of the upstream is a provider with two models, `slot.model("openai")` and
    `slot.model("anthropic")`, at $1 a million tokens of input and $10 of output.

    Args:
        home: Its directory.
        upstream: Started.
        slots: Taken for this gateway alone.
        workers, server, extra: As `GatewayProcess`.
    """

    def __init__(
        self,
        home: Path,
        upstream: RawUpstream,
        slots: list[Slot],
        *,
        workers: int = 1,
        server: str = "",
        extra: str = "",
    ) -> None:
        home.mkdir(parents=True, exist_ok=True)
        (home / "admin.token").write_text(ADMIN_TOKEN)
        (home / "upstream.key").write_text(UPSTREAM_KEY)
        self._unused = slots
        key_file = json.dumps(str(home / "upstream.key"))
        config = ""
        for slot in slots:
            config += PROVIDER.format(name=slot.name, port=upstream.port, key_file=key_file)
            for wire in ("openai", "anthropic"):
                config += MODEL.format(
                    name=slot.model(wire), provider=slot.name, wire=wire, input=1, output=10
                )
        last = slots[-1]
        for name, price, output in ((FREE_MODEL, 0, 0), (AGENT_MODEL, 5, 25)):
            config += MODEL.format(
                name=name, provider=last.name, wire="openai", input=price, output=output
            )
        self.agent_upstream = slots.pop()
        token_file = json.dumps(str(home / "admin.token"))
        self.process = GatewayProcess(
            home,
            config,
            workers=workers,
            server=server,
            extra=f"[admin]\ntoken_file = {token_file}\n{extra}",
        )

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.process.port

    def take(self) -> Slot:
        """Return an upstream that no test has used before."""
        return self._unused.pop(0)

    # The operator's side.

    def admin(self, method: str, path: str, body: object = None) -> Any:
        """Return the JSON of a request to `/admin/...` that must succeed."""
        request = urllib.request.Request(
            f"{self.process.base_url}/admin/{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "authorization": f"Bearer {ADMIN_TOKEN}",
                "content-type": "application/json",
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as failure:
            with failure:
                text = failure.read().decode()
            raise AssertionError(f"{method} {path}: {text}") from failure

    def customer(self, dollars: str = "100", **limits: object) -> Customer:
        """Return a new prepaid account with this balance, and a key of it."""
        account = self.admin("POST", "accounts", {"name": f"customer-{time.time_ns()}"})["id"]
        if Decimal(dollars):
            body = {"amount": dollars, "reason": "test"}
            self.admin("POST", f"accounts/{account}/credits", body)
        if limits:
            self.admin("PUT", f"accounts/{account}/limits", limits)
        made = self.admin("POST", "keys", {"account_id": account, "name": "key"})
        return Customer(account, made["key"])

    def balance(self, customer: Customer) -> Decimal:
        """Return the account's balance in the ledger."""
        return Decimal(str(self.admin("GET", f"accounts/{customer.account}")["balance"]))

    def calls(self, customer: Customer) -> list[dict[str, Any]]:
        """Return the account's calls, the newest first."""
        found: list[dict[str, Any]] = self.admin(
            "GET", f"calls?account_id={customer.account}&limit=500"
        )["data"]
        return found

    def recorded(self, customer: Customer, count: int, timeout_s: float = 10.0) -> None:
        """Wait until so many of the account's calls are in SQL."""
        deadline = time.monotonic() + timeout_s
        while (have := self._count(customer)) < count:
            assert time.monotonic() < deadline, f"{have} of {count} calls are recorded"
            time.sleep(0.05)

    def _count(self, customer: Customer) -> int:
        path = self.process.data_dir / "capio.db"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as database:
            query = "select count(distinct request_id) from usage_events where account_id = ?"
            (count,) = database.execute(query, (customer.account,)).fetchone()
            return int(count)

    def spent(self, customer: Customer, had: str, *, calls: int = 1) -> Decimal:
        """Wait for so many calls to be booked; return what the account paid for them."""
        self.recorded(customer, calls)
        return Decimal(had) - self.balance(customer)

    # The client's side.

    def post(
        self, path: str, key: str, body: bytes, *, timeout_s: float = 30.0, **headers: str
    ) -> Answer:
        """Return the response to one request on a connection of its own."""
        headers.setdefault("authorization", f"Bearer {key}")
        headers.setdefault("connection", "close")
        with Connection(self.port) as connection:
            connection.socket.settimeout(timeout_s)
            # Refused before the body was read to its end: the response is there.
            with suppress(BrokenPipeError, ConnectionResetError):
                connection.send(render("POST", path, body, **headers))
            return connection.answer()

    def get(self, path: str, key: str | None = None) -> Answer:
        """Return the response to a GET on a connection of its own."""
        headers: dict[str, Any] = {"connection": "close"}
        if key:
            headers["authorization"] = f"Bearer {key}"
        with Connection(self.port) as connection:
            return connection.request("GET", path, **headers)

    def tracebacks(self) -> int:
        """Return how many tracebacks are in the log."""
        return self.process.log().count("Traceback")

    def rss_mib(self) -> float:
        """Return the resident memory of all workers."""
        return sum(resident_mib(pid) for pid in self.process.workers())


def resident_mib(pid: int) -> float:
    """Return a process's resident memory."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise AssertionError(f"process {pid} has no memory")


def paused(pids: Sequence[int], seconds: float) -> None:
    """Stop processes for some time."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def child(gateway: AbusedGateway, mark: str) -> list[int]:
    """Return the process ids of a child of the supervisor."""
    workers = gateway.process.workers()
    children = gateway.process.children().items()
    return [pid for pid, line in children if mark in line and pid not in workers]
