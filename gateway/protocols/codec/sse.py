"""
Server-sent events: decodes events from bytes split anywhere, and encodes events.

A stream is a sequence of lines; LF, CRLF and a lone CR each end a line; an empty line ends an
event. Any split of the bytes gives the same events.

Rules of this file:

* Every byte is searched once: an unfinished line is buffered, and only new bytes are searched for
  its end. The total cost is linear in the bytes.
* A CR ends its line at once; an LF directly after it belongs to it, also in the next chunk.
* Data stays bytes and is not decoded, so characters may be split anywhere.
* Buffers are bounded: an event (its data lines and the current line) beyond the limit is an error,
  or its data is left in pieces in `large`. The same applies beyond `MAX_DATA_LINES`, since
  empty `data:` lines take memory without having bytes.

Source: WHATWG HTML, "Server-sent events", interpretation of an event stream; with one exception: an
unfinished event at the end of the stream is delivered, since several servers omit the last blank
line and the final usage would be lost.
"""

from __future__ import annotations

import msgspec

from gateway.core.model import Wire
from gateway.errors import ErrorKind, GatewayError

LIMIT_BYTES = 8 * 1024 * 1024
"""Default limit of an event's size."""

MAX_DATA_LINES = 65_536
"""Most data lines of an event."""

_SHORTEST_DATA_LINE = len(b"data\n")
_LINES_JOINED = 4096

DONE = b"data: [DONE]\n\n"
"""The last event of an OpenAI stream."""

KEEPALIVES = {
    Wire.OPENAI: b": keep-alive\n\n",
    Wire.ANTHROPIC: b'event: ping\ndata: {"type":"ping"}\n\n',
}
"""What clients of a wire ignore between two events."""

