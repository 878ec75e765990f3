"""What the gateway's SQL and Redis hold after the kill test, and what of it should not be there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import redis.asyncio
import sqlalchemy as sa

from gateway.core.model import TOKEN_COLUMNS
from gateway.server.embedded_valkey import EmbeddedValkey
from gateway.settings import Settings
from gateway.store.hot_state.redis_schema import RedisKeys, ShardKeys
from gateway.store.redis.address import parse_address
from gateway.store.redis.cluster.kinds import cold_client
from gateway.store.spill.segments import measure
from gateway.store.sql.database import Database
from gateway.store.sql.tables import ACCOUNTS, LEDGER_ENTRIES, SPEND, USAGE_EVENTS, USAGE_QUARTERS
from gateway.store.usage.journal import dead_letter_key, spill_directory


class Books:
    """
    Reads what a gateway of one data directory has written; open it in an event loop.

    Args:
        data_dir: The gateway's, with an embedded Valkey.
    """

    def __init__(self, data_dir: Path) -> None:
        runtime = (data_dir / "run" / "settings.json").read_bytes()
        self._settings = msgspec.json.decode(runtime, type=Settings)
        self._database = Database(self._settings, None)
        self._client: redis.asyncio.Redis = cold_client(parse_address(EmbeddedValkey(data_dir).url))
        self._shards = RedisKeys(self._settings.redis.key_prefix).shards

    async def aclose(self) -> None:
        """Close."""
        await self._client.aclose()
        await self._database.aclose()

    async def rows(self) -> list[dict[str, Any]]:
        """Return all usage rows."""
        async with self._database.read() as connection:
            found = await connection.execute(sa.select(USAGE_EVENTS))
            return [dict(row._mapping) for row in found]

    async def waiting(self) -> dict[str, int]:
        """Return what is still under way: nothing, once the lease time is over."""
        totals = dict.fromkeys(("leases", "calls", "queued", "stream"), 0)
        for names in self._shards:
            totals["leases"] += await self._client.zcard(names.leases)
            calls = set(await self._client.hkeys(names.calls)) - {b"epoch"}
            totals["calls"] += len(calls)
            totals["queued"] += await self._client.hlen(names.queued)
            totals["stream"] += await self._client.xlen(names.usage)
        totals["spilled bytes"] = measure(spill_directory(self._settings)).size_bytes
        return {name: count for name, count in totals.items() if count}

    async def is_quiet(self) -> bool:
        """Return whether nothing is under way."""
        return not await self.waiting()

    async def errors(self) -> list[str]:
        """Return what does not fit together: holds that are left, balances that differ."""
        found: list[str] = []
        async with self._database.read() as connection:
            spent = await connection.scalar(sa.select(sa.func.sum(SPEND.c.cost_nanousd)))
            rows = await connection.scalar(sa.select(sa.func.sum(USAGE_EVENTS.c.cost_nanousd)))
            if (spent or 0) != (rows or 0):
                found.append(f"spend says {spent}, the usage rows {rows}")
            summed = await connection.execute(_sums(USAGE_QUARTERS, USAGE_QUARTERS.c.calls))
            counted = await connection.execute(_sums(USAGE_EVENTS, sa.literal(1)))
            if (sums := summed.all()) != (calls := counted.all()):
                found.append(f"the usage sums say {sums}, the usage rows {calls}")
            lost = await connection.scalar(
                sa.select(sa.func.count())
                .select_from(LEDGER_ENTRIES)
                .where(
                    LEDGER_ENTRIES.c.kind == "charge",
                    LEDGER_ENTRIES.c.request_id.not_in(sa.select(USAGE_EVENTS.c.request_id)),
                )
            )
            if lost:
                found.append(f"{lost} charges without a usage row")
            balances = {
                account.id: account.balance_nanousd
                for account in await connection.execute(sa.select(ACCOUNTS))
            }
        for names in self._shards:
            found += await self._shard_mistakes(names, balances)
        dead = await self._client.xlen(dead_letter_key(self._settings.redis.key_prefix))
        if dead:
            found.append(f"{dead} events in the dead-letter stream")
        return found

    async def _shard_mistakes(self, names: ShardKeys, balances: dict[str, int]) -> list[str]:
        found: list[str] = []
        async for key in self._client.scan_iter(names.accounts + b"*"):
            account_id = key.removeprefix(names.accounts).decode()
            stored: dict[Any, Any] = await self._client.hgetall(key)
            fields: dict[str, bytes] = {name.decode(): value for name, value in stored.items()}
            if int(fields.get("base", 0)) != balances.get(account_id):
                found.append(
                    f"{account_id}: Redis' balance is {fields.get('base')!r}, SQL's "
                    f"{balances.get(account_id)}"
                )
            for name, value in fields.items():
                if (name[0] in "nh" or name == "pend") and int(value) != 0:
                    found.append(f"{account_id}: {name} is {int(value)}, not 0")
                elif name[0] == "p" and name != "pend":
                    spent = msgspec.msgpack.decode(value)
                    if any(spent[place] for place in (1, 3, 4)):
                        found.append(f"{account_id}: {name} is {json.dumps(spent)}, not 0")
            found += await self._spend_mistakes(account_id, fields)
        return found

    async def _spend_mistakes(self, account_id: str, fields: dict[str, bytes]) -> list[str]:
        """Compare what budgets are checked against with SQL's sums."""
        found: list[str] = []
        for name, value in fields.items():
            if name[0] != "b" or name == "base":
                continue
            scope = name[1:]
            where = [SPEND.c.account_id == account_id]
            if scope[:1] in ("k", "m"):
                key_id, _, model = scope[1:].partition("/")
                where.append(SPEND.c.key_id == key_id)
                where += [SPEND.c.model == model] if model else []
            async with self._database.read() as connection:
                total = await connection.scalar(
                    sa.select(sa.func.sum(SPEND.c.cost_nanousd)).where(*where)
                )
            in_redis = msgspec.msgpack.decode(value)[5]
            if in_redis != (total or 0):
                found.append(f"{account_id}: budget {name} has {in_redis} spent, SQL {total}")
        return found


def _sums(table: sa.Table, calls: sa.ColumnElement[Any]) -> sa.Select[Any]:
    """Select calls, tokens and money of each key and outcome."""
    columns = table.c
    names = (*TOKEN_COLUMNS.values(), "cost_nanousd", "upstream_cost_nanousd")
    numbers = [sa.func.coalesce(sa.func.sum(columns[name]), 0) for name in names]
    total = sa.func.sum(calls)
    return (
        sa.select(columns.key_id, columns.outcome, total, *numbers)
        .group_by(columns.key_id, columns.outcome)
        .having(total != 0)
        .order_by(columns.key_id, columns.outcome)
    )
