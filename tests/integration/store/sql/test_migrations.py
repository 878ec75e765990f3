"""The schema and how it comes to be."""

from __future__ import annotations

import asyncio
import socket
import stat
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from gateway.errors import ErrorKind, GatewayError
from gateway.settings import Server, Settings, Sql
from gateway.store.sql import announcement_tables, catalogue_tables, migrations
from gateway.store.sql.database import Database
from gateway.store.sql.migrations import current_revision, migrate, pending_revisions
from gateway.store.sql.people_tables import USERS
from tests.support.postgres import PostgresServer, find_binaries

DECLARED = (announcement_tables.NOTICES, catalogue_tables.CATALOGUE_ENTRIES, USERS)
"""A table of each module: the others are declared with it."""
REVISIONS = sorted(
    path.name[:4] for path in (Path(migrations.__file__).parent / "versions").rglob("0*_*.py")
)

_MIGRATE = """
import asyncio, sys
from gateway.settings import Server, Settings, Sql
from gateway.store.sql.migrations import migrate
settings = Settings(server=Server(data_dir=sys.argv[1]), sql=Sql(url=sys.argv[2]))
print(asyncio.run(migrate(settings)))
"""


async def test_migrate_empty_database_makes_exactly_the_declared_tables(
    sql_settings: Settings,
) -> None:
    """After the migrations the database is what `tables` declares."""
    ran = await migrate(sql_settings)
    database = Database(sql_settings)

    async with database.read() as connection:
        differences = await connection.run_sync(
            lambda c: compare_metadata(MigrationContext.configure(c), DECLARED[0].metadata)
        )
    await database.aclose()

    assert ran == REVISIONS
    assert differences == []


async def test_migrate_twice_runs_nothing_again(sql_settings: Settings) -> None:
    """The second run applies no revision."""
    await migrate(sql_settings)
    database = Database(sql_settings)

    assert await migrate(sql_settings) == []
    assert await current_revision(database) == REVISIONS[-1]
    assert await pending_revisions(database) == []
    await database.aclose()


async def test_pending_revisions_of_an_empty_database_names_all(sql_settings: Settings) -> None:
    """An empty database has no revision and everything to come."""
    database = Database(sql_settings)

    assert await current_revision(database) is None
    assert await pending_revisions(database) == REVISIONS
    await database.aclose()


async def test_migrate_newer_schema_leaves_it_alone(database: Database) -> None:
    """A program that is rolled back runs on the schema of its successor."""
    async with database.write() as connection:
        await connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))

    assert await pending_revisions(database) == []


async def test_migrate_in_four_processes_at_once_succeeds_in_all(sql_settings: Settings) -> None:
    """Of processes that start together one migrates, and no one fails."""
    children = [
        await asyncio.create_subprocess_exec(
            sys.executable, "-c", _MIGRATE, sql_settings.server.data_dir, sql_settings.sql.url,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )
        for _ in range(4)
    ]  # fmt: skip

    results = await asyncio.gather(*(child.communicate() for child in children))

    assert sorted(out for out, _ in results) == [f"{REVISIONS}\n".encode(), *[b"[]\n"] * 3], results


async def test_embedded_database_is_private_durable_and_does_not_block_readers(
    tmp_path: Path,
) -> None:
    """The file is its owner's only, commits are synced, and readers do not wait for the writer."""
    settings = Settings(server=Server(data_dir=str(tmp_path / "data")))
    await migrate(settings)
    database = Database(settings)

    async with database.write() as writer:
        await writer.execute(
            sa.text("INSERT INTO accounts (id, name, created_at) VALUES ('acct_1', 'a', 1)")
        )
        async with database.read() as reader:
            seen = (await reader.execute(sa.text("SELECT count(*) FROM accounts"))).scalar_one()
            synchronous = (await reader.execute(sa.text("PRAGMA synchronous"))).scalar_one()
            journal = (await reader.execute(sa.text("PRAGMA journal_mode"))).scalar_one()
        modes = {stat.S_IMODE(f.stat().st_mode) for f in (tmp_path / "data").iterdir()}
    await database.aclose()

    assert (seen, synchronous, journal) == (0, 2, "wal")
    assert modes == {0o600}
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700


async def test_write_that_raises_leaves_nothing_behind(database: Database) -> None:
    """A transaction that ends with an exception is rolled back."""
    with pytest.raises(LookupError):
        async with database.write() as connection:
            await connection.execute(
                sa.text("INSERT INTO accounts (id, name, created_at) VALUES ('acct_1', 'a', 1)")
            )
            raise LookupError

    async with database.read() as connection:
        count = (await connection.execute(sa.text("SELECT count(*) FROM accounts"))).scalar_one()
    assert count == 0


async def test_read_without_a_server_says_store_unavailable(tmp_path: Path) -> None:
    """An unreachable server is `store_unavailable`, which may be retried."""
    database = Database(Settings(sql=Sql(url=f"postgresql://capio@/none?host={tmp_path}")))

    with pytest.raises(GatewayError) as caught:
        async with database.read():
            pass
    await database.aclose()

    assert caught.value.kind is ErrorKind.STORE_UNAVAILABLE


async def test_read_with_a_deadline_gives_up_in_time(tmp_path: Path) -> None:
    """A database that accepts and stays silent costs no more than the deadline."""
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / ".s.PGSQL.5432"))
        silent.listen()
        database = Database(Settings(sql=Sql(url=f"postgresql://capio@/none?host={tmp_path}")))

        with pytest.raises(GatewayError) as caught:
            async with asyncio.timeout(5), database.read(timeout_s=0.05):
                pass
        await database.aclose()

    assert caught.value.kind is ErrorKind.STORE_UNAVAILABLE


@pytest.mark.sql
async def test_postgres_password_is_given_apart_from_the_url(tmp_path: Path) -> None:
    """The password of the settings is used; the error about a wrong one does not show it."""
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("no PostgreSQL here")
    server = PostgresServer(binaries, "open sesame")
    try:
        await asyncio.to_thread(server.start)
        settings = Settings(sql=Sql(url=server.create_database()))
        assert await migrate(settings, "open sesame") == REVISIONS
        with pytest.raises(GatewayError) as caught:
            await migrate(settings, "close sesame")
    finally:
        await asyncio.to_thread(server.close)

    assert caught.value.kind is ErrorKind.STORE_UNAVAILABLE
    assert "sesame" not in f"{caught.value.detail} {caught.value}"


def test_database_of_an_unknown_kind_is_refused() -> None:
    """The message names the setting and what is allowed."""
    with pytest.raises(ValueError, match=r"sql\.url.*postgresql://"):
        Database(Settings(sql=Sql(url="mysql://host/db")))


async def test_start_on_a_known_schema_does_not_import_alembic(sql_settings: Settings) -> None:
    """Alembic is needed to migrate only."""
    await migrate(sql_settings)
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _MIGRATE + "print('alembic' in sys.modules)",
        sql_settings.server.data_dir, sql_settings.sql.url, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip

    printed, _ = await child.communicate()

    assert printed == b"[]\nFalse\n"
