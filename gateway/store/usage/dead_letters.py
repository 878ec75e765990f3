"""The usage events that were set aside, because Redis or SQL could not store them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from gateway.core.model import CallRecord
from gateway.store.hot_state.redis_schema import SHARD_FULL
from gateway.store.redis.bus import RedisBus
from gateway.store.redis.client import Reply
from gateway.store.usage.sender import FIELD, UsageSender, dead_letter_key
from gateway.store.usage.settlements import Settlements

_ID: Final = re.compile(r"\d{1,20}-\d{1,20}\Z")
_EVENT: Final = msgspec.json.Decoder(CallRecord)
_REASON: Final = b"reason"


class UnknownLetterError(LookupError):
    """There is no such dead letter: it was requeued or removed."""


class UnreadableLetterError(Exception):
    """A dead letter is not a usage event, and can only be read by hand."""


class StreamFullError(Exception):
    """The usage streams are full: the ledger is behind."""


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """An event that was set aside."""

    id: str
    """Its place in the stream; sorts by time."""
    at_ms: int
    reason: str
    event: CallRecord | None
    """None: it cannot be read."""


class DeadLetters:
    """
    The dead-letter stream. Any method may raise RedisUnavailable or ReplyError.

    Args:
        redis: With the scripts of accounts.
        key_prefix: `redis.key_prefix`.
    """

    def __init__(self, redis: RedisBus, key_prefix: str) -> None:
        self._redis = redis
        self._key = dead_letter_key(key_prefix)
        self._sender = UsageSender(
            redis,
            key_prefix,
            refused=lambda: None,
            settlements=Settlements(
                redis, key_prefix, observe_epoch=lambda *_: None, capacity=SHARD_FULL, now_ms=None
            ),
            appended=lambda *_: None,
        )

    async def count(self) -> int:
        """Return how many there are."""
        found = await self._redis.command("XLEN", self._key)
        return found if isinstance(found, int) else 0

    async def list(self, *, before: str = "", limit: int) -> Sequence[DeadLetter]:
        """Return up to `limit` letters older than the id `before`, newest first."""
        last = f"({before}" if _ID.match(before) else "+"
        found = await self._redis.command("XREVRANGE", self._key, last, "-", "COUNT", str(limit))
        return [_letter(each) for each in found] if isinstance(found, list) else []

    async def get(self, letter_id: str) -> DeadLetter:
        """Return a letter; raises UnknownLetterError."""
        return _letter(await self._entry(letter_id))

    async def requeue(self, letter_id: str) -> None:
        """
        Send the event to its stream again, and remove the letter.

        Repeating it is harmless: an event is booked once by its request id. One that is refused
        again becomes a new letter.

        Raises:
            UnknownLetterError, UnreadableLetterError, StreamFullError.
        """
        entry = await self._entry(letter_id)
        if _letter(entry).event is None:
            raise UnreadableLetterError(letter_id)
        if not await self._sender.send_line(_fields(entry)[FIELD]):
            raise StreamFullError(letter_id)
        await self._redis.command("XDEL", self._key, letter_id)

    async def _entry(self, letter_id: str) -> Reply:
        if not _ID.match(letter_id):
            raise UnknownLetterError(letter_id)
        found = await self._redis.command("XRANGE", self._key, letter_id, letter_id)
        if not isinstance(found, list) or not found:
            raise UnknownLetterError(letter_id)
        return found[0]


def _fields(entry: Any) -> dict[bytes, bytes]:
    return dict(zip(entry[1][::2], entry[1][1::2], strict=True))


def _letter(entry: Any) -> DeadLetter:
    letter_id, fields = entry[0].decode(), _fields(entry)
    event: CallRecord | None = None
    try:
        event = _EVENT.decode(fields.get(FIELD, b""))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        event = None
    return DeadLetter(
        id=letter_id,
        at_ms=int(letter_id.partition("-")[0]),
        reason=fields.get(_REASON, b"").decode("utf-8", "replace"),
        event=event,
    )
