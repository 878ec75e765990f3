"""
Removes whole events from a relayed stream; every other byte is forwarded unchanged.

Complete events are forwarded at once. An incomplete one is held back, since a client cannot use it
and no error event could follow it; up to 8 MiB. Beyond that, nothing more is removed, so that no
byte is lost.
"""

from __future__ import annotations

import re
from typing import Final

from gateway.errors import GatewayError
from gateway.protocols.codec.sse import LIMIT_BYTES, Event, EventDecoder

# A line end, then an empty line. The group is atomic, since CRLF would else match as two line ends.
BLANK_LINE: Final = re.compile(rb"(?>\r\n|\n|\r)(?:\r\n|\n|\r)")
_AT_END = re.compile(rb"(?>\r\n|\n|\r)(?:\r\n|\n|\r)\Z")
BLANK_LINES: Final = (b"\n\n", b"\r\n\r\n")
_LONGEST: Final = 4
"""Bytes of the longest blank line with the line end before it."""


class EventFilter:
    """
    Base class of filters: a subclass decides which events are removed.

    Args:
        limit_bytes: Largest incomplete event that is held back.
    """

    __slots__ = ("_after_cr", "_held", "_limit_bytes", "_off", "_scanned")

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._held = bytearray()
        self._scanned = 0
        self._after_cr: bytes | None = None  # replaces an LF after the CR that ended an event
        self._off = False

    @property
    def idle(self) -> bool:
        """Whether nothing is held and everything before was forwarded."""
        return not (self._held or self._off or self._after_cr is not None)

    def is_plain(self, events: bytes) -> bool:
        """Return whether none of the events can be one to remove, without decoding."""
        raise NotImplementedError

    def removes(self, event: bytes) -> bool:
        """Return whether an event that is not plain is removed."""
        raise NotImplementedError

    def feed(self, chunk: bytes) -> bytes:
        """Return the bytes for the client from `chunk` and from held bytes; may be empty."""
        if self._off:
            return chunk
        if self._after_cr is None and not self._held and chunk.endswith(BLANK_LINES):
            return chunk if self.is_plain(chunk) else self._shown(chunk)
        before = b""
        if self._after_cr is not None and chunk:
            before = self._after_cr if chunk[0] == 0x0A else b""
            chunk = chunk.removeprefix(b"\n")
            self._after_cr = None
        return before + self._feed_slowly(chunk)

    def end(self, clean: bool = True) -> bytes:
        """
        Return the bytes for the client from the unfinished event at the end.

        Args:
            clean: False if the stream was cut off: the unfinished event is dropped, so that the
                client's stream ends between two events.
        """
        rest = bytes(self._held) if clean else b""
        self._held.clear()
        is_removed = rest and not self.is_plain(rest) and self.removes(rest)
        return _lines_before(rest) if is_removed else rest

    def _feed_slowly(self, chunk: bytes) -> bytes:
        held = self._held
        held += chunk
        end = self._last_event_end(chunk)
        if not end:
            self._scanned = len(held)
            return self._give_up() if len(held) > self._limit_bytes else b""
        whole = bytes(held[:end])
        del held[:end]
        self._scanned = 0
        return self._shown(whole)

    def _last_event_end(self, chunk: bytes) -> int:
        """Return where the last complete event in the held bytes ends; 0: there is none."""
        start = max(self._scanned - _LONGEST + 1, 0)
        if b"\r" not in chunk and b"\r" not in self._held[start : self._scanned]:
            found = self._held.rfind(b"\n\n", start)
            return found + 2 if found >= 0 else 0
        end = 0
        for blank in BLANK_LINE.finditer(self._held, start):
            end = blank.end()
        return end

    def _shown(self, whole: bytes) -> bytes:
        """Return complete events without those to remove."""
        removed = False
        if not self.is_plain(whole):
            shown: list[bytes] = []
            at = 0
            for blank in BLANK_LINE.finditer(whole):
                event = whole[at : blank.end()]
                at = blank.end()
                removed = not self.is_plain(event) and self.removes(event)
                shown.append(_lines_before(event) if removed else event)
            shown.append(whole[at:])
        else:
            shown = [whole]
        if whole.endswith(b"\r") and not self._held:
            self._after_cr = b"" if removed else b"\n"
        return b"".join(shown)

    def _give_up(self) -> bytes:
        self._off = True
        rest = bytes(self._held)
        self._held.clear()
        return rest


def at_event_boundary(previous: bytes, last: bytes) -> bool:
    """
    Return whether forwarded bytes end between two events, so that an event may be added.

    Args:
        previous: The piece forwarded before the last, or nothing.
        last: The last piece forwarded. If both are empty, nothing was forwarded and an event may
            follow.
    """
    tail = (previous[-_LONGEST:] + last[-_LONGEST:])[-_LONGEST:]
    return not tail or _AT_END.search(tail) is not None


def decoded_event(event: bytes) -> Event | None:
    """Return the event, which may lack its blank line; None: it is a comment or not one event."""
    decoder = EventDecoder()
    try:
        decoded = [*decoder.feed(event), *decoder.end()]
    except GatewayError:
        return None
    return decoded[0] if len(decoded) == 1 else None


def _lines_before(event: bytes) -> bytes:
    """Return the empty lines before an event, which do not belong to it."""
    return event[: len(event) - len(event.lstrip(b"\r\n"))]
