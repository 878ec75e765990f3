"""
The translation of one call: its parameters, its results, and the translator of its stream.

Pure: no clock, no random numbers, no I/O. Ids and dates that a response needs are passed in.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from gateway.errors import GatewayError
from gateway.protocols.codec.sse import KEEPALIVES, EventDecoder
from gateway.protocols.codec.text_splice import TextSplice
from gateway.protocols.codec.usage_bound import UsageBound
from gateway.protocols.http.errors.upstream_errors import ErrorBeforeCommit, translate_error
from gateway.protocols.http.errors.upstream_faults import (
    STREAM_CUT,
    STREAM_MALFORMED,
    UpstreamFault,
)
from gateway.protocols.translate.capabilities import Capabilities
from gateway.protocols.translate.events import Phase, StreamReader, StreamWriter

FieldOutcome = Literal["map", "map or drop", "map or refuse", "drop", "ignore", "refuse"]
"""How a translation handles a field of the request."""


class TranslationRoute(msgspec.Struct, frozen=True):
    """The upstream side of one translation."""

    upstream_model: str
    """The model's name at the upstream."""
    caps: Capabilities
    max_output: int | None = None
    """The model's output limit in tokens; `caps.max_output_tokens` takes precedence."""

    @property
    def output_limit(self) -> int | None:
        """The highest output limit that may be sent; None: unknown."""
        return self.caps.max_output_tokens or self.max_output


class ResponseContext(msgspec.Struct, frozen=True, kw_only=True):
    """The properties of a request that the translation of its response needs."""

    model: str
    """The model's name as the client sent it; every body, chunk and error contains it."""
    tool_names: dict[str, str] = {}
    """Shortened tool name -> the client's own; only names that had to change."""
    history_ids: frozenset[str] = frozenset()
    """Tool-call ids in the client's history, which new calls must not repeat."""
    stop_sequences: tuple[str, ...] = ()
    include_usage: bool = False
    """An OpenAI client requested a usage chunk (`stream_options.include_usage`)."""
    stream: bool = False
    created: int = 0
    """Unix seconds for OpenAI's `created`; set per call, 0 in `TranslatedRequest`."""
    input_estimate: int = 0
    """
    Input tokens for `message_start`, before the upstream reports them; 0: unknown.

    Agents display the context's size by it. The counts at the end are the upstream's.
    """


class TranslatedRequest(msgspec.Struct, frozen=True):
    """A request for the upstream. The same history gives the same bytes."""

    body: bytes
    dropped: tuple[str, ...]
    """Fields that were dropped and could have had an effect, in a fixed order, each once."""
    context: ResponseContext


class StreamTranslator:
    """
    Translates the upstream's stream of one call to the client's, one network chunk at a time.

    `feed`, `end` and `expire_after_finish` return the bytes to write now, possibly `b""`. They
    never raise: an upstream's fault becomes an error in the client's dialect, or
    `error_before_commit` if nothing has been written.

    Args:
        reader: Reads the upstream's wire; calls `writer`.
        writer: Writes the client's wire.
    """

    __slots__ = (
        "_decoder", "_error_before_commit", "_error_event", "_failed", "_reader", "_splice",
        "_writer",
    )  # fmt: skip

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._decoder = EventDecoder()
        self._reader = reader
        self._writer = writer
        self._splice = TextSplice()
        self._failed = False
        self._error_before_commit: ErrorBeforeCommit | None = None
        self._error_event = b""

    def bound_usage(self, bound: UsageBound) -> None:
        """Show no usage beyond `bound`, as none is charged."""
        self._reader.bound_usage(bound)

    def feed(self, chunk: bytes) -> bytes:
        """Return the client's bytes for one network chunk, split anywhere."""
        splice = self._splice
        if splice.active:
            out = splice.splice(chunk)
            if out is not None:
                return out
            self._reader.skipped(splice.last)
        out = self._translate(chunk)
        if self._writer.repeats_text:
            steady = self._reader.phase is Phase.STREAMING and self._decoder.at_boundary
            splice.observe(chunk, self._reader.passed_text if steady else "", out)
        return out

    def _translate(self, chunk: bytes) -> bytes:
        if self._reader.phase is Phase.DONE:
            return b""
        reader = self._reader
        try:
            for event in self._decoder.feed(chunk):
                fault = reader.take(event)
                if fault is not None:
                    self._fail(fault)
                if reader.phase is Phase.DONE:
                    break
        except GatewayError:
            self._fail(STREAM_MALFORMED)
        return self._writer.take()

    def end(self, clean: bool, fault: UpstreamFault = STREAM_CUT) -> bytes:
        """
        Return the client's last bytes at the end of the upstream's body.

        Args:
            clean: False if the body was cut off.
            fault: The error for the client if the response is not complete.
        """
        if self._reader.phase is Phase.DONE:
            return b""
        if clean:
            self._take_unfinished()
        if self._reader.phase is Phase.FINISHED:
            self._reader.end()
        elif not self.done:
            self._fail(fault)
        return self._writer.take()

    def expire_after_finish(self) -> bytes:
        """
        Complete a stream that is silent after its finish reason; without one return `b""`.

        For a timer that expires 5 s after the last byte if `finish_seen` and not `done`.
        """
        if self._reader.phase is Phase.FINISHED:
            self._reader.end()
        return self._writer.take()

    def release(self) -> bytes:
        """Return nothing: no bytes are held back."""
        return b""

    @property
    def keepalive(self) -> bytes:
        """An event that the client ignores."""
        return KEEPALIVES[self._writer.wire]

    @property
    def started(self) -> bool:
        """Whether the first event was written, so that the response head may be sent (200)."""
        return self._reader.phase is not Phase.WAITING and self._error_before_commit is None

    @property
    def error_before_commit(self) -> ErrorBeforeCommit | None:
        """An error before anything was written, for an HTTP error unless the head was sent."""
        return self._error_before_commit

    @property
    def error_event(self) -> bytes:
        """
        The early error as the last event of a stream in the client's dialect; `b""` without one.

        For a stream whose head was sent while only comments had arrived.
        """
        return self._error_event

    @property
    def finish_seen(self) -> bool:
        """Whether the finish reason was received; only usage and the end may be missing."""
        return self._reader.phase is Phase.FINISHED or (self.done and not self._failed)

    @property
    def done(self) -> bool:
        """Whether the stream completed or failed; the rest is read and discarded."""
        return self._reader.phase is Phase.DONE

    def wrote_end(self, upstream_ended: bool) -> bool:  # noqa: ARG002 # its usage may be missing
        """Return whether the client's last event was returned."""
        return self._reader.phase is Phase.DONE

    @property
    def failed(self) -> bool:
        """Whether the stream ended in an error, early or in-band."""
        return self._failed

    def _take_unfinished(self) -> None:
        # The body may lack the blank line after its last event; a truncated event is dropped.
        try:
            for event in self._decoder.end():
                fault = self._reader.take(event)
                if fault is not None:
                    self._fail(fault)
        except GatewayError:
            return

    def _fail(self, fault: UpstreamFault) -> None:
        self._writer.error(fault, self._reader.usage())
        if self._reader.phase is Phase.WAITING:
            response = translate_error(fault, self._writer.wire, self._writer.model)
            self._error_before_commit = ErrorBeforeCommit(
                response.status, response.headers, response.body, fault
            )
            self._error_event = self._writer.take()
        self._failed = True
        self._reader.phase = Phase.DONE
