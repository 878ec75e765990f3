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


class CallLine(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The log line of one call; field names match the usage event and the metrics."""

    at: float
    level: str
    event: str
    request_id: str
    endpoint: str
    client_wire: str
    status: int
    outcome: str
    duration_ms: float
    key_id: str | None = None
    account_id: str | None = None
    model: str | None = None
    deployment: str | None = None
    upstream_wire: str | None = None
    upstream_request_id: str | None = None
    stream: bool = False
    attempts: int = 0
    ttft_ms: float | None = None
    overhead_ms: float | None = None
    input_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    web_searches: int | None = None
    tier: str | None = None
    finish_reason: str | None = None
    error_kind: str | None = None
    error_detail: str | None = None
    dropped: list[str] | None = None


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
            batch = [self._encode(lines.popleft()) for _ in range(min(len(lines), _BATCH))]
            batch.append(b"")
            self._stream.write(b"\n".join(batch))
            self._stream.flush()
