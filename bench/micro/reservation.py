"""
CPU of one worker for admitting and settling calls, against a real Valkey on a Unix socket.

    python -m bench.micro.reservation [calls] [at once]

Prints microseconds of CPU (user + system) per pair of `reserve` and `settle`, three runs, for an
account with and without limits of its key; and for the same event through the journal alone.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import resource
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

from gateway.core.limits import KeyLimits
from gateway.core.model import Usage
from gateway.store.redis.bus import RedisBus
from tests.support.metering import FakeSql, MeteringWorker, ask_for, event_for
from tests.support.valkey import ValkeyProcess

USAGE = Usage(input=10, output=12)
LIMITS = KeyLimits(
    rpm=10**9, tpm=10**9, concurrency=10**6, budget_day_nanousd=10**15, models={"m": KeyLimits()}
)


def cpu_us() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return (used.ru_utime + used.ru_stime) * 1e6


async def measure(
    bus: RedisBus,
    name: str,
    work: Callable[[int], Awaitable[object]],
    calls: int,
    at_once: int,
) -> None:
    async def lane(count: int) -> None:
        for n in range(count):
            await work(n)

    await asyncio.gather(*[lane(5) for _ in range(at_once)])
    for _ in range(3):
        await bus.command(b"FLUSHALL", b"ASYNC")
        await bus.command(b"CONFIG", b"RESETSTAT")
        await asyncio.gather(*[lane(2) for _ in range(at_once)])
        before = cpu_us()
        await asyncio.gather(*[lane(calls // at_once) for _ in range(at_once)])
        used = (cpu_us() - before) / calls
        stats = bytes(await bus.command(b"INFO", b"commandstats")).decode()  # type: ignore[arg-type]
        script = re.search("cmdstat_evalsha:.*usec_per_call=([0-9.]+)", stats)
        redis = f", Valkey {script[1]} us a script" if script else ""
        print(f"{name:32} {used:6.1f} us a call{redis}")


async def main(calls: int, at_once: int) -> None:
    server = ValkeyProcess()
    sql = FakeSql()
    sql.put(balance=10**15, credit=0)
    with tempfile.TemporaryDirectory() as home:
        worker = MeteringWorker(server.start(), sql, Path(home))
        await worker.start()
        try:

            async def plain(_: int) -> None:
                held = await worker.reserve(ask_for())
                await worker.metering.reservations.settle(held, event_for(held.request, USAGE))

            async def limited(_: int) -> None:
                held = await worker.reserve(ask_for(limits=LIMITS))
                await worker.metering.reservations.settle(held, event_for(held.request, USAGE))

            async def journal(_: int) -> None:
                await worker.metering.journal.append(event_for(ask_for(), USAGE))

            async def nothing(_: int) -> None:
                event_for(ask_for(), USAGE)

            for name, work in (
                ("making the request and the event", nothing),
                ("the journal alone", journal),
                ("reserve + settle", plain),
                ("reserve + settle, all limits", limited),
            ):
                await measure(worker.bus, name, work, calls, at_once)
        finally:
            await worker.bus.command(b"FLUSHALL")
            await worker.close()
            server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Admission and settlement, see the module.")
    parser.add_argument("calls", type=int, nargs="?", default=20_000)
    parser.add_argument("at_once", type=int, nargs="?", default=64)
    given = parser.parse_args()
    uvloop.run(main(given.calls, given.at_once))
