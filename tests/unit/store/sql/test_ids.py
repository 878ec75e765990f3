"""Ids of rows."""

from __future__ import annotations

from gateway.store.sql.ids import new_id


def test_new_id_is_its_kind_and_26_digits() -> None:
    """An id says what it names, and can be typed."""
    kind, _, digits = new_id("key").partition("_")

    assert kind == "key"
    assert len(digits) == 26
    assert set(digits) <= set("0123456789abcdefghjkmnpqrstvwxyz")


def test_new_ids_differ_and_begin_with_their_time() -> None:
    """Ids of one moment share their first digits and nothing else."""
    ids = [new_id("key") for _ in range(1000)]

    assert len(set(ids)) == 1000
    assert len({made[4:10] for made in ids}) <= 2
