"""
The journal of calls: a usage event goes to a Redis stream, or to a local file if Redis is away.

An event is in one of these places from `append` on, until the ledger writer has put it into SQL:
the stream, or a spill segment that is replayed into the stream. Both ways are at least once; the
request id makes the repetitions harmless. Nothing is trimmed away in ordinary trouble: a stream
that has grown to STREAM_FULL is left alone and the events are spilled until the ledger writer
catches up. STREAM_BOUND is the last defence of Redis' memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable
from pathlib import Path
from typing import Protocol

import msgspec

from gateway.core.model import UsageEvent
from gateway.settings import Settings
from gateway.store.bus import BusUnavailable
from gateway.store.redis_link import Argument, ReplyError
from gateway.store.spill import Segment, SpillFullError, SpillWriter, measure, segments
from gateway.telemetry.metrics import Metrics

STREAM_FULL = 500_000
"""Events; about 250 MB of Redis."""
STREAM_BOUND = 1_000_000
"""Events; beyond it Redis drops the oldest, which the ledger writer reports."""
FIELD = b"e"
"""The one field of an entry: the event as JSON."""

_TICK_S = 1.0
_SCAN_TICKS = 5
"""Files of dead processes are looked for every so many ticks."""
_REPLAY_LINES = 100
_PENDING_LIMIT_BYTES = 16 * 1024 * 1024
"""What may wait for the disk, for one sync; beyond it events are lost and counted."""
_CLOSE_REPLAY_S = 5.0
_AWAY = (BusUnavailable, ReplyError)
logger = logging.getLogger(__name__)


class CommandBus(Protocol):
    """What is needed of `store.bus.Bus`."""

    def command(self, *args: Argument) -> Awaitable[object]:
        """Send one command; raises BusUnavailable or ReplyError."""


def usage_stream_key(key_prefix: str, shard: int | None = None) -> str:
    """
    Return the stream's name.

    Args:
        key_prefix: `redis.key_prefix`.
        shard: None for the one stream of today; else the hash tag `{s17}` keeps a shard's keys in
            one slot of a Redis Cluster.
    """
    return f"{key_prefix}usage" if shard is None else f"{key_prefix}usage:{{s{shard}}}"


def dead_letter_key(key_prefix: str) -> str:
    """Return the name of the stream of events that cannot be stored."""
    return f"{key_prefix}usage:dead"


def spill_directory(settings: Settings) -> Path:
    """Return where the processes of this data directory spill."""
    return Path(settings.server.data_dir) / "spill"


class UsageStream:
    """
    The `ports.UsageLog` of one worker.

    Works without `start`, which begins the replay of spilled events, those of dead processes
    included. `aclose` ends it.
    """

    def __init__(
        self,
        bus: CommandBus,
        settings: Settings,
        metrics: Metrics,
        *,
        spill: SpillWriter | None = None,
        stream_full: int = STREAM_FULL,
    ) -> None:
        self._bus = bus
        self._metrics = metrics
        self._directory = spill_directory(settings)
        self._spill = spill if spill is not None else SpillWriter(self._directory)
        self._stream = usage_stream_key(settings.redis.key_prefix)
        self._stream_full = stream_full
        self._full = False
        self._encode = msgspec.json.Encoder().encode
        self._pending: list[tuple[bytes, asyncio.Future[None]]] = []
        self._pending_bytes = 0
        self._flushing: asyncio.Task[None] | None = None
        self._losing = False
        self._spilled = True
        self._replaying: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()
        self._replay_until = math.inf

    def start(self) -> None:
        """Begin to replay what is and will be spilled."""
        self._replaying = asyncio.create_task(self._replay_forever(), name="usage-replay")

    async def append(self, event: UsageEvent) -> None:
        """
        Append once; never raises. On return the event is in Redis or on disk.

        It is lost, counted and reported only when neither takes it. Cancelled, it still spills.
        """
        try:
            line = self._encode(event)
        except (ValueError, TypeError, OverflowError, msgspec.MsgspecError) as error:
            self._metrics.usage_lost.inc()
            logger.error(  # noqa: TRY400 -- the trace says nothing more
                "usage event has no JSON form",
                extra={"request_id": event.request_id, "error": str(error)},
            )
            return
        if not self._full:
            try:
                await self._add(line)
                return
            except _AWAY:
                pass  # the spill is the answer
            except asyncio.CancelledError:
                self._keep(line)
                raise
        await asyncio.shield(self._keep(line))

    async def aclose(self) -> None:
        """Write what is pending, try for some seconds to replay, and give the own segment up."""
        self._replay_until = asyncio.get_running_loop().time() + _CLOSE_REPLAY_S
        self._closing.set()
        if self._replaying is not None:
            await self._replaying
            self._replaying = None
        if self._flushing is not None:
            await self._flushing
        try:
            await self._replay()
        except _AWAY:
            pass  # what is left stays on disk for the next process
        except OSError:
            logger.exception("replay of spilled usage events failed")
        await asyncio.to_thread(self._spill.close)

    async def _add(self, line: bytes) -> None:
        await self._bus.command(
            b"XADD", self._stream, b"MAXLEN", b"~", STREAM_BOUND, b"*", FIELD, line
        )

    def _keep(self, line: bytes) -> asyncio.Future[None]:
        """Queue a line for the disk; the future is done when it is there, or lost."""
        kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._pending_bytes + len(line) > _PENDING_LIMIT_BYTES:
            self._lose(1, SpillFullError("the disk is too slow"))
            kept.set_result(None)
            return kept
        self._pending.append((line, kept))
        self._pending_bytes += len(line) + 1
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush(), name="usage-spill")
        return kept

    async def _flush(self) -> None:
        """Write until nothing is pending; what comes during one sync shares the next."""
        while self._pending:
            batch, self._pending, self._pending_bytes = self._pending, [], 0
            lines = b"".join([line + b"\n" for line, _ in batch])
            try:
                size_bytes = await asyncio.to_thread(self._spill.write, lines)
            except (SpillFullError, OSError, RuntimeError) as error:
                # RuntimeError: the interpreter is ending and gives no more threads.
                self._lose(len(batch), error)
            else:
                self._spilled = True
                self._losing = False
                self._metrics.usage_spilled.inc(len(batch))
                self._metrics.spill_bytes.set(size_bytes)
            for _, kept in batch:
                if not kept.done():
                    kept.set_result(None)
        self._flushing = None

    def _lose(self, count: int, error: Exception) -> None:
        self._metrics.usage_lost.inc(count)
        if not self._losing:
            self._losing = True
            logger.error(
                "usage events are lost, neither Redis nor the disk takes them",
                extra={"error": f"{type(error).__name__}: {error}"},
            )

    async def _replay_forever(self) -> None:
        tick = 0
        while not self._closing.is_set():
            try:
                await self._watch_length()
                if not self._full and (self._spilled or tick % _SCAN_TICKS == 0):
                    await self._replay()
            except _AWAY:
                pass  # Redis is away: the bus has logged it, the next tick tries again
            except Exception:  # a task root: the replay goes on
                logger.exception("replay of spilled usage events failed")
            tick += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), _TICK_S)

    async def _watch_length(self) -> None:
        length = await self._bus.command(b"XLEN", self._stream)
        bound = self._stream_full * 4 // 5 if self._full else self._stream_full
        full = isinstance(length, int) and length >= bound
        if full != self._full:
            self._full = full
            logger.log(
                logging.ERROR if full else logging.INFO,
                "usage stream full, events are spilled" if full else "usage stream takes events",
                extra={"stream_length": length},
            )

    async def _replay(self) -> None:
        """Send every segment that nobody holds into the stream, the own one included."""
        self._spilled = False
        await asyncio.to_thread(self._spill.close)
        for path in await asyncio.to_thread(segments, self._directory):
            segment = await asyncio.to_thread(Segment.claim, path)
            if segment is None:
                continue
            try:
                await self._watch_length()  # a long replay must not fill the stream either
                sent = None if self._full else await self._send(segment)
            finally:
                segment.release()
            if sent is None:
                self._spilled = True
                break
            logger.info("usage events replayed", extra={"file": path.name, "events": sent})
        size = await asyncio.to_thread(measure, self._directory)
        self._metrics.spill_bytes.set(size.size_bytes)

    async def _send(self, segment: Segment) -> int | None:
        """Send and remove one segment; return how many events it had. None: it was not all sent."""
        now = asyncio.get_running_loop().time
        sent = 0
        while lines := await asyncio.to_thread(segment.read, _REPLAY_LINES):
            answers = await asyncio.gather(*map(self._add, lines), return_exceptions=True)
            for answer in answers:
                if isinstance(answer, _AWAY):
                    return None
                if isinstance(answer, BaseException):
                    raise answer
            sent += len(lines)
            if now() > self._replay_until:
                return None
        await asyncio.to_thread(segment.remove)
        return sent
