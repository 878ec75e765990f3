"""Many processes at once: never one too many, nothing left behind, the ledger exact."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import pytest

from tests.support.metering import AccountProbe, FakeLedger, FakeSql
from tests.support.valkey import ValkeyProcess

pytestmark = [pytest.mark.redis, pytest.mark.slow]

_WORKER = """
import asyncio, json, random, sys
from pathlib import Path
import uvloop
from gateway.core.limits import KeyLimits, Limits
from gateway.core.model import Usage
from gateway.errors import GatewayError
from tests.support.metering import FakeSql, MeteringWorker, ask_for, event_for

url, home, number, calls, balance = sys.argv[1:]
LIMITS = KeyLimits(concurrency=40, budget_total_nanousd=4_000, rpm=3000)

async def main():
    draw = random.Random(int(number))
    sql = FakeSql()
    # A trusted account: its small balance would else allow a few calls at a time only.
    sql.put(balance=int(balance), credit=0, limits=Limits(concurrency=60), trusted=True)
    worker = MeteringWorker(url, sql, Path(home) / number)
    await worker.start()
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)  # until all processes are
    counts = {"admitted": 0, "cost": 0, "refused": {}, "most": 0, "degraded": 0}
    running = 0

    async def call(n):
        nonlocal running
        key = n % 3
        ask = ask_for(
            f"req_{number}_{n}", key_id=f"key_{key}", limits=LIMITS if key else None,
            input_tokens=draw.randrange(1, 20), max_tokens=draw.randrange(1, 20),
        )
        try:
            held = await worker.reserve(ask)
        except GatewayError as error:
            limit = error.detail.split()[0] if error.detail else error.kind.value
            counts["refused"][limit] = counts["refused"].get(limit, 0) + 1
            return
        counts["admitted"] += 1
        counts["degraded"] += held.degraded
        running += 1
        counts["most"] = max(counts["most"], running)
        await asyncio.sleep(draw.random() * 0.01)
        used = Usage(input=ask.input_tokens, output=draw.randrange(0, ask.max_tokens + 1))
        running -= 1
        event = event_for(ask, used)
        await worker.metering.reservations.settle(held, event)
        counts["cost"] += event.cost_nanousd

    async def lane(first):
        for n in range(first, int(calls), 50):
            await call(n)

    await asyncio.gather(*[lane(first) for first in range(50)])
    await worker.close()
    print(json.dumps(counts))

uvloop.run(main())
"""
PROCESSES = 4
CALLS = 2000
BALANCE = 20_000


async def run_workers(url: str, home: Path) -> list[dict[str, Any]]:
    """Run four workers, which begin at once, to their end; return the report of each."""
    workers = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            _WORKER,
            url,
            str(home),
            str(n),
            str(CALLS),
            str(BALANCE),
            stdin=PIPE,
            stdout=PIPE,
            cwd=Path(__file__).parents[4],
        )
        for n in range(PROCESSES)
    ]
    for worker in workers:
        assert worker.stdout is not None
        assert await worker.stdout.readline() == b"ready\n"
    counts = await asyncio.gather(*(worker.communicate(b"\n") for worker in workers))
    return [json.loads(out) for out, _ in counts]


async def watch(probe: AccountProbe, seen: dict[str, int], done: asyncio.Event) -> None:
    """Look at the account as often as possible, in one atomic read each."""
    fields = ["n", "nkkey_1", "nkkey_2", "base", "pend", "h"]
    while not done.is_set():
        found = [int(x or 0) for x in await probe.client.hmget(probe.key, fields)]
        seen["account"] = max(seen["account"], found[0])
        seen["key"] = max(seen["key"], found[1], found[2])
        if found[3]:
            seen["available"] = min(seen["available"], found[3] - found[4] - found[5])
        seen["looks"] += 1


async def test_four_processes_and_thousands_of_calls_are_exact(tmp_path: Path) -> None:
    """8,000 calls on one account with every kind of limit: no limit is passed, ever."""
    server = ValkeyProcess()
    url = server.start()
    probe = AccountProbe(url)
    seen = {"account": 0, "key": 0, "available": BALANCE, "looks": 0}
    done = asyncio.Event()
    watching = asyncio.create_task(watch(probe, seen, done))
    sql = FakeSql()
    sql.put(balance=BALANCE, credit=0)
    ledger = FakeLedger(url, sql)
    try:
        counts = await run_workers(url, tmp_path)
        done.set()
        await watching
        available = await probe.available()
        spent = {name: await spent_by(probe, name) for name in ("key_1", "key_2")}
        left = await probe.leftovers(), await probe.leases()
        booked = await ledger.book()
        after = await probe.available()
    finally:
        done.set()
        await ledger.close()
        await probe.close()
        server.close()

    admitted = sum(int(each["admitted"]) for each in counts)
    cost = sum(int(each["cost"]) for each in counts)
    refused: dict[str, int] = {}
    for each in counts:
        assert isinstance(each["refused"], dict)
        for name, count in each["refused"].items():
            refused[name] = refused.get(name, 0) + count
    assert admitted + sum(refused.values()) == PROCESSES * CALLS
    assert all(each["degraded"] == 0 for each in counts)
    # Never one too many, at any moment.
    assert seen["account"] <= 60
    assert seen["key"] <= 40
    assert seen["available"] >= 0
    assert seen["looks"] > 100
    assert spent["key_1"] <= 4_000
    assert spent["key_2"] <= 4_000
    # No limit was idle: the test would show nothing otherwise.
    assert set(refused) == {"limit=credit", "limit=concurrency", "limit=budget_total"}
    # Nothing is left behind, and the ledger is exact.
    assert left == ([], 0)
    assert available == BALANCE - cost == after == sql.balance()
    assert booked == admitted == len(sql.calls)


async def spent_by(probe: AccountProbe, key_id: str) -> int:
    """Return what the waiting events of a key cost."""
    return sum(event.cost_nanousd for event in await probe.waiting() if event.key_id == key_id)
