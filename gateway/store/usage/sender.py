"""
Sends a usage event to its shard's stream in Redis, or to the dead-letter stream.

Error replies about the server, which will accept the event later, are distinguished from those
about the event, which it will never accept. Such an event goes to the dead-letter stream with its
reason, so that it does not block others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

import msgspec

from gateway.core.model import CallRecord, Usage
from gateway.store.redis.batches import TRANSIENT, Failure, resolve
from gateway.store.redis.bus import RedisBus
from gateway.store.redis.client import RedisUnavailable
from gateway.store.redis.connection import Argument, Reply, ReplyError
from gateway.store.redis.shards import shard_of
from gateway.store.spill.replay import EventKeptError
from gateway.store.usage.settlements import FULL, Settlements, is_impossible

FIELD = b"e"
"""The field of a stream entry that contains the event as JSON."""
DEAD_LETTER_BOUND = 100_000
"""The dead-letter stream keeps this many newest entries."""
logger = logging.getLogger(__name__)

Appended = Callable[[int, int, str, bytes], None]
"""Called with the shard, the result of the scripts' `append`, request id and event."""


Kept = Callable[[bytes], object]
"""Called with the JSON of an event that Redis does not accept now. Must not raise."""


class EventRefusedError(Exception):
    """Redis will never accept this event; the message may repeat parts of it."""


class _Head(msgspec.Struct):
    """The fields of an event that a replay needs."""

    request_id: str
    account_id: str
    key_id: str
    model: str
    at_ms: int
    usage: Usage = Usage()
    cost_nanousd: int = 0
    outcome: str = ""


def dead_letter_key(key_prefix: str) -> str:
    """Return the name of the stream of events that cannot be stored."""
    return f"{key_prefix}usage:dead"


def dead_letter(key: str, line: bytes, reason: Argument) -> tuple[Argument, ...]:
    """Return the command that adds to the dead-letter stream."""
    return (
        b"XADD", key, b"MAXLEN", b"~", DEAD_LETTER_BOUND, b"*", FIELD, line, b"reason", reason,
    )  # fmt: skip


class UsageSender:
    """
    Sends usage events to Redis for one worker.

    Args:
        bus: Redis.
        key_prefix: `redis.key_prefix`.
        refused: Called for each event that goes to the dead letters.
        settlements: Of this worker.
        appended: Called after each settlement with an event.
    """

    def __init__(
        self,
        bus: RedisBus,
        key_prefix: str,
        *,
        refused: Callable[[], None],
        settlements: Settlements,
        appended: Appended,
    ) -> None:
        self._bus = bus
        self._refused = refused
        self._settlements = settlements
        self._appended = appended
        self._dead = dead_letter_key(key_prefix)
        self._refusing: set[asyncio.Task[None]] = set()
        self._decode = msgspec.json.Decoder(_Head).decode

    def post(self, event: CallRecord, line: bytes, keep: Kept) -> bool:
        """
        Append to the shard's stream, or to the dead letters, without waiting for it.

        Args:
            event: The event.
            line: The same as JSON.
            keep: Called if Redis is unavailable or the stream is full.

        Returns:
            False: It must be awaited with `send`, since its cost is impossible.
        """
        if is_impossible(event):
            return False
        self._settlements.settle(event, line, partial(self._posted, event, line, keep))
        return True

    def _posted(self, event: CallRecord, line: bytes, keep: Kept, result: Reply | Failure) -> None:
        if isinstance(result, int):
            self._appended(shard_of(event.account_id), result, event.request_id, line)
            if result == FULL:
                keep(line)
        elif isinstance(result, ReplyError) and result.code not in TRANSIENT:
            refusing = asyncio.create_task(self._refuse_or_keep(event, line, str(result), keep))
            self._refusing.add(refusing)
            refusing.add_done_callback(self._refusing.discard)
        else:
            keep(line)

    async def _refuse_or_keep(
        self, event: CallRecord, line: bytes, reason: str, keep: Kept
    ) -> None:
        try:
            await self.refuse(event, line, reason)
        except (RedisUnavailable, ReplyError, EventKeptError):
            keep(line)

    async def drain(self) -> None:
        """Send everything that was posted, and wait for the replies."""
        await self._settlements.drain()
        while self._refusing:
            await asyncio.wait(self._refusing)

    async def send(self, event: CallRecord | _Head, line: bytes) -> bool:
        """
        Append to the shard's stream, or to the dead letters; False if the stream is full.

        Raises:
            EventKeptError: the dead-letter stream rejects the event, too.
        """
        try:
            return await self._add(event, line)
        except EventRefusedError as refusal:
            await self.refuse(event, line, str(refusal))
            return True

    async def refuse(self, event: CallRecord | _Head, line: bytes, reason: str) -> None:
        """
        Copy an event that Redis will never accept to the dead letters.

        Raises:
            EventKeptError: the dead-letter stream rejects the event, too.
        """
        logger.error(
            "usage_event_refused",
            extra={"request_id": event.request_id, "account_id": event.account_id},
        )
        await self._set_aside(line, reason)

    async def _set_aside(self, line: bytes, reason: str) -> None:
        """Copy a line to the dead-letter stream."""
        try:
            await self._bus.command(*dead_letter(self._dead, line, reason))
        except ReplyError as error:
            if error.code in TRANSIENT:
                raise
            raise EventKeptError(
                f"the dead-letter stream rejected an event: {error.code}"
            ) from error
        self._refused()

    async def _add(self, event: CallRecord | _Head, line: bytes) -> bool:
        """
        Append to the shard's stream; False if it is full.

        Raises:
            EventRefusedError: its cost is impossible, or Redis rejects it. The call's hold is
                released either way.
        """
        settled: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._settlements.settle(event, line, partial(resolve, settled))
        try:
            done = await settled
        except ReplyError as error:
            if error.code in TRANSIENT:
                raise
            raise EventRefusedError(str(error)) from error
        assert isinstance(done, int)
        if is_impossible(event):
            raise EventRefusedError("its cost is negative or beyond what one call can cost")
        self._appended(shard_of(event.account_id), done, event.request_id, line)
        return done != FULL

    async def send_line(self, line: bytes) -> bool:
        """Append an event given as JSON; malformed lines go to the dead letters."""
        try:
            head = self._decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            logger.error("usage_event_decode_failed")  # noqa: TRY400 -- the trace may quote the line
            await self._set_aside(line, f"not a usage event: {error}")
            return True
        return await self.send(head, line)

    async def send_lines(self, lines: list[bytes]) -> bool:
        """
        Append events given as JSON; False if a stream was full.

        All lines are tried before the first failure is raised, an EventKeptError last.
        """
        results = await asyncio.gather(*map(self.send_line, lines), return_exceptions=True)
        failures = [result for result in results if isinstance(result, BaseException)]
        for failure in sorted(failures, key=lambda each: isinstance(each, EventKeptError)):
            raise failure
        return all(results)
