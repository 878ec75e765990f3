"""
Reads the usage streams for the ledger writer, as a consumer group, and acknowledges in batches.

Stored entries are acknowledged and deleted in one step, so that a stream contains only entries that
still have to be stored. So losing the group is harmless: it is created again from the start. The
same step subtracts the stored events from the accounts' waiting sums, as one sum for all events of
an account, key, model and day, and sets the balances of SQL, see `lua/stored.lua`.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import redis.asyncio
from redis.exceptions import NoScriptError

from gateway.core.calendar import DAY_MS
from gateway.store.accounts.snapshot import Position
from gateway.store.hot_state.redis_schema import (
    RedisKeys,
    ShardKeys,
    account_scripts,
    forget_script,
)
from gateway.store.redis.connection import Argument
from gateway.store.usage.sender import DEAD_LETTER_BOUND, FIELD, dead_letter_key

GROUP = b"ledger"
BATCH = 500
"""Entries acknowledged in one step."""
PER_SHARD = BATCH
"""Entries per stream and read."""
BLOCK_MS = 1000
CLAIM_IDLE_MS = 15_000
"""An entry that its consumer has not stored for this long is claimed; repetition is harmless."""
_FORGET_IDLE_MS = 3_600_000
logger = logging.getLogger(__name__)


class Charge(NamedTuple):
    """What an entry added to its account's waiting sums, by the fields of the stream."""

    request_id: bytes
    account_id: bytes
    key_id: bytes
    model: bytes
    at_ms: int
    cost: bytes
    """Nano-dollars."""
    scopes: bytes
    """The counted scopes, see `lua/shard.lua`."""


class StreamEntry(NamedTuple):
    """
    One entry of a stream.

    `event` is None if it was deleted, replaced by the settlement of an abandoned call. It is empty
    if the entry has other fields.
    """

    stream: bytes
    entry_id: bytes
    event: bytes | None
    charge: Charge | None = None
    """None if it added to no sum."""


