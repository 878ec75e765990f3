"""
Meters: read usage, finish reason and signs of life from an answer that passes by.

Theory. Nearly every chunk of a stream is whole events of plain content, and the meter must cost
next to nothing there. So it first compares a chunk with the framing of the events before
(`Framing`); if that differs, a few byte searches decide whether the chunk can hold anything worth
reading: quotes inside of JSON strings are escaped, so `"usage"` with both its quotes is never a
quotation. Only what might matter is decoded.

Rules.

* A meter changes nothing and never fails: what it cannot read it does not count.
* Any split of the bytes gives the same usage. What ends inside of an event goes through the
  decoder, which holds at most 8 MiB; beyond it the meter goes blind.
* On the OpenAI wire the last usage that is not null wins; on the Anthropic wire members that are
  not null replace earlier ones: they are cumulative.
* Estimates are for streams whose usage never comes: bytes of content, without framing, by four.
"""

from __future__ import annotations

from typing import Final

from gateway.core.model import Usage, Wire
from gateway.errors import GatewayError
from gateway.protocols.codec.sse import LIMIT_BYTES, Event, EventDecoder
from gateway.protocols.streams.chunk_template import NO_FRAMING, common_framing
from gateway.protocols.streams.response_fields import (
    Reading,
    read_anthropic_answer,
    read_anthropic_event,
    read_openai_answer,
    read_openai_chunk,
)

BYTES_PER_TOKEN: Final = 4

_LEARN_BYTES: Final = 4096
_BLANK_LINES: Final = (b"\n\n", b"\r\n\r\n")


