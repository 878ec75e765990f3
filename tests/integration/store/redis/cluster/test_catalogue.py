"""The catalogue in SQL, the installation check and the schema's revision over a real cluster."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from gateway.settings import Redis, Secrets, Server, Settings
from gateway.store.accounts.audit import SYSTEM
from gateway.store.catalogue.announcer import CatalogueAnnouncer
from gateway.store.catalogue.follower import CatalogueFollower, ChangeListener
from gateway.store.catalogue.records import CatalogueRecords, StoredCatalogue
from gateway.store.catalogue.shared import SharedCatalogue
from gateway.store.hot_state.installation import ForeignRedisError, check_installation
from gateway.store.hot_state.known_schema import KnownSchema
from gateway.store.keys.entry import channel_name
from gateway.store.redis.address import parse_address
from gateway.store.redis.client import RedisLimits
from gateway.store.redis.cluster.kinds import cold_client, detect, pipelined_client, subscription
from gateway.store.sql.catalogue_tables import SERVICE_VALUES
from gateway.store.sql.database import Database
from tests.support.diary import Diary
from tests.support.postgres import copy_migrated
from tests.support.redis_cluster import RedisCluster
from tests.support.waiting import wait_until

pytestmark = pytest.mark.redis
NONE = Secrets({})


@pytest.fixture
def settings(tmp_path: Path, cluster: RedisCluster) -> Settings:
    """A migrated database, and a prefix that no other test uses."""
    data_dir = tmp_path / "data"
    copy_migrated(data_dir)
    return Settings(
        server=Server(data_dir=str(data_dir)),
        redis=Redis(url=cluster.plain_url, key_prefix=f"t{uuid.uuid4().hex}:"),
    )


@pytest.fixture
async def database(settings: Settings) -> AsyncIterator[Database]:
    opened = Database(settings)
    yield opened
    await opened.aclose()


class Pod:
    """A process of its own: clients of Redis, and a follower of the catalogue."""

    def __init__(self, settings: Settings, database: Database) -> None:
        target = parse_address(settings.redis.url)
        prefix = settings.redis.key_prefix
        self.redis = pipelined_client(target, RedisLimits(command_timeout_s=5))
        self.records = CatalogueRecords(database)
        self.shared = SharedCatalogue(self.redis, prefix)
        self.announcer = CatalogueAnnouncer(self.records, self.shared)
        self.follower = CatalogueFollower(self.records, self.shared, poll_s=60)
        self.keys = Diary()
        self.applied: list[str] = []
        self._subscription = subscription(
            self.redis, target, channel_name(prefix), ChangeListener(self.keys, self.follower)
        )

    async def __aenter__(self) -> Pod:
        await self.redis.start()
        await self.follower.load()
        self.follower.start(self._apply)
        await self._subscription.start()
        await wait_until(lambda: "subscribed" in self.keys.entries)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._subscription.aclose()
        await self.follower.aclose()
        await self.redis.aclose()

    async def _apply(self, catalogue: StoredCatalogue) -> None:
        self.applied.append(catalogue.revision)

    async def put(self, name: str) -> StoredCatalogue:
        """Store a model and announce it, as the console does."""
        changed, _ = await self.records.put(
            "model", name, {"context": 1}, SYSTEM, lambda _before, _after: None
        )
        assert await self.announcer.announce(changed)
        return changed


async def test_change_in_one_pod_is_applied_in_another_over_a_cluster(
    settings: Settings, database: Database, cluster: RedisCluster
) -> None:
    """Each change once, though several masters deliver its message; so do messages about keys."""
    async with Pod(settings, database) as console, Pod(settings, database) as worker:
        revisions = []
        for number in range(3):
            changed = await console.put(f"model-{number}")
            revisions.append(changed.revision)
            await wait_until(lambda: worker.applied == revisions)
        channel = channel_name(settings.redis.key_prefix)
        await console.redis.command("PUBLISH", channel, "00 1")
        await wait_until(lambda: "00 1" in worker.keys.entries)
        copy = await console.shared.read()

    assert worker.applied == revisions
    assert copy is not None
    assert [entry.name for entry in copy.entries] == ["model-0", "model-1", "model-2"]
    prefix = settings.redis.key_prefix
    keys = [f"{prefix}catalogue:{name}".encode() for name in ("copy", "revision")]
    assert [cluster.owner_of(key)("EXISTS", key.decode()) for key in keys] == [1, 1]


async def test_start_without_sql_uses_the_copy_in_the_cluster(
    settings: Settings, database: Database, tmp_path: Path
) -> None:
    """And a copy that the cluster has lost is written again."""
    async with Pod(settings, database) as console:
        changed = await console.put("model")
        missing = Database(Settings(server=Server(data_dir=str(tmp_path / "gone"))))
        started = CatalogueFollower(CatalogueRecords(missing), console.shared)
        assert (await started.load()).revision == changed.revision
        await missing.aclose()

        for name in ("copy", "revision"):
            key = f"{settings.redis.key_prefix}catalogue:{name}"
            assert await console.redis.command("DEL", key) == 1
        assert await console.announcer.compare()
        found = await console.shared.read()

    assert found == changed


async def test_prefix_of_another_database_is_refused_on_a_cluster(
    settings: Settings, database: Database
) -> None:
    """The first start records the id, and an emptied cluster gets it again."""
    await check_installation(settings, NONE)
    await check_installation(settings, NONE)
    key = f"{settings.redis.key_prefix}installation"
    client = cold_client(await detect(parse_address(settings.redis.url)))
    async with database.write() as connection:
        where = SERVICE_VALUES.c.name == "installation_id"
        await connection.execute(sa.update(SERVICE_VALUES).where(where).values(value="inst_b"))
    try:
        with pytest.raises(ForeignRedisError, match=r"redis\.key_prefix: .*inst_b"):
            await check_installation(settings, NONE)
        await client.delete(key)
        await check_installation(settings, NONE)
        assert await client.get(key) == b"inst_b"
    finally:
        await client.aclose()


async def test_revision_of_the_schema_is_remembered_by_a_cluster(settings: Settings) -> None:
    """For a start that finds SQL unavailable."""
    memory = KnownSchema(settings, NONE)

    assert await memory.recall() is None
    await memory.remember("0016")
    assert await memory.recall() == "0016"
