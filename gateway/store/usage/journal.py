"""
The journal of calls: a usage event goes to its shard's Redis stream, or to a local file.

An event is in one of these places from `append` on, until the ledger writer has put it into SQL:
the stream, or a spill segment that is replayed into the stream. Both ways are at least once; the
request id makes the repetitions harmless. Nothing is ever trimmed away: a stream that is full takes
no more, and the events are spilled until the ledger writer catches up. An event that Redis refuses
for itself goes to the dead-letter stream, so that it holds up no other.

Appending an event also ends what its call holds and charges its account: see `lua/settle.lua`.

When Redis loses what it held (killed without an append-only file, flushed by hand), the events that
waited there would be lost. So each worker remembers its last RECENT ones, and notices the loss by
the shard's epoch, which every answer brings: those that SQL does not have are appended again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import msgspec

from gateway.core.model import UsageEvent
from gateway.errors import GatewayError
from gateway.settings import Settings
from gateway.store.hot_state.redis_schema import EPOCH, SHARD_FULL, RedisKeys
from gateway.store.redis.client import RedisClient, RedisUnavailable
from gateway.store.redis.connection import ReplyError
from gateway.store.usage.sender import FIELD, FULL, EventKeptError, UsageSender, dead_letter_key
from gateway.store.usage.spill import SpillWriter
from gateway.store.usage.spill_queue import SpillQueue
from gateway.store.usage.spill_replay import REPLAY_LINES, SpillReplay
from gateway.telemetry.metrics import Metrics

__all__ = [
    "FIELD",
    "RedisClient",
    "UsageStream",
    "dead_letter_key",
    "spill_directory",
    "usage_stream_key",
]

RECENT = 10_000
"""Events remembered; about 7 MB."""
SUSPECT_EVERY_S = 10.0

_TICK_S = 1.0
_SCAN_TICKS = 5
"""Files of dead processes are looked for every so many ticks."""
_EPOCH_TICKS = 3
"""A loss is looked for every so many ticks, so that it is found without a further call."""
_STORED_BATCH = 500
_CLOSE_REPLAY_S = 5.0
_AWAY = (RedisUnavailable, ReplyError)
_FULL = -1
logger = logging.getLogger(__name__)

Stored = Callable[[Sequence[str]], Awaitable[set[str]]]
"""Returns which request ids SQL has; raises GatewayError."""


def usage_stream_key(key_prefix: str, shard: int) -> str:
    """Return the name of a shard's stream."""
    return f"{key_prefix}{{s{shard}}}usage"


def spill_directory(settings: Settings) -> Path:
    """Return where the processes of this data directory spill."""
    return Path(settings.server.data_dir) / "spill"


