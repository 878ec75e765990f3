"""Transactions on the database's driver: commit, rollback, refused rows, lost connections."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from gateway.errors import ErrorKind, GatewayError
from gateway.settings import Settings
from gateway.store.sql import database as database_module
from gateway.store.sql.database import Database
from gateway.store.sql.failures import RowRefusedError
from gateway.store.sql.statements import (
    Rows,
    Step,
    Steps,
    insert,
    insert_new,
    insert_or_add,
    select,
)
from gateway.store.sql.tables import SPEND
from gateway.store.sql.transactions import Transactions

NAMES = tuple(column.name for column in SPEND.c)
INSERT = insert(SPEND, NAMES)
INSERT_NEW = insert_new(SPEND, NAMES, "account_id, day, key_id, model")
ADD = insert_or_add(SPEND, NAMES, ["cost_nanousd"])
READ = select(
    sa.select(SPEND.c.account_id, SPEND.c.cost_nanousd),
    SPEND.c.account_id,
    order=SPEND.c.account_id,
    lock=True,
)


def row(name: str, cost: Any = 1) -> tuple[Any, ...]:
    """Return a row of an account's spend."""
    return (name, 1, "key_1", "m", cost)


def steps_of(*steps: Step, error: Exception | None = None) -> Steps[list[Rows]]:
    """Return the results of all steps, or raise after them."""
    results = []
    for step in steps:
        results.append((yield step))  # noqa: PERF401 (a comprehension cannot yield)
    if error is not None:
        raise error
    return results


@pytest.fixture
async def transactions(database: Database) -> AsyncIterator[Transactions]:
    """Transactions of a migrated database."""
    made = database.transactions()
    yield made
    await made.aclose()


async def spend(database: Database) -> list[tuple[str, int]]:
    """Return what is committed."""
    query = sa.select(SPEND.c.account_id, SPEND.c.cost_nanousd).order_by(SPEND.c.account_id)
    async with database.read() as connection:
        return [(each.account_id, each.cost_nanousd) for each in await connection.execute(query)]


async def test_results_are_those_of_each_step(
    database: Database, transactions: Transactions
) -> None:
    """New keys, then sums, then what was read, as one transaction."""
    await transactions.run(steps_of(Step(INSERT, [row("a"), row("b", 2)])))

    results = await transactions.run(
        steps_of(
            Step(INSERT_NEW, [row("a"), row("c", 3)]),
            Step(ADD, [row("a", 10), row("d", 4)]),
            Step(READ, ["d", "a", "none"]),
        )
    )

    assert [[*map(tuple, found)] for found in results] == [
        [("c", 1, "key_1", "m")],
        [],
        [("a", 11), ("d", 4)],
    ]
    assert await spend(database) == [("a", 11), ("b", 2), ("c", 3), ("d", 4)]


async def test_error_of_the_steps_rolls_back(
    database: Database, transactions: Transactions
) -> None:
    """Nothing is committed, and the next transaction runs."""
    with pytest.raises(LookupError):
        await transactions.run(steps_of(Step(INSERT, [row("a")]), error=LookupError()))

    assert await spend(database) == []
    await transactions.run(steps_of(Step(INSERT, [row("b")])))
    assert await spend(database) == [("b", 1)]


async def test_refused_row_is_named_as_such_without_its_values(
    database: Database, transactions: Transactions
) -> None:
    """A duplicate or a NULL concerns the row, not the database; nothing is committed."""
    for refused in ([row("secret"), row("secret")], [row("secret", None)]):
        with pytest.raises(RowRefusedError) as caught:
            await transactions.run(steps_of(Step(INSERT, refused)))
        assert "secret" not in str(caught.value)

    assert await spend(database) == []


async def test_transactions_at_the_same_time_wait_for_each_other(
    database: Database, transactions: Transactions
) -> None:
    """Sums of several connections are exact."""
    others = [database.transactions() for _ in range(3)]
    try:
        await asyncio.gather(
            *[
                each.run(steps_of(Step(ADD, [row("a"), row("b")])))
                for each in (transactions, *others)
                for _ in range(10)
            ]
        )
    finally:
        for each in others:
            await each.aclose()

    assert await spend(database) == [("a", 40), ("b", 40)]


async def test_closed_transactions_open_again(
    database: Database, transactions: Transactions
) -> None:
    """A connection is opened by the first transaction after `aclose`."""
    await transactions.run(steps_of(Step(ADD, [row("a")])))
    await transactions.aclose()

    await transactions.run(steps_of(Step(ADD, [row("a")])))

    assert await spend(database) == [("a", 2)]


async def test_lost_connection_is_replaced(database: Database) -> None:
    """PostgreSQL ends the session in mid-transaction: the store is unavailable, once."""
    if database.is_sqlite:
        pytest.skip("SQLite has no sessions")
    transactions = database.transactions()
    kill = sa.text(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE state = 'idle in transaction' AND datname = current_database()"
    )

    async def end_session() -> None:
        async with database.read() as connection:
            await connection.execute(kill)

    def losing() -> Steps[None]:
        yield Step(ADD, [row("a")])
        ended = asyncio.ensure_future(end_session())
        while not ended.done():
            yield Step(READ, ["a"])

    with pytest.raises(GatewayError) as caught:
        for _ in range(100):  # the session may be between two steps, and not idle
            await transactions.run(losing())

    assert caught.value.kind is ErrorKind.STORE_UNAVAILABLE
    await transactions.run(steps_of(Step(ADD, [row("b")])))
    assert ("b", 1) in await spend(database)
    await transactions.aclose()


async def test_locked_file_is_unavailable(
    database: Database,
    transactions: Transactions,
    sql_settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another writer that does not end costs the timeout; then the next transaction runs."""
    if not database.is_sqlite:
        pytest.skip("PostgreSQL locks rows")
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_S", 0.05)
    path = Path(sql_settings.server.data_dir) / "capio.db"
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")

        with pytest.raises(GatewayError) as caught:
            await transactions.run(steps_of(Step(ADD, [row("a")])))

        other.execute("ROLLBACK")
    assert caught.value.kind is ErrorKind.STORE_UNAVAILABLE
    await transactions.run(steps_of(Step(ADD, [row("a")])))
    assert await spend(database) == [("a", 1)]
