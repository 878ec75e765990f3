"""
The gate of a relayed stream: its first event decides whether it is a response or an error.

Some upstreams return 200 and then report an error first, for instance when their engine is full.
Until anything is sent to the client, that can still become an HTTP error or another attempt. So
comments and incomplete events are held; the first event that is no error releases them unchanged.
"""

from __future__ import annotations

from typing import Final

from gateway.core.model import Usage, Wire
from gateway.errors import GatewayError
from gateway.protocols.codec.sse import Event, EventDecoder
from gateway.protocols.streams.response_fields import read_anthropic_event, read_openai_chunk

HELD_BYTES: Final = 64 * 1024
"""Most bytes that are held; beyond it the stream is released."""

_FIELDS: Final = (b"data:", b"event:")


class FirstEventGate:
    """
    Holds a stream's first bytes.

    Args:
        wire: The upstream's dialect.

    Attributes:
        is_open: All was released; `feed` must not be called any more.
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
        """Return what may be sent now; nothing while the gate is closed or after an error."""
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
        """Return what may be sent at the body's end; an unfinished event counts, too."""
        try:
            return self._decide(self._decoder.end())
        except GatewayError:
            return self.release()

    def release(self) -> bytes:
        """Open the gate and return what was held."""
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
