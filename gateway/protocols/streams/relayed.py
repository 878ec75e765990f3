"""Streams whose upstream speaks the client's API, and whole responses that are sent as they are."""

from __future__ import annotations

from gateway.core.model import Wire
from gateway.protocols.http.errors.upstream_errors import EarlyError, translate_error
from gateway.protocols.http.errors.upstream_faults import (
    STREAM_CUT,
    UpstreamFault,
    read_stream_fault,
)
from gateway.protocols.streams.first_event import FirstEventGate
from gateway.protocols.streams.usage_filter import UsageChunkFilter


class Unchanged:
    """Passes every byte on: the `StreamTransform` of a whole response."""

    __slots__ = ()

    keepalive = b""
    error_event = b""
    early_error: EarlyError | None = None
    done = False
    failed = False

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


class RelayedStream(Unchanged):
    """
    The `StreamTransform` of a relayed stream: unchanged from its first event on, except for the
    usage event that only the gateway requested.

    Args:
        wire: The API of both sides.
        model: The model's name as the client sent it, for an error.
        hides_usage: Remove the usage event.
    """

    __slots__ = ("_filter", "_gate", "_model", "_wire", "early_error")

    def __init__(self, wire: Wire, model: str, *, hides_usage: bool) -> None:
        self._wire = wire
        self._model = model
        self._gate: FirstEventGate | None = FirstEventGate(wire)
        self._filter = UsageChunkFilter() if hides_usage else None
        self.early_error: EarlyError | None = None

    def feed(self, chunk: bytes) -> bytes:
        """Return what the client gets of `chunk` and of what was held."""
        gate = self._gate
        if gate is not None:
            chunk = self._passed(gate, gate.feed(chunk))
        usage = self._filter
        return chunk if usage is None or not chunk else usage.feed(chunk)

    def release(self) -> bytes:
        """Return what was held although no event has come."""
        gate = self._gate
        return b"" if gate is None else self._filtered(self._passed(gate, gate.release()))

    def end(self, clean: bool, fault: UpstreamFault = STREAM_CUT) -> bytes:  # noqa: ARG002
        """Return the rest of a stream that is complete; of another drop half an event."""
        gate, rest = self._gate, b""
        if gate is not None and clean:
            rest = self._filtered(self._passed(gate, gate.end()))
        return rest if self._filter is None else rest + self._filter.end(clean)

    def _filtered(self, ready: bytes) -> bytes:
        return ready if self._filter is None or not ready else self._filter.feed(ready)

    def _passed(self, gate: FirstEventGate, ready: bytes) -> bytes:
        """Return what the gate let pass; drop the gate once it is open."""
        if gate.is_open:
            self._gate = None
        elif gate.error is not None and self.early_error is None:
            fault = read_stream_fault(self._wire, gate.error)
            response = translate_error(fault, self._wire, self._model)
            self.early_error = EarlyError(response.status, response.headers, response.body, fault)
        return ready
