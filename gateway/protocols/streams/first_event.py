"""
A relayed stream's opening: its first event decides whether it is an answer or an error.

Upstreams say 200 and then report an error first, when their engine is full. As long as nothing went
to the caller, that can still be an HTTP error, or another deployment's answer. So comments and
half an event wait here; the first event that is no error lets everything through as it came.
"""

from __future__ import annotations

from typing import Final

from gateway.core.model import Usage, Wire
from gateway.errors import GatewayError
from gateway.protocols.codec.sse import Event, EventDecoder
from gateway.protocols.streams.response_fields import read_anthropic_event, read_openai_chunk

HELD_BYTES: Final = 64 * 1024
"""Most that waits; beyond it the stream is let through."""

_FIELDS: Final = (b"data:", b"event:")


class FirstEventGate:
    """
    Holds a stream's first bytes.

    Args:
        wire: The upstream's dialect.

    Attributes:
        is_open: All was let through; `feed` is not to be called any more.
        error: The first event's data when it is an error.
    """

    __slots__ = ("_decoder", "_held", "_size", "_wire", "error", "is_open")

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._decoder = EventDecoder()
        self._held: list[bytes] = []
        self._size = 0
        self.is_open = False
        self.error: bytes | None = None

    def feed(self, chunk: bytes) -> bytes:
        """Return what may go to the caller now; nothing while it waits, and after an error."""
        if not self._held and _is_plain(chunk):
            self.is_open = True
            return chunk
        self._held.append(chunk)
        self._size += len(chunk)
        try:
            events = self._decoder.feed(chunk)
        except GatewayError:
            return self.release()
        return self._decide(events)

    def end(self) -> bytes:
        """Return what may go to the caller at the body's end; an unfinished event counts, too."""
        try:
            return self._decide(self._decoder.end())
        except GatewayError:
            return self.release()

    def release(self) -> bytes:
        """Let through what waits."""
        self.is_open = True
        held = b"".join(self._held)
        self._held.clear()
        return held

    def _decide(self, events: list[Event]) -> bytes:
        if self.error is not None:
            return b""
        if events and self._is_error(events[0]):
            self.error = events[0].data
            return b""
        return self.release() if events or self._size > HELD_BYTES else b""

    def _is_error(self, event: Event) -> bool:
        if event.event == b"error":
            return True
        if self._wire is Wire.OPENAI:
            found = read_openai_chunk(event.data)
        else:
            found = read_anthropic_event(event.data, Usage())
        return found is not None and found.failed


def _is_plain(chunk: bytes) -> bool:
    """Return whether a first chunk begins with a whole event that is no error."""
    return b"\n\n" in chunk and b"error" not in chunk and chunk.startswith(_FIELDS)