class UsageReader:
    """
    One consumer of the group. Any method may raise redis.exceptions.RedisError.

    Args:
        client: With replies as bytes and a socket timeout longer than BLOCK_MS.
        key_prefix: `redis.key_prefix`.
        claim_idle_ms: See CLAIM_IDLE_MS.
    """

    def __init__(
        self,
        client: redis.asyncio.Redis,
        key_prefix: str,
        *,
        claim_idle_ms: int = CLAIM_IDLE_MS,
    ) -> None:
        self._client = client
        self._command: Callable[..., Awaitable[Any]] = client.execute_command
        self._hot = RedisKeys(key_prefix)
        self._names = {names.usage: names for names in self._hot.shards}
        self._all_streams = tuple(self._names)
        self._script = account_scripts().stored
        self._forget = forget_script()
        self._checked = f"{key_prefix}ledger:checked"
        self._dead = dead_letter_key(key_prefix)
        self._claim_idle_ms = claim_idle_ms
        self.consumer = f"{socket.gethostname()}-{os.getpid()}-{time.time_ns():x}"

    def streams(self) -> Collection[bytes]:
        """Return the streams that this consumer reads."""
        return self._all_streams

    @property
    def unreachable(self) -> int:
        """Streams that should be read and cannot be."""
        return 0

    async def ensure_group(self) -> None:
        """Create missing streams and groups; a new group reads from the start."""
        replies = await self._each("XGROUP CREATE", GROUP, "0", "MKSTREAM", errors=True)
        for _, reply in replies:
            if isinstance(reply, Exception) and not str(reply).startswith("BUSYGROUP"):
                raise reply

    async def read_new(self, block_ms: int | None = BLOCK_MS) -> list[StreamEntry]:
        """Return undelivered entries; wait for one unless `block_ms` is None."""
        wait = () if block_ms is None else ("BLOCK", block_ms)
        return await self._read(b">", *wait)

    async def read_own(self) -> list[StreamEntry]:
        """Return entries delivered to this consumer and not acknowledged."""
        return await self._read(b"0")

    async def claim(self) -> list[StreamEntry]:
        """Claim entries of dead consumers, and of this one's lost replies."""
        replies = await self._each(
            *("XAUTOCLAIM", GROUP, self.consumer, self._claim_idle_ms, "0-0", "COUNT", PER_SHARD),
            streams=self.streams(),
        )
        return [
            entry_of(stream, entry_id, fields)
            for stream, reply in replies
            for entry_id, fields in reply[1]
            if fields
        ]

    async def acknowledge(
        self,
        entries: Sequence[StreamEntry],
        positions: Mapping[str, Position] | None = None,
        repeated: Collection[StreamEntry] = (),
    ) -> None:
        """
        Remove entries from their streams.

        Args:
            entries: SQL has them, or they are parked.
            positions: Account id -> its balance in SQL, for every account of a priced entry.
            repeated: Those whose request id SQL had before.
        """
        newest = (positions or {}).items()
        by_stream: dict[bytes, list[StreamEntry]] = {}
        for entry in entries:
            by_stream.setdefault(entry.stream, []).append(entry)
        for stream, of_stream in by_stream.items():
            names = self._names[stream]
            of_shard = [pair for pair in newest if self._hot.of(pair[0]) is names]
            for start in range(0, len(of_stream), BATCH):
                batch = of_stream[start : start + BATCH]
                await self._remove(names, batch, repeated, of_shard)

    async def park(self, entry: StreamEntry, reason: str) -> None:
        """Copy an entry with its reason to the dead-letter stream, without removing it."""
        await self._command(
            "XADD", self._dead, "MAXLEN", "~", DEAD_LETTER_BOUND, "*",
            FIELD, entry.event or b"", "reason", reason, "entry_id", entry.entry_id,
        )  # fmt: skip

    async def redeliver_orphans(self) -> bool:
        """
        Restart from the beginning if entries are left that will not be delivered.

        This happens after a consumer was deleted by hand, or a failover lost deliveries. Call it
        when there are no new entries.
        """
        waiting = await self._first_ids(self.streams())
        groups = await self._each("XINFO GROUPS", streams=waiting)
        delivered = [stream for stream, found in groups if _is_delivered(waiting[stream], found)]
        # Another consumer may have stored the entry meanwhile: what is left was never pending.
        left = await self._first_ids(delivered)
        orphaned = [stream for stream in delivered if left.get(stream) == waiting[stream]]
        await self._each("XGROUP SETID", GROUP, "0", streams=orphaned)
        return bool(orphaned)

    async def _first_ids(self, streams: Collection[bytes]) -> dict[bytes, bytes]:
        """Return the id of the first entry of each stream that has any."""
        replies = await self._each("XRANGE", "-", "+", "COUNT", 1, streams=streams)
        return {stream: reply[0][0] for stream, reply in replies if reply}

    async def length(self) -> int:
        """Return the number of entries in all streams."""
        return sum(length for _, length in await self._each("XLEN"))

    async def oldest_age_s(self, now_ms: int) -> float:
        """Return the age of the oldest entry; 0 without entries."""
        replies = await self._each("XRANGE", "-", "+", "COUNT", 1)
        added_ms = [int(reply[0][0].partition(b"-")[0]) for _, reply in replies if reply]
        return max([0.0, *((now_ms - added) / 1000 for added in added_ms)])

    async def purge_dead_letters(self, before_ms: int) -> None:
        """Delete dead letters older than `before_ms`."""
        await self._command("XTRIM", self._dead, "MINID", f"{before_ms}-0")

    async def forget_consumers(self) -> None:
        """Delete consumers that have been idle for an hour without pending entries."""
        found = await self._each("XINFO CONSUMERS", GROUP, streams=self.streams())
        for stream, consumers in found:
            for consumer in consumers:
                if consumer["pending"] == 0 and consumer["idle"] > _FORGET_IDLE_MS:
                    await self._command("XGROUP DELCONSUMER", stream, GROUP, consumer["name"])

    async def checked_entry(self) -> int | None:
        """Return the id up to which the ledger's entries were checked, see `direct_charges`."""
        found = await self._command("GET", self._checked)
        return None if found is None else int(found)

    async def set_checked_entry(self, entry_id: int) -> None:
        """Store up to which id the ledger's entries were checked."""
        await self._command("SET", self._checked, entry_id)

    async def forget_spending(self, account_id: str) -> None:
        """Remove an account's spending in SQL, which its next call with a budget loads again."""
        account = self._hot.of(account_id).accounts + account_id.encode()
        script = self._forget
        try:
            await self._command("EVALSHA", script.sha, 1, account)
        except NoScriptError:
            await self._command("EVAL", script.source, 1, account)

    async def aclose(self) -> None:
        """Close the client."""
        await self._client.aclose()

    async def _read(self, start: bytes, *options: str | int) -> list[StreamEntry]:
        reply: list[Any] = await self._command(
            "XREADGROUP", "GROUP", GROUP, self.consumer, "COUNT", PER_SHARD, *options,
            "STREAMS", *self._all_streams, *[start] * len(self._all_streams),
        )  # fmt: skip
        return entries_of(reply)

    async def _remove(
        self,
        names: ShardKeys,
        batch: Sequence[StreamEntry],
        repeated: Collection[StreamEntry],
        positions: Iterable[tuple[str, Position]],
    ) -> None:
        accounts = {entry.charge.account_id for entry in batch if entry.charge is not None}
        arguments = [GROUP, names.accounts, *_sums(batch, repeated)]
        for account_id, newest in positions:
            accounts.add(account_id.encode())
            arguments += (account_id, newest.position, newest.balance_nanousd)
        keys = [names.usage, names.queued, *(names.accounts + each for each in sorted(accounts))]
        parameters = (len(keys), *keys, *arguments)
        try:
            reply = await self._command("EVALSHA", self._script.sha, *parameters)
        except NoScriptError:
            reply = await self._command("EVAL", self._script.source, *parameters)
        if reply[1]:
            logger.error(
                "account_state_damaged",
                extra={"shard": names.shard, "entries": reply[1]},
            )

    async def _each(
        self,
        command: str,
        *arguments: str | bytes | int,
        streams: Iterable[bytes] | None = None,
        errors: bool = False,
    ) -> list[tuple[bytes, Any]]:
        """
        Pipeline a command for each stream, of all shards if not given; return streams and replies.

        With `errors`, errors are returned as replies.
        """
        wanted = list(self._all_streams if streams is None else streams)
        async with self._client.pipeline(transaction=False) as pipeline:
            for stream in wanted:
                pipeline.execute_command(command, stream, *arguments)
            replies = await pipeline.execute(raise_on_error=not errors)
        return list(zip(wanted, replies, strict=True))


