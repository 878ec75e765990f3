"""Pods: what is left of their calls when Redis, SQL and their own disk are gone."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from gateway.settings import Settings, Sql
from gateway.store.spill.segments import Segment, segments
from gateway.store.sql.database import Database
from gateway.store.sql.tables import LEDGER_ENTRIES, USAGE_EVENTS
from tests.support.bodies import request
from tests.support.postgres import PostgresServer, find_binaries
from tests.support.raw_client import Connection
from tests.support.service import OPENAI_MODEL, DemoProcess, Key, Service
from tests.support.valkey import ValkeyProcess
from tests.support.waiting import wait_until_sync

pytestmark = [pytest.mark.process, pytest.mark.sql]

PATH = "/v1/chat/completions"


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL of the test's own, to be stopped."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL: neither the wheel nor a system package is installed")
    server = PostgresServer(binaries)
    server.start()
    yield server
    server.close()


def call(service: Service, key: Key, count: int) -> None:
    """Make whole calls, each on a connection of its own."""
    for _ in range(count):
        with Connection(service.port) as connection:
            answer = connection.request(
                "POST", PATH, request(PATH, OPENAI_MODEL), x_api_key=key.raw
            )
        assert answer.status == 200, answer


async def _booked(url: str) -> tuple[int, int]:
    database = Database(Settings(sql=Sql(url=url)))
    async with database.read() as connection:
        rows = (
            await connection.execute(sa.select(sa.func.count(USAGE_EVENTS.c.request_id)))
        ).scalar_one()
        query = sa.select(sa.func.count()).where(LEDGER_ENTRIES.c.kind == "charge")
        charges = (await connection.execute(query)).scalar_one()
    await database.aclose()
    return int(rows), int(charges)


def booked(url: str) -> tuple[int, int]:
    """Return how many usage rows and how many charges SQL has."""
    return asyncio.run(_booked(url))


def spilled(home: Path) -> int:
    """Return how many events are on the pod's disk."""
    lines = 0
    for path in segments(home / "data" / "spill"):
        segment = Segment.claim(path)
        assert segment is not None
        lines += len(segment.read(1000))
        segment.release()
    return lines


def test_pods_hold_no_usage_while_redis_or_sql_can_take_it(
    tmp_path: Path, demo_upstream: DemoProcess, own_postgres: PostgresServer
) -> None:
    """
    Redis is killed: a running pod books in SQL after two seconds, and a stopping one at once. It
    has no ledger writer, so that what Redis had accepted is booked at its end, too.

    The next pod, without the first one's disk, starts without SQL, whose schema is known, and
    finds everything once. Without both stores the calls stay on disk, which exit code and log say.
    """
    valkey = ValkeyProcess(persist=True)
    url = own_postgres.create_database()
    extra = (
        f'[redis]\nurl = "{valkey.start()}"\ncommand_timeout_ms = 400\n'
        f'[sql]\nurl = "{url}"\nbook_directly_after_s = 2\n'
    )
    first = Service(
        tmp_path / "first", demo_upstream, workers=1, extra=extra, server="ledger_writer = false"
    )
    second = Service(tmp_path / "second", demo_upstream, workers=1, extra=extra)
    try:
        first.start()
        key = first.new_key("pods")
        call(first, key, 2)
        children = " ".join(first.process.children().values())
        valkey.kill()
        call(first, key, 5)
        wait_until_sync(lambda: booked(url) == (5, 5), 15)
        call(first, key, 3)
        first.process.signal(signal.SIGTERM)
        code = first.process.wait()
        left = spilled(tmp_path / "first")
        after_first = booked(url)
        shutil.rmtree(tmp_path / "first" / "data")

        valkey.start()
        own_postgres.stop()
        second.process.start()
        call(second, key, 1)
        own_postgres.start()
        wait_until_sync(lambda: booked(url) == (11, 11), 15)
        valkey.kill()
        call(second, key, 4)
        own_postgres.stop()
        second.process.signal(signal.SIGTERM)
        second_code = second.process.wait()
        log = second.process.log()
        kept = spilled(tmp_path / "second")
        own_postgres.start()

        assert "metrics_process" in children
        assert "ledger_process" not in children
        assert (code, left, after_first) == (0, 0, (10, 10))
        assert (second_code, kept, booked(url)) == (3, 4, (11, 11))
        assert '"sql_check_skipped"' in log
        (line,) = [json.loads(each) for each in log.split("\n") if "usage_events_left" in each]
        assert line["files"] >= 1
    finally:
        first.stop()
        second.stop()
        valkey.close()