class StreamMeter:
    """
    Meters one stream of events.

    Args:
        wire: The upstream's dialect.

    Attributes:
        contents: Grows with each piece of content; comments, pings and empty deltas do not count.
        usage: What the upstream reported so far; zeros before.
        seen: Any usage was reported, on the Anthropic wire the input's at the start.
        reported: The output's usage was reported: `usage` can be billed.
        raw_usage: The last usage object as the upstream wrote it.
        unreadable_usage: A usage object came that cannot be true, see `usage_numbers`.
        finish_reason: As the upstream named it: `stop`, `end_turn`, ...
        saw_end: The wire's last event came: `[DONE]`, `message_stop`.
        failed: The upstream reported an error inside of the stream.
    """

    __slots__ = (
        "_blind",
        "_content_bytes",
        "_decoder",
        "_framing",
        "_framing_bytes",
        "_misses",
        "_plain",
        "_previous",
        "_quick",
        "_wire",
        "contents",
        "failed",
        "finish_reason",
        "raw_usage",
        "reported",
        "saw_end",
        "seen",
        "unreadable_usage",
        "usage",
    )

    def __init__(self, wire: Wire) -> None:
        self.contents = 0
        self.usage = Usage()
        self.seen = False
        self.reported = False
        self.raw_usage: bytes | None = None
        self.unreadable_usage = False
        self.finish_reason: str | None = None
        self.saw_end = False
        self.failed = False
        self._wire = wire
        self._plain = _plain_openai if wire is Wire.OPENAI else _plain_anthropic
        self._decoder = EventDecoder()
        self._quick = False  # content has begun and nothing waits: the byte searches suffice
        self._blind = False
        self._framing = NO_FRAMING
        self._framing_bytes = -1  # of an event whose framing was not compared; -1: not yet known
        self._previous = b""
        self._misses = 0  # plain chunks since the framing last fitted
        self._content_bytes = 0

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the stream; under 1 us for the usual whole chunk."""
        if not self._quick or not chunk.endswith(_BLANK_LINES):
            self._feed_slowly(chunk)
        elif not self._skipped(chunk):
            self._read_all(chunk)

    def end(self) -> None:
        """Learn that the stream is over; reads what it left unfinished."""
        if not self._blind:
            self._read_all(b"", last=True)

    def estimated_output_tokens(self) -> int:
        """Return a guess of the output so far, reasoning included, from its bytes."""
        return -(-self._content_bytes // BYTES_PER_TOKEN)

    def settled(self, input_tokens: int) -> Usage:
        """
        Return what to bill: the reported usage, or what is known of it completed by estimates.

        Args:
            input_tokens: An estimate of the whole input, used if the upstream reported none.
        """
        return _settled(
            self.usage, self.reported, input_tokens, output_tokens=self.estimated_output_tokens()
        )

    def _skipped(self, events: bytes) -> bool:
        """Count whole events after the first content, if there is nothing in them to read."""
        framing = self._framing
        count = framing.events(events)
        if count:
            self._misses = 0
            self.contents += count
            self._content_bytes += len(events) - count * framing.size
            return True
        count = self._plain(events)
        if count < 0:
            return False
        self._count(count, len(events))
        self._learn(events)
        return True

    def _feed_slowly(self, chunk: bytes) -> None:
        """Decode what is cut, and between the cuts only what cannot be skipped."""
        if self._blind:
            self.contents += 1
            return
        decoder = self._decoder
        start = 0
        if not decoder.at_boundary:
            start = _after(chunk.find(b"\n\n"), otherwise=len(chunk))
            self._read_all(chunk[:start])
        end = max(_after(chunk.rfind(b"\n\n"), otherwise=start), start)
        whole, rest = chunk[start:end], chunk[end:]
        if whole and not (self.contents and self._skipped(whole)):
            self._read_all(whole)
        if rest:
            self._read_all(rest)
        self._quick = self.contents > 0 and not self._blind and decoder.at_boundary

    def _read_all(self, chunk: bytes, *, last: bool = False) -> None:
        try:
            events = self._decoder.end() if last else self._decoder.feed(chunk)
        except GatewayError:
            self._blind = True
            self._quick = False
            self.contents += 1
            return
        for event in events:
            size = len(event.data) + (8 if event.event is None else len(event.event) + 16)
            skippable = len(events) > 1 and self.contents and event.event != b"error"
            count = self._plain(event.data + b"\n\n") if skippable else -1
            if count < 0:
                self._read(event, size)
            else:
                self._count(count, size)

    def _read(self, event: Event, size: int) -> None:
        if event.event == b"error":
            self.failed = True
        if self._wire is Wire.OPENAI:
            found = read_openai_chunk(event.data)
        else:
            found = read_anthropic_event(event.data, self.usage)
        if found is None:
            return
        self._keep(found)
        if found.content_bytes:
            if self._framing_bytes < 0:
                self._framing_bytes = size - found.content_bytes
            self._count(1, size)
        elif found.alive:
            self.contents += 1

    def _keep(self, found: Reading) -> None:
        if found.usage is not None:
            self.usage = found.usage
            self.raw_usage = found.raw_usage
            self.seen = True
            self.reported = self.reported or found.final_usage
        self.unreadable_usage = self.unreadable_usage or found.unreadable_usage
        self.finish_reason = found.finish_reason or self.finish_reason
        self.saw_end = self.saw_end or found.end
        self.failed = self.failed or found.failed

    def _count(self, events: int, size: int) -> None:
        if events:
            self.contents += events
            self._content_bytes += max(size - events * max(self._framing_bytes, 0), events)

    def _learn(self, events: bytes) -> None:
        """Look for the framing in the last event, ever more rarely while there is none."""
        self._misses = misses = self._misses + 1
        if misses & (misses - 1):
            return
        event = events[_after(events.rfind(b"\n\n", 0, -2), otherwise=0) :]
        if len(event) <= _LEARN_BYTES:
            framing = common_framing(self._previous, event)
            if framing is not None:
                self._framing = framing
                self._framing_bytes = framing.size
            self._previous = event


class JsonMeter:
    """
    Meters one answer that is a whole JSON document; read when it is asked for something.

    Args:
        wire: The upstream's dialect.

    Attributes:
        contents: Grows with each chunk.
    """

    __slots__ = ("_chunks", "_found", "_size", "_wire", "contents")

    def __init__(self, wire: Wire) -> None:
        self.contents = 0
        self._wire = wire
        self._chunks: list[bytes] = []
        self._size = 0
        self._found: Reading | None = None

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes; beyond 8 MiB nothing is kept and nothing will be found."""
        self.contents += 1
        self._found = None
        self._size += len(chunk)
        if self._size <= LIMIT_BYTES:
            self._chunks.append(chunk)
        else:
            self._chunks.clear()

    def end(self) -> None:
        """Learn that the answer is complete."""

    @property
    def usage(self) -> Usage:
        """What the upstream reported; zeros if nothing."""
        return self._reading.usage or Usage()

    @property
    def seen(self) -> bool:
        """Usage was reported."""
        return self._reading.usage is not None

    @property
    def reported(self) -> bool:
        """Usage was reported: `usage` can be billed."""
        return self.seen

    @property
    def raw_usage(self) -> bytes | None:
        """The usage object as the upstream wrote it."""
        return self._reading.raw_usage

    @property
    def unreadable_usage(self) -> bool:
        """A usage object came that cannot be true, see `usage_numbers`."""
        return self._reading.unreadable_usage

    @property
    def finish_reason(self) -> str | None:
        """As the upstream named it: `stop`, `end_turn`, ..."""
        return self._reading.finish_reason

    @property
    def saw_end(self) -> bool:
        """The document is complete."""
        return self._reading.end

    @property
    def failed(self) -> bool:
        """It is an error."""
        return self._reading.failed

    def estimated_output_tokens(self) -> int:
        """Return a guess of the output, reasoning included, from its bytes."""
        return -(-self._reading.content_bytes // BYTES_PER_TOKEN)

    def settled(self, input_tokens: int) -> Usage:
        """Return what to bill, as `StreamMeter.settled`."""
        return _settled(
            self.usage, self.reported, input_tokens, output_tokens=self.estimated_output_tokens()
        )

    @property
    def _reading(self) -> Reading:
        if self._found is None:
            read = read_openai_answer if self._wire is Wire.OPENAI else read_anthropic_answer
            self._found = read(b"".join(self._chunks))
        return self._found


def _settled(usage: Usage, reported: bool, input_tokens: int, *, output_tokens: int) -> Usage:
    if reported:
        return usage
    known = usage.input + usage.cache_read + usage.cache_write
    return Usage(
        input=usage.input if known else input_tokens,
        cache_read=usage.cache_read,
        cache_write=usage.cache_write,
        output=max(usage.output, output_tokens - usage.reasoning),
        reasoning=usage.reasoning,
    )


def _after(blank_line_at: int, *, otherwise: int) -> int:
    return blank_line_at + 2 if blank_line_at >= 0 else otherwise


def _plain_openai(chunk: bytes) -> int:
    """Return the number of content events in whole events; -1: something in them must be read."""
    if b'"usage"' in chunk and chunk.count(b'"usage"') != (
        chunk.count(b'"usage":null') or chunk.count(b'"usage": null')
    ):
        return -1
    if (
        b'reason":"' in chunk
        or b'reason": "' in chunk
        or b'"error"' in chunk
        or b"[DONE]" in chunk
        or b"event:" in chunk
    ):
        return -1
    if chunk[0] == 0x3A and b"\ndata:" not in chunk:  # only comments
        return 0
    return chunk.count(b"\n\n") or chunk.count(b"\r\n\r\n")


def _plain_anthropic(chunk: bytes) -> int:
    """Return as `_plain_openai`."""
    if b'"message_' in chunk or b'"error"' in chunk or b"event: error" in chunk:
        return -1
    count = chunk.count(b'"content_block_delta"')
    # With a ping or the end of a block among them, only the events themselves tell their sizes.
    return count if count == (chunk.count(b"\n\n") or chunk.count(b"\r\n\r\n")) else -1
