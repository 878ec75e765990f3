"""
Runs the steps of a transaction on the database's driver, without SQLAlchemy.

On SQLite one visit to the driver's thread runs the whole transaction; on PostgreSQL each step is
one round trip, however many rows it has. The steps are a generator, so that they do not depend on
which of the two runs them.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import asyncpg
import msgspec

from gateway.store.sql.failures import mapped_failures
from gateway.store.sql.statements import Form, Rows, Step, Steps

T = TypeVar("T")


class SqliteTransactions:
    """
    Runs transactions on a connection of its own, in a thread of its own.

    Args:
        path: The database's file.
        open_: Opens a connection, called in that thread.
    """

    def __init__(self, path: Path, open_: Callable[[Path], sqlite3.Connection]) -> None:
        self._path = path
        self._open = open_
        self._connection: sqlite3.Connection | None = None
        self._thread: ThreadPoolExecutor | None = None

    async def run(self, steps: Steps[T]) -> T:
        """
        Run one transaction and return its outcome; an exception of `steps` rolls it back.

        Raises:
            RowRefusedError: a row was rejected, and would be again.
            GatewayError: STORE_UNAVAILABLE; the transaction may or may not have been committed.
        """
        with mapped_failures(refusals=True):
            if self._thread is None:
                self._thread = ThreadPoolExecutor(1, thread_name_prefix="capio-sqlite")
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, self._run, steps)

    async def aclose(self) -> None:
        """Close the connection once a running transaction has ended; `run` opens another."""
        thread, self._thread = self._thread, None
        if thread is not None:
            await asyncio.get_running_loop().run_in_executor(thread, self._close)
            thread.shutdown(wait=False)

    def _run(self, steps: Steps[T]) -> T:
        if self._connection is None:
            self._connection = self._open(self._path)
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            outcome = _drive_sqlite(connection, steps)
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                connection.rollback()
            raise
        return outcome

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class PostgresTransactions:
    """
    Runs transactions on a connection of its own, which is replaced after an error.

    Args:
        connect: Opens a connection.
    """

    def __init__(self, connect: Callable[[], Awaitable[asyncpg.Connection]]) -> None:
        self._connect = connect
        self._connection: asyncpg.Connection | None = None
        self._lock = asyncio.Lock()

    async def run(self, steps: Steps[T]) -> T:
        """
        Run one transaction and return its outcome; an exception of `steps` rolls it back.

        Raises:
            RowRefusedError: a row was rejected, and would be again.
            GatewayError: STORE_UNAVAILABLE; the transaction may or may not have been committed.
        """
        async with self._lock:
            with mapped_failures(refusals=True):
                if self._connection is None or self._connection.is_closed():
                    self._connection = await self._connect()
                connection = self._connection
                try:
                    async with connection.transaction():
                        return await _drive_postgres(connection, steps)
                except BaseException:
                    # The connection may be broken, or in the middle of a statement.
                    self._connection = None
                    connection.terminate()
                    raise

    async def aclose(self) -> None:
        """Close the connection once a running transaction has ended; `run` opens another."""
        async with self._lock:
            if self._connection is not None:
                self._connection.terminate()
                self._connection = None


Transactions = SqliteTransactions | PostgresTransactions


def _drive_sqlite(connection: sqlite3.Connection, steps: Steps[T]) -> T:
    try:
        step = next(steps)
        while True:
            step = steps.send(_execute_sqlite(connection, step))
    except StopIteration as end:
        outcome: T = end.value
        return outcome


def _execute_sqlite(connection: sqlite3.Connection, step: Step) -> Rows:
    form, text, _ = step.statement
    if form is Form.KEYS:
        keys = msgspec.json.encode(step.parameters).decode()
        return connection.execute(text, (keys,)).fetchall()
    if form is Form.ROWS:
        connection.executemany(text, step.parameters)
        return ()
    returned: list[tuple[Any, ...]] = []
    for row in step.parameters:  # `executemany` takes no statement that returns rows
        returned += connection.execute(text, row).fetchall()
    return returned


async def _drive_postgres(connection: asyncpg.Connection, steps: Steps[T]) -> T:
    try:
        step = next(steps)
        while True:
            step = steps.send(await _execute_postgres(connection, step))
    except StopIteration as end:
        outcome: T = end.value
        return outcome


async def _execute_postgres(connection: asyncpg.Connection, step: Step) -> Rows:
    form, _, text = step.statement
    arrays = [step.parameters] if form is Form.KEYS else [*zip(*step.parameters, strict=True)]
    found: list[Any] = await connection.fetch(text, *arrays)
    return [tuple(record) for record in found]
