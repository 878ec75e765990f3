"""Processes learn of changes in SQL: by announcement, by the revision, without Redis or SQL."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator

import pytest

from gateway.errors import ErrorKind, GatewayError
from gateway.settings.entries.merge import StoredEntry
from gateway.store.catalogue import follower as module
from gateway.store.catalogue.announcer import CatalogueAnnouncer
from gateway.store.catalogue.follower import CatalogueFollower, ChangeListener, ServedEntries
from gateway.store.catalogue.records import StoredCatalogue
from gateway.store.catalogue.shared import SharedCatalogue
from gateway.store.keys.entry import channel_name
from gateway.store.redis.address import parse_address
from gateway.store.redis.client import PipelinedRedis, RedisLimits
from gateway.store.redis.pubsub import Subscription
from tests.support.waiting import wait_until

pytestmark = pytest.mark.redis


class Sql:
    """SQL with one catalogue, which may be unavailable."""

    def __init__(self) -> None:
        self.catalogue = StoredCatalogue("")
        self.is_away = False
        self.reads = 0

    def change(self, revision: str) -> StoredCatalogue:
        entry = StoredEntry(kind="model", name=revision, body={"context": 1})
        self.catalogue = StoredCatalogue(revision, (entry,))
        return self.catalogue

    async def revision(self) -> str:
        return (await self._found()).revision

    async def read(self) -> StoredCatalogue:
        self.reads += 1
        return await self._found()

    async def _found(self) -> StoredCatalogue:
        if self.is_away:
            raise GatewayError(ErrorKind.STORE_UNAVAILABLE, "away")
        return self.catalogue


class Keys:
    """Records what the listener of keys gets."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.calls: list[str] = []

    def subscribed(self, since: float) -> None:
        self.calls.append("subscribed")

    def proven(self, since: float) -> None:
        self.calls.append("proven")

    def received(self, message: bytes) -> None:
        self.messages.append(message)

    def lost(self) -> None:
        self.calls.append("lost")


class World:
    """One Redis, one SQL, and a process that follows."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.prefix = f"t{uuid.uuid4().hex}:"
        self.redis = PipelinedRedis(parse_address(url), RedisLimits(command_timeout_s=5))
        self.sql = Sql()
        self.shared = SharedCatalogue(self.redis, self.prefix)
        self.announcer = CatalogueAnnouncer(self.sql, self.shared)  # type: ignore[arg-type]
        self.applied: list[str] = []
        self.keys = Keys()

    def follower(self, poll_s: float = 60) -> CatalogueFollower:
        return CatalogueFollower(self.sql, self.shared, poll_s=poll_s)  # type: ignore[arg-type]

    async def apply(self, catalogue: StoredCatalogue) -> None:
        self.applied.append(catalogue.revision)


@pytest.fixture
async def world(valkey_url: str) -> AsyncIterator[World]:
    made = World(valkey_url)
    await made.redis.start()
    yield made
    await made.redis.aclose()


async def test_announced_change_is_read_at_once(world: World) -> None:
    """Messages about keys go to the keys."""
    follower = world.follower()
    await follower.load()
    follower.start(world.apply)
    listener = ChangeListener(world.keys, follower)
    channel = channel_name(world.prefix)
    subscription = Subscription(parse_address(world.url), channel, listener)
    await subscription.start()
    await wait_until(lambda: "proven" in world.keys.calls)

    assert await world.announcer.announce(world.sql.change("r1"))
    await wait_until(lambda: world.applied == ["r1"])
    await world.redis.command("PUBLISH", channel, "00 1")
    await wait_until(lambda: world.keys.messages == [b"00 1"])
    await subscription.aclose()
    await follower.aclose()

    assert world.keys.calls[0] == "subscribed"
    assert world.keys.calls[-1] == "lost"


async def test_missed_change_is_noticed_at_the_next_subscription(world: World) -> None:
    """SQL is read after each subscription."""
    follower = world.follower()
    await follower.load()
    follower.start(world.apply)
    world.sql.change("r1")

    ChangeListener(world.keys, follower).subscribed(0.0)

    await wait_until(lambda: world.applied == ["r1"])
    await follower.aclose()


async def test_missed_change_is_noticed_by_the_revision_in_redis(world: World) -> None:
    """Without a subscription; SQL is not read while the revision is the same."""
    await world.announcer.announce(world.sql.change("r1"))
    follower = world.follower(poll_s=0.02)
    assert (await follower.load()).revision == "r1"
    follower.start(world.apply)
    await asyncio.sleep(0.1)
    assert (world.sql.reads, world.applied) == (1, [])

    await world.announcer.announce(world.sql.change("r2"))

    await wait_until(lambda: world.applied == ["r2"])
    await follower.aclose()


async def test_missed_change_is_noticed_in_sql_if_redis_has_no_revision(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis was emptied, or nothing was ever announced."""
    monkeypatch.setattr(module, "SQL_POLL_S", 0.05)
    follower = world.follower(poll_s=0.02)
    await follower.load()
    follower.start(world.apply)

    world.sql.change("r1")

    await wait_until(lambda: world.applied == ["r1"])
    await follower.aclose()


async def test_start_without_sql_uses_the_copy_until_sql_is_back(world: World) -> None:
    """Without SQL and a copy there are no entries; SQL decides as soon as it responds."""
    world.sql.is_away = True
    assert await world.follower().load() == StoredCatalogue("")
    world.sql.is_away = False
    copied = world.sql.change("r1")
    await world.announcer.announce(copied)
    world.sql.is_away = True

    follower = world.follower(poll_s=0.02)
    assert await follower.load() == copied
    follower.start(world.apply)
    world.sql.change("r2")
    world.sql.is_away = False

    await wait_until(lambda: world.applied == ["r2"], 10)
    await follower.aclose()


async def test_change_that_cannot_be_applied_ends_nothing(world: World) -> None:
    """The next one is applied."""
    follower = world.follower()

    async def apply(catalogue: StoredCatalogue) -> None:
        await world.apply(catalogue)
        if catalogue.revision == "bad":
            raise RuntimeError

    follower.start(apply)
    world.sql.change("bad")
    follower.announced()
    await wait_until(lambda: world.applied == ["bad"])
    world.sql.change("good")
    follower.announced()

    await wait_until(lambda: world.applied == ["bad", "good"])
    await follower.aclose()


async def test_announcer_repeats_what_redis_lacks(world: World) -> None:
    """Also a revision that SQL no longer has, as after a restored backup."""
    assert not await world.announcer.compare() or await world.shared.revision() == ""
    world.sql.change("r2")
    assert await world.announcer.compare()
    assert not await world.announcer.compare()
    world.sql.change("r1")
    assert await world.announcer.compare()

    assert await world.shared.read() == world.sql.catalogue
    await world.redis.command("SET", f"{world.prefix}catalogue:copy", "{")
    assert await world.shared.read() is None


async def test_announcement_without_redis_returns_false(world: World) -> None:
    """The change is announced later."""
    await world.redis.aclose()

    assert not await world.announcer.announce(world.sql.change("r1"))


async def test_served_entries_log_new_problems_once(caplog: pytest.LogCaptureFixture) -> None:
    """A problem that remains is not logged again; the entries are counted each time."""
    counts: list[float] = []
    served = ServedEntries(counts.append)

    served.replace("r1", ["models.a: x"], 1)
    served.replace("r2", ["models.a: x", "models.b: y"], 2)

    assert [each.problem for each in caplog.records] == [  # type: ignore[attr-defined]
        "models.a: x",
        "models.b: y",
    ]
    assert (served.revision, served.changed.is_set(), counts) == ("r2", True, [1, 2])
