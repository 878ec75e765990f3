"""The accounts' shards: fixed, and in every name by the same tag."""

from __future__ import annotations

from collections import Counter

from gateway.store.redis.shards import SHARDS, hash_tag, shard_of


def test_shard_of_account_never_moves() -> None:
    """An account's shard is the same in every version: its state in Redis is found again."""
    assert [shard_of(name) for name in ("acct_1", "acct_2", "é")] == [1, 59, 62]
    assert hash_tag("acct_2") == "{s59}"


def test_shards_of_many_accounts_are_even() -> None:
    """Accounts are spread evenly over the shards."""
    counts = Counter(shard_of(f"acct_{n}") for n in range(64_000))

    assert len(counts) == SHARDS
    assert max(counts.values()) < 1_300
