"""Processes killed with signal 9 at the worst moments: nothing is lost, nothing is doubled."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
import uuid
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from gateway.settings import Redis, Server, Settings
from gateway.store.redis.address import parse_address
from gateway.store.redis.client import PipelinedRedis, RedisLimits
from gateway.store.redis.cluster.kinds import cold_client
from gateway.store.spill.segments import segments
from gateway.store.sql.database import Database
from gateway.store.sql.migrations import migrate
from gateway.store.usage.journal import UsageStream
from gateway.store.usage.ledger_writer import LedgerWriter
from gateway.store.usage.reader import UsageReader
from gateway.telemetry.metrics import Metrics
from tests.support.usage import StreamProbe, stored_ids, usage_event
from tests.support.valkey import ValkeyProcess
from tests.support.waiting import wait_until

pytestmark = pytest.mark.redis

_LEDGER = """
import asyncio, sys
from pathlib import Path
import msgspec
from prometheus_client import CollectorRegistry
from gateway.settings import Settings
from gateway.store.usage.ledger_writer import LedgerWriter
from gateway.store.redis.address import parse_address
from gateway.store.redis.cluster.kinds import cold_client
from gateway.store.sql.database import Database
from gateway.store.usage.reader import UsageReader
from gateway.telemetry.metrics import Metrics

class Reader(UsageReader):
    async def acknowledge(self, entries, *further):
        if sys.argv[2] == "hang":
            print("stored", flush=True)
            await asyncio.Event().wait()
        await super().acknowledge(entries, *further)

async def main():
    settings = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Settings)
    client = cold_client(parse_address(settings.redis.url))
    reader = Reader(client, settings.redis.key_prefix, claim_idle_ms=50)
    writer = LedgerWriter(reader, Database(settings), Metrics(CollectorRegistry()))
    print("started", flush=True)
    await writer.run(asyncio.Event())

asyncio.run(main())
"""

_WORKER = """
import asyncio, sys
from pathlib import Path
import msgspec
from prometheus_client import CollectorRegistry
from gateway.settings import Settings
from gateway.store.redis.client import PipelinedRedis, RedisLimits
from gateway.store.redis.address import parse_address
from gateway.store.usage.journal import UsageStream
from gateway.telemetry.metrics import Metrics
from tests.support.usage import usage_event

async def main():
    settings = msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=Settings)
    bus = PipelinedRedis(parse_address(settings.redis.url), RedisLimits(command_timeout_s=0.05))
    await bus.start()
    stream = UsageStream(bus, settings, Metrics(CollectorRegistry()))
    stream.start()
    for n in range(1_000_000):
        await stream.append(usage_event(f"req_{n:07}"))
        print(f"req_{n:07}", flush=True)

