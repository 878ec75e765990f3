"""
Replays spilled usage events into Redis.

A segment is sent completely and then removed. A segment that cannot be sent, because the file is
unreadable or an event is rejected everywhere, stays in place and does not block others.
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
from gateway.store.usage.spill import Segment, SpillQueue, measure, segments
from gateway.telemetry.metrics import Metrics

REPLAY_LINES = 100
"""Events per batch."""
logger = logging.getLogger(__name__)


class SpillReplay:
    """
    Sends the unlocked segments of a spill directory.

    Args:
        directory: The segments of all processes.
        spill: This process's own segment, which is released first.
        add: Appends lines to the streams, and returns False if one is full. May raise
            RedisUnavailable, ReplyError and EventKeptError.
        metrics: Updates `spill_bytes` and `spill_oldest`.
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
        """No further batch is sent after this time of the event loop."""

    async def run(self) -> None:
        """Send all unlocked segments, including this process's own, into the streams."""
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
        """Update the gauges of the spill directory."""
        waiting = await asyncio.to_thread(measure, self._directory)
        age_s = 0.0 if waiting.oldest_at is None else max(0.0, time.time() - waiting.oldest_at)
        self._metrics.spill_bytes.set(waiting.size_bytes)
        self._metrics.spill_oldest.set(age_s)

    async def _send(self, path: Path) -> int | None:
        """
        Send and remove one segment; return how many events it had.

        0: it is locked. None: Redis is unavailable, a stream is full, or the time is over.
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
                    kept = error  # the lines after it are still sent
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
