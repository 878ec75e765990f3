"""
What a plan for many machines needs besides `bench.micro.masters`: renewals in Redis, and bookings
in SQL.

    python -m bench.micro.scale [--streams N] [--rounds N]

Prints the microseconds of CPU of a Valkey with an append-only file (user and system) for each
running call whose lease is renewed, with its checkpoint; and for a PostgreSQL of its own how many
calls one ledger writer books a second, with the CPU of the writer and of PostgreSQL for a call.
Each booked call adds a usage row and a ledger entry, and changes a balance; the calls belong to 50
accounts. PostgreSQL syncs its log to the disk of this machine.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import time
import uuid
from pathlib import Path
from statistics import median
from typing import cast

import msgspec
import psutil
import sqlalchemy as sa
import uvloop

from gateway.settings import Settings
from gateway.store.accounts.accounts import Accounts
from gateway.store.booking.booking import book
from gateway.store.booking.rows import row_of
from gateway.store.redis.address import parse_address
from gateway.store.redis.cluster.kinds import cold_client
from gateway.store.sql.database import Database
from gateway.store.sql.migrations import migrate
from tests.support.metering import FakeSql, MeteringWorker, ask_for, event_for
from tests.support.postgres import PostgresServer, find_binaries
from tests.support.usage import encoded, usage_event
from tests.support.valkey import ValkeyProcess

ACCOUNTS = 50
BATCH = 500
BATCHES = 20


async def renewals(streams: int, rounds: int) -> None:
    """Print the CPU of Valkey for a renewed call."""
    server = ValkeyProcess(persist=True)
    url = server.start()
    client = cold_client(parse_address(url))
    sql = FakeSql()
    sql.put(balance=10**15, credit=0)

    async def cpu_us() -> float:
        found = cast("dict[str, float]", await client.info("cpu"))
        return (found["used_cpu_user"] + found["used_cpu_sys"]) * 1e6

    with tempfile.TemporaryDirectory() as home:
        worker = MeteringWorker(url, sql, Path(home))
        await worker.start()
        try:
            held = [
                await worker.reserve(ask_for(f"req_{uuid.uuid4().hex}")) for _ in range(streams)
            ]
            used: list[float] = []
            for _ in range(rounds):
                before = await cpu_us()
                await worker.metering.running.renew()
                used.append((await cpu_us() - before) / streams)
            print(f"renewal of a running call, {streams} at once: {median(used):.1f} us of Valkey")
            for each in held:
                await worker.metering.reservations.settle(each, event_for(each.request))
        finally:
            await worker.close()
            await client.aclose()
            server.close()


def postgres_cpu_s(home: Path) -> float:
    """Return the CPU that the processes of a server have used so far."""
    used = 0.0
    for process in psutil.process_iter(["name", "cwd"]):
        if str(process.info["cwd"] or "").startswith(str(home)):
            times = process.cpu_times()
            used += times.user + times.system
    return used


async def bookings(rounds: int) -> None:
    """Print the calls that one writer books a second on PostgreSQL."""
    binaries = find_binaries()
    assert binaries is not None, "there is no PostgreSQL here"
    server = PostgresServer(binaries)
    server.start()
    base = Settings()
    with tempfile.TemporaryDirectory(prefix="capio-bench-") as directory:
        settings = msgspec.structs.replace(
            base,
            server=msgspec.structs.replace(base.server, data_dir=directory),
            sql=msgspec.structs.replace(base.sql, url=server.create_database()),
        )
        await migrate(settings)
        database = Database(settings)
        made = [await Accounts(database).create(f"bench {n}") for n in range(ACCOUNTS)]
        transactions = database.transactions()
        numbers = itertools.count()
        for round_ in range(rounds + 1):
            if round_ == 1:  # as autovacuum does within a minute: plans are made for large tables
                async with database.write() as connection:
                    await connection.execute(sa.text("ANALYZE"))
            batches = [
                [
                    row_of(
                        encoded(
                            usage_event(
                                f"req_{(n := next(numbers))}",
                                account_id=made[n % ACCOUNTS].id,
                                cost_nanousd=5,
                            )
                        )
                    )
                    for _ in range(BATCH)
                ]
                for _ in range(BATCHES)
            ]
            began, cpu = time.perf_counter(), time.process_time()
            of_server = postgres_cpu_s(server.home)
            for batch in batches:
                await transactions.run(book(batch))
            took, calls = time.perf_counter() - began, BATCH * BATCHES
            if round_ == 0:
                continue
            print(
                f"{calls / took:.0f} calls/s booked in batches of {BATCH}; CPU of the writer "
                f"{(time.process_time() - cpu) / calls * 1e6:.0f} us, of PostgreSQL "
                f"{(postgres_cpu_s(server.home) - of_server) / calls * 1e6:.0f} us a call"
            )
        await transactions.aclose()
        await database.aclose()
    server.close()


async def main(streams: int, rounds: int) -> None:
    """Measure both."""
    await renewals(streams, rounds)
    await bookings(rounds)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Renewals and bookings, see the module.")
    parser.add_argument("--streams", type=int, default=2_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    uvloop.run(main(given.streams, given.rounds))
