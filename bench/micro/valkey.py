"""
CPU of Valkey for a call: its admission, its settlement, and the ledger writer's reading.

    python -m bench.micro.valkey [--other CHECKOUT] [--calls N] [--rounds N]

Runs against a Valkey of its own with an append-only file, and prints the microseconds of CPU (user
and system, from `INFO cpu`) of that server per call: medians and the range of the rounds, by the
number of concurrent calls of one worker, without limits and with limits of the key and the model.
A call holds its reservation for 8 ms. With `--other` a second checkout is measured in the same run,
each round of one followed by the same round of the other, so that both see the same machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path
from statistics import median
from typing import cast

import uvloop

from gateway.core.limits import KeyLimits, Limits
from gateway.core.model import Usage
from gateway.store.accounts.snapshot import Position
from gateway.store.redis.address import parse_address
from gateway.store.redis.cluster.kinds import cold_client
from gateway.store.usage.reader import UsageReader
from tests.support.metering import FakeSql, MeteringWorker, ask_for, event_for
from tests.support.valkey import ValkeyProcess
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
CONCURRENT = (1, 16, 64)
HOLD_S = 0.008
USAGE = Usage(input=10, output=12)
LIMITS = KeyLimits(
    rpm=10**9, tpm=10**9, concurrency=10**6, budget_day_nanousd=10**15,
    models={"m": Limits(rpm=10**9, tpm=10**9, concurrency=10**6, budget_day_nanousd=10**15)},
)  # fmt: skip
PARTS = ("admit and settle", "ledger")


class Bench:
    """One worker and one ledger reader on a Valkey of their own."""

    def __init__(self, home: Path) -> None:
        self._server = ValkeyProcess(persist=True)
        self._home = home
        self._sql = FakeSql()
        self._sql.put(balance=10**15, credit=0)

    async def serve(self) -> None:
        """Measure what each line of standard input asks for until its end."""
        url = self._server.start()
        self._client = cold_client(parse_address(url))
        worker = MeteringWorker(url, self._sql, self._home)
        self._worker = worker
        self._reader = UsageReader(cold_client(parse_address(url)), "capio:")
        await worker.start()
        await self._reader.ensure_group()
        try:
            while line := await asyncio.to_thread(sys.stdin.readline):
                concurrent, limited, calls = json.loads(line)
                print(json.dumps(await self._measure(concurrent, limited, calls)), flush=True)
        finally:
            await worker.close()
            await self._client.aclose()
            await self._reader.aclose()
            self._server.close()

    async def _measure(self, concurrent: int, limited: bool, calls: int) -> list[float]:
        limits = LIMITS if limited else None
        hold_s = HOLD_S if concurrent > 1 else 0.0

        async def lane(count: int) -> None:
            for _ in range(count):
                # Ids as long as those of the gateway, which a script copies several times.
                held = await self._worker.reserve(ask_for(f"req_{uuid.uuid4().hex}", limits=limits))
                await asyncio.sleep(hold_s)
                await self._worker.metering.reservations.settle(
                    held, event_for(held.request, USAGE)
                )

        async def run(count: int) -> None:
            await asyncio.gather(*[lane(count // concurrent) for _ in range(concurrent)])
            await wait_until(lambda: self._has(count // concurrent * concurrent))

        await run(concurrent)
        await self._book()
        before = await self._cpu_us()
        await run(calls)
        settled = await self._cpu_us()
        await self._book()
        return [(settled - before) / calls, (await self._cpu_us() - settled) / calls]

    async def _has(self, entries: int) -> bool:
        return await self._reader.length() >= entries

    async def _book(self) -> None:
        """Read and acknowledge as the ledger writer does, one call of an account after another."""
        while entries := await self._reader.read_new(None):
            state = self._sql.accounts["acct_1"]
            position = Position(state.position, state.balance_nanousd)
            for start in range(0, len(entries), 500):
                batch = entries[start : start + 500]
                await self._reader.acknowledge(batch, {"acct_1": position})

    async def _cpu_us(self) -> float:
        found = cast("dict[str, float]", await self._client.info("cpu"))
        return (found["used_cpu_user"] + found["used_cpu_sys"]) * 1e6


def measure_both(checkouts: dict[str, Path], calls: int, rounds: int) -> None:
    """Run the rounds of all checkouts in turn and print their medians."""
    children = {
        name: subprocess.Popen(
            [sys.executable, "-P", __file__, "--serve"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, cwd=path, env={**os.environ, "PYTHONPATH": str(path)},
        )
        for name, path in checkouts.items()
    }  # fmt: skip
    for limited in (False, True):
        for concurrent in CONCURRENT:
            asked = json.dumps([concurrent, limited, calls // (4 if concurrent == 1 else 1)])
            found: dict[str, list[list[float]]] = {name: [] for name in children}
            for _ in range(rounds):
                for name, child in children.items():
                    assert child.stdin is not None
                    assert child.stdout is not None
                    print(asked, file=child.stdin, flush=True)
                    found[name].append(json.loads(child.stdout.readline()))
            for name, results in found.items():
                kind = "key + model limits" if limited else "no limits"
                print(f"{name:8} {kind:18} {concurrent:3} at once: {_shown(results)}", flush=True)
    for child in children.values():
        child.communicate()


def _shown(results: list[list[float]]) -> str:
    columns = [*zip(*results, strict=True), [sum(result) for result in results]]
    return ", ".join(
        f"{name} {median(column):5.1f} ({min(column):.1f}-{max(column):.1f})"
        for name, column in zip((*PARTS, "all"), columns, strict=True)
    )


def main() -> None:
    """Run as a script."""
    parser = argparse.ArgumentParser(description="CPU of Valkey per call, see the module.")
    parser.add_argument("--other", type=Path, help="another checkout to measure in the same run")
    parser.add_argument("--calls", type=int, default=8_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        with tempfile.TemporaryDirectory() as home:
            uvloop.run(Bench(Path(home)).serve())
        return
    checkouts = {"other": options.other} if options.other else {}
    measure_both({**checkouts, "this": ROOT}, options.calls, options.rounds)


if __name__ == "__main__":
    main()
