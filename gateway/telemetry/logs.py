"""
Log lines as JSON objects: one per finished call, one per change of state.

Levels: error if the gateway made a call fail, warning if it recovered, info for its lifecycle. No
line contains a key, a prompt or a response.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections import deque
from typing import IO

import msgspec

from gateway.core.model import USAGE_COLUMNS, CallRecord

_WRITE_EVERY_S = 0.05
_BATCH = 200

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Renders a record and its `extra` fields as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one JSON object."""
        fields: dict[str, object] = {
            "at": round(record.created, 3),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
            "pid": record.process,
        }
        fields.update((k, v) for k, v in record.__dict__.items() if k not in _STANDARD)
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(fields, enc_hook=str).decode()


def configure(level: str = "INFO") -> None:
    """Write the process's log lines to standard error as JSON."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)


class CallLine(msgspec.Struct, frozen=True, kw_only=True):
    """The log line of one call: its record, and what only operators need of it."""

    at: float
    """Unix seconds."""
    level: str
    record: CallRecord
    overhead_ms: float | None = None
    """From the request's head to the first request to an upstream."""
    error_detail: str | None = None
    dropped: tuple[str, ...] = ()

    def fields(self) -> dict[str, object]:
        """Return the line's JSON fields; those without a value are left out."""
        record = self.record
        fields: dict[str, object] = {"at": self.at, "level": self.level, "event": "call"}
        for name in _LOGGED:
            value = getattr(record, name)
            if value is not None and value is not False and value != "":
                fields[name] = value
        if record.provider is not None:
            fields["deployment"] = f"{record.provider}/{record.upstream_model}"
        for name, column in USAGE_COLUMNS.items():
            count = getattr(record.usage, name)
            if count:
                fields[column] = count
        for name in _NOTES:
            note = getattr(self, name)
            if note:
                fields[name] = note
        return fields


# The line has the time of its own, `deployment` instead of its parts, and no client addresses.
_UNLOGGED = {"at_ms", "provider", "upstream_model", "usage", "address", "user_agent"}
_LOGGED = tuple(name for name in CallRecord.__struct_fields__ if name not in _UNLOGGED)
_NOTES = ("overhead_ms", "error_detail", "dropped")


class CallLog:
    """
    Writes call lines in a separate thread, so that a slow log reader never blocks the event loop.

    The thread polls twenty times per second, which makes one write for many calls and needs no
    wake-ups. The queue is bounded; further lines are dropped and counted in `dropped`.
    """

    def __init__(self, stream: IO[bytes] | None = None, limit: int = 20_000) -> None:
        self.dropped = 0
        self._stream = stream if stream is not None else sys.stderr.buffer
        self._limit = limit
        self._lines: deque[CallLine] = deque()
        self._closing = threading.Event()
        self._encode = msgspec.json.Encoder().encode
        self._thread = threading.Thread(target=self._write_forever, name="call-log", daemon=True)
        self._thread.start()

    def write(self, line: CallLine) -> None:
        """Queue one line without blocking."""
        if len(self._lines) < self._limit:
            self._lines.append(line)
        else:
            self.dropped += 1

    def close(self, timeout_s: float = 2.0) -> None:
        """Write the queued lines and stop the thread; give up after `timeout_s`."""
        self._closing.set()
        self._thread.join(timeout_s)

    def _write_forever(self) -> None:
        while not self._closing.wait(_WRITE_EVERY_S):
            self._write_queued()
        self._write_queued()

    def _write_queued(self) -> None:
        lines = self._lines
        while lines:
            batch = [self._encode(lines.popleft().fields()) for _ in range(min(len(lines), _BATCH))]
            batch.append(b"")
            self._stream.write(b"\n".join(batch))
            self._stream.flush()