def entries_of(reply: Any) -> list[StreamEntry]:
    """Return the entries in a reply to XREADGROUP."""
    return [
        entry_of(stream, entry_id, fields)
        for stream, entries in reply or ()
        for entry_id, fields in entries
    ]


def entry_of(stream: bytes, entry_id: bytes, fields: Mapping[bytes, bytes] | None) -> StreamEntry:
    if not fields:
        return StreamEntry(stream, entry_id, None)
    event = fields.get(FIELD, b"")
    try:
        charge = Charge(
            fields[b"i"],
            fields[b"a"],
            fields[b"k"],
            fields[b"m"],
            int(fields[b"t"]),
            b"%d" % int(fields[b"c"]),
            fields[b"s"],
        )
    except (KeyError, ValueError):  # not from the scripts
        return StreamEntry(stream, entry_id, event)
    return StreamEntry(stream, entry_id, event, charge)


def _sums(entries: Sequence[StreamEntry], repeated: Collection[StreamEntry]) -> list[Argument]:
    """Return the groups and entries as `lua/stored.lua` takes them."""
    numbers: dict[tuple[Argument, ...], int] = {}
    groups: list[Argument] = []
    rows: list[Argument] = []
    for entry in entries:
        charge = entry.charge
        if charge is None:
            rows += (entry.entry_id, b"", 0, 0)
            continue
        is_repeated = entry in repeated
        of_account = charge.account_id, charge.key_id, charge.model
        group = (*of_account, charge.at_ms // DAY_MS, charge.scopes, is_repeated)
        number = numbers.get(group)
        if number is None:
            number = numbers[group] = len(numbers) + 1
            groups += (*of_account, charge.at_ms, charge.scopes, b"1" if is_repeated else b"0")
        rows += (entry.entry_id, charge.request_id, charge.cost, number)
    return [len(numbers), *groups, len(entries), *rows]


def _is_delivered(first: bytes, groups: Sequence[Mapping[str, Any]]) -> bool:
    """
    Return whether a stream's first entry was delivered and is pending nowhere.

    An entry that arrived after the last read is beyond the last that was delivered.
    """
    group = next((each for each in groups if each["name"] == GROUP), None)
    if group is None or group["pending"]:
        return False
    return _order(first) <= _order(group["last-delivered-id"])


def _order(entry_id: bytes) -> tuple[int, int]:
    milliseconds, _, sequence = entry_id.partition(b"-")
    return int(milliseconds), int(sequence)
