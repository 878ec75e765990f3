"""The way of usage events to the disk: one sync for all that came during the last one."""

from __future__ import annotations

import asyncio
import logging

from gateway.store.usage.spill import SpillFullError, SpillWriter
from gateway.telemetry.metrics import Metrics

PENDING_LIMIT_BYTES = 16 * 1024 * 1024
"""What may wait for the disk, for one sync; beyond it events are lost and counted."""
logger = logging.getLogger(__name__)


class SpillQueue:
    """
    Writes lines to this process's spill segment from a worker thread.

    Args:
        writer: The segment; the queue is its owner.
        metrics: `usage_spilled`, `usage_lost` and `spill_bytes` are kept.
    """

    def __init__(self, writer: SpillWriter, metrics: Metrics) -> None:
        self._writer = writer
        self._metrics = metrics
        self._pending: list[tuple[bytes, asyncio.Future[None]]] = []
        self._pending_bytes = 0
        self._flushing: asyncio.Task[None] | None = None
        self._losing = False
        self.wrote = True
        """Set when lines were written; may be cleared by who replays them. Set at first: there may
        be some of before."""

    def keep(self, line: bytes) -> asyncio.Future[None]:
        """Queue a line; the future is done when it is on disk, or lost. It never fails."""
        kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._pending_bytes + len(line) > PENDING_LIMIT_BYTES:
            self._lose(1, SpillFullError("the disk is too slow"))
            kept.set_result(None)
            return kept
        self._pending.append((line, kept))
        self._pending_bytes += len(line) + 1
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush(), name="usage-spill")
        return kept

    async def drain(self) -> None:
        """Wait until nothing is pending."""
        if self._flushing is not None:
            await self._flushing

    async def hand_over(self) -> None:
        """Give the current segment up for replay."""
        await asyncio.to_thread(self._writer.close)

    async def _flush(self) -> None:
        """Write until nothing is pending; what comes during one sync shares the next."""
        while self._pending:
            batch, self._pending, self._pending_bytes = self._pending, [], 0
            lines = b"".join([line + b"\n" for line, _ in batch])
            try:
                size_bytes = await asyncio.to_thread(self._writer.write, lines)
            except (SpillFullError, OSError, RuntimeError) as error:
                # RuntimeError: the interpreter is ending and gives no more threads.
                self._lose(len(batch), error)
            else:
                self.wrote = True
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
                "usage_events_lost",
                extra={"error": f"{type(error).__name__}: {error}"},
            )
