"""
Local files for usage events that Redis did not take: the journal's second place, on disk.

One JSON line an event. A process appends to a segment of its own and holds a `flock` on it; the
lock ends with the process, however that ends. So a segment that nobody holds is complete, whoever
wrote it, and may be replayed by whoever locks it first. Replay is at least once: the lines of a
segment are sent again when a replay breaks off, and SQL drops the repetitions.

After a crash the last line may be torn: what follows the last line end is skipped and logged.

Everything in here blocks: call it from a worker thread.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

from gateway.store.sql.ids import new_id

SPILL_LIMIT_BYTES = 1024 * 1024 * 1024
"""All segments of a data directory together; about two million calls."""
SEGMENT_BYTES = 4 * 1024 * 1024
"""A segment that has grown beyond this is closed, so that its replay can start."""

_PREFIX = "usage_"
_SUFFIX = ".jsonl"
logger = logging.getLogger(__name__)


class SpillFullError(Exception):
    """The segments have reached their limit together."""


class SpillSize(NamedTuple):
    """What waits on disk."""

    files: int
    size_bytes: int
    oldest_at: float | None = None
    """Unix seconds of the last write to the segment that was written to longest ago."""


def measure(directory: Path) -> SpillSize:
    """Return how much waits in a spill directory."""
    found = [_measured(path) for path in segments(directory)]
    times = [at for _, at in found if at is not None]
    return SpillSize(len(found), sum(size for size, _ in found), min(times, default=None))


def segments(directory: Path) -> list[Path]:
    """Return every segment, the oldest first."""
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
        directory: Made when the first line comes.
        limit_bytes: For all segments in it, those of other processes included.
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
            OSError: the disk did not take them; what it took of them is cut off again.
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
                self._close()  # should half a line be left, it is the segment's last
                raise
            if size >= self._segment_bytes:
                self._close()
            return total

    def close(self) -> None:
        """Give the current segment up for replay. The next `write` begins another."""
        with self._lock:
            self._close()

    def _open(self) -> int:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Named only once it is locked: a replayer never meets it empty and unowned.
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


class Segment:
    """A segment that this process has locked, to be read from its start."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._file = file

    @classmethod
    def claim(cls, path: Path) -> Self | None:
        """Lock a segment; None when somebody holds it, or has replayed it meanwhile."""
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
        """Delete the file: all that was in it is elsewhere now."""
        self._path.unlink(missing_ok=True)

    def release(self) -> None:
        """Unlock it; if it still exists, it is replayed again, by whoever comes first."""
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
    """Return a segment's size and when it was written to last."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0, None
    return found.st_size, found.st_mtime
