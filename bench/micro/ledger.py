"""
CPU of the ledger writer for decoding and booking calls, on SQLite or PostgreSQL.

    python -m bench.micro.ledger [PostgreSQL URL of an empty database]

Prints microseconds of CPU (user + system of this process) per call, by the number of calls in a
batch. All calls belong to one account and are priced, so each adds a usage row and a ledger entry.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import tempfile
import time

import msgspec

from gateway.settings import Settings
from gateway.store.accounts.accounts import Accounts
from gateway.store.booking.booking import book
from gateway.store.booking.rows import row_of
from gateway.store.sql.database import Database
from gateway.store.sql.migrations import migrate
from tests.support.usage import encoded, usage_event

BATCHES = {1: 200, 10: 100, 100: 30, 500: 10}
"""Calls in a batch -> batches."""


async def measure(database: Database, account_id: str) -> None:
    transactions = database.transactions()
    numbers = itertools.count()
    for calls, batches in BATCHES.items():
        entries = [
            [
                encoded(usage_event(f"req_{next(numbers)}", account_id=account_id, cost_nanousd=5))
                for _ in range(calls)
            ]
            for _ in range(batches)
        ]
        before = time.process_time()
        for batch in entries:
            await transactions.run(book([row_of(entry) for entry in batch]))
        used = (time.process_time() - before) / calls / batches * 1e6
        print(f"{calls:4} calls in a batch: {used:7.1f} us a call")
    await transactions.aclose()


async def main(url: str) -> None:
    base = Settings()
    with tempfile.TemporaryDirectory(prefix="capio-bench-") as directory:
        settings = msgspec.structs.replace(
            base,
            server=msgspec.structs.replace(base.server, data_dir=directory),
            sql=msgspec.structs.replace(base.sql, url=url),
        )
        await migrate(settings)
        database = Database(settings)
        account = await Accounts(database).create("bench")
        await measure(database, account.id)
        await database.aclose()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Booking of calls, see the module.")
    parser.add_argument("url", nargs="?", default="embedded", help="of an empty PostgreSQL")
    asyncio.run(main(parser.parse_args().url))
