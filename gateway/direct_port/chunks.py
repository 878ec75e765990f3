"""
Decodes chunked request bodies (RFC 9112 7.1).

Strict, because a chunk that two servers read differently hides a request: sizes are hexadecimal
digits, lines end in CRLF, and nothing else ends one. Extensions and trailers are read over; their
size is limited.
"""

from __future__ import annotations

from typing import Final

MAX_LINE_BYTES: Final = 4096
"""Of a chunk's size with its extensions."""
MAX_OVERHEAD_BYTES: Final = 64 * 1024
"""Of all extensions and trailers of a body."""
_MAX_SIZE_DIGITS: Final = 15
_HEX: Final = frozenset(b"0123456789abcdefABCDEF")


class MalformedChunksError(Exception):
    """The body is not valid; where it ends is unknown."""


class ChunkReader:
    """The chunks of one body. After the last one, `ended` is set and `rest` is what follows."""

    __slots__ = ("_held", "_in_trailers", "_overhead", "_remaining", "ended", "rest")

    def __init__(self) -> None:
        self._held = b""  # an incomplete line
        self._remaining = 0  # of the current chunk: its bytes and the CRLF behind them
        self._in_trailers = False
        self._overhead = 0
        self.ended = False
        self.rest = b""

    def feed(self, received: bytes) -> list[bytes]:
        """
        Return the body's bytes in `received`.

        Raises:
            MalformedChunksError: It must not be called again.
        """
        pieces: list[bytes] = []
        data = self._held + received if self._held else received
        self._held = b""
        at = 0
        while at < len(data) and not self.ended:
            if self._remaining:
                at = self._take(data, at, pieces)
            else:
                line_end = self._find_line_end(data, at)
                if line_end < 0:
                    self._held = data[at:]
                    return pieces
                self._read_line(data[at:line_end])
                at = line_end + 2
        if self.ended:
            self.rest = data[at:]
        return pieces

    def _take(self, data: bytes, at: int, pieces: list[bytes]) -> int:
        """Take what has arrived of a chunk and of the CRLF behind it; return where it ends."""
        arrived = min(self._remaining, len(data) - at)
        of_body = min(self._remaining - 2, arrived)
        if of_body > 0:
            pieces.append(data[at : at + of_body])
        else:
            of_body = 0
        expected = b"\r\n"[2 - min(self._remaining - of_body, 2) :]
        end = data[at + of_body : at + arrived]
        if not expected.startswith(end):
            raise MalformedChunksError("a chunk is not followed by CRLF")
        self._remaining -= arrived
        return at + arrived

    def _find_line_end(self, data: bytes, at: int) -> int:
        found = data.find(b"\r\n", at, at + MAX_LINE_BYTES + 2)
        if found < 0 and len(data) - at > MAX_LINE_BYTES:
            raise MalformedChunksError("a line of the chunked encoding is too long")
        return found

    def _read_line(self, line: bytes) -> None:
        if b"\n" in line or b"\r" in line or b"\0" in line:
            raise MalformedChunksError("a control character in the chunked encoding")
        if self._in_trailers:
            self._count(len(line))
            self.ended = not line
            if line and b":" not in line:
                raise MalformedChunksError("a trailer without a colon")
            return
        size, extension, _ = line.partition(b";")
        size = size.rstrip(b" \t") if extension else size
        self._count(len(line) - len(size))
        if not 0 < len(size) <= _MAX_SIZE_DIGITS or not _HEX.issuperset(size):
            raise MalformedChunksError("a chunk's size is not a number")
        number = int(size, 16)
        self._in_trailers = number == 0
        self._remaining = number + 2 if number else 0

    def _count(self, overhead: int) -> None:
        self._overhead += overhead
        if self._overhead > MAX_OVERHEAD_BYTES:
            raise MalformedChunksError("chunk extensions and trailers are too large")
