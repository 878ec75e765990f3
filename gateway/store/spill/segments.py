"""
Local files for usage events that Redis did not accept.

One JSON line per event. A process appends to a segment of its own and holds a `flock` on it, which
ends with the process. So an unlocked segment is complete and may be replayed by any process that
locks it. Replay is at least once: the lines of a segment are sent again if a replay is interrupted,
and SQL ignores repetitions.

After a crash the last line may be truncated: what follows the last line end is skipped and logged.

Everything but `SpillQueue` blocks: call it from a worker thread.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import threading
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

from gateway.store.sql.ids import new_id
from gateway.telemetry.metrics import Metrics

SPILL_LIMIT_BYTES = 1024 * 1024 * 1024
"""All segments of a data directory together; about two million calls."""
SEGMENT_BYTES = 4 * 1024 * 1024
"""A segment that has grown beyond this is closed, so that its replay can start."""

_PREFIX = "usage_"
_SUFFIX = ".jsonl"
PENDING_LIMIT_BYTES = 16 * 1024 * 1024
"""Bytes that may wait for one sync; beyond it events are lost and counted."""
logger = logging.getLogger(__name__)


class SpillFullError(Exception):
    """The segments have reached their limit together."""


class SpillSize(NamedTuple):
    """The spilled events on disk."""

    files: int
    size_bytes: int
    oldest_at: float | None = None
    """When the least recently written segment was written to, Unix seconds."""


def measure(directory: Path) -> SpillSize:
    """Return the size of a spill directory."""
    found = [_measured(path) for path in segments(directory)]
    times = [at for _, at in found if at is not None]
    return SpillSize(len(found), sum(size for size, _ in found), min(times, default=None))


def segments(directory: Path) -> list[Path]:
    """Return all segments, oldest first."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    return sorted(
        directory / name for name in names if name.startswith(_PREFIX) and name.endswith(_SUFFIX)
    )


class SpillWriter:
    """
    Appends lines to this process's segment. May be called from several threads.

    Args:
        directory: Created with the first line.
        limit_bytes: For all segments in it, including those of other processes.
    """

    def __init__(
        self,
        directory: Path,
        *,
        limit_bytes: int = SPILL_LIMIT_BYTES,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        self._directory = directory
        self._limit_bytes = limit_bytes
        self._segment_bytes = segment_bytes
        self._lock = threading.Lock()
        self._segment: int | None = None

    def write(self, lines: bytes) -> int:
        """
        Append complete lines; on return they are on disk. Return the size of all segments.

        Raises:
            SpillFullError: they would exceed the limit; nothing was written.
            OSError: the write failed; a partial write is truncated.
        """
        with self._lock:
            total = measure(self._directory).size_bytes + len(lines)
            if total > self._limit_bytes:
                raise SpillFullError(f"{self._directory} holds {self._limit_bytes} bytes")
            if self._segment is None:
                self._segment = self._open()
            try:
                size = _append(self._segment, lines)
            except OSError:
                self._close()  # if truncation failed too, the partial line is the last one
                raise
            if size >= self._segment_bytes:
                self._close()
            return total

    def close(self) -> None:
        """Release the current segment for replay. The next `write` starts another."""
        with self._lock:
            self._close()

    def _open(self) -> int:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Renamed once it is locked: a replay never finds it empty and unlocked.
        name = new_id("usage") + _SUFFIX
        hidden = self._directory / f".{name}"
        segment = os.open(hidden, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o600)
        try:
            fcntl.flock(segment, fcntl.LOCK_EX | fcntl.LOCK_NB)
            hidden.rename(self._directory / name)
            _sync_directory(self._directory)
        except OSError:
            os.close(segment)
            hidden.unlink(missing_ok=True)
            raise
        return segment

    def _close(self) -> None:
        if self._segment is not None:
            os.close(self._segment)
            self._segment = None


class SpillQueue:
    """
    Writes lines to this process's segment from a worker thread, one sync per batch.

    Args:
        writer: The segment, owned by the queue.
        metrics: Updates `usage_spilled`, `usage_lost` and `spill_bytes`.
    """

    def __init__(self, writer: SpillWriter, metrics: Metrics) -> None:
        self._writer = writer
        self._metrics = metrics
        self._pending: list[tuple[bytes, asyncio.Future[None]]] = []
        self._pending_bytes = 0
        self._flushing: asyncio.Task[None] | None = None
        self._losing = False
        self.wrote = True
        """Set when lines were written, cleared by a replay. True at first: segments may exist."""

    def keep(self, line: bytes) -> asyncio.Future[None]:
        """Queue a line; the future resolves when it is on disk or lost, and never fails."""
        kept: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if self._pending_bytes + len(line) > PENDING_LIMIT_BYTES:
            self._lose(1, SpillFullError("too many events wait for the disk"))
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
        """Release the current segment for replay."""
        await asyncio.to_thread(self._writer.close)

    async def _flush(self) -> None:
        """Write until nothing is pending; lines queued during a sync share the next one."""
        while self._pending:
            batch, self._pending, self._pending_bytes = self._pending, [], 0
            lines = b"".join([line + b"\n" for line, _ in batch])
            try:
                size_bytes = await asyncio.to_thread(self._writer.write, lines)
            except (SpillFullError, OSError, RuntimeError) as error:
                # RuntimeError: the interpreter is shutting down and starts no more threads.
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


class Segment:
    """A segment that this process has locked, to be read from its start."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file

    @classmethod
    def claim(cls, path: Path) -> Self | None:
        """Lock a segment; None: it is locked, or was replayed meanwhile."""
        try:
            file = path.open("r+b")
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        if os.fstat(file.fileno()).st_nlink == 0:
            file.close()
            return None
        return cls(path, file)

    def read(self, count: int) -> list[bytes]:
        """Return up to `count` further lines without their ends; an empty list at the end."""
        lines: list[bytes] = []
        while len(lines) < count and (line := self._file.readline()):
            if not line.endswith(b"\n"):
                logger.error(
                    "spill_file_truncated",
                    extra={"file": self._path.name, "size_bytes": len(line)},
                )
                break
            if len(line) > 1:
                lines.append(line[:-1])
        return lines

    def remove(self) -> None:
        """Delete the replayed file."""
        self._path.unlink(missing_ok=True)

    def release(self) -> None:
        """Unlock the file; if it still exists, any process may replay it again."""
        self._file.close()


def _append(segment: int, lines: bytes) -> int:
    """Write and sync; return the file's new size."""
    before = os.fstat(segment).st_size
    try:
        rest = memoryview(lines)
        while rest:
            rest = rest[os.write(segment, rest) :]
        os.fsync(segment)
    except OSError:
        os.ftruncate(segment, before)
        raise
    return before + len(lines)


def _sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _measured(path: Path) -> tuple[int, float | None]:
    """Return a segment's size and time of the last write."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0, None
    return found.st_size, found.st_mtime
