"""A plain URL works on one server and on a cluster, also when Redis comes or changes later."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest
from prometheus_client import CollectorRegistry

from gateway.server.ledger_process import run_ledger
from gateway.settings import Redis, Secrets, Server, Settings
from gateway.store.hot_state.redis_schema import RedisKeys
from gateway.store.redis.address import RedisAddress, parse_address
from gateway.store.redis.bus import RedisBus
from gateway.store.redis.client import PipelinedRedis, RedisLimits, RedisState
from gateway.store.redis.cluster.client import ClusterRedis
from gateway.store.redis.cluster.detecting import DetectingRedis, DetectingSubscription
from gateway.store.redis.cluster.kinds import (
    ask_kind,
    cold_client,
    detect,
    pipelined_client,
    subscription,
)
from gateway.store.redis.connection import OtherKindError
from gateway.store.redis.start_check import check_redis
from gateway.store.sql.database import Database
from gateway.telemetry.metrics import Metrics
from tests.support.diary import Diary
from tests.support.gateway_process import free_port
from tests.support.redis_cluster import RedisCluster
from tests.support.usage import stored_ids, usage_event
from tests.support.valkey import ValkeyProcess
from tests.support.waiting import wait_until

pytestmark = pytest.mark.redis

LIMITS = RedisLimits(command_timeout_s=2.0, backoff_longest_s=0.1, cooldown_s=0.1)
CHANNEL = "capio:news"


class SlowSubscription:
    """A subscription to nothing."""

    is_started = False
    is_closed = False

    async def start(self) -> None:
        await asyncio.sleep(0.01)
        self.is_started = True

    async def aclose(self) -> None:
        await asyncio.sleep(0.01)
        self.is_closed = True


class Endpoint:
    """A port that forwards to another one, as the name of a managed Redis does."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._links: list[asyncio.StreamWriter] = []
        self.port = 0

    async def __aenter__(self) -> Endpoint:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.move(self._to)
        self._server.close()
        await self._server.wait_closed()

    def move(self, port: int) -> None:
        """Forward new connections to another port, and close those to the old one."""
        self._to = port
        for link in self._links:
            link.transport.abort()
        self._links.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            behind, onward = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.close()
            return
        self._links += (writer, onward)
        await asyncio.gather(self._copy(reader, onward), self._copy(behind, writer))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
        writer.close()


class Client:
    """The hot client, a subscription and the states that the stores see."""

    def __init__(self, target: RedisAddress) -> None:
        self.states: list[RedisState] = []
        self.redis: RedisBus = pipelined_client(target, LIMITS, on_state=self.states.append)
        self.diary = Diary()
        self.subscription = subscription(self.redis, target, CHANNEL, self.diary)

    async def start(self) -> Client:
        await self.redis.start()
        await self.subscription.start()
        return self

    async def close(self) -> None:
        await self.subscription.aclose()
        await self.redis.aclose()

    @property
    def kind(self) -> type:
        assert isinstance(self.redis, DetectingRedis)
        return type(self.redis.client)

    async def is_ready(self, kind: type) -> None:
        await wait_until(lambda: self.kind is kind and self.redis.state is RedisState.READY, 20)

    async def works(self) -> None:
        """Keys of all slots are stored, and a message arrives."""
        for number in range(10):
            assert await self.redis.command("SET", f"capio:{number}", number) == b"OK"
        await wait_until(lambda: "subscribed" in self.diary.entries)
        await self.redis.command("PUBLISH", CHANNEL, "message")
        await wait_until(lambda: "message" in self.diary.entries)
        self.diary.entries.clear()


@pytest.fixture
async def clients() -> AsyncIterator[list[Client]]:
    made: list[Client] = []
    yield made
    for client in made:
        await client.close()


@pytest.fixture
def unshared() -> Iterator[RedisCluster]:
    """Return a cluster of one shard that the test may stop."""
    started = RedisCluster(masters=1, replicas=False)
    yield started
    started.close()


@pytest.fixture
def stopped(unshared: RedisCluster) -> RedisCluster:
    """Return a cluster of which no server runs."""
    for server in unshared.servers:
        server.process.kill()
    return unshared


@pytest.fixture
def single() -> Iterator[tuple[ValkeyProcess, int]]:
    """Return a server that is no cluster, and its port."""
    port = free_port()
    server = ValkeyProcess("--port", str(port))
    server.start()
    yield server, port
    server.close()


async def start_all(cluster: RedisCluster) -> None:
    """Start the servers, and wait until they take commands."""
    for server in cluster.servers:
        server.process.start()
    await wait_until(lambda: all(cluster.works(server) for server in cluster.servers), 20)


async def test_plain_url_of_a_cluster_is_used_as_one(
    cluster: RedisCluster, clients: list[Client], caplog: pytest.LogCaptureFixture
) -> None:
    """By the bus at its start, by cold commands, and by the check, which surveys every master."""
    target = parse_address(cluster.plain_url)
    clients.append(await Client(target).start())

    assert clients[0].redis.state is RedisState.READY
    assert clients[0].kind is ClusterRedis
    await clients[0].works()
    assert {server("DBSIZE") > 0 for server in cluster.masters} == {True}
    cold = cold_client(await detect(target))
    assert [await cold.get(f"capio:{number}") for number in range(10)] == [
        b"%d" % number for number in range(10)
    ]
    await cold.aclose()
    caplog.set_level(logging.INFO)
    await check_redis(Settings(redis=Redis(url=cluster.plain_url)), Secrets({}))
    products = [getattr(each, "product", "") for each in caplog.records]
    assert any(product.startswith("a cluster of 3 masters") for product in products)


