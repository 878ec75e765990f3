"""
Replays spilled usage events into Redis, or into SQL while Redis does not accept them.

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
from typing import NamedTuple

from gateway.errors import GatewayError
from gateway.store.redis.client import RedisUnavailable
from gateway.store.redis.connection import ReplyError
from gateway.store.spill.segments import Segment, SpillQueue, measure, segments
from gateway.telemetry.metrics import Metrics

logger = logging.getLogger(__name__)

Add = Callable[[list[bytes]], Awaitable[bool]]
"""
Stores events, and returns False if there is no room for them.

RedisUnavailable, ReplyError and GatewayError mean "try again later"; EventKeptError is final.
"""


class EventKeptError(Exception):
    """An event is accepted neither at its destination nor as a dead letter."""


class Destination(NamedTuple):
    """A store that spilled events are sent to."""

    name: str
    add: Add
    lines: int
    """Events per batch."""
    retries: bool
    """Whether a segment with a rejected event is sent again at each run."""


class SpillReplay:
    """
    Sends the unlocked segments of a spill directory.

    Args:
        directory: The segments of all processes.
        spill: This process's own segment, which is released first.
        metrics: Updates `spill_bytes` and `spill_oldest`.
    """

    def __init__(self, directory: Path, spill: SpillQueue, metrics: Metrics) -> None:
        self._directory = directory
        self._spill = spill
        self._metrics = metrics
        self._bad: set[tuple[str, str]] = set()
        self.until = math.inf
        """Event-loop time after which no further batch is sent."""

    async def run(self, to: Destination) -> bool:
        """
        Send all unlocked segments, including this process's own.

        Return False if some must be sent again: the destination is unavailable, or has no room.
        """
        self._spill.wrote = False
        complete = True
        await self._spill.hand_over()
        for path in await asyncio.to_thread(segments, self._directory):
            if not to.retries and (to.name, path.name) in self._bad:
                continue
            try:
                sent = await self._send(path, to)
            except (OSError, EventKeptError) as error:
                self._note_bad(path, to, error)
                continue
            if sent is None:
                self._spill.wrote = True
                complete = False
                break
            self._bad.discard((to.name, path.name))
            if sent:
                fields = {"file": path.name, "events": sent, "to": to.name}
                logger.info("usage_events_replayed", extra=fields)
        await self.measure()
        return complete

    async def measure(self) -> None:
        """Update the gauges of the spill directory."""
        waiting = await asyncio.to_thread(measure, self._directory)
        age_s = 0.0 if waiting.oldest_at is None else max(0.0, time.time() - waiting.oldest_at)
        self._metrics.spill_bytes.set(waiting.size_bytes)
        self._metrics.spill_oldest.set(age_s)

    async def _send(self, path: Path, to: Destination) -> int | None:
        """
        Send and remove one segment; return how many events it had.

        0: it is locked. None: the destination is unavailable or full, or the time is over.
        """
        segment = await asyncio.to_thread(Segment.claim, path)
        if segment is None:
            return 0
        now = asyncio.get_running_loop().time
        sent = 0
        kept: EventKeptError | None = None
        try:
            while lines := await asyncio.to_thread(segment.read, to.lines):
                try:
                    if not await to.add(lines):
                        return None
                except (RedisUnavailable, ReplyError, GatewayError):
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

    def _note_bad(self, path: Path, to: Destination, error: Exception) -> None:
        """Log a segment that cannot be replayed, once."""
        if (to.name, path.name) not in self._bad:
            self._bad.add((to.name, path.name))
            logger.error(
                "spill_segment_replay_failed",
                extra={
                    "file": path.name,
                    "to": to.name,
                    "error": f"{type(error).__name__}: {error}",
                },
            )
