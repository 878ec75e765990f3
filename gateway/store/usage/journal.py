"""
The journal of calls: a usage event goes to its shard's Redis stream, or to a local file.

From `append` until the ledger writer has stored it in SQL, an event is in the stream, or in a spill
segment that is replayed into the stream. If Redis does not accept it for some seconds, or at the
end of the worker, it is booked in SQL from here. All are at least once; the request id makes
repetitions harmless. Streams are never trimmed: a full stream accepts no more, and events are
spilled until the ledger writer catches up. An event that Redis rejects goes to the dead-letter
stream, so that it does not block others.

Appending an event also releases its call's hold and charges its account: see `lua/settle.lua`.

If Redis loses its data (killed without an append-only file, flushed by hand), the events that
waited there would be lost. So each worker keeps its last RECENT events, and detects the loss by the
shard's epoch, which every reply contains: those that SQL does not have are appended again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec

from gateway.core.model import CallRecord
from gateway.errors import GatewayError
from gateway.settings import Settings
from gateway.store.hot_state.redis_schema import EPOCH, SHARD_FULL, RedisKeys
from gateway.store.redis.bus import RedisBus
from gateway.store.redis.client import RedisUnavailable
from gateway.store.redis.connection import ReplyError
from gateway.store.spill.direct import BOOK_LINES, DirectBooking
from gateway.store.spill.replay import Destination, EventKeptError, SpillReplay
from gateway.store.spill.segments import SpillQueue, SpillWriter
from gateway.store.usage.sender import FIELD, UsageSender, dead_letter_key
from gateway.store.usage.settlements import FULL, Settlements
from gateway.telemetry.metrics import Metrics

__all__ = ["FIELD", "UsageStream", "dead_letter_key", "spill_directory"]

RECENT = 10_000
"""Recent events kept; about 7 MB."""
RESEND_EVERY_S = 10.0
REPLAY_LINES = 100
"""Events sent to Redis at once."""
MOST_POSTED = 10_000
"""Settlements that may wait for Redis at once; about 7 MB."""

_TICK_S = 1.0
_SCAN_TICKS = 5
"""Ticks between scans for files of dead processes."""
_EPOCH_TICKS = 3
"""Ticks between checks of the epochs, which detect a loss without a further call."""
_STORED_BATCH = 500
_CLOSE_REPLAY_S = 5.0
_CLOSE_BOOK_S = 4.0
"""Together less than the supervisor waits for a worker."""
_AWAY = (RedisUnavailable, ReplyError)
logger = logging.getLogger(__name__)

Stored = Callable[[Sequence[str]], Awaitable[set[str]]]
"""Returns which request ids SQL has; raises GatewayError."""


def spill_directory(settings: Settings) -> Path:
    """Return the spill directory of this data directory."""
    return Path(settings.server.data_dir) / "spill"


class UsageStream:
    """
    The `ports.UsageLog` of one worker.

    `start` begins the replay of spilled events, including those of dead processes, and of lost
    ones; `append` works without it. `aclose` stops it.

    Args:
        bus: Redis.
        settings: Key prefix and data directory.
        metrics: Updates `usage_*` and `spill_bytes`.
        stored: Returns which events need not be resent; None: all are resent.
        direct: Books events without Redis; None: they wait for Redis.
        spill: The files, if not those of the data directory.
        shard_full: The capacity of a shard's stream.
        now_ms: Unix milliseconds for the script; None: the server's clock.
    """

    def __init__(
        self,
        bus: RedisBus,
        settings: Settings,
        metrics: Metrics,
        *,
        stored: Stored | None = None,
        direct: DirectBooking | None = None,
        spill: SpillWriter | None = None,
        shard_full: int = SHARD_FULL,
        now_ms: Callable[[], int] | None = None,
    ) -> None:
        self._bus = bus
        self._metrics = metrics
        self._directory = spill_directory(settings)
        writer = spill if spill is not None else SpillWriter(self._directory)
        self._spill = SpillQueue(writer, metrics)
        self._replay = SpillReplay(self._directory, self._spill, metrics)
        self._direct = direct
        self._direct_after_s = settings.sql.book_directly_after_s
        self._stuck_since: float | None = None
        """Since when Redis has not accepted spilled events; None: it accepted everything."""
        self._names = RedisKeys(settings.redis.key_prefix)
        self.settlements = Settlements(
            bus,
            settings.redis.key_prefix,
            observe_epoch=self.observe_epoch,
            capacity=shard_full,
            now_ms=now_ms,
        )
        self._sender = UsageSender(
            bus,
            settings.redis.key_prefix,
            refused=metrics.usage_refused.inc,
            settlements=self.settlements,
            appended=self._appended,
        )
        self._redis = Destination("redis", self._sender.send_lines, REPLAY_LINES, retries=True)
        self._stored = stored
        self._shard_full = shard_full
        self._full: set[int] = set()
        self._encode = msgspec.json.Encoder().encode
        self._recent: deque[tuple[int, str, bytes]] = deque(maxlen=RECENT)
        self._epochs: dict[int, bytes] = {}
        self._lost: set[int] = set()
        self._resend_all = False
        self._resend_after = 0.0
        self._replaying: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._closing = False

    def start(self) -> None:
        """Start replaying spilled events."""
        self._replaying = asyncio.create_task(self._replay_forever(), name="usage-replay")

    async def post(self, event: CallRecord) -> None:
        """
        Append, charge and release once, without waiting for Redis; never raises.

        The event is lost if this process dies within `settlements.GATHER_S` and a round trip. Then
        the call is settled as abandoned. If MOST_POSTED events wait already, this one is awaited.
        """
        line = self._line(event)
        if line is None:
            return
        posted = self.settlements.pending < MOST_POSTED
        if not (posted and self._sender.post(event, line, self._spill.keep)):
            await self._append(event, line)

    async def append(self, event: CallRecord) -> None:
        """
        Append, charge and release once; never raises. On return the event is in Redis or on disk.

        It is lost, counted and logged only if both fail. If cancelled, it is still spilled.
        """
        line = self._line(event)
        if line is not None:
            await self._append(event, line)

    def _line(self, event: CallRecord) -> bytes | None:
        """Return the event as JSON; None: it has none and is lost."""
        try:
            return self._encode(event)
        except (ValueError, TypeError, OverflowError, msgspec.MsgspecError) as error:
            self._metrics.usage_lost.inc()
            logger.error(  # noqa: TRY400 -- the trace says nothing more
                "usage_event_encoding_failed",
                extra={"request_id": event.request_id, "error": str(error)},
            )
            return None

    async def _append(self, event: CallRecord, line: bytes) -> None:
        try:
            if await self._sender.send(event, line):
                return
        except (*_AWAY, EventKeptError):
            pass  # spilled below
        except asyncio.CancelledError:
            self._spill.keep(line)
            raise
        await asyncio.shield(self._spill.keep(line))

    def observe_epoch(self, shard: int, epoch: object) -> None:
        """
        Compare a shard's epoch with the last one; a change means that Redis has lost its keys.

        Anything but bytes means that the shard has no epoch.
        """
        known = self._epochs.get(shard)
        if epoch == known:
            return
        if isinstance(epoch, bytes):
            self._epochs[shard] = epoch
        else:
            self._epochs.pop(shard, None)
        if known is not None:
            logger.warning("redis_state_lost", extra={"shard": shard})
            self._lost.add(shard)
            self._wake.set()

    def resend_recent(self) -> None:
        """
        Resend all recent events soon: Redis may have lost its last writes in a failover.

        This happens every RESEND_EVERY_S at most.
        """
        self._resend_all = True
        self._wake.set()

    async def aclose(self) -> None:
        """
        Send and write pending events, replay for some seconds, and release the segment.

        What Redis does not accept is booked in SQL; what SQL does not accept stays on disk.
        """
        self._replay.until = asyncio.get_running_loop().time() + _CLOSE_REPLAY_S
        await self._sender.drain()
        self._closing = True
        self._wake.set()
        if self._replaying is not None:
            await self._replaying
            self._replaying = None
        await self._spill.drain()
        accepted = False
        try:
            await self._watch_epochs()
            await self._restore()
            accepted = await self._replay.run(self._redis)
        except _AWAY:
            pass  # booked below
        except OSError:
            logger.exception("spill_replay_failed")
        await self._spill.drain()
        if not accepted:
            await self._book_rest()
        await self._spill.hand_over()

    async def _book_rest(self) -> None:
        """Book in SQL what this worker still has: no later process may have its memory or disk."""
        if self._direct is None:
            return
        self._replay.until = math.inf
        try:
            async with asyncio.timeout(_CLOSE_BOOK_S):
                if not await self._replay.run(self._to_sql(self._direct)):
                    return
                # Redis may come back without its last writes, which nobody could send again.
                lines = {name: line for _, name, line in self._recent}
                for name in await self._known_to_sql(list(lines)):
                    del lines[name]
                left = list(lines.values())
                for start in range(0, len(left), BOOK_LINES):
                    await self._direct.add(left[start : start + BOOK_LINES])
        except (TimeoutError, OSError, GatewayError, EventKeptError) as error:
            logger.warning("usage_booking_failed", extra={"error": type(error).__name__})

    def _appended(self, shard: int, done: int, request_id: str, line: bytes) -> None:
        if done == FULL:
            self._note_full(shard)
        else:
            self._recent.append((shard, request_id, line))

    def _note_full(self, shard: int) -> None:
        if shard not in self._full:
            self._full.add(shard)
            logger.error("usage_stream_filled", extra={"shard": shard})

    # Replay into Redis.

    async def _replay_forever(self) -> None:
        tick = 0
        while not self._closing:
            self._wake.clear()
            try:
                if tick % _SCAN_TICKS == 0:
                    await self._replay.measure()
                if tick % _EPOCH_TICKS == 0:
                    await self._watch_epochs()
                await self._restore()
                await self._watch_full()
                if self._spill.wrote or tick % _SCAN_TICKS == 0:
                    self._note_accepted(not self._full and await self._replay.run(self._redis))
                await self._repay()
            except _AWAY:
                self._note_accepted(False)  # logged by the client; the next tick retries
            except Exception:  # the root of a task: the replay goes on
                logger.exception("spill_replay_failed")
            await self._book_stuck(tick)
            tick += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), _TICK_S)

    def _note_accepted(self, accepted: bool) -> None:
        if accepted:
            self._stuck_since = None
        elif self._stuck_since is None:
            self._stuck_since = asyncio.get_running_loop().time()

    async def _book_stuck(self, tick: int) -> None:
        """Book in SQL what Redis has not accepted for some seconds."""
        if self._direct is None or self._stuck_since is None:
            return
        stuck_s = asyncio.get_running_loop().time() - self._stuck_since
        if stuck_s < self._direct_after_s or not (self._spill.wrote or tick % _SCAN_TICKS == 0):
            return
        try:
            await self._replay.run(self._to_sql(self._direct))
        except Exception:  # the replay must not end: it tries again
            logger.exception("spill_replay_failed")

    def _to_sql(self, direct: DirectBooking) -> Destination:
        return Destination("sql", direct.add, BOOK_LINES, retries=False)

    async def _repay(self) -> None:
        """Send to Redis what was booked without it: it releases the holds, and SQL ignores it."""
        owed = () if self._direct is None else self._direct.owed
        while owed and not self._full:
            batch = [owed.popleft() for _ in range(min(len(owed), REPLAY_LINES))]
            try:
                await self._add_or_keep(batch)
            except _AWAY:
                owed.extendleft(reversed(batch))
                raise

    async def _watch_epochs(self) -> None:
        shards = list(self._epochs)
        replies = [
            self._bus.command(b"HGET", self._names.shards[shard].calls, EPOCH) for shard in shards
        ]
        failure: BaseException | None = None
        epochs = await asyncio.gather(*replies, return_exceptions=True)
        for shard, epoch in zip(shards, epochs, strict=True):
            if isinstance(epoch, BaseException):
                failure = epoch  # other shards may be on other masters of a cluster
            else:
                self.observe_epoch(shard, epoch)
        if failure is not None:
            raise failure

    async def _restore(self) -> None:
        """Resend the events that Redis has lost and SQL does not have."""
        now = asyncio.get_running_loop().time()
        if self._resend_all and (now >= self._resend_after or self._closing):
            self._resend_all = False
            self._resend_after = now + RESEND_EVERY_S
            self._lost.update(shard for shard, _, _ in self._recent)
        if not self._lost:
            return
        shards, self._lost = self._lost, set()
        lines = {name: line for shard, name, line in list(self._recent) if shard in shards}
        try:
            for name in await self._known_to_sql(list(lines)):
                del lines[name]
            left = list(lines.values())
            for start in range(0, len(left), REPLAY_LINES):
                batch = left[start : start + REPLAY_LINES]
                if not await self._add_or_keep(batch):
                    await asyncio.gather(*map(self._spill.keep, batch))
        except _AWAY:
            self._lost |= shards
            raise
        logger.info("usage_events_resent", extra={"events": len(left)})

    async def _known_to_sql(self, request_ids: list[str]) -> set[str]:
        known: set[str] = set()
        if self._stored is None:
            return known
        for start in range(0, len(request_ids), _STORED_BATCH):
            try:
                known |= await self._stored(request_ids[start : start + _STORED_BATCH])
            except GatewayError:
                break  # SQL is unavailable; it ignores events that it has already
        return known

    async def _watch_full(self) -> None:
        for shard in list(self._full):
            length = await self._bus.command(b"XLEN", self._names.shards[shard].usage)
            if isinstance(length, int) and length < self._shard_full * 4 // 5:
                self._full.discard(shard)
                logger.info("usage_stream_recovered", extra={"shard": shard})

    async def _add_or_keep(self, lines: list[bytes]) -> bool:
        """Append events; False: they must be spilled."""
        try:
            return await self._sender.send_lines(lines)
        except EventKeptError:
            return False
