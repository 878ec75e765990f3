"""
Meters: they read usage, finish reason and the amount of content from a response in transit.

Theory. Nearly every chunk of a stream consists of whole events of plain content, where the meter
must cost next to nothing. So it first compares a chunk with the bytes that earlier events share
(`ChunkTemplate`). If they differ, a few byte searches decide whether the chunk must be decoded:
quotes inside JSON strings are escaped, so `"usage"` with both its quotes is never inside a string.

Rules.

* A meter changes nothing and never fails: what it cannot read is not counted.
* Any split of the bytes gives the same usage. A chunk that ends inside an event is decoded. Events
  and responses beyond 1 MiB are scanned in pieces (`ResponseScanner`).
* On the OpenAI wire the last usage that is not null counts; on the Anthropic wire members that are
  not null replace earlier ones, since they are cumulative. On both, a zero replaces nothing.
* Usage with only zeros is no usage: some upstreams send it until the end.

What is billed if no usage is reported, or only a part of it:

| case | input | output |
| --- | --- | --- |
| no usage at all | the given estimate | bytes of content divided by 4, of all choices |
| Anthropic, cut off after `message_start` | as reported | the same, at least as reported so far |
| usage in every chunk, cut off | as last reported | as last reported, reasoning included |
| reasoning that is shown, or sent encrypted | | its bytes, weighted as in `content_size` |
| reasoning that is neither sent nor reported | | unknown: 0; the pipeline waits for the report |
| log probabilities, citations, results of tools | | nothing |
| images and audio | | one token per 512 bytes of base64 |
| whole response that was cut off | as reported if usage came first | the content received |
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from gateway.core.model import Usage, Wire
from gateway.protocols.codec.sse import Event, EventDecoder
from gateway.protocols.codec.usage_bound import UNBOUNDED, UsageBound
from gateway.protocols.openai_chat.usage import laid_over, settled_usage
from gateway.protocols.streams.chunk_template import (
    NO_TEMPLATE,
    common_template,
    none_is_plain,
    plain_anthropic,
    plain_openai,
)
from gateway.protocols.streams.event_fields import EventFields
from gateway.protocols.streams.response_fields import (
    read_anthropic_event,
    read_openai_chunk,
    read_scanned,
)
from gateway.protocols.streams.response_scan import ResponseScanner

BYTES_PER_TOKEN: Final = 4
HELD_BYTES: Final = 1024 * 1024
"""Most bytes of an event or a whole response that a meter keeps."""

_LEARN_BYTES: Final = 4096
_BLANK_LINES: Final = (b"\n\n", b"\r\n\r\n")


class StreamMeter:
    """
    Meters one stream of events.

    Args:
        wire: The upstream's dialect.
        reasoning_apart: See `Capabilities.reasoning_apart`.
        bound: Usage beyond it is unreadable.

    Attributes:
        contents: Grows with each piece of content; comments, pings and empty deltas do not count.
        usage: The usage reported so far; zeros before.
        seen: Any usage was reported, such as the input's at the start of an Anthropic stream.
        reported: The output's usage was reported, so `usage` can be billed.
        raw_usage: The last usage object as the upstream wrote it.
        unreadable_usage: A usage object was impossible: beyond `bound`, or see
            `read_openai_usage`.
        finish_reason: In the upstream's spelling: `stop`, `end_turn`, ...
        saw_end: The wire's last event was received: `[DONE]`, `message_stop`.
        failed: The upstream reported an error inside the stream.
        restarted: A second response began before the first had ended.
    """

    __slots__ = (
        "_apart", "_block_ended_at", "_bound", "_content_bytes", "_decoder", "_large", "_misses",
        "_plain", "_previous", "_quick", "_template", "_template_bytes", "_wire", "contents",
        "failed", "finish_reason", "raw_usage", "reported", "restarted", "saw_end", "seen",
        "unreadable_usage", "usage",
    )  # fmt: skip

    def __init__(
        self, wire: Wire, *, reasoning_apart: bool = False, bound: UsageBound = UNBOUNDED
    ) -> None:
        self.contents = 0
        self.usage = Usage()
        self.seen = False
        self.reported = False
        self.raw_usage: bytes | None = None
        self.unreadable_usage = False
        self.finish_reason: str | None = None
        self.saw_end = False
        self.failed = self.restarted = False
        self._wire = wire
        self._apart = reasoning_apart
        self._bound = bound
        self._plain: Callable[[bytes], int] = (
            plain_openai if wire is Wire.OPENAI else plain_anthropic
        )
        self._decoder = EventDecoder(HELD_BYTES, splits_large=True)
        self._large: ResponseScanner | None = None  # reads an event that is too large to keep
        self._quick = False  # content has begun and no event is incomplete: byte searches suffice
        self._block_ended_at = -1  # `contents` when a block of content ended
        self._template = NO_TEMPLATE
        self._template_bytes = -1  # framing of an event that no template matched; -1: unknown
        self._previous = b""
        self._misses = 0  # plain chunks since the template last matched
        self._content_bytes = 0

    def feed(self, chunk: bytes) -> None:
        """Read the next bytes of the stream; takes under 1 us for a chunk of whole events."""
        if not self._quick:
            self._feed_slowly(chunk)
            return
        # Nearly every read of most streams: one plain event. No call is made for it.
        template, size = self._template, len(chunk)
        if (
            size > template.size
            and chunk.endswith(template.suffix)
            and chunk.startswith(template.prefix)
            and chunk.find(b"\n", template.start, size - template.size + template.start) < 0
        ):
            self._misses = 0
            self.contents += 1
            self._content_bytes += size - template.size
        elif not chunk.endswith(_BLANK_LINES):
            self._feed_slowly(chunk)
        elif not self._skipped(chunk):
            self._read_all(chunk)

    def end(self) -> None:
        """Read the unfinished event at the end of the stream, if any."""
        self._read_all(b"", last=True)

    def estimated_output_tokens(self) -> int:
        """Return an estimate of the output so far, reasoning included, by its bytes."""
        large = self._large.content_bytes if self._large is not None else 0
        return -(-(self._content_bytes + large) // BYTES_PER_TOKEN)

    @property
    def content_ended(self) -> bool:
        """Whether, as far as is known, only usage and the end are missing."""
        is_named = self.finish_reason is not None or self.saw_end
        return is_named or self._block_ended_at == self.contents

    def settled(self, input_tokens: int) -> Usage:
        """
        Return the usage to bill: the reported one, completed by estimates if necessary.

        Args:
            input_tokens: An estimate of the whole input, used if the upstream reported none.
        """
        return settled_usage(
            self.usage, self.reported, input_tokens, output_tokens=self.estimated_output_tokens()
        )

    def _skipped(self, events: bytes) -> bool:
        # Count whole events after the first content, unless there is something in them to read.
        template = self._template
        count = template.events(events)
        if count:
            self._misses = 0
            self.contents += count
            self._content_bytes += len(events) - count * template.size
            return True
        count = self._plain(events)
        if count < 0:
            return False
        self._count(count, len(events))
        self._learn(events)
        return True

    def _feed_slowly(self, chunk: bytes) -> None:
        # Decode incomplete events, and of the events between them those that cannot be skipped.
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
        self._quick = self.contents > 0 and decoder.at_boundary

    def _read_all(self, chunk: bytes, *, last: bool = False) -> None:
        events = self._decoder.end() if last else self._decoder.feed(chunk)
        if self._decoder.large:
            for data in self._decoder.large:
                self._take_large(data)
            self._decoder.large.clear()
        for event in events:
            size = len(event.data) + (8 if event.event is None else len(event.event) + 16)
            skippable = len(events) > 1 and self.contents and event.event != b"error"
            skippable = skippable and size <= _LEARN_BYTES
            count = self._plain(event.data + b"\n\n") if skippable else -1
            if count < 0:
                self._read(event, size)
            else:
                self._count(count, size)

    def _take_large(self, data: bytes | None) -> None:
        # Scan the next bytes of an event that is too large to keep; None: its end.
        if self._large is None:
            self._large = ResponseScanner(self._wire)
        if data is not None:
            self.contents += 1
            self._large.feed(data)
            return
        found = read_scanned(self._wire, self._large, reasoning_apart=self._apart)
        self._large = None
        self._content_bytes += found.content_bytes
        if self._wire is Wire.OPENAI:  # on the other wire, no large event has these fields
            self._keep(msgspec.structs.replace(found, end=False))

    def _read(self, event: Event, size: int) -> None:
        if event.event == b"error":
            self.failed = True
        if self._wire is Wire.OPENAI:
            found = read_openai_chunk(event.data, reasoning_apart=self._apart)
        else:
            found = read_anthropic_event(event.data, self.usage)
        if found is None or (found.start and self.saw_end):
            return
        self.restarted = self.restarted or (found.start and (self.seen or self.contents > 0))
        self._keep(found)
        if found.content_bytes:
            if self._template_bytes < 0:
                self._template_bytes = size - found.content_bytes
                self._check_for_logprobs(event.data)
            self.contents += 1
            self._content_bytes += found.content_bytes
        elif found.alive:
            self.contents += 1
            self._content_bytes += found.block_bytes
        elif found.block_end:
            self._block_ended_at = self.contents

    def _keep(self, found: EventFields) -> None:
        if found.usage is not None and not self._bound.allows(found.usage):
            self.unreadable_usage = True
        elif found.usage is not None:
            self.usage = laid_over(found.usage, self.usage)
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
            self._content_bytes += max(size - events * max(self._template_bytes, 0), events)

    def _learn(self, events: bytes) -> None:
        # Look for the template in the last event, less and less often while there is none.
        self._misses = misses = self._misses + 1
        if misses & (misses - 1):
            return
        event = events[_after(events.rfind(b"\n\n", 0, -2), otherwise=0) :]
        self._check_for_logprobs(event)
        if len(event) <= _LEARN_BYTES:
            template = common_template(self._previous, event)
            if template is not None:
                self._template = template
                self._template_bytes = template.size
            self._previous = event

    def _check_for_logprobs(self, event: bytes) -> None:
        """Decode every event if there are log probabilities, which are larger than the content."""
        if b'"logprob"' in event:
            self._plain = none_is_plain


def _after(blank_line_at: int, *, otherwise: int) -> int:
    return blank_line_at + 2 if blank_line_at >= 0 else otherwise
