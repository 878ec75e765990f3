"""Transforms for responses in the client's API: relayed streams, and whole responses."""

from __future__ import annotations

from typing import Final

from gateway.core.model import Endpoint, Usage, Wire
from gateway.errors import GatewayError
from gateway.protocols.codec.event_filter import BLANK_LINES, EventFilter, decoded_event
from gateway.protocols.codec.json_decode import BOM
from gateway.protocols.codec.sse import KEEPALIVES
from gateway.protocols.http.errors.response_faults import read_response_fault
from gateway.protocols.http.errors.upstream_errors import ErrorBeforeCommit, error_before_commit
from gateway.protocols.http.errors.upstream_faults import (
    STREAM_CUT,
    STREAM_EMPTY,
    UpstreamFault,
    read_stream_fault,
)
from gateway.protocols.openai_chat.usage_filter import UsageChunkFilter
from gateway.protocols.streams.first_event import FirstEventGate
from gateway.protocols.streams.refold import begins_stream, folded
from gateway.protocols.streams.response_fields import read_anthropic_event
from gateway.protocols.streams.stream_errors import MARK, ErrorEvents, with_own_errors


class Unchanged:
    """Forwards every byte: the `StreamTransform` of a whole response."""

    __slots__ = ()

    keepalive = b""
    error_event = b""
    error_before_commit: ErrorBeforeCommit | None = None
    done = False
    failed = False

    def wrote_end(self, upstream_ended: bool) -> bool:
        """Return whether the upstream's last event was fed: it is the client's, too."""
        return upstream_ended

    def feed(self, chunk: bytes) -> bytes:
        """Return `chunk`."""
        return chunk

    def release(self) -> bytes:
        """Return nothing: nothing is held."""
        return b""

    def expire_after_finish(self) -> bytes:
        """Return nothing: the client's stream is the upstream's."""
        return b""

    def end(self, clean: bool, fault: UpstreamFault = STREAM_CUT) -> bytes:  # noqa: ARG002
        """Return nothing: nothing is held."""
        return b""


HELD_BYTES: Final = 64 * 1024
_START: Final = b'"message_start"'
"""In the first event of a Messages stream; in text the quotes are escaped."""


class HeldBody(Unchanged):
    """
    The `StreamTransform` of a whole response of unknown length.

    The beginning is held back: until it is sent, an error in it can still become an HTTP error or
    another attempt. A stream is held back to its end and converted to a whole response.

    Args:
        wire: The API of both sides.
        endpoint: The operation.
        model: The model's name as the client sent it, for an error.
    """

    __slots__ = ("_endpoint", "_held", "_model", "_wire", "error_before_commit")

    def __init__(self, wire: Wire, endpoint: Endpoint, model: str) -> None:
        self._wire = wire
        self._endpoint = endpoint
        self._model = model
        self._held: bytearray | None = bytearray()
        self.error_before_commit: ErrorBeforeCommit | None = None

    def feed(self, chunk: bytes) -> bytes:
        """Return the body so far once it is large."""
        held = self._held
        if held is None:
            return chunk
        held += chunk
        if len(held) <= HELD_BYTES or begins_stream(bytes(held[:64])):
            return b""
        return self.release()

    def release(self) -> bytes:
        """Return the held bytes."""
        held, self._held = self._held, None
        return bytes(held or b"")

    def end(self, clean: bool, fault: UpstreamFault = STREAM_CUT) -> bytes:  # noqa: ARG002
        """Return the held bytes if the response is complete and has content."""
        if self._held is None or not clean:
            return b""
        body = self.release()
        if begins_stream(body):
            try:
                body = folded(self._wire, body)
            except GatewayError:
                body = b""
        body = body.removeprefix(BOM)
        found = read_response_fault(self._wire, self._endpoint, body)
        if found is None:
            return body
        self.error_before_commit = error_before_commit(found, self._wire, self._model)
        return b""


