"""
The way of spilled usage events back to Redis.

A segment is sent whole and then removed. What keeps one segment from being sent, a file that cannot
be read or an event that nothing takes, leaves that segment where it is and holds up no other.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from gateway.store.redis.client import RedisUnavailable
from gateway.store.redis.connection import ReplyError
from gateway.store.usage.sender import EventKeptError
from gateway.store.usage.spill import Segment, measure, segments
from gateway.store.usage.spill_queue import SpillQueue
from gateway.telemetry.metrics import Metrics

REPLAY_LINES = 100
"""Events sent at once."""
logger = logging.getLogger(__name__)


class SpillReplay:
    """
    Sends the segments of a spill directory that no process holds.

    Args:
        directory: The segments of all processes.
        spill: This process's own, which is handed over first.
        add: Appends lines to the streams, and returns False when one is full. May raise
            RedisUnavailable and ReplyError (Redis is away), and EventKeptError.
        metrics: `spill_bytes` and `spill_oldest` are kept.
    """

    def __init__(
        self,
        directory: Path,
        spill: SpillQueue,
        add: Callable[[list[bytes]], Awaitable[bool]],
        metrics: Metrics,
    ) -> None:
        self._directory = directory
        self._spill = spill
        self._add = add
        self._metrics = metrics
        self._bad: set[str] = set()
        self.until = math.inf
        """When the event loop's clock has come to it, no further batch is sent."""

    async def run(self) -> None:
        """Send every segment that nobody holds into the stream, the own one included."""
        self._spill.wrote = False
        await self._spill.hand_over()
        for path in await asyncio.to_thread(segments, self._directory):
            try:
                sent = await self._send(path)
            except (OSError, EventKeptError) as error:
                self._note_bad(path, error)
                continue
            if sent is None:
                self._spill.wrote = True
                break
            self._bad.discard(path.name)
            if sent:
                logger.info("usage_events_replayed", extra={"file": path.name, "events": sent})
        await self.measure()

    async def measure(self) -> None:
        """Set the gauges to what waits on disk."""
        waiting = await asyncio.to_thread(measure, self._directory)
        age_s = 0.0 if waiting.oldest_at is None else max(0.0, time.time() - waiting.oldest_at)
        self._metrics.spill_bytes.set(waiting.size_bytes)
        self._metrics.spill_oldest.set(age_s)

    async def _send(self, path: Path) -> int | None:
        """
        Send and remove one segment; return how many events it had.

        0: somebody holds it. None: Redis is away, a stream is full, or the time is over.
        """
        segment = await asyncio.to_thread(Segment.claim, path)
        if segment is None:
            return 0
        now = asyncio.get_running_loop().time
        sent = 0
        kept: EventKeptError | None = None
        try:
            while lines := await asyncio.to_thread(segment.read, REPLAY_LINES):
                try:
                    if not await self._add(lines):
                        return None
                except (RedisUnavailable, ReplyError):
                    return None
                except EventKeptError as error:
                    kept = error  # the lines behind it are sent all the same
                sent += len(lines)
                if now() > self.until:
                    return None
            if kept is not None:
                raise kept
            await asyncio.to_thread(segment.remove)
        finally:
            segment.release()
        return sent

    def _note_bad(self, path: Path, error: Exception) -> None:
        """Log a segment that cannot be replayed, once."""
        if path.name not in self._bad:
            self._bad.add(path.name)
            logger.error(
                "spill_segment_not_replayed",
                extra={"file": path.name, "error": f"{type(error).__name__}: {error}"},
            )
