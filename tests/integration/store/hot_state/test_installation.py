"""A key prefix in Redis belongs to one database."""

from __future__ import annotations

import logging
import uuid
from pathlib import Path

import msgspec
import pytest
import redis.asyncio
import sqlalchemy as sa

from gateway.settings import Redis, Secrets, Server, Settings
from gateway.store.hot_state.installation import ForeignRedisError, check_installation
from gateway.store.sql.catalogue_tables import SERVICE_VALUES
from gateway.store.sql.database import Database
from tests.support.postgres import copy_migrated

pytestmark = pytest.mark.redis
NONE = Secrets({})


@pytest.fixture
def settings(tmp_path: Path, valkey_url: str) -> Settings:
    """A migrated database, and a prefix that no other test uses."""
    data_dir = tmp_path / "data"
    copy_migrated(data_dir)
    prefix = f"t{uuid.uuid4().hex}:"
    return Settings(
        server=Server(data_dir=str(data_dir)), redis=Redis(url=valkey_url, key_prefix=prefix)
    )


async def change_id(settings: Settings, value: str) -> None:
    database = Database(settings)
    async with database.write() as connection:
        where = SERVICE_VALUES.c.name == "installation_id"
        await connection.execute(sa.update(SERVICE_VALUES).where(where).values(value=value))
    await database.aclose()


async def recorded(settings: Settings, *, delete: bool = False) -> str | None:
    client = redis.asyncio.Redis.from_url(settings.redis.url)
    key = f"{settings.redis.key_prefix}installation"
    found = await client.get(key)
    if delete:
        await client.delete(key)
    await client.aclose()
    return found.decode() if isinstance(found, bytes) else None


async def test_first_start_records_the_id_and_later_ones_compare_it(settings: Settings) -> None:
    """Another database is refused, with both ids and the remedy; the record stays."""
    await change_id(settings, "inst_a")
    await check_installation(settings, NONE)
    await check_installation(settings, NONE)
    assert await recorded(settings) == "inst_a"

    await change_id(settings, "inst_b")
    message = r"redis\.key_prefix: .*inst_a.*inst_b.*delete its key"
    with pytest.raises(ForeignRedisError, match=message):
        await check_installation(settings, NONE)
    assert await recorded(settings) == "inst_a"


async def test_emptied_redis_gets_the_id_again(settings: Settings) -> None:
    """And so does a prefix whose key was deleted, as the remedy says."""
    await change_id(settings, "inst_a")
    await check_installation(settings, NONE)
    await recorded(settings, delete=True)
    await change_id(settings, "inst_b")

    await check_installation(settings, NONE)

    assert await recorded(settings) == "inst_b"


async def test_other_prefix_is_another_installation(settings: Settings) -> None:
    """Two databases share a server."""
    await change_id(settings, "inst_a")
    await check_installation(settings, NONE)
    await change_id(settings, "inst_b")
    other = msgspec.structs.replace(settings.redis, key_prefix=f"{settings.redis.key_prefix}b:")

    await check_installation(msgspec.structs.replace(settings, redis=other), NONE)

    assert await recorded(settings) == "inst_a"


@pytest.mark.parametrize("away", ["redis", "sql"])
async def test_start_does_not_depend_on_redis_or_sql(
    settings: Settings, tmp_path: Path, away: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The check is skipped, which is logged."""
    if away == "redis":
        gone = msgspec.structs.replace(settings.redis, url="redis://127.0.0.1:1")
        settings = msgspec.structs.replace(settings, redis=gone)
    else:
        sql = msgspec.structs.replace(settings.sql, url=f"postgresql://capio@/none?host={tmp_path}")
        settings = msgspec.structs.replace(settings, sql=sql)

    with caplog.at_level(logging.WARNING):
        await check_installation(settings, NONE)

    assert [each.message for each in caplog.records] == ["installation_check_skipped"]


async def test_every_database_has_an_id_of_its_own(database: Database) -> None:
    """The migration chooses it, on both databases."""
    query = sa.select(SERVICE_VALUES.c.value).where(SERVICE_VALUES.c.name == "installation_id")
    async with database.read() as connection:
        found = (await connection.execute(query)).scalar_one()

    assert found.startswith("inst_")
