"""SQL through a real PgBouncer in transaction mode."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from gateway.errors import GatewayError
from gateway.settings import Settings, Sql
from gateway.store.accounts.accounts import Accounts
from gateway.store.accounts.audit import Actor
from gateway.store.accounts.credits import Credits
from gateway.store.booking.booking import book
from gateway.store.booking.rows import row_of
from gateway.store.sql.database import Database
from gateway.store.sql.migrations import migrate, pending_revisions
from gateway.store.sql.tables import LEDGER_ENTRIES
from tests.support.booking import run_steps
from tests.support.pooler import PoolerProcess
from tests.support.postgres import PostgresServer
from tests.support.usage import encoded, usage_event

pytestmark = pytest.mark.sql

SERVERS = 2
"""Connections to PostgreSQL, fewer than clients: transactions take turns on them."""


@pytest.fixture(scope="module")
def pooler(postgres: PostgresServer) -> Iterator[PoolerProcess]:
    """A PgBouncer in front of PostgreSQL."""
    started = PoolerProcess(postgres.create_database(), SERVERS)
    try:
        yield started
    finally:
        started.close()


def through(pooler: PoolerProcess, url: str, **members: Any) -> Settings:
    """Return settings with the pooler in place of the server of `url`."""
    return Settings(sql=Sql(url=pooler.through(url), **members))


async def test_every_transaction_may_run_on_another_server(
    postgres: PostgresServer, pooler: PoolerProcess
) -> None:
    """Migration, ORM and driver: eight clients on two servers book 80 calls exactly."""
    url = postgres.create_database()
    settings = through(pooler, url, transaction_pooler=True)
    await migrate(settings)
    databases = [Database(settings) for _ in range(8)]
    account = await Accounts(databases[0]).create("acme")
    await Credits(databases[0]).topup(account.id, 1000, Actor("test"))

    async def work(number: int, database: Database) -> None:
        for n in range(10):
            name = f"req_{number}_{n}"
            event = usage_event(name, account_id=account.id, cost_nanousd=3)
            await run_steps(database, book([row_of(encoded(event))]))
            assert (await Accounts(database).get(account.id)).name == "acme"

    await asyncio.gather(*(work(n, database) for n, database in enumerate(databases)))

    assert await pending_revisions(databases[0]) == []
    assert (await Accounts(databases[0]).get(account.id)).balance_nanousd == 1000 - 80 * 3
    async with databases[0].read() as connection:
        query = sa.select(sa.func.count()).where(LEDGER_ENTRIES.c.kind == "charge")
        assert (await connection.execute(query)).scalar_one() == 80
    for database in databases:
        await database.aclose()


async def test_pooler_without_the_setting_is_an_error_that_names_it(
    migrated_postgres: str, postgres: PostgresServer, pooler: PoolerProcess
) -> None:
    """Statements that were prepared on one server are missing on the other."""
    settings = through(pooler, postgres.create_database(migrated_postgres))
    databases = [Database(settings) for _ in range(6)]

    async def ask(database: Database) -> None:
        for _ in range(20):
            async with database.read() as connection:
                await connection.execute(sa.select(LEDGER_ENTRIES.c.id).limit(1))

    found = await asyncio.gather(*map(ask, databases), return_exceptions=True)
    for database in databases:
        await database.aclose()

    details = [each.detail or "" for each in found if isinstance(each, GatewayError)]
    assert any("set sql.transaction_pooler = true" in detail for detail in details)