class UsageStream:
    """
    The `ports.UsageLog` of one worker.

    Works without `start`, which begins the replay of spilled events, those of dead processes
    included, and of lost ones. `aclose` ends it.

    Args:
        bus: To Redis.
        settings: Key prefix and data directory.
        metrics: `usage_*` and `spill_bytes` are kept.
        stored: Asked before events are appended again; None: all are.
        spill: The files, if not those of the data directory.
        shard_full: Entries that a shard's stream takes.
        now_ms: Unix milliseconds for the script; None: the server's clock.
    """

    def __init__(
        self,
        bus: RedisClient,
        settings: Settings,
        metrics: Metrics,
        *,
        stored: Stored | None = None,
        spill: SpillWriter | None = None,
        shard_full: int = SHARD_FULL,
        now_ms: Callable[[], int] | None = None,
    ) -> None:
        self._bus = bus
        self._metrics = metrics
        self._directory = spill_directory(settings)
        writer = spill if spill is not None else SpillWriter(self._directory)
        self._spill = SpillQueue(writer, metrics)
        self._replay = SpillReplay(self._directory, self._spill, self._add_lines, metrics)
        self._names = RedisKeys(settings.redis.key_prefix)
        self._sender = UsageSender(
            bus,
            settings.redis.key_prefix,
            metrics,
            answered=self._answered,
            shard_full=shard_full,
            now_ms=now_ms,
        )
        self._stored = stored
        self._shard_full = shard_full
        self._full: set[int] = set()
        self._encode = msgspec.json.Encoder().encode
        self._recent: deque[tuple[int, str, bytes]] = deque(maxlen=RECENT)
        self._epochs: dict[int, bytes] = {}
        self._lost: set[int] = set()
        self._suspected = False
        self._suspect_after = 0.0
        self._replaying: asyncio.Task[None] | None = None
        self._wake = asyncio.Event()
        self._closing = False

    def start(self) -> None:
        """Begin to replay what is and will be spilled."""
        self._replaying = asyncio.create_task(self._replay_forever(), name="usage-replay")

    async def append(self, event: UsageEvent) -> None:
        """
        Append, charge and release once; never raises. On return the event is in Redis or on disk.

        It is lost, counted and reported only when neither takes it. Cancelled, it still spills.
        """
        try:
            line = self._encode(event)
        except (ValueError, TypeError, OverflowError, msgspec.MsgspecError) as error:
            self._metrics.usage_lost.inc()
            logger.error(  # noqa: TRY400 -- the trace says nothing more
                "usage_event_encoding_failed",
                extra={"request_id": event.request_id, "error": str(error)},
            )
            return
        try:
            if await self._sender.send(event, line):
                return
        except (*_AWAY, EventKeptError):
            pass  # the spill is the answer
        except asyncio.CancelledError:
            self._spill.keep(line)
            raise
        await asyncio.shield(self._spill.keep(line))

    def observe_epoch(self, shard: int, epoch: object) -> None:
        """
        Compare a shard's epoch with the last one; another one means that Redis has lost its keys.

        What is not bytes says that there is none.
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
        Append all remembered events again, soon: Redis may have lost its last writes in a failover.

        However often it comes and goes, that is done every SUSPECT_EVERY_S at most.
        """
        self._suspected = True
        self._wake.set()

    async def aclose(self) -> None:
        """Write what is pending, try for some seconds to replay, and give the own segment up."""
        self._replay.until = asyncio.get_running_loop().time() + _CLOSE_REPLAY_S
        self._closing = True
        self._wake.set()
        if self._replaying is not None:
            await self._replaying
            self._replaying = None
        await self._spill.drain()
        try:
            await self._watch_epochs()
            await self._restore()
            await self._replay.run()
        except _AWAY:
            pass  # what is left stays on disk for the next process
        except OSError:
            logger.exception("spill_replay_failed")
        await self._spill.drain()
        await self._spill.hand_over()

    def _answered(self, shard: int, epoch: bytes, done: int, request_id: str, line: bytes) -> None:
        if epoch != self._epochs.get(shard):
            self.observe_epoch(shard, epoch)
        if done == FULL:
            self._note_full(shard)
        elif line:
            self._recent.append((shard, request_id, line))

    def _note_full(self, shard: int) -> None:
        if shard not in self._full:
            self._full.add(shard)
            logger.error("usage_stream_full", extra={"shard": shard})

    # Back to Redis.

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
                if not self._full and (self._spill.wrote or tick % _SCAN_TICKS == 0):
                    await self._replay.run()
            except _AWAY:
                pass  # Redis is away: the bus has logged it, the next tick tries again
            except Exception:  # a task root: the replay goes on
                logger.exception("spill_replay_failed")
            tick += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), _TICK_S)

    async def _watch_epochs(self) -> None:
        shards = list(self._epochs)
        asked = [
            self._bus.command(b"HGET", self._names.shards[shard].calls, EPOCH) for shard in shards
        ]
        for shard, epoch in zip(shards, await asyncio.gather(*asked), strict=True):
            self.observe_epoch(shard, epoch)

    async def _restore(self) -> None:
        """Append again what Redis has lost and SQL does not have."""
        now = asyncio.get_running_loop().time()
        if self._suspected and (now >= self._suspect_after or self._closing):
            self._suspected = False
            self._suspect_after = now + SUSPECT_EVERY_S
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
                break  # SQL is away: what it has already, it will drop
        return known

    async def _watch_full(self) -> None:
        for shard in list(self._full):
            length = await self._bus.command(b"XLEN", self._names.shards[shard].usage)
            if isinstance(length, int) and length < self._shard_full * 4 // 5:
                self._full.discard(shard)
                logger.info("usage_stream_recovered", extra={"shard": shard})

    async def _add_or_keep(self, lines: list[bytes]) -> bool:
        """Append events; False when they must be spilled."""
        try:
            return await self._add_lines(lines)
        except EventKeptError:
            return False

    async def _add_lines(self, lines: list[bytes]) -> bool:
        """
        Append events; False when a stream was full.

        Raises the first failure, after all; that Redis is away before an EventKeptError.
        """
        answers = await asyncio.gather(*map(self._sender.send_line, lines), return_exceptions=True)
        failures = [answer for answer in answers if isinstance(answer, BaseException)]
        for failure in sorted(failures, key=lambda each: isinstance(each, EventKeptError)):
            raise failure
        return all(answers)
