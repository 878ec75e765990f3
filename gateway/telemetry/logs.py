"""
Log lines as JSON objects or text: one per finished call, one per change of state.

Levels: error if the gateway made a call fail, warning if it recovered, info for its lifecycle. No
line contains a key, a prompt or a response.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from typing import IO

import msgspec

from gateway.core.model import USAGE_COLUMNS, CallRecord
from gateway.settings.service import LogFormat

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
        fields.update(_extra(record))
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return msgspec.json.encode(fields, enc_hook=str).decode()


class TextFormatter(logging.Formatter):
    """Renders a record and its `extra` fields as one line, followed by its traceback, if any."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text."""
        line = _text_line(record.created, record.levelname, record.getMessage(), _extra(record))
        if record.exc_info:
            return f"{line}\n{self.formatException(record.exc_info)}"
        return line


def formatter(log_format: LogFormat) -> logging.Formatter:
    """Return the formatter for `server.log_format`."""
    return TextFormatter() if _is_text(log_format) else JsonFormatter()


def configure(log_format: LogFormat = "auto") -> None:
    """Write the process's log lines to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(log_format))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    # Alembic logs each step; `schema_migrated` names them all.
    logging.getLogger("alembic").setLevel(logging.WARNING)


def _is_text(log_format: LogFormat) -> bool:
    return log_format == "text" or (log_format == "auto" and sys.stderr.isatty())


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {name: value for name, value in record.__dict__.items() if name not in _STANDARD}


def _text_line(at: float, level: str, event: str, fields: Mapping[str, object]) -> str:
    clock = time.strftime("%H:%M:%S", time.localtime(at))
    shown = [f"{name}={_text_value(value)}" for name, value in fields.items()]
    words = event.replace("_", " ") if event.isprintable() else repr(event)
    return "  ".join([clock, f"{level.lower():7}", " ".join([words, *shown])])


def _text_value(value: object) -> str:
    # Some values are a client's or an upstream's: control characters must not reach the terminal.
    text = str(value)
    return text if text.isprintable() and " " not in text else repr(text)


class CallLine(msgspec.Struct, frozen=True, kw_only=True):
    """The log line of one call: its record, and further fields for operators."""

    at: float
    """Unix seconds."""
    level: str
    record: CallRecord
    overhead_ms: float | None = None
    """From the request's head to the first request to an upstream."""
    error_detail: str | None = None
    trace_id: str | None = None
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
        if record.chain:
            fields["chain"] = [msgspec.structs.asdict(attempt) for attempt in record.chain]
        for name in _NOTES:
            note = getattr(self, name)
            if note:
                fields[name] = note
        return fields


# `fields` writes `at` for the time, `deployment` for its parts, and usage and chain separately.
_UNLOGGED = {"at_ms", "provider", "upstream_model", "usage", "chain"}
_LOGGED = tuple(name for name in CallRecord.__struct_fields__ if name not in _UNLOGGED)
_NOTES = ("overhead_ms", "error_detail", "dropped", "trace_id")
_HEAD = ("at", "level", "event")
LINE_FIELDS = (*_HEAD, *_LOGGED, "deployment", *USAGE_COLUMNS.values(), "chain", *_NOTES, "pod")
"""Every field that the line of a call may have."""
_MAX_POD_CHARS = 253
"""The longest host name."""


def pod_name() -> str:
    """Return the name of this pod or host: `CAPIO_POD`, or else the host's name."""
    name = os.environ.get("CAPIO_POD", "").strip() or socket.gethostname()
    return "".join(filter(str.isprintable, name))[:_MAX_POD_CHARS]


class CallLog:
    """
    Writes call lines in a separate thread, so that a slow log reader never blocks the event loop.

    The thread polls twenty times per second, which makes one write for many calls and needs no
    wake-ups. The queue is bounded; further lines are dropped and counted in `dropped`.
    """

    def __init__(
        self,
        log_format: LogFormat = "json",
        stream: IO[bytes] | None = None,
        limit: int = 20_000,
        pod: str = "",
    ) -> None:
        self.dropped = 0
        self._stream = stream if stream is not None else sys.stderr.buffer
        self._limit = limit
        self._origin = {"pod": pod} if pod else {}
        self._lines: deque[CallLine] = deque()
        self._closing = threading.Event()
        self._encode = _encode_text if _is_text(log_format) else msgspec.json.Encoder().encode
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
            count = min(len(lines), _BATCH)
            batch = [self._encode(lines.popleft().fields() | self._origin) for _ in range(count)]
            batch.append(b"")
            self._stream.write(b"\n".join(batch))
            self._stream.flush()


def _encode_text(fields: dict[str, object]) -> bytes:
    rest = dict(fields)
    at, level, event = (rest.pop(name) for name in ("at", "level", "event"))
    assert isinstance(at, float)
    return _text_line(at, str(level), str(event), rest).encode(errors="backslashreplace")
