"""
Keys, limit rows and scripts of the hot state that `lua/shard.lua` describes.

All keys of an account are in the shard of its id and carry the shard's hash tag, so that every
script stays within one slot of a Redis Cluster.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import msgspec

from gateway.core.limits import KeyLimits, Limits
from gateway.store.redis.scripts import LuaScript, read_script
from gateway.store.redis.shards import SHARDS, shard_of

_LUA = Path(__file__).parent / "lua"
EPOCH = b"epoch"
SHARD_FULL = 50_000
"""Entries in one shard's stream, about 30 MB; beyond it events are spilled."""

ACCOUNT_SCOPE = ""

pack = msgspec.msgpack.Encoder().encode


class LimitRow(NamedTuple):
    """The limits of a scope as the scripts take them; -1: no limit. Budgets in nano-dollars."""

    scope: str
    rpm: int
    tpm: int
    concurrency: int
    budget_day: int
    budget_month: int
    budget_total: int


class ShardKeys(msgspec.Struct, frozen=True):
    """The Redis keys of one shard. An account's key is `accounts` followed by its id."""

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
    """The scripts, each described in its header."""

    reserve: LuaScript
    settle: LuaScript
    renew: LuaScript
    expired: LuaScript
    sweep: LuaScript
    load: LuaScript
    stored: LuaScript

    def all(self) -> list[LuaScript]:
        return [getattr(self, name) for name in self.__struct_fields__]


def account_scripts() -> AccountScripts:
    """Read the scripts from their files."""
    names = AccountScripts.__struct_fields__
    return AccountScripts(*[read_script(_LUA, name, after="shard") for name in names])


def forget_script() -> LuaScript:
    """Read the script that removes an account's spending, for the ledger writer only."""
    return read_script(_LUA, "forget")


def key_scope(key_id: str) -> str:
    """Return the name of a key's scope in the scripts."""
    return f"k{key_id}"


def key_model_scope(key_id: str, model: str) -> str:
    """Return the name of the scope of a key for one model in the scripts."""
    return f"m{key_id}/{model}"


def scope_row(scope: str, limits: Limits) -> LimitRow:
    """Return a scope's limits as the scripts take them."""
    return LimitRow(
        scope,
        _row_value(limits.rpm),
        _row_value(limits.tpm),
        _row_value(limits.concurrency),
        _row_value(limits.budget_day_nanousd),
        _row_value(limits.budget_month_nanousd),
        _row_value(limits.budget_total_nanousd),
    )


def key_rows(key_id: str, limits: KeyLimits | None, model: str) -> list[LimitRow]:
    """Return the key's scopes of a call that have any limit."""
    if limits is None:
        return []
    rows = [scope_row(key_scope(key_id), limits)]
    for_model = limits.models.get(model)
    if for_model is not None:
        rows.append(scope_row(key_model_scope(key_id, model), for_model))
    return [row for row in rows if any(limit != -1 for limit in row[1:])]


def _row_value(limit: int | None) -> int:
    return -1 if limit is None else limit


def _names(key_prefix: str, shard: int) -> ShardKeys:
    def name(kind: str) -> bytes:
        return f"{key_prefix}{{s{shard}}}{kind}".encode()

    return ShardKeys(
        shard, name("a:"), name("calls"), name("leases"), name("queued"), name("usage")
    )