asyncio.run(main())
"""


class World:
    """One Valkey, one database and the settings file that child processes read."""

    def __init__(self, settings: Settings, home: Path, probe: StreamProbe) -> None:
        self.settings = settings
        self.probe = probe
        self.database = Database(settings)
        self._file = home / "settings.json"
        self._file.write_bytes(msgspec.json.encode(settings))

    async def spawn(self, program: str, *arguments: str) -> Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, str(self._file), *arguments,
            stdout=PIPE, cwd=Path(__file__).parents[4],
        )  # fmt: skip

    async def drain(self) -> int:
        """Run a healthy writer until the stream is empty; return how many rows it inserted."""
        reader = UsageReader(
            cold_client(parse_address(self.settings.redis.url)),
            self.settings.redis.key_prefix,
            claim_idle_ms=50,
        )
        writer = LedgerWriter(reader, self.database, Metrics(CollectorRegistry()))
        stop = asyncio.Event()
        running = asyncio.create_task(writer.run(stop))
        try:
            await wait_until(self.probe.is_empty, 20)
        finally:
            stop.set()
            await running
            written = (await writer.status()).written_total
            await reader.aclose()
        return written

    async def stored(self) -> list[str]:
        return await stored_ids(self.database)


async def kill(process: Process) -> str:
    """Kill a child and return what it had still printed."""
    process.send_signal(signal.SIGKILL)
    assert process.stdout is not None
    rest = await process.stdout.read()
    await process.wait()
    return rest.decode()


async def next_line(process: Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


@pytest.fixture
async def world(valkey_url: str, sql_settings: Settings, tmp_path: Path) -> AsyncIterator[World]:
    prefix = f"{uuid.uuid4().hex}:"
    settings = msgspec.structs.replace(sql_settings, redis=Redis(url=valkey_url, key_prefix=prefix))
    await migrate(settings)
    client = cold_client(parse_address(valkey_url))
    world = World(settings, tmp_path, StreamProbe(client, prefix))
    yield world
    await world.database.aclose()
    await client.aclose()


async def test_writer_killed_between_insert_and_acknowledge_doubles_nothing(world: World) -> None:
    """The batch is in SQL and still in the stream: its second delivery changes nothing."""
    await world.probe.add(*[usage_event(f"req_{n:03}") for n in range(100)])
    child = await world.spawn(_LEDGER, "hang")
    assert await next_line(child) == "started"
    assert await next_line(child) == "stored"

    await kill(child)
    stored_by_child = len(await world.stored())
    waiting = await world.probe.length()
    await wait_until(partial(world.probe.idle_for, 60))
    written = await world.drain()

    assert waiting == 100
    assert stored_by_child > 0
    assert written == 100 - stored_by_child
    assert await world.stored() == [f"req_{n:03}" for n in range(100)]


@pytest.mark.slow
async def test_writer_killed_at_random_moments_loses_and_doubles_nothing(world: World) -> None:
    """Whenever the writer dies while events keep coming, SQL has each of them once."""
    for round_number in range(3):
        child = await world.spawn(_LEDGER, "run")
        await next_line(child)
        for burst in range(20):
            start = round_number * 2000 + burst * 100
            await world.probe.add(*[usage_event(f"req_{start + n:05}") for n in range(100)])
        await wait_until(partial(has_rows, world, 2000 * round_number + 1), 10)
        await kill(child)

    await world.drain()

    assert await world.stored() == [f"req_{n:05}" for n in range(6000)]


async def has_rows(world: World, count: int) -> bool:
    return len(await world.stored()) >= count


async def test_worker_killed_while_redis_is_away_leaves_every_event_on_disk(tmp_path: Path) -> None:
    """Every event that `append` returned for is replayed by the next process."""
    server = ValkeyProcess()
    server.start()
    settings = Settings(server=Server(data_dir=str(tmp_path / "data")), redis=Redis(url=server.url))
    await migrate(settings)
    client = cold_client(parse_address(server.url))
    world = World(settings, tmp_path, StreamProbe(client, settings.redis.key_prefix))
    try:
        server.kill()
        child = await world.spawn(_WORKER)
        seen = [await next_line(child) for _ in range(300)]
        seen += (await kill(child)).split("\n")[:-1]
        server.start()
        await replay(world)
        after = set(await world.probe.request_ids())
    finally:
        await world.database.aclose()
        await client.aclose()
        server.close()

    assert set(seen) <= after
    assert segments(tmp_path / "data" / "spill") == []


async def replay(world: World) -> None:
    """Start a worker's journal as the next process does, and end it."""
    bus = PipelinedRedis(
        parse_address(world.settings.redis.url), RedisLimits(command_timeout_s=2.0)
    )
    await bus.start()
    stream = UsageStream(bus, world.settings, Metrics(CollectorRegistry()))
    stream.start()
    await wait_until(lambda: not segments(Path(world.settings.server.data_dir) / "spill"), 10)
    await stream.aclose()
    await bus.aclose()


async def test_redis_paused_spills_and_everything_arrives_once_in_sql(tmp_path: Path) -> None:
    """Redis hangs in mid-traffic: what it may or may not have taken is one row in the end."""
    server = ValkeyProcess()
    server.start()
    settings = Settings(server=Server(data_dir=str(tmp_path / "data")), redis=Redis(url=server.url))
    await migrate(settings)
    client = cold_client(parse_address(server.url))
    world = World(settings, tmp_path, StreamProbe(client, settings.redis.key_prefix))
    bus = PipelinedRedis(parse_address(server.url), RedisLimits(command_timeout_s=0.05))
    await bus.start()
    metrics = Metrics(CollectorRegistry())
    stream = UsageStream(bus, settings, metrics)
    stream.start()
    try:
        for n in range(300):
            if n == 100:
                server.pause()
            if n == 200:
                server.resume()
            await asyncio.gather(*[stream.append(usage_event(f"req_{n}_{i}")) for i in range(5)])
        await wait_until(lambda: not segments(tmp_path / "data" / "spill"), 10)
        await stream.aclose()
        added = await world.probe.length()
        await world.drain()
        stored = await world.stored()
    finally:
        await world.database.aclose()
        await bus.aclose()
        await client.aclose()
        server.close()

    assert metrics.usage_spilled._value.get() > 0
    assert added >= 1500
    assert len(stored) == 1500


async def test_ledger_process_stores_and_ends_when_told(world: World, tmp_path: Path) -> None:
    """The process that the supervisor starts stores, purges, and leaves with status 0."""
    await world.probe.add(usage_event("req_0", at_ms=1))
    await world.drain()
    now_ms = int(time.time() * 1000)  # or the purge takes it
    await world.probe.add(usage_event("req_1", at_ms=now_ms))
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway.server.ledger_process", str(tmp_path / "settings.json"),
        stderr=PIPE, cwd=Path(__file__).parents[4],
    )  # fmt: skip

    try:
        await wait_until(world.probe.is_empty, 10)
        await world.probe.add(usage_event("req_2", at_ms=now_ms))
        child.send_signal(signal.SIGTERM)
        assert child.stderr is not None
        log = (await child.stderr.read()).decode()
        status = await child.wait()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()

    assert status == 0, log
    assert await world.stored() == ["req_1", "req_2"]
    assert "usage_events_purged" in log
