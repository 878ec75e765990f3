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
from gateway.store.redis.client import RedisClient, RedisUnavailable
from gateway.store.redis.connection import Argument, Reply, ReplyError
from gateway.store.redis.shards import shard_of
from gateway.store.usage.settlements import FULL, Settlements, is_impossible
from gateway.telemetry.metrics import Metrics

FIELD = b"e"
"""The field of a stream entry that contains the event as JSON."""
DEAD_LETTER_BOUND = 100_000
"""The dead-letter stream keeps this many newest entries."""
logger = logging.getLogger(__name__)

Appended = Callable[[int, int, str, bytes], None]
"""Called with the shard, the result of the scripts' `append`, request id and event."""


Failed = Callable[[CallRecord, bytes, Failure | None], None]
"""Called with an event, its JSON, and why it was not appended; None: the stream is full."""


class EventKeptError(Exception):
    """Redis accepts an event neither into its stream nor into the dead letters."""


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
        metrics: Updates `usage_refused`.
        settlements: Of this worker.
        appended: Called after each settlement with an event.
    """

    def __init__(
        self,
        bus: RedisClient,
        key_prefix: str,
        metrics: Metrics,
        *,
        settlements: Settlements,
        appended: Appended,
    ) -> None:
        self._bus = bus
        self._metrics = metrics
        self._settlements = settlements
        self._appended = appended
        self._dead = dead_letter_key(key_prefix)
        self._decode = msgspec.json.Decoder(_Head).decode

    def post(self, event: CallRecord, line: bytes, failed: Failed) -> bool:
        """
        Append to the shard's stream without waiting for it.

        Args:
            event: The event.
            line: The same as JSON.
            failed: Called if it was not appended: with None if the stream is full.

        Returns:
            False: It must be awaited with `send`, since its cost is impossible.
        """
        if is_impossible(event):
            return False
        self._settlements.settle(event, line, partial(self._posted, event, line, failed))
        return True

    def _posted(
        self, event: CallRecord, line: bytes, failed: Failed, result: Reply | Failure
    ) -> None:
        if not isinstance(result, int):
            assert isinstance(result, RedisUnavailable | ReplyError)
            failed(event, line, result)
            return
        self._appended(shard_of(event.account_id), result, event.request_id, line)
        if result == FULL:
            failed(event, line, None)

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
        self._metrics.usage_refused.inc()

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
            logger.error("usage_event_unreadable")  # noqa: TRY400 -- the trace may quote the line
            await self._set_aside(line, f"not a usage event: {error}")
            return True
        return await self.send(head, line)
