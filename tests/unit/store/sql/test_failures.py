"""Which errors of the databases concern one row, and which the database."""

from __future__ import annotations

import sqlite3

import asyncpg
import pytest
from sqlalchemy.exc import IntegrityError, OperationalError

from gateway.errors import ErrorKind, GatewayError
from gateway.store.sql.failures import RowRefusedError, mapped_failures, refuses_row

REFUSED = [
    sqlite3.IntegrityError("UNIQUE constraint failed: accounts.id"),
    sqlite3.DataError("string or blob too big"),
    asyncpg.UniqueViolationError("duplicate key"),
    asyncpg.NumericValueOutOfRangeError("bigint out of range"),
    IntegrityError("INSERT", {}, Exception("duplicate")),
]
UNAVAILABLE = [
    sqlite3.OperationalError("database is locked"),
    asyncpg.DeadlockDetectedError("deadlock detected"),
    asyncpg.CannotConnectNowError("the database system is starting up"),
    asyncpg.InterfaceError("connection is closed"),
    OperationalError("SELECT", {}, Exception("disk I/O error")),
    ConnectionRefusedError("refused"),
    TimeoutError(),
]


@pytest.mark.parametrize("error", REFUSED, ids=repr)
def test_refused_row(error: Exception) -> None:
    """Stays as it is, or becomes a RowRefusedError where that is asked for."""
    assert refuses_row(error)
    with pytest.raises(type(error)), mapped_failures():
        raise error
    with pytest.raises(RowRefusedError, match=type(error).__name__), mapped_failures(refusals=True):
        raise error


@pytest.mark.parametrize("error", UNAVAILABLE, ids=repr)
@pytest.mark.parametrize("refusals", [False, True])
def test_unavailable_database(error: Exception, *, refusals: bool) -> None:
    """Clients are asked to retry; the driver's text is in the log only."""
    assert not refuses_row(error)
    with pytest.raises(GatewayError) as caught, mapped_failures(refusals=refusals):
        raise error

    assert caught.value.kind is ErrorKind.STORE_UNAVAILABLE
    assert caught.value.retry_after_s == 1
    assert type(error).__name__ in str(caught.value.detail)


def test_detail_of_postgresql_is_left_out() -> None:
    """It quotes the row."""
    error = asyncpg.UniqueViolationError("duplicate key")
    error.detail = "Key (name)=(secret) already exists."

    with pytest.raises(RowRefusedError) as caught, mapped_failures(refusals=True):
        raise error

    assert str(caught.value) == "UniqueViolationError: duplicate key"


def test_other_errors_pass() -> None:
    """An error of the code is not one of the database."""
    with pytest.raises(LookupError), mapped_failures(refusals=True):
        raise LookupError
