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
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
from sqlalchemy import Connection, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from gateway.errors import ErrorKind, GatewayError
from gateway.settings import Settings

CONNECT_TIMEOUT_S = 5.0
STATEMENT_TIMEOUT_S = 30.0
POOL_TIMEOUT_S = 10.0
BUSY_TIMEOUT_S = 10.0
"""How long a SQLite writer waits for the write lock."""
POOL_RECYCLE_S = 1800

_FAILURES = (
    DBAPIError,
    PoolTimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    OSError,
    TimeoutError,
)


class Database:
    """
    The connection pool of one process, bound to the event loop that uses it first.

    Connections open on first use; the SQLite file is created at once, readable by its owner only.

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
            self._engine = _sqlite_engine(path, settings.sql.pool_size)
        elif url.startswith(("postgresql://", "postgres://")):
            self._engine = _postgres_engine(
                url, password, settings.sql.pool_size, statement_timeout_s
            )
        else:
            raise ValueError("sql.url: must be `embedded` or start with postgresql://")
        self._writer = self._engine.execution_options(capio_writes=True)

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
        with _mapped_failures():
            async with asyncio.timeout(timeout_s), self._engine.connect() as connection:
                yield connection

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """
        Yield a connection in a transaction, committed at the end, rolled back on an exception.

        Raises:
            GatewayError: STORE_UNAVAILABLE; the transaction may or may not have been committed.
            sqlalchemy.exc.DBAPIError: a row was rejected, see `refuses_row`.
        """
        with _mapped_failures():
            async with self._writer.begin() as connection:
                yield connection

    async def aclose(self) -> None:
        """Close every connection; those in use are closed when they are returned."""
        await self._engine.dispose()


def refuses_row(error: BaseException) -> bool:
    """Return whether the database rejected a value or a row and would reject it again."""
    if isinstance(error, IntegrityError | DataError):
        return True
    state = getattr(getattr(error, "orig", None), "sqlstate", None)
    return isinstance(state, str) and state[:2] in ("22", "23")


class _mapped_failures:  # noqa: N801 -- used like a function in a `with` statement
    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, _FAILURES) and not refuses_row(error):
            raise GatewayError(
                ErrorKind.STORE_UNAVAILABLE,
                "The service's database is unavailable at the moment. Retry shortly.",
                retry_after_s=1,
                detail=f"{type(error).__name__}: {getattr(error, 'orig', error)}",
            ) from error


def _sqlite_engine(path: Path, pool_size: int) -> AsyncEngine:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
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


def _prepare_sqlite(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # `_begin_sqlite` emits BEGIN
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")
    # FULL: a committed batch survives a power cut; it has already left the usage stream.
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("capio_writes", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _postgres_engine(
    url: str, password: str | None, pool_size: int, statement_timeout_s: float | None
) -> AsyncEngine:
    async def connect() -> asyncpg.Connection:
        # asyncpg parses the URL as libpq does: several hosts, sslmode, sslrootcert.
        return await asyncpg.connect(
            url,
            password=password,
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=statement_timeout_s,
            server_settings={"application_name": "capio"},
        )

    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_S,
        pool_recycle=POOL_RECYCLE_S,
        pool_pre_ping=True,
        hide_parameters=True,
    )
