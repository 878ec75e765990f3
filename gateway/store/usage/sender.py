"""
Sends a usage event to its shard's stream in Redis, or to the dead-letter stream.

Error replies about the server, which will accept the event later, are distinguished from those
about the event, which it will never accept. Such an event goes to the dead-letter stream with its
reason, so that it does not block others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import cast

import msgspec

from gateway.core.model import ABANDONED, CallRecord, Usage
from gateway.core.money import MAX_AMOUNT_NANOUSD
from gateway.core.pricing import token_count
from gateway.store.hot_state.redis_schema import RedisKeys, account_scripts
from gateway.store.redis.client import RedisClient
from gateway.store.redis.connection import Argument, ReplyError
from gateway.store.spill.replay import EventKeptError
from gateway.telemetry.metrics import Metrics

FIELD = b"e"
"""The field of a stream entry that contains the event as JSON."""
DEAD_LETTER_BOUND = 100_000
"""The dead-letter stream keeps this many newest entries."""
FULL = -1
MOST_TOKENS = 10**9
"""The most tokens one call takes from a bucket: an absurd usage must not block a key for years."""
TRANSIENT = frozenset((
    "ASK", "BUSY", "CLUSTERDOWN", "CROSSSLOT", "EXECABORT", "LOADING", "MASTERDOWN", "MISCONF",
    "MOVED", "NOAUTH", "NOPERM", "NOREPLICAS", "NOSCRIPT", "OOM", "READONLY", "TRYAGAIN",
    "UNBLOCKED", "UNKILLABLE", "WRONGPASS",
))  # fmt: skip
"""Codes of error replies about the server, not the event."""
logger = logging.getLogger(__name__)

Appended = Callable[[int, bytes, int, str, bytes], None]
"""Called with the shard, its epoch, the result of the scripts' `append`, request id and event."""


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
        appended: Called after each reply of the script.
        shard_full: The capacity of a shard's stream.
        now_ms: Unix milliseconds for the script; None: the server's clock.
    """

    def __init__(
        self,
        bus: RedisClient,
        key_prefix: str,
        metrics: Metrics,
        *,
        appended: Appended,
        shard_full: int,
        now_ms: Callable[[], int] | None,
    ) -> None:
        self._bus = bus
        self._metrics = metrics
        self._appended = appended
        self._names = RedisKeys(key_prefix)
        self._dead = dead_letter_key(key_prefix)
        self._settle = account_scripts().settle
        self._shard_full = shard_full
        self._now_ms = now_ms
        self._decode = msgspec.json.Decoder(_Head).decode

    async def send(self, event: CallRecord | _Head, line: bytes) -> bool:
        """
        Append to the shard's stream, or to the dead letters; False if the stream is full.

        Raises:
            EventKeptError: the dead-letter stream rejects the event, too.
        """
        try:
            return await self._add(event, line)
        except EventRefusedError as refusal:
            logger.error(  # noqa: TRY400 -- the trace says nothing more
                "usage_event_refused",
                extra={"request_id": event.request_id, "account_id": event.account_id},
            )
            await self._set_aside(line, str(refusal))
            return True

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
        names = self._names.of(event.account_id)
        cost = event.cost_nanousd
        # The scripts count in doubles and Redis in 64 bits: larger numbers must not reach them.
        possible = 0 <= cost <= MAX_AMOUNT_NANOUSD
        try:
            reply = await self._bus.script(
                self._settle,
                (
                    names.accounts + event.account_id.encode(),
                    names.calls,
                    names.leases,
                    names.queued,
                    names.usage,
                ),
                (
                    b"" if self._now_ms is None else self._now_ms(),
                    event.request_id,
                    event.account_id,
                    event.key_id,
                    event.model,
                    event.at_ms,
                    cost if possible else 0,
                    min(token_count(event.usage), MOST_TOKENS),
                    line if possible else b"",
                    self._shard_full,
                    b"1" if event.outcome == ABANDONED else b"",
                ),
            )
        except ReplyError as error:
            if error.code in TRANSIENT:
                raise
            raise EventRefusedError(str(error)) from error
        done, epoch = cast("tuple[int, bytes]", reply)
        self._appended(names.shard, epoch, done, event.request_id, line if possible else b"")
        if not possible:
            raise EventRefusedError("its cost is negative or beyond what one call can cost")
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
