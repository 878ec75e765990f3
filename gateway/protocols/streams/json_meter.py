"""Reads usage, finish reason and content of a response that is one JSON document; see `meter`."""

from __future__ import annotations

import msgspec

from gateway.core.model import Usage, Wire
from gateway.protocols.codec.json_decode import BOM
from gateway.protocols.codec.usage_bound import UNBOUNDED, UsageBound
from gateway.protocols.openai_chat.usage import settled_usage
from gateway.protocols.streams.event_fields import EventFields
from gateway.protocols.streams.meter import BYTES_PER_TOKEN, HELD_BYTES
from gateway.protocols.streams.refold import whole_body
from gateway.protocols.streams.response_fields import (
    read_anthropic_response,
    read_openai_response,
    read_scanned,
)
from gateway.protocols.streams.response_scan import ResponseScanner


class JsonMeter:
    """
    Meters one response that is a whole JSON document; decoded on first access.

    Args:
        wire: The upstream's dialect.
        held_bytes: Larger responses are scanned instead of kept until they are complete.
        reasoning_apart: See `Capabilities.reasoning_apart`.
        bound: Usage beyond it is unreadable.

    Attributes:
        contents: Grows with each chunk.
    """

    __slots__ = (
        "_apart", "_bound", "_chunks", "_found", "_held_bytes", "_scanner", "_size", "_wire",
        "contents",
    )  # fmt: skip

    content_ended = False
    restarted = False
    """Both are unknown before the document is complete."""

    def __init__(
        self,
        wire: Wire,
        held_bytes: int = HELD_BYTES,
        *,
        reasoning_apart: bool = False,
        bound: UsageBound = UNBOUNDED,
    ) -> None:
        self.contents = 0
        self._wire = wire
        self._apart = reasoning_apart
        self._bound = bound
        self._held_bytes = held_bytes
        self._scanner: ResponseScanner | None = None
        self._chunks: list[bytes] = []
        self._size = 0
        self._found: EventFields | None = None

    def feed(self, chunk: bytes) -> None:
        """Read the next bytes."""
        self.contents += 1
        self._found = None
        if self._scanner is not None:
            self._scanner.feed(chunk)
            return
        self._size += len(chunk)
        self._chunks.append(chunk)
        if self._size > self._held_bytes:
            self._scanner = self._scanned()
            self._chunks.clear()

    def end(self) -> None:
        """Mark the response as complete."""

    @property
    def has_message(self) -> bool:
        """Whether there is usage, a message and no error, so that the body need not be checked."""
        found = self._reading
        return found.usage is not None and not (found.failed or found.without_message)

    @property
    def usage(self) -> Usage:
        """The reported usage; zeros if there is none."""
        return self._reading.usage or Usage()

    @property
    def seen(self) -> bool:
        """Whether usage was reported."""
        return self._reading.usage is not None

    @property
    def reported(self) -> bool:
        """Whether usage was reported, so that `usage` can be billed."""
        return self._reading.usage is not None

    @property
    def raw_usage(self) -> bytes | None:
        """The usage object as the upstream wrote it."""
        return self._reading.raw_usage

    @property
    def unreadable_usage(self) -> bool:
        """Whether usage is impossible: beyond the bound, or see `read_openai_usage`."""
        return self._reading.unreadable_usage

    @property
    def finish_reason(self) -> str | None:
        """The finish reason in the upstream's spelling: `stop`, `end_turn`, ..."""
        return self._reading.finish_reason

    @property
    def saw_end(self) -> bool:
        """Whether the document is complete."""
        return self._reading.end

    @property
    def failed(self) -> bool:
        """Whether the response is an error."""
        return self._reading.failed

    def estimated_output_tokens(self) -> int:
        """Return an estimate of the output, reasoning included, by its bytes."""
        return -(-self._reading.content_bytes // BYTES_PER_TOKEN)

    def settled(self, input_tokens: int) -> Usage:
        """Return the usage to bill, as `StreamMeter.settled`."""
        usage, output_tokens = self._reading.usage, self.estimated_output_tokens()
        return settled_usage(
            usage or Usage(), usage is not None, input_tokens, output_tokens=output_tokens
        )

    @property
    def _reading(self) -> EventFields:
        if self._found is None:
            self._found = self._bounded(self._read())
        return self._found

    def _bounded(self, found: EventFields) -> EventFields:
        if found.usage is None or self._bound.allows(found.usage):
            return found
        # Where usage was read, the content was not measured.
        content = read_scanned(self._wire, self._scanner or self._scanned()).content_bytes
        return msgspec.structs.replace(
            found, usage=None, raw_usage=None, unreadable_usage=True, content_bytes=content
        )

    def _read(self) -> EventFields:
        if self._scanner is None:
            body = whole_body(self._wire, b"".join(self._chunks))
            if self._wire is Wire.OPENAI:
                found = read_openai_response(body, reasoning_apart=self._apart)
            else:
                found = read_anthropic_response(body)
            if found.end:
                return found
        scanner = self._scanner or self._scanned()
        return read_scanned(self._wire, scanner, reasoning_apart=self._apart)

    def _scanned(self) -> ResponseScanner:
        scanner = ResponseScanner(self._wire)
        for index, chunk in enumerate(self._chunks):
            scanner.feed(chunk if index else chunk.removeprefix(BOM))
        return scanner
