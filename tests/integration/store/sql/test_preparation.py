"""A start waits for PostgreSQL and for the migration of another process."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from gateway.errors import GatewayError
from gateway.settings import Server, Settings, Sql
from gateway.store.sql.database import Database
from gateway.store.sql.migrations import latest_revision, migrate, pending_revisions
from gateway.store.sql.preparation import FIRST_DELAY_S, LONGEST_DELAY_S, prepare_schema
from tests.support.postgres import PostgresServer

pytestmark = pytest.mark.sql


async def pending(settings: Settings) -> list[str]:
    database = Database(settings)
    try:
        return await pending_revisions(database)
    finally:
        await database.aclose()


async def test_without_the_right_to_migrate_it_waits_for_the_migration(
    postgres: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    """It changes nothing itself, and goes on once another process has migrated."""
    settings = Settings(sql=Sql(url=postgres.create_database(), migrate=False))
    delays: list[float] = []

    async def another_process(delay: float) -> None:
        delays.append(delay)
        assert await pending(settings)
        if len(delays) == 2:
            await migrate(settings)

    await prepare_schema(settings, None, another_process)

    assert delays == [FIRST_DELAY_S, 2 * FIRST_DELAY_S]
    assert await pending(settings) == []
    waiting = [record for record in caplog.records if record.getMessage() == "start_deferred"]
    assert len(waiting) == 2
    assert "migrations are pending" in vars(waiting[0])["reason"]
    assert "capio migrate" in vars(waiting[0])["remedy"]


async def test_an_unavailable_server_is_waited_for_and_then_migrated(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    """With delays that grow up to a bound."""
    url = postgres.create_database()
    host = Path(url.partition("host=")[2])
    settings = Settings(sql=Sql(url=url.replace(str(host), str(tmp_path / "socket"))))
    delays: list[float] = []

    async def server_starts(delay: float) -> None:
        delays.append(delay)
        if len(delays) == 6:
            (tmp_path / "socket").symlink_to(host)

    await prepare_schema(settings, None, server_starts)

    assert delays[-2:] == [LONGEST_DELAY_S, LONGEST_DELAY_S]
    assert await pending(settings) == []


async def refused_wait(delay: float) -> None:
    raise AssertionError(f"waited {delay} s")


@pytest.mark.parametrize("migrate_here", [True, False])
async def test_refused_settings_are_an_error_at_once(
    postgres: PostgresServer, migrate_here: bool
) -> None:
    """Waiting makes no database and no role."""
    url = postgres.create_database()
    no_database = url.replace("@/t", "@/missing")
    no_role = url.replace("//capio@", "//nobody_here@")

    for wrong in (no_database, no_role):
        with pytest.raises(GatewayError) as raised:
            await prepare_schema(
                Settings(sql=Sql(url=wrong, migrate=migrate_here)), None, refused_wait
            )
        assert "does not exist" in (raised.value.detail or "")


async def test_an_unusable_embedded_database_is_an_error_at_once(tmp_path: Path) -> None:
    """Nothing would make it usable."""
    (tmp_path / "capio.db").write_bytes(b"not a database, but long enough to be read as one" * 100)
    settings = Settings(server=Server(data_dir=str(tmp_path)))
    embedded = msgspec.structs.replace(settings, sql=Sql(migrate=False))

    with pytest.raises(GatewayError):
        await prepare_schema(embedded, None)


class Memory:
    """Remembers a revision."""

    def __init__(self, revision: str | None) -> None:
        self.revision = revision

    async def recall(self) -> str | None:
        return self.revision

    async def remember(self, revision: str) -> None:
        self.revision = revision


async def test_a_known_schema_needs_no_server(
    postgres: PostgresServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A start remembers what it has seen; the next one does not wait for an absent server."""
    url = postgres.create_database()
    memory = Memory(None)
    away = Settings(sql=Sql(url=f"postgresql://capio@/x?host={tmp_path}"))

    assert await prepare_schema(Settings(sql=Sql(url=url)), None, refused_wait, memory)
    assert not await prepare_schema(away, None, refused_wait, memory)

    assert memory.revision == latest_revision()
    assert "sql_check_skipped" in [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("seen", [None, "0001"])
async def test_an_unknown_or_older_schema_is_waited_for(
    postgres: PostgresServer, tmp_path: Path, seen: str | None
) -> None:
    """The program could not work with it."""
    url = postgres.create_database()
    host = Path(url.partition("host=")[2])
    settings = Settings(sql=Sql(url=url.replace(str(host), str(tmp_path / "socket"))))
    memory = Memory(seen)

    async def server_starts(delay: float) -> None:
        (tmp_path / "socket").symlink_to(host)

    assert await prepare_schema(settings, None, server_starts, memory)

    assert memory.revision == latest_revision()