class RestartFilter(EventFilter):
    """Ends a Messages stream before the start of a second response."""

    __slots__ = ("_begun", "_over")

    def __init__(self) -> None:
        super().__init__()
        self._begun = self._over = False

    @property
    def idle(self) -> bool:
        """Whether nothing is held and all before was forwarded."""
        return super().idle and not self._over

    def is_plain(self, events: bytes) -> bool:
        """Return whether no event can begin a response, without decoding."""
        return events.find(_START) < 0 and not self._over

    def removes(self, event: bytes) -> bool:
        """Return whether the event begins a second response, or is after such a start."""
        decoded = None if self._over else decoded_event(event)
        found = None if decoded is None else read_anthropic_event(decoded.data, Usage())
        if found is not None and found.start:
            self._over, self._begun = self._begun, True
        return self._over


class RelayedStream(Unchanged):
    """
    The `StreamTransform` of a relayed stream: unchanged from its first event on, with exceptions.

    The usage event that only the gateway requested is removed, and so is everything from the start
    of a second response on, which the meter also detects, so that the relay ends with an error.
    Errors about the operator's account are replaced.

    Args:
        wire: The API of both sides.
        model: The model's name as the client sent it, for an error.
        hides_usage: Remove the usage event.
    """

    __slots__ = (
        "_filter",
        "_gate",
        "_is_quick",
        "_model",
        "_wire",
        "error_before_commit",
        "keepalive",
    )

    def __init__(self, wire: Wire, model: str, *, hides_usage: bool) -> None:
        self._wire = wire
        self.keepalive = KEEPALIVES[wire]
        self._model = model
        self._gate: FirstEventGate | None = FirstEventGate(wire)
        self._is_quick = False
        self._filter: EventFilter | ErrorEvents
        if wire is Wire.ANTHROPIC:
            self._filter = RestartFilter()
        elif hides_usage:
            self._filter = UsageChunkFilter()
        else:
            self._filter = ErrorEvents()
        self.error_before_commit: ErrorBeforeCommit | None = None

    def feed(self, chunk: bytes) -> bytes:
        """Return the bytes for the client from `chunk` and from held bytes."""
        # Nearly every read: whole events, none of which is an error or begins a response.
        # `find` is faster than `in`.
        if (
            self._is_quick
            and chunk.find(MARK) < 0
            and chunk.find(_START) < 0
            and chunk.endswith(BLANK_LINES)
        ):
            return chunk
        gate = self._gate
        if gate is not None:
            chunk = self._passed(gate, gate.feed(chunk))
        shown = self._filtered(chunk)
        events = self._filter
        self._is_quick = (
            self._gate is None and events.idle and not isinstance(events, UsageChunkFilter)
        )
        return shown

    def release(self) -> bytes:
        """Return the held bytes although no event has arrived."""
        gate = self._gate
        return b"" if gate is None else self._filtered(self._passed(gate, gate.release()))

    def end(self, clean: bool, fault: UpstreamFault = STREAM_CUT) -> bytes:  # noqa: ARG002
        """Return the rest of the stream; if it is incomplete, without its unfinished event."""
        gate, rest = self._gate, b""
        if gate is not None and clean:
            rest = self._filtered(self._passed(gate, gate.end()))
            if not gate.is_open and self.error_before_commit is None:
                self.error_before_commit = error_before_commit(
                    STREAM_EMPTY, self._wire, self._model
                )
        last = self._filter.end(clean)
        return rest + with_own_errors(last, self._wire, self._model, is_end=True)

    def _filtered(self, ready: bytes) -> bytes:
        return self._fixed(self._filter.feed(ready)) if ready else ready

    def _fixed(self, shown: bytes) -> bytes:
        if shown.find(MARK) < 0:
            return shown
        return with_own_errors(shown, self._wire, self._model)

    def _passed(self, gate: FirstEventGate, ready: bytes) -> bytes:
        """Return the bytes that the gate released; remove the gate once it is open."""
        if gate.is_open:
            self._gate = None
        elif gate.error is not None and self.error_before_commit is None:
            fault = read_stream_fault(self._wire, gate.error)
            self.error_before_commit = error_before_commit(fault, self._wire, self._model)
        elif gate.is_empty and self.error_before_commit is None:
            self.error_before_commit = error_before_commit(STREAM_EMPTY, self._wire, self._model)
        return ready
