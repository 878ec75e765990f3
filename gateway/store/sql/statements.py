"""
Statements in the two SQL dialects, with which `transactions` runs steps on the database's driver.

They cover what the ledger writer needs: many rows or many keys at a time. All other code uses
SQLAlchemy, which costs some hundred microseconds a statement. The texts are built from the names of
tables and columns only; values are always parameters.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Generator, Sequence
from typing import Any, NamedTuple, TypeVar

import sqlalchemy as sa

T = TypeVar("T")


class Form(enum.Enum):
    """How a statement takes its parameters."""

    ROWS = enum.auto()
    """Rows to be written, as tuples; there is no result."""
    ROWS_RETURNING = enum.auto()
    """Rows to be written, as tuples; the result has a row per row that was written."""
    KEYS = enum.auto()
    """Texts, which the statement compares with a column."""


class Statement(NamedTuple):
    form: Form
    sqlite: str
    """For one row, or with a JSON array of keys."""
    postgres: str
    """With an array for each column, or with an array of keys."""


class Step(NamedTuple):
    statement: Statement
    parameters: Sequence[Any]
    """See `Form`; not empty."""


Rows = Sequence[tuple[Any, ...]]
Steps = Generator[Step, Rows, T]
"""Yields the statements of one transaction, is sent the result of each, and returns its outcome."""


def insert(table: sa.Table, names: Sequence[str]) -> Statement:
    """Return a statement that inserts rows with these columns."""
    sqlite, postgres = _insert(table, names)
    return Statement(Form.ROWS, sqlite, postgres)


def insert_new(table: sa.Table, names: Sequence[str], key: str) -> Statement:
    """Return a statement that skips rows whose `key` exists, and returns the keys of the others."""
    end = f" ON CONFLICT ({key}) DO NOTHING RETURNING {key}"
    sqlite, postgres = _insert(table, names)
    return Statement(Form.ROWS_RETURNING, sqlite + end, postgres + end)


def insert_or_add(table: sa.Table, names: Sequence[str], numbers: Collection[str]) -> Statement:
    """
    Return a statement that inserts rows, or adds their numbers to the row with their primary key.

    No two rows of one step may have the same primary key.
    """
    key = ", ".join(column.name for column in table.primary_key)
    added = ", ".join(f"{name} = {table.name}.{name} + excluded.{name}" for name in numbers)
    end = f" ON CONFLICT ({key}) DO UPDATE SET {added}"
    sqlite, postgres = _insert(table, names)
    return Statement(Form.ROWS, sqlite + end, postgres + end)


def update(table: sa.Table, names: Sequence[str], key: str) -> Statement:
    """Return a statement that sets columns of rows; `names` includes `key`, a unique column."""
    changed = [name for name in names if name != key]
    # Numbered, since `key` may stand anywhere among the columns of a row.
    sqlite = ", ".join(f"{name} = ?{names.index(name) + 1}" for name in changed)
    postgres = ", ".join(f"{name} = new.{name}" for name in changed)
    columns = ", ".join(names)
    return Statement(
        Form.ROWS,
        f"UPDATE {table.name} SET {sqlite} WHERE {key} = ?{names.index(key) + 1}",  # noqa: S608
        f"UPDATE {table.name} SET {postgres} FROM unnest({_arrays(table, names)})"  # noqa: S608
        f" AS new ({columns}) WHERE {table.name}.{key} = new.{key}",
    )


def select(
    query: sa.Select[Any], key: sa.Column[Any], *, order: sa.Column[Any], lock: bool = False
) -> Statement:
    """
    Return a statement that reads the rows whose `key` is among the parameters.

    Args:
        query: Without parameters and conditions of its own.
        key: A column of type Text.
        order: Two transactions that lock rows lock them in this order.
        lock: On PostgreSQL. On SQLite a transaction that writes locks everything.
    """
    start = f"{query.compile(compile_kwargs={'literal_binds': True})} WHERE {key}"
    end = f" ORDER BY {order}"
    return Statement(
        Form.KEYS,
        f"{start} IN (SELECT value FROM json_each(?)){end}",  # noqa: S608
        f"{start} = ANY($1::text[]){end}{' FOR UPDATE' if lock else ''}",
    )


def delete(table: sa.Table, key: str) -> Statement:
    """Return a statement that deletes the rows whose `key` is among the parameters."""
    start = f"DELETE FROM {table.name} WHERE {key}"  # noqa: S608
    return Statement(
        Form.KEYS,
        f"{start} IN (SELECT value FROM json_each(?))",  # noqa: S608
        f"{start} = ANY($1::text[])",
    )


def _insert(table: sa.Table, names: Sequence[str]) -> tuple[str, str]:
    start = f"INSERT INTO {table.name} ({', '.join(names)})"
    marks = ", ".join("?" * len(names))
    return (
        f"{start} VALUES ({marks})",
        f"{start} SELECT * FROM unnest({_arrays(table, names)})",  # noqa: S608
    )


def _arrays(table: sa.Table, names: Sequence[str]) -> str:
    """Return the parameters of `unnest`, cast to arrays of the columns' types."""
    types = [_postgres_type(table.c[name].type) for name in names]
    return ", ".join(f"${number}::{name}[]" for number, name in enumerate(types, 1))


def _postgres_type(column: sa.types.TypeEngine[Any]) -> str:
    """Return the type's name; BigInteger is a kind of Integer, so it comes first."""
    for kind, name in _TYPES:
        if isinstance(column, kind):
            return name
    raise TypeError(f"no statement writes columns of the type {column!r}")


_TYPES = (
    (sa.Boolean, "boolean"),
    (sa.BigInteger, "bigint"),
    (sa.Integer, "integer"),
    (sa.Text, "text"),
)