_BOM = b"\xef\xbb\xbf"


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event: its name, if any, and its data lines joined with LF."""

    event: bytes | None
    data: bytes


class EventDecoder:
    """
    Decodes a stream's bytes into events, incrementally.

    Args:
        limit_bytes: Largest event, measured as its data so far plus the current line; at least 3,
            the size of a byte order mark.
        splits_large: An event beyond the limit is neither an error nor returned: pieces of its
            data, and None at its end, are added to `large`.

    Attributes:
        large: Read and cleared by the owner after each `feed` and `end`.
    """

    __slots__ = (
        "_at_start",
        "_data",
        "_data_bytes",
        "_in_data_line",
        "_limit_bytes",
        "_line",
        "_name",
        "_skip_lf",
        "_splits_large",
        "_too_large",
        "_whole_bytes",
        "large",
    )

    def __init__(self, limit_bytes: int = LIMIT_BYTES, *, splits_large: bool = False) -> None:
        self.large: list[bytes | None] = []
        self._limit_bytes = limit_bytes
        self._splits_large = splits_large
        self._in_data_line: bool | None = None  # of a large event; None between lines
        # A chunk up to this size cannot contain too many lines, so they need no counting.
        self._whole_bytes = min(limit_bytes, MAX_DATA_LINES * _SHORTEST_DATA_LINE)
        # One buffer, not a list of pieces, which would cost 40 bytes each.
        self._line = bytearray()
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._name: bytes | None = None
        self._skip_lf = False
        self._at_start = True
        self._too_large = False

    def feed(self, chunk: bytes) -> list[Event]:
        """
        Return the events that `chunk` completes.

        Raises:
            GatewayError: UPSTREAM_MALFORMED: an event exceeds the limit. Complete events before it
                are returned first; then every call raises.
        """
        if self._is_whole(chunk):
            return _events_of_whole(chunk)
        self._check_size()
        if self._at_start:
            chunk = self._without_bom(chunk)
        if self._skip_lf and chunk:
            self._skip_lf = False
            if chunk[0] == 0x0A:
                chunk = chunk[1:]
        events: list[Event] = []
        self._split_lines(chunk, events)
        if not events:
            self._check_size()
        return events

    def end(self) -> list[Event]:
        """
        Return the unfinished event at the end of the stream, if any.

        Raises:
            GatewayError: As `feed`.
        """
        self._check_size()
        events: list[Event] = []
        if self._line or self._in_data_line is not None:
            self._take_line(self._joined(b""), events)
        self._take_line(b"", events)
        return events

    @property
    def at_boundary(self) -> bool:
        """Whether nothing is buffered: the bytes so far end with a blank line."""
        return not (
            self._line
            or self._data
            or self._at_start
            or self._skip_lf
            or self._too_large
            or self._name is not None
        )

    def _is_whole(self, chunk: bytes) -> bool:
        """Return whether `chunk` consists of complete events with LF line ends: the common case."""
        return (
            chunk[-2:] == b"\n\n"
            and self.at_boundary
            and b"\r" not in chunk
            and len(chunk) <= self._whole_bytes
        )

    def _without_bom(self, chunk: bytes) -> bytes:
        head = self._joined(chunk)
        if len(head) < len(_BOM) and _BOM.startswith(head):
            self._hold(head)
            return b""
        self._at_start = False
        return head.removeprefix(_BOM)

    def _split_lines(self, chunk: bytes, events: list[Event]) -> None:
        if b"\r" in chunk:
            self._skip_lf = chunk[-1] == 0x0D
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        first, *rest = chunk.split(b"\n")
        if not rest:
            self._hold(first)
            return
        self._take_line(self._joined(first), events)
        for line in rest[:-1]:
            self._take_line(line, events)
        self._hold(rest[-1])

    def _hold(self, piece: bytes) -> None:
        if self._in_data_line is not None:
            self._pass_on(piece if self._in_data_line else b"")
        elif piece:
            self._line += piece
            if self._data_bytes + len(self._line) > self._limit_bytes:
                self._overflow()

    def _joined(self, piece: bytes) -> bytes:
        if not self._line:
            return piece
        line = bytes(self._line) + piece
        self._line.clear()
        return line

    def _take_line(self, line: bytes, events: list[Event]) -> None:
        if self._too_large:
            self._take_large_line(line)
        elif not line:
            self._end_event(events)
        elif self._data_bytes + len(line) > self._limit_bytes:
            self._overflow()
            self._take_large_line(line)
        elif line.startswith(b"data:") or line == b"data":
            if len(self._data) == MAX_DATA_LINES:
                self._overflow()
                self._take_large_line(line)
                return
            value = line[6:] if line[5:6] == b" " else line[5:]
            self._data.append(value)
            self._data_bytes += len(value)
        elif line.startswith(b"event:") or line == b"event":
            self._name = line[7:] if line[6:7] == b" " else line[6:]
        elif line.startswith(b"error:"):  # no field of SSE: an error of vLLM or llama-box
            self._name = b"error"
            self._data.append(line[6:].strip())
            self._data_bytes += len(line)

    def _end_event(self, events: list[Event]) -> None:
        if self._data:
            data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
            events.append(Event(self._name, data))
            self._data.clear()
            self._data_bytes = 0
        self._name = None

    def _overflow(self) -> None:
        """Drop the event, or move its buffered data to `large`."""
        self._too_large = True
        data = self._data.copy() if self._splits_large else []
        self._data.clear()
        self._data_bytes = 0
        if not self._splits_large:
            self._line.clear()
            return
        # Joining takes 80 bytes of memory per line.
        for at in range(0, len(data), _LINES_JOINED):
            self._pass_on(b"\n".join(data[at : at + _LINES_JOINED]) + b"\n")
        if len(self._line) >= len(b"data:"):
            line = self._joined(b"")
            self._in_data_line = line.startswith(b"data:")
            self._pass_on(line[5:] if self._in_data_line else b"")

    def _take_large_line(self, line: bytes) -> None:
        """Add a line of a large event, or its rest, to `large`."""
        if not self._splits_large:
            return
        if self._in_data_line is not None:
            self._pass_on(line + b"\n" if self._in_data_line else b"")
            self._in_data_line = None
        elif line.startswith(b"data:"):
            self._pass_on(line[5:] + b"\n")
        elif not line:
            self._too_large = False
            self._name = None
            self.large.append(None)

    def _pass_on(self, data: bytes) -> None:
        if data:
            self.large.append(data)

    def _check_size(self) -> None:
        if self._too_large and not self._splits_large:
            raise GatewayError(
                ErrorKind.UPSTREAM_MALFORMED,
                "The upstream sent a stream event that is too large.",
                detail=f"SSE event beyond {self._limit_bytes} bytes or {MAX_DATA_LINES} lines",
            )


def anthropic_event(name: bytes, data: bytes) -> bytes:
    """Return an event of an Anthropic stream; `data` is JSON without line breaks."""
    return b"event: %b\ndata: %b\n\n" % (name, data)


def openai_data(data: bytes) -> bytes:
    """Return an event of an OpenAI stream; `data` is JSON without line breaks."""
    return b"data: %b\n\n" % data


def _events_of_whole(chunk: bytes) -> list[Event]:
    """Decode complete events without CR."""
    events: list[Event] = []
    for block in chunk[:-2].split(b"\n\n"):
        if block.startswith(b"data: ") and b"\n" not in block:
            events.append(Event(None, block[6:]))
        elif block:
            _decode_block(block, events)
    return events


def _decode_block(block: bytes, events: list[Event]) -> None:
    """Decode one event; empty lines before it are ignored."""
    name: bytes | None = None
    data: list[bytes] = []
    for line in block.split(b"\n"):
        if line.startswith(b"data:") or line == b"data":
            data.append(line[6:] if line[5:6] == b" " else line[5:])
        elif line.startswith(b"event:") or line == b"event":
            name = line[7:] if line[6:7] == b" " else line[6:]
        elif line.startswith(b"error:"):  # as in `EventDecoder._take_line`
            name = b"error"
            data.append(line[6:].strip())
    if data:
        events.append(Event(name, b"\n".join(data)))
