"""
Settles calls in batches: those of one loop turn, gathered for at most GATHER_S, in one script.

A worker that dies meanwhile leaves its gathered calls running in Redis: the sweeper settles them
as abandoned once their leases have expired, as every call of a dead worker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol, cast

from gateway.core.model import ABANDONED, Usage
from gateway.core.money import MAX_AMOUNT_NANOUSD
from gateway.core.pricing import token_count
from gateway.store.hot_state.redis_schema import RedisKeys, account_scripts
from gateway.store.redis.batches import Done, GatheredCall, Header, ScriptBatches
from gateway.store.redis.bus import RedisBus
from gateway.store.redis.connection import Reply, ReplyError

GATHER_S: Final = 0.002
"""A settlement waits until this time after the last batch; the first after a pause does not."""
FULL = -1
MOST_TOKENS = 10**9
"""The most tokens one call takes from a bucket: an absurd usage must not block a key for years."""


class SettledCall(Protocol):
    """The fields of an event that a settlement needs."""

    @property
    def request_id(self) -> str: ...
    @property
    def account_id(self) -> str: ...
    @property
    def key_id(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def at_ms(self) -> int: ...
    @property
    def usage(self) -> Usage: ...
    @property
    def cost_nanousd(self) -> int: ...
    @property
    def outcome(self) -> str: ...


class Settlements:
    """
    The settlements of one worker, by `lua/settle.lua`.

    Args:
        bus: Redis.
        key_prefix: `redis.key_prefix`.
        observe_epoch: Called with a shard and its epoch after each reply.
        capacity: Entries in one shard's stream.
        now_ms: Unix milliseconds for the script; None: the server's clock.
    """

    def __init__(
        self,
        bus: RedisBus,
        key_prefix: str,
        *,
        observe_epoch: Callable[[int, object], None],
        capacity: int,
        now_ms: Callable[[], int] | None,
    ) -> None:
        self._names = RedisKeys(key_prefix)
        self._observe_epoch = observe_epoch
        self._capacity = capacity
        self._now_ms = now_ms
        self._batches = ScriptBatches(
            bus, account_scripts().settle, header=self._header, read=self._read, gather_s=GATHER_S
        )

    @property
    def pending(self) -> int:
        """Settlements and releases without a reply."""
        return self._batches.pending

    def settle(self, event: SettledCall, line: bytes, done: Done) -> None:
        """
        Release the hold of a call, charge it, and append its event to the stream.

        Args:
            event: What is charged.
            line: The event as JSON. If its cost `is_impossible`, the hold is only released.
            done: Called with 1, 0 if the event was there before, FULL, or an exception.
        """
        # The scripts count in doubles and Redis in 64 bits: larger numbers must not reach them.
        impossible = is_impossible(event)
        self._batches.add(
            self._names.of(event.account_id).shard,
            event.request_id,
            event.account_id,
            (
                event.request_id,
                event.account_id,
                event.key_id,
                event.model,
                event.at_ms,
                0 if impossible else event.cost_nanousd,
                min(token_count(event.usage), MOST_TOKENS),
                b"" if impossible else line,
                b"1" if event.outcome == ABANDONED else b"",
            ),
            done,
        )

    def release(self, request_id: str, account_id: str, model: str, done: Done) -> None:
        """Release what a call holds for `model`, without an event."""
        self._batches.add(
            self._names.of(account_id).shard,
            request_id,
            account_id,
            (request_id, account_id, b"", model, 0, 0, 0, b"", b""),
            done,
        )

    def gathered(self, account_id: str) -> Mapping[str, GatheredCall]:
        """Return the calls of the account's shard that were not sent yet, a batch that may grow."""
        return self._batches.gathered(self._names.of(account_id).shard)

    def send(self, account_id: str) -> None:
        """Send what is gathered for the account's shard in this loop turn."""
        self._batches.send(self._names.of(account_id).shard)

    async def drain(self) -> None:
        """Send everything and wait for the replies."""
        await self._batches.drain()

    def _header(self, shard: int) -> Header:
        names = self._names.shards[shard]
        now = b"" if self._now_ms is None else self._now_ms()
        return Header(
            (names.calls, names.leases, names.queued, names.usage),
            names.accounts,
            (now, names.accounts, self._capacity),
        )

    def _read(self, shard: int, reply: Reply) -> Sequence[Reply]:
        epoch, *results = cast("list[Reply]", reply)
        self._observe_epoch(shard, epoch)
        return [
            ReplyError(result.decode(errors="replace")) if isinstance(result, bytes) else result
            for result in results
        ]


def is_impossible(event: SettledCall) -> bool:
    """Return whether the cost is negative or beyond what one call can cost."""
    return not 0 <= event.cost_nanousd <= MAX_AMOUNT_NANOUSD


def concerns(calls: Mapping[str, GatheredCall], account_id: str) -> bool:
    """Return whether any of the calls is of the account."""
    return any(call.account_id == account_id for call in calls.values())
