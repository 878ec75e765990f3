"""The texts of statements in both dialects."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from gateway.store.sql.statements import (
    delete,
    insert,
    insert_new,
    insert_or_add,
    select,
    update,
)

PARTS = sa.Table(
    "parts",
    sa.MetaData(),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("day", sa.BigInteger, primary_key=True),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("new", sa.Boolean, nullable=False),
    sa.Column("digest", sa.LargeBinary),
)
NAMES = ("id", "day", "size", "new")
ARRAYS = "$1::text[], $2::bigint[], $3::integer[], $4::boolean[]"


def test_insert() -> None:
    """One row at a time on SQLite; arrays of the columns' types on PostgreSQL."""
    statement = insert(PARTS, NAMES)

    assert statement.sqlite == "INSERT INTO parts (id, day, size, new) VALUES (?, ?, ?, ?)"
    assert statement.postgres == (
        f"INSERT INTO parts (id, day, size, new) SELECT * FROM unnest({ARRAYS})"
    )


def test_insert_new_returns_the_keys_of_new_rows() -> None:
    """A row whose key exists is skipped."""
    statement = insert_new(PARTS, NAMES, "id")

    end = " ON CONFLICT (id) DO NOTHING RETURNING id"
    assert statement.sqlite.endswith("(?, ?, ?, ?)" + end)
    assert statement.postgres.endswith(f"unnest({ARRAYS})" + end)


def test_insert_or_add_sums_numbers_by_the_primary_key() -> None:
    """Only the named numbers are added."""
    statement = insert_or_add(PARTS, NAMES, ["size"])

    end = " ON CONFLICT (id, day) DO UPDATE SET size = parts.size + excluded.size"
    assert statement.sqlite.endswith(end)
    assert statement.postgres.endswith(end)


def test_update_finds_the_key_wherever_it_stands() -> None:
    """The parameters are in the order of the names."""
    statement = update(PARTS, ("size", "id", "new"), "id")

    assert statement.sqlite == "UPDATE parts SET size = ?1, new = ?3 WHERE id = ?2"
    assert statement.postgres == (
        "UPDATE parts SET size = new.size, new = new.new"
        " FROM unnest($1::integer[], $2::text[], $3::boolean[]) AS new (size, id, new)"
        " WHERE parts.id = new.id"
    )


def test_select_and_delete_compare_a_column_with_many_keys() -> None:
    """PostgreSQL locks what is read; SQLite has locked everything by then."""
    read = select(sa.select(PARTS.c.day), PARTS.c.id, order=PARTS.c.day, lock=True)
    removed = delete(PARTS, "id")

    among = "IN (SELECT value FROM json_each(?))"
    assert " ".join(read.sqlite.split()) == (
        f"SELECT parts.day FROM parts WHERE parts.id {among} ORDER BY parts.day"
    )
    assert read.postgres.endswith("parts.id = ANY($1::text[]) ORDER BY parts.day FOR UPDATE")
    assert removed.sqlite == f"DELETE FROM parts WHERE id {among}"
    assert removed.postgres == "DELETE FROM parts WHERE id = ANY($1::text[])"


def test_column_of_another_type_is_refused() -> None:
    """A statement that PostgreSQL would refuse is not made."""
    with pytest.raises(TypeError, match="LargeBinary"):
        insert(PARTS, ["digest"])
