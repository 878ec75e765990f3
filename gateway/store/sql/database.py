"""
The connection to SQL, the source of truth: a SQLite file by default, PostgreSQL in production.

`read` and `write` are separate because SQLite must know at BEGIN that a transaction will write: one
that starts as a reader and writes later fails at once if another writer committed in between.
A database that does not respond raises a `GatewayError` of the kind STORE_UNAVAILABLE; errors about
single rows (a duplicate, a value out of range) remain SQLAlchemy's.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import sqlalchemy as sa
from sqlalchemy import Connection, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from gateway.errors import ErrorKind, GatewayError
from gateway.settings import Settings
from gateway.store.sql.failures import mapped_failures
from gateway.store.sql.transactions import (
    PostgresTransactions,
    SqliteTransactions,
    Transactions,
)

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

CONNECT_TIMEOUT_S = 5.0
STATEMENT_TIMEOUT_S = 30.0
POOL_TIMEOUT_S = 10.0
PING_TIMEOUT_S = 5.0
BUSY_TIMEOUT_S = 10.0
"""How long a SQLite writer waits for the write lock."""
POOL_RECYCLE_S = 1800
_CACHED_STATEMENTS = 100


class Database:
    """
    The connection pool of one process, bound to the event loop that uses it first.

    Connections open on first use, which also loads drivers for 0.2 s of CPU unless `load`
    was called before. The SQLite file is created at once, readable by its owner only.

    Args:
        settings: `sql.url` is `embedded` or a PostgreSQL URL in libpq's form, options included.
        password: For PostgreSQL, if the URL contains none.
        statement_timeout_s: For PostgreSQL; None, for migrations only: no timeout.

    Raises:
        ValueError: `sql.url` is neither.
        OSError: the data directory cannot be written.
    """

    def __init__(
        self,
        settings: Settings,
        password: str | None = None,
        *,
        statement_timeout_s: float | None = STATEMENT_TIMEOUT_S,
    ) -> None:
        url = settings.sql.url
        self.is_sqlite = url == "embedded"
        if self.is_sqlite:
            path = Path(settings.server.data_dir) / "capio.db"
            _create_file(path)
            self._create: Callable[[], AsyncEngine] = partial(
                _sqlite_engine, path, settings.sql.pool_size
            )
            self._transactions: Callable[[], Transactions] = partial(
                SqliteTransactions, path, _open_sqlite
            )
        elif url.startswith(("postgresql://", "postgres://")):
            pooled = settings.sql.transaction_pooler
            connect = partial(_connect_postgres, url, password, statement_timeout_s, pooled)
            self._create = partial(_postgres_engine, connect, settings.sql.pool_size, pooled)
            self._transactions = partial(PostgresTransactions, connect)
        else:
            raise ValueError("sql.url: must be `embedded` or start with postgresql://")

        self.is_available = True
        """The last transaction did not fail because the database was unavailable."""

    def load(self) -> None:
        """Load what the first transaction needs, so that it does not wait for imports."""
        _ = self._writer

    @cached_property
    def _engine(self) -> AsyncEngine:
        return self._create()

    @cached_property
    def _writer(self) -> AsyncEngine:
        return self._engine.execution_options(capio_writes=True)

    @asynccontextmanager
    async def read(self, *, timeout_s: float | None = None) -> AsyncIterator[AsyncConnection]:
        """
        Yield a connection in a read-only transaction.

        Args:
            timeout_s: For the whole block, including the wait for a connection. None: only the
                timeouts of each step apply.

        Raises:
            GatewayError: STORE_UNAVAILABLE.
        """
        with self._watched():
            async with asyncio.timeout(timeout_s), self._engine.connect() as connection:
                yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """
        Yield a connection in a transaction, committed at the end, rolled back on an exception.

        Raises:
            GatewayError: STORE_UNAVAILABLE; the transaction may or may not have been committed.
            sqlalchemy.exc.DBAPIError: a row was rejected, see `failures.refuses_row`.
        """
        with self._watched():
            async with self._writer.begin() as connection:
                yield connection

    @contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            with mapped_failures():
                yield
        except GatewayError as error:
            # A block may raise others, which concern what it does.
            self.is_available = error.kind is not ErrorKind.STORE_UNAVAILABLE
            raise
        self.is_available = True

    async def ping(self) -> None:
        """
        Wait for a response of the database.

        Raises:
            GatewayError: STORE_UNAVAILABLE.
        """
        async with self.read(timeout_s=PING_TIMEOUT_S) as connection:
            await connection.execute(sa.text("SELECT 1"))

    def transactions(self) -> Transactions:
        """Return a runner of whole transactions with a connection of its own; `aclose` it."""
        return self._transactions()

    async def aclose(self) -> None:
        """Close every connection; those in use are closed when they are returned."""
        if "_engine" in self.__dict__:
            await self._engine.dispose()


def _create_file(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))


def _sqlite_engine(path: Path, pool_size: int) -> AsyncEngine:
    from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415 -- imports the ORM

    engine = create_async_engine(
        f"sqlite+aiosqlite:///{path}",
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_S,
        connect_args={"timeout": BUSY_TIMEOUT_S},
        hide_parameters=True,
    )
    event.listen(engine.sync_engine, "connect", _prepare_sqlite)
    event.listen(engine.sync_engine, "begin", _begin_sqlite)
    return engine


def _open_sqlite(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    _configure_sqlite(connection)
    return connection


def _prepare_sqlite(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # `_begin_sqlite` emits BEGIN
    _configure_sqlite(connection)


def _configure_sqlite(connection: DBAPIConnection | sqlite3.Connection) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    # FULL: a committed batch survives a power cut; it has already left the usage stream.
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("capio_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


class _PooledConnection(asyncpg.Connection):  # type: ignore[misc]
    """A connection through a pooler, which may run each transaction on another server."""

    async def set_type_codec(self, *args: Any, **options: Any) -> None:
        """Look the type up in one transaction: it takes two messages."""
        async with self.transaction():
            await super().set_type_codec(*args, **options)


async def _connect_postgres(
    url: str, password: str | None, statement_timeout_s: float | None, pooled: bool
) -> asyncpg.Connection:
    # asyncpg parses the URL as libpq does: several hosts, sslmode, sslrootcert.
    # Without a cache its statements have no name, so that a server keeps none of them.
    return await asyncpg.connect(
        url,
        password=password,
        timeout=CONNECT_TIMEOUT_S,
        command_timeout=statement_timeout_s,
        server_settings={"application_name": "capio"},
        statement_cache_size=0 if pooled else _CACHED_STATEMENTS,
        connection_class=_PooledConnection if pooled else asyncpg.Connection,
    )


def _postgres_engine(
    connect: Callable[[], Awaitable[asyncpg.Connection]], pool_size: int, pooled: bool
) -> AsyncEngine:
    from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415 -- imports the ORM

    def create() -> Any:
        cached = 0 if pooled else _CACHED_STATEMENTS  # SQLAlchemy has a cache of its own
        driver = engine.sync_engine.dialect.dbapi
        assert driver is not None
        return driver.connect(async_creator_fn=connect, prepared_statement_cache_size=cached)

    engine = create_async_engine(
        "postgresql+asyncpg://",
        creator=create,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_S,
        pool_recycle=POOL_RECYCLE_S,
        pool_pre_ping=True,
        hide_parameters=True,
    )
    return engine
