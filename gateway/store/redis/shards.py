"""
Maps accounts to shards of the hot state.

All Redis keys of one account carry the hash tag of its shard, so that one script may access several
of them in a Redis Cluster. A small number of shards keeps the number of streams small; changing
`SHARDS` moves the accounts' state.
"""

from __future__ import annotations

import zlib

SHARDS = 64


def shard_of(account_id: str) -> int:
    """Return the account's shard, 0 to 63: the CRC-32 of its id modulo 64."""
    return zlib.crc32(account_id.encode()) % SHARDS


def hash_tag(account_id: str) -> str:
    """Return the account's hash tag, `{s17}`, part of the name of every key of the account."""
    return f"{{s{shard_of(account_id)}}}"