async def test_plain_url_of_a_cluster_with_one_shard(
    unshared: RedisCluster, clients: list[Client]
) -> None:
    """It executes every command, so it would be taken for one server until the ledger reads."""
    clients.append(await Client(parse_address(unshared.plain_url)).start())

    assert clients[0].kind is ClusterRedis
    await clients[0].works()


async def test_plain_url_of_one_server_stays_one(
    single: tuple[ValkeyProcess, int], clients: list[Client]
) -> None:
    """With its state and counters."""
    clients.append(await Client(parse_address(f"redis://127.0.0.1:{single[1]}")).start())

    await clients[0].works()
    assert clients[0].kind is PipelinedRedis
    assert clients[0].states == [RedisState.READY]
    assert (clients[0].redis.pending, clients[0].redis.failed_total) == (0, 0)


async def test_process_that_starts_without_redis_takes_the_right_client_when_it_comes(
    stopped: RedisCluster, clients: list[Client]
) -> None:
    """Until then it is in the state of a lost Redis; then the stores learn of its return."""
    clients.append(await Client(parse_address(stopped.plain_url)).start())
    client = clients[0]
    await wait_until(lambda: client.redis.state is RedisState.OPEN)
    failed = client.redis.command("GET", "capio:k")
    with pytest.raises(Exception, match="open"):
        await failed

    await start_all(stopped)

    await client.is_ready(ClusterRedis)
    assert client.states[0] is RedisState.OPEN
    assert client.states[-1] is RedisState.READY
    assert client.redis.failed_total >= 1
    await client.works()


async def test_endpoint_that_moves_to_a_cluster_and_back_is_followed(
    single: tuple[ValkeyProcess, int], unshared: RedisCluster, clients: list[Client]
) -> None:
    """As a Redis that was lost and comes back without its data."""
    async with Endpoint(single[1]) as endpoint:
        clients.append(await Client(parse_address(f"redis://127.0.0.1:{endpoint.port}")).start())
        client = clients[0]
        await client.works()

        endpoint.move(unshared.servers[0].port)
        await client.is_ready(ClusterRedis)
        await client.works()
        assert client.states.count(RedisState.READY) > 1

        # A cluster is not left while any of its masters is there.
        endpoint.move(single[1])
        await asyncio.sleep(0.3)
        assert client.kind is ClusterRedis
        for server in unshared.servers:
            server.process.kill()
        await client.is_ready(PipelinedRedis)
        await client.works()


async def test_close_in_the_middle_of_a_change(cluster: RedisCluster) -> None:
    """No task is left."""
    before = asyncio.all_tasks()
    client = Client(parse_address(cluster.plain_url))
    starting = asyncio.create_task(client.start())
    await wait_until(lambda: client.kind is ClusterRedis)
    starting.cancel()
    await asyncio.wait([starting])
    await client.close()

    assert client.redis.state is RedisState.CLOSED
    await wait_until(lambda: asyncio.all_tasks() == before)


@pytest.mark.parametrize("form", ["database", "socket"])
async def test_address_that_cannot_name_a_cluster_is_refused(
    cluster: RedisCluster, form: str
) -> None:
    """A cluster has one database, and its servers announce ports of TCP."""
    server = cluster.servers[0]
    url = f"redis://127.0.0.1:{server.port}/1" if form == "database" else server.process.url
    target = parse_address(url)

    assert await ask_kind(target) == target
    with pytest.raises(OtherKindError, match=r"cluster mode; .*redis://host:6379 .*database"):
        await check_redis(Settings(redis=Redis(url=url)), Secrets({}))


async def test_subscriptions_that_were_replaced_in_a_row_are_all_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also if the process ends before the first of them has ended."""
    made: list[SlowSubscription] = []

    def make(_: DetectingSubscription) -> SlowSubscription:
        made.append(SlowSubscription())
        return made[-1]

    monkeypatch.setattr(DetectingSubscription, "_make", make)
    target = parse_address("redis://127.0.0.1:1")
    redis = DetectingRedis(target)
    held = DetectingSubscription(redis, target, CHANNEL, Diary())
    await held.start()
    for _ in range(2):
        (changed,) = redis.on_change
        changed()
    await held.aclose()

    assert [(each.is_started, each.is_closed) for each in made] == [(True, True)] * 3


async def test_ledger_writer_that_starts_without_redis_reads_the_cluster_when_it_comes(
    stopped: RedisCluster, tmp_path: Path
) -> None:
    """It reports that it fails, and then books what it finds in all shards."""
    settings = Settings(server=Server(data_dir=str(tmp_path)), redis=Redis(url=stopped.plain_url))
    metrics, stop = Metrics(CollectorRegistry()), asyncio.Event()
    running = asyncio.create_task(run_ledger(settings, Secrets({}), metrics, stop))
    database = Database(settings)
    redis = pipelined_client(parse_address(settings.redis.url), LIMITS)
    try:
        await wait_until(lambda: metrics.ledger_failing._value.get() == 1, 30)
        await start_all(stopped)
        await redis.start()
        await wait_until(lambda: redis.state is RedisState.READY, 20)
        names = RedisKeys("capio:")
        for number in range(8):
            event = usage_event(f"req_{number}", account_id=f"acct_{number}")
            stream = names.of(event.account_id).usage
            await redis.command("XADD", stream, "*", "e", msgspec.json.encode(event))

        async def is_booked() -> bool:
            return len(await stored_ids(database)) == 8

        await wait_until(is_booked, 20)
        await wait_until(lambda: metrics.ledger_failing._value.get() == 0)
    finally:
        stop.set()
        await running
        await redis.aclose()
        await database.aclose()
