"""
Names and scripts of the hot state of money: what `lua/shard.lua` describes.

All keys of an account stand in the shard of its id and carry the shard's hash tag, so that every
script stays within one slot of a Redis Cluster.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from gateway.core.limits import KeyLimits, Limits
from gateway.store.redis.scripts import LuaScript, read_script
from gateway.store.redis.shards import SHARDS, shard_of

_LUA = Path(__file__).parent / "lua"
EPOCH = b"epoch"
SHARD_FULL = 50_000
"""Entries of one shard's stream, about 30 MB; beyond it events are spilled."""

ACCOUNT_SCOPE = ""
Row = list[str | int]
"""A scope for the scripts: name, rpm, tpm, concurrency, day, month, total; -1 is no limit."""

pack = msgspec.msgpack.Encoder().encode


class ShardKeys(msgspec.Struct, frozen=True):
    """The Redis keys of one shard. An account's key is `accounts` and its id."""

    shard: int
    accounts: bytes
    calls: bytes
    leases: bytes
    queued: bytes
    usage: bytes


class RedisKeys:
    """
    The Redis keys of all shards.

    Args:
        key_prefix: `redis.key_prefix`.
    """

    def __init__(self, key_prefix: str) -> None:
        self.shards = tuple(_names(key_prefix, shard) for shard in range(SHARDS))

    def of(self, account_id: str) -> ShardKeys:
        """Return the keys of an account's shard."""
        return self.shards[shard_of(account_id)]


class AccountScripts(msgspec.Struct, frozen=True):
    """The scripts, each explained at its head."""

    reserve: LuaScript
    settle: LuaScript
    renew: LuaScript
    sweep: LuaScript
    load: LuaScript
    stored: LuaScript

    def all(self) -> list[LuaScript]:
        """Return them for the bus to load at connect."""
        return [getattr(self, name) for name in self.__struct_fields__]


def account_scripts() -> AccountScripts:
    """Read the scripts from their files."""
    names = AccountScripts.__struct_fields__
    return AccountScripts(*[read_script(_LUA, name, after="shard") for name in names])


def key_scope(key_id: str) -> str:
    """Return a key's scope as the scripts name it."""
    return f"k{key_id}"


def key_model_scope(key_id: str, model: str) -> str:
    """Return the scope of a key for one model as the scripts name it."""
    return f"m{key_id}/{model}"


def scope_row(name: str, limits: Limits) -> Row:
    """Return a scope's limits as the scripts take them."""
    return [
        name,
        *[
            -1 if limit is None else limit
            for limit in (
                limits.rpm,
                limits.tpm,
                limits.concurrency,
                limits.budget_day_nanousd,
                limits.budget_month_nanousd,
                limits.budget_total_nanousd,
            )
        ],
    ]


def key_rows(key_id: str, limits: KeyLimits | None, model: str) -> list[Row]:
    """Return the scopes of a call beside its account's: those that have any limit."""
    if limits is None:
        return []
    rows = [scope_row(key_scope(key_id), limits)]
    for_model = limits.models.get(model)
    if for_model is not None:
        rows.append(scope_row(key_model_scope(key_id, model), for_model))
    return [row for row in rows if any(limit != -1 for limit in row[1:])]


def _names(key_prefix: str, shard: int) -> ShardKeys:
    def name(kind: str) -> bytes:
        return f"{key_prefix}{{s{shard}}}{kind}".encode()

    return ShardKeys(
        shard, name("a:"), name("calls"), name("leases"), name("queued"), name("usage")
    )
