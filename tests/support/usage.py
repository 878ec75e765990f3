"""Usage events for tests, and ways to see where they are."""

from __future__ import annotations

from typing import Any

import msgspec
import redis.asyncio
import sqlalchemy as sa

from gateway.core.model import CallRecord, Usage
from gateway.store.hot_state.redis_schema import RedisKeys
from gateway.store.sql.database import Database
from gateway.store.sql.tables import USAGE_EVENTS
from gateway.store.usage.journal import dead_letter_key
from gateway.store.usage.reader import GROUP

NOON_MS = 1_779_019_200_000
"""2026-05-17 12:00:00 UTC."""


def usage_event(request_id: str = "req_1", **changes: Any) -> CallRecord:
    """Return one ordinary call."""
    event = CallRecord(
        request_id=request_id,
        at_ms=NOON_MS,
        key_id="key_1",
        account_id="acct_1",
        model="deepseek-v4-flash",
        endpoint="chat_completions",
        client_wire="openai",
        upstream_wire="openai",
        provider="deepseek",
        upstream_model="deepseek-chat",
        stream=True,
        status=200,
        usage=Usage(input=10, cache_read=20, output=5),
        finish_reason="stop",
        ttft_ms=120,
        duration_ms=900,
        address="192.0.2.7",
        user_agent="OpenAI/Python 3.0.0",
    )
    return msgspec.structs.replace(event, **changes)


def encoded(event: CallRecord) -> bytes:
    """Return the event as it travels."""
    return msgspec.json.encode(event)


async def stored_ids(database: Database) -> list[str]:
    """Return the request ids that are in SQL, sorted."""
    async with database.read() as connection:
        rows = await connection.execute(sa.select(USAGE_EVENTS.c.request_id))
        return sorted(row.request_id for row in rows)


class StreamProbe:
    """What is in the usage stream of `acct_1`'s shard, seen by a client of its own."""

    def __init__(self, client: redis.asyncio.Redis, key_prefix: str) -> None:
        self.client = client
        self.key_prefix = key_prefix
        self.stream = RedisKeys(key_prefix).of("acct_1").usage.decode()
        self.dead = dead_letter_key(key_prefix)

    async def add(self, *events: CallRecord | bytes) -> list[bytes]:
        """Append entries; return their ids."""
        payloads = [e if isinstance(e, bytes) else encoded(e) for e in events]
        ids: list[Any] = [
            await self.client.xadd(self.stream, {b"e": payload}) for payload in payloads
        ]
        return ids

    async def length(self) -> int:
        """Return how many entries wait."""
        return int(await self.client.xlen(self.stream))

    async def is_empty(self) -> bool:
        """Return whether no entry waits."""
        return await self.length() == 0

    async def idle_for(self, idle_ms: int) -> bool:
        """Return whether every delivery that is not acknowledged is older than this."""
        waiting: Any = await self.client.xpending_range(self.stream, GROUP, "-", "+", 1000)
        return all(entry["time_since_delivered"] > idle_ms for entry in waiting)

    async def request_ids(self) -> list[str]:
        """Return the request ids of the waiting entries, in order."""
        entries: Any = await self.client.xrange(self.stream)
        return [msgspec.json.decode(fields[b"e"])["request_id"] for _, fields in entries]

    async def dead_letters(self) -> list[dict[bytes, bytes]]:
        """Return the fields of the dead letters, in order."""
        letters: Any = await self.client.xrange(self.dead)
        return [fields for _, fields in letters]
