"""
The gate of a relayed stream: its first events decide whether it is a response or an error.

Some upstreams return 200 and then report an error, for instance when they have no capacity, or end
without any content. As long as nothing was sent to the client, this can still become an HTTP error
or another attempt. So comments, incomplete events and events without content are held back; the
first content, finish reason or usage releases them unchanged.
"""

from __future__ import annotations

from typing import Final

from gateway.core.model import Usage, Wire
from gateway.errors import GatewayError
from gateway.protocols.codec.json_decode import BOM
from gateway.protocols.codec.sse import Event, EventDecoder
from gateway.protocols.streams.response_fields import read_anthropic_event, read_openai_chunk

HELD_BYTES: Final = 16 * 1024
"""Most bytes that are held back; beyond it the stream is released."""

_FIELDS: Final = (b"data:", b"event:")
_NOT_PLAIN: Final = (b'"content":""', b"error", b"[DONE]")


class FirstEventGate:
    """
    Holds back a stream's first bytes.

    Args:
        wire: The upstream's dialect.

    Attributes:
        is_open: Everything was released; `feed` must not be called again.
        error: The data of an error that came before any content.
        is_empty: The end mark came before any content.
    """

    __slots__ = (
        "_decoder",
        "_held",
        "_released",
        "_size",
        "_wire",
        "error",
        "is_empty",
        "is_open",
    )

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._decoder = EventDecoder()
        self._held: list[bytes] = []
        self._size = 0
        self._released = False
        self.is_open = False
        self.is_empty = False
        self.error: bytes | None = None

    def feed(self, chunk: bytes) -> bytes:
        """Return what may be sent now; nothing while the gate is closed or after an error."""
        if self._released:
            # After a keep-alive, a byte order mark would no longer be at the stream's start.
            self.is_open = True
            return chunk.removeprefix(BOM)
        if self._wire is Wire.OPENAI and not self._held and _is_plain(chunk):
            self.is_open = True
            return chunk
        self._held.append(chunk)
        head = chunk[: HELD_BYTES - self._size]
        self._size += len(chunk)
        # The first event of a read usually decides: the rest is decoded only if it does not.
        first = head.find(b"\n\n") + 2 if b"\n\n" in head else 0
        try:
            for part in (head[:first], head[first:]):
                ready = self._decide(self._decoder.feed(part)) if part else b""
                if self.is_open or self.is_empty or self.error is not None:
                    return ready
        except GatewayError:
            return self.release()
        return self.release() if self._size > HELD_BYTES else b""

    def end(self) -> bytes:
        """Return what may be sent at the body's end, including an unfinished event."""
        if self._released:
            return self.release()
        try:
            return self._decide(self._decoder.end())
        except GatewayError:
            return self.release()

    def release(self) -> bytes:
        """Return the held bytes and open the gate; if there are none, the next `feed` opens it."""
        held = b"".join(self._held)
        self._held.clear()
        self.is_open = self._released or bool(held)
        self._released = True
        return held

    def _decide(self, events: list[Event]) -> bytes:
        for event in events:
            if self.error is not None or self.is_empty:
                return b""
            if event.event == b"error":
                self.error = event.data
            elif self._has_content(event):
                return self.release()
        return b""

    def _has_content(self, event: Event) -> bool:
        """Return whether the event begins a response; set `error` and `is_empty`."""
        if self._wire is Wire.OPENAI:
            found = read_openai_chunk(event.data)
            has_usage = found is not None and found.usage is not None
        else:
            found = read_anthropic_event(event.data, Usage())
            has_usage = False  # the first event has it
        if found is None:
            return False
        if found.failed:
            self.error = event.data
        self.is_empty = found.end
        return bool(
            not (found.failed or found.end)
            and (found.content_bytes or found.alive or found.finish_reason or has_usage)
        )


def _is_plain(chunk: bytes) -> bool:
    """Return whether a first chunk begins with a whole event with text."""
    return (
        b'"content":"' in chunk
        and chunk.startswith(_FIELDS)
        and not any(mark in chunk for mark in _NOT_PLAIN)
        and b"\n\n" in chunk
    )
