"""Classifies the errors of the databases' drivers and of SQLAlchemy."""

from __future__ import annotations

import sqlite3

import asyncpg
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from gateway.errors import ErrorKind, GatewayError

_FAILURES = (
    DBAPIError,
    PoolTimeoutError,
    sqlite3.Error,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    OSError,
    TimeoutError,
)
_REFUSALS = (IntegrityError, DataError, sqlite3.IntegrityError, sqlite3.DataError)


_POOLER_STATES = ("26000", "42P05")  # a prepared statement is missing, or exists already


class RowRefusedError(Exception):
    """The database rejected a row. The message has no values of it."""


def refuses_row(error: BaseException) -> bool:
    """Return whether the database rejected a value or a row and would reject it again."""
    if isinstance(error, _REFUSALS):
        return True
    return sql_state(error)[:2] in ("22", "23")


def sql_state(error: BaseException | None) -> str:
    """Return the SQLSTATE of a driver's error, which SQLAlchemy may have wrapped; empty: none."""
    state = getattr(getattr(error, "orig", error), "sqlstate", None)
    return state if isinstance(state, str) else ""


class mapped_failures:  # noqa: N801 -- used like a function in a `with` statement
    """
    Raise a GatewayError of the kind STORE_UNAVAILABLE for an error that does not concern one row.

    Args:
        refusals: Raise RowRefusedError for one that does, which otherwise stays as it is.
    """

    def __init__(self, *, refusals: bool = False) -> None:
        self._refusals = refusals

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if not isinstance(error, _FAILURES):
            return
        if not refuses_row(error):
            raise GatewayError(
                ErrorKind.STORE_UNAVAILABLE,
                "The service's database is unavailable at the moment. Retry shortly.",
                retry_after_s=1,
                detail=_describe(error),
            ) from error
        if self._refusals:
            # The first argument: PostgreSQL's DETAIL, which follows, quotes the row.
            raise RowRefusedError(f"{type(error).__name__}: {error.args[0]}") from error


def _describe(error: BaseException) -> str:
    detail = f"{type(error).__name__}: {getattr(error, 'orig', error)}"
    if sql_state(error) in _POOLER_STATES:
        detail += "; behind a pooler in transaction mode set sql.transaction_pooler = true"
    return detail
