"""
Ten streams, and one of two workers that stands still for longer than a lease.

    python -m tests.support.standstill --lease 30 --pause 42

Each stream is read to its end by its client and reports 30,000 tokens at its end. Prints the rows
of the ten calls and the balance; exit code 1: a call was not charged in full.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from gateway.demo.server import CHUNKED_END, STREAM_HEAD, Exchange
from tests.process.kill.books import Books
from tests.support.gateway_process import GatewayProcess
from tests.support.scripted import ScriptedThread
from tests.support.waiting import wait_until

STREAMS = 10
COST_NANOUSD = 301_000_000
"""1,000 tokens in at $1 a million, 30,000 out at $10."""
START_NANOUSD = 100_000_000_000
CONFIG = """
[[providers]]
name = "up"
openai = {{ base_url = "http://127.0.0.1:{port}/v1" }}

[[models]]
name = "m"
context = 100000
max_output = 64000
prices = {{ input = "1", output = "10" }}
deployments = [{{ provider = "up", model = "m" }}]

[money]
lease_s = {lease_s}
renew_s = {renew_s}
"""
_WORD = {"choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": None}]}
_STOP = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
_USAGE = {
    "choices": [],
    "usage": {"prompt_tokens": 1000, "completion_tokens": 30000, "total_tokens": 31000},
}


def _upstream(seconds: float) -> ScriptedThread:
    """Return a server whose streams take this long, however fast they are read."""

    async def respond(exchange: Exchange) -> None:
        await exchange.send(STREAM_HEAD)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            await exchange.chunk(_event(json.dumps(_WORD)))
            await asyncio.sleep(0.25)
        for data in (json.dumps(_STOP), json.dumps(_USAGE), "[DONE]"):
            await exchange.chunk(_event(data))
        await exchange.send(CHUNKED_END)

    return ScriptedThread(respond).start()


def _event(data: str) -> bytes:
    return f"data: {data}\n\n".encode()


def _read_stream(port: int, key: str, whole: list[bool]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=200)
    body = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "x"}]}
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    whole.append(b"[DONE]" in connection.getresponse().read())
    connection.close()


def run(home: Path, *, lease_s: float, pause_s: float) -> tuple[list[bool], list[Any], int]:
    """Return which streams were whole, the usage rows, and the account's balance at the end."""
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
    upstream = _upstream(pause_s + 8.0)
    config = CONFIG.format(port=upstream.port, lease_s=lease_s, renew_s=lease_s / 6)
    gateway = GatewayProcess(home, config, workers=2)
    whole: list[bool] = []
    try:
        gateway.start()
        # A worker sweeps only a lease after its start.
        time.sleep(max(0.0, lease_s - pause_s + 4.0))
        gateway.capio("accounts", "create", "a")
        gateway.capio("credits", "topup", "--account", "a", "--amount", "100", "--reason", "test")
        made = gateway.capio("keys", "create", "--account", "a", "--name", "k", "--json")
        arguments = (gateway.port, json.loads(made)["key"], whole)
        threads = [threading.Thread(target=_read_stream, args=arguments) for _ in range(STREAMS)]
        for thread in threads:
            thread.start()
        time.sleep(3.0)
        stopped = gateway.workers()[0]
        os.kill(stopped, signal.SIGSTOP)
        try:
            time.sleep(pause_s)
        finally:
            os.kill(stopped, signal.SIGCONT)
        for thread in threads:
            thread.join()
        rows, balance = asyncio.run(_books(gateway))
        gateway.capio("reconcile")
        return whole, rows, balance
    finally:
        gateway.stop()
        upstream.stop()


async def _books(gateway: GatewayProcess) -> tuple[list[Any], int]:
    books = Books(gateway.data_dir)
    try:
        await wait_until(books.is_quiet, 30.0)
        assert await books.errors() == []
        rows = await books.rows()
        return rows, START_NANOUSD - sum(row["cost_nanousd"] for row in rows)
    finally:
        await books.aclose()


def main() -> int:
    """Run as a script."""
    parser = argparse.ArgumentParser(description="A worker that stands still, see the module.")
    parser.add_argument("--lease", type=float, default=30.0)
    parser.add_argument("--pause", type=float, default=42.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="capio-standstill-") as home:
        whole, rows, balance = run(Path(home), lease_s=options.lease, pause_s=options.pause)
        late = (Path(home) / "gateway.log").read_text().count("late_settlement_booked")
    for row in rows:
        print(row["outcome"], row["output_tokens"], row["cost_nanousd"])
    print(f"whole {sum(whole)}, balance {balance}, settled late {late}")
    return 0 if all(row["cost_nanousd"] == COST_NANOUSD for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
