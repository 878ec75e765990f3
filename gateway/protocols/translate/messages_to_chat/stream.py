"""
An OpenAI-wire stream as an Anthropic stream.

Theory. Chunks are taken in order; each gives zero or more events. The states are `WAITING` (no
chunk yet: an error may still become an HTTP answer), `STREAMING`, `FINISHED` (the upstream named a
finish reason: usage or the end may follow, and late deltas are still delivered) and `DONE`.

Rules of this file:

* Within a chunk: error, usage, `message_start`, then reasoning, text, refusal, tool calls, then the
  finish reason.
* `message_delta` and `message_stop` come exactly once, or an error event comes instead. The open
  block is not closed before an error: nothing may pretend completeness.
* A body that ends before a finish reason and before `[DONE]` is an error: a false end would stop an
  agent's work silently.
* Nothing is written after `DONE`; the rest is read and thrown away.
"""

from __future__ import annotations

import enum
from typing import Final

from msgspec import UNSET

from gateway.core.model import Wire
from gateway.errors import GatewayError
from gateway.protocols.anthropic_messages.writer import EventWriter
from gateway.protocols.codec.json_decode import SurrogateJoiner, decode_event
from gateway.protocols.codec.sse import Event, EventDecoder
from gateway.protocols.http.upstream_errors import translate_error, translate_stream_error
from gateway.protocols.http.upstream_faults import (
    RESOURCES_GONE,
    STREAM_CUT,
    STREAM_MALFORMED,
    FaultClass,
    UpstreamFault,
    read_stream_fault,
)
from gateway.protocols.ids import message_id
from gateway.protocols.openai_chat.response import (
    CHUNK,
    GAVE_UP,
    CallFragment,
    Choice,
    Chunk,
    Delta,
    reasoning_and_text,
)
from gateway.protocols.openai_chat.usage import read_chat_usage
from gateway.protocols.translate.capabilities import Capabilities
from gateway.protocols.translate.messages_to_chat.blocks import BlockSequencer
from gateway.protocols.translate.messages_to_chat.meaning import anthropic_usage, stop_of
from gateway.protocols.translate.stream import EarlyError, ResponseContext
from gateway.protocols.translate.think_tags import ThinkTags
from gateway.protocols.translate.tool_fragments import LEGACY_INDEX

_DONE: Final = b"[DONE]"
_REPORTED: Final = UpstreamFault(
    fault=FaultClass.BROKEN_OFF, message="The upstream reported an error."
)


class Phase(enum.Enum):
    """How far the stream is."""

    WAITING = enum.auto()
    STREAMING = enum.auto()
    FINISHED = enum.auto()
    DONE = enum.auto()


class AnthropicStream:
    """
    The translator of one streamed answer; see `contract.StreamTranslator`.

    Args:
        context: Of the request.
        caps: Of the upstream's dialect.
    """

    __slots__ = (
        "_blocks",
        "_context",
        "_decoder",
        "_early_error",
        "_error_event",
        "_failed",
        "_finish",
        "_named_stop",
        "_phase",
        "_reasoning_half",
        "_refusal",
        "_tags",
        "_text_half",
        "_usage",
        "_writer",
    )

    def __init__(self, context: ResponseContext, caps: Capabilities) -> None:
        self._context = context
        self._decoder = EventDecoder()
        self._writer = EventWriter()
        self._blocks = BlockSequencer(self._writer, context)
        self._tags = ThinkTags() if caps.think_tags else None
        self._text_half = SurrogateJoiner()
        self._reasoning_half = SurrogateJoiner()
        self._phase = Phase.WAITING
        self._usage: dict[str, object] | None = None
        self._finish: str | None = None
        self._named_stop: object = None
        self._refusal: list[str] = []
        self._failed = False
        self._early_error: EarlyError | None = None
        self._error_event = b""

    @property
    def started(self) -> bool:
        """Whether `message_start` was written."""
        return self._phase is not Phase.WAITING and self._early_error is None

    @property
    def early_error(self) -> EarlyError | None:
        """The error that came before anything was written."""
        return self._early_error

    @property
    def error_event(self) -> bytes:
        """The early error as an `error` event."""
        return self._error_event

    @property
    def finish_seen(self) -> bool:
        """Whether the upstream has named a finish reason."""
        return self._finish is not None

    @property
    def done(self) -> bool:
        """Whether nothing more will be written."""
        return self._phase is Phase.DONE

    @property
    def failed(self) -> bool:
        """Whether the stream ended in an error."""
        return self._failed

    def feed(self, chunk: bytes) -> bytes:
        """Take one network chunk and return the events for it."""
        if self._phase is Phase.DONE:
            return b""
        try:
            for event in self._decoder.feed(chunk):
                self._take(event)
                if self.done:
                    break
        except GatewayError:
            self._fail(STREAM_MALFORMED)
        return self._writer.take()

    def end(self, clean: bool, fault: UpstreamFault = STREAM_CUT) -> bytes:
        """Take the end of the body and return the last events."""
        if self._phase is Phase.DONE:
            return b""
        if clean:
            self._take_unfinished()
        if self._phase is Phase.FINISHED:
            self._finalise()
        elif not self.done:
            self._fail(fault)
        return self._writer.take()

    def expire_after_finish(self) -> bytes:
        """Finalise a stream that is silent after its finish reason."""
        if self._phase is Phase.FINISHED:
            self._finalise()
        return self._writer.take()

    def _take_unfinished(self) -> None:
        """Take the event that the body left without its end; a torn one counts as missing."""
        try:
            for event in self._decoder.end():
                self._take(event)
        except GatewayError:
            return

    def _take(self, event: Event) -> None:
        data = event.data
        if len(data) < 16 and data.strip() == _DONE:
            if self._phase is Phase.WAITING:
                self._start(None)
            self._finalise()
            return
        chunk = None if event.event == b"error" else decode_event(data, CHUNK)
        if event.event == b"error" or (chunk is not None and chunk.error):
            self._fail(read_stream_fault(Wire.OPENAI, data))
        elif chunk is not None:
            self._take_chunk(chunk)

    def _take_chunk(self, chunk: Chunk) -> None:
        choice = chunk.first_choice
        usage = chunk.usage or (choice.usage if choice is not None else None)
        if usage is not None:
            self._usage = usage
        if self._phase is Phase.WAITING:
            self._start(chunk.id)
        elif not self._blocks.upstream_id and chunk.id:
            self._blocks.upstream_id = chunk.id
        if choice is not None:
            if choice.delta is not None:
                self._take_delta(choice.delta)
            if choice.finish_reason is not None:
                self._take_finish(choice)
        if usage is not None and self._phase is Phase.FINISHED and _is_last(chunk):
            self._finalise()

    def _start(self, upstream_id: str | None) -> None:
        self._phase = Phase.STREAMING
        self._blocks.upstream_id = upstream_id or ""
        counters = anthropic_usage(read_chat_usage(self._usage))
        if self._usage is None:
            counters.input_tokens = self._context.input_estimate
        counters.output_tokens = 0
        counters.output_tokens_details = UNSET
        self._writer.start_message(message_id(upstream_id), self._context.model, counters)

    def _take_delta(self, delta: Delta) -> None:
        thought, text = reasoning_and_text(delta)
        if thought:
            self._take_reasoning(thought)
        if text:
            text = self._text_half.feed(text)
            if text:
                self._take_text(text)
        if delta.refusal:
            self._take_refusal(delta.refusal)
        if delta.tool_calls or delta.function_call is not None:
            self._take_calls(delta)

    def _take_reasoning(self, thought: str) -> None:
        self._end_tags()
        thought = self._reasoning_half.feed(thought)
        if thought:
            self._blocks.put("thinking", thought)

    def _take_text(self, text: str) -> None:
        if self._tags is None:
            self._blocks.put("text", text)
            return
        for kind, piece in self._tags.feed(text):
            self._blocks.put(kind, piece)
        if self._tags.passes:
            self._tags = None

    def _take_refusal(self, refusal: str) -> None:
        refusal = self._text_half.feed(refusal)
        if refusal:
            self._end_tags()
            self._refusal.append(refusal)
            self._blocks.put("text", refusal)

    def _take_calls(self, delta: Delta) -> None:
        if self._tags is not None and self._tags.undecided:
            self._end_tags()  # White space before a call stays before it.
        for fragment in delta.tool_calls or ():
            self._blocks.add_call(fragment)
        if delta.function_call is not None:
            self._blocks.add_call(CallFragment(LEGACY_INDEX, None, delta.function_call))

    def _end_tags(self) -> None:
        """Stop looking for think tags: what was held comes out."""
        if self._tags is not None:
            for kind, piece in self._tags.flush():
                self._blocks.put(kind, piece)
            self._tags = None

    def _take_finish(self, choice: Choice) -> None:
        finish = choice.finish_reason
        if finish in GAVE_UP:
            self._fail(RESOURCES_GONE if finish == "insufficient_system_resource" else _REPORTED)
            return
        self._finish = finish
        self._named_stop = choice.stop_reason
        self._phase = Phase.FINISHED
        self._flush()

    def _flush(self) -> None:
        """Let out everything that was held back and close the open block."""
        rest = self._reasoning_half.flush()
        if rest:
            self._blocks.put("thinking", rest)
        rest = self._text_half.flush()
        if rest:
            self._take_text(rest)
        self._end_tags()
        self._blocks.flush()

    def _finalise(self) -> None:
        self._flush()
        stop = stop_of(
            self._finish,
            has_calls=self._blocks.has_calls,
            refusal="".join(self._refusal),
            named_stop=self._named_stop,
            stop_sequences=self._context.stop_sequences,
        )
        self._writer.finish(stop, anthropic_usage(read_chat_usage(self._usage)))
        self._phase = Phase.DONE

    def _fail(self, fault: UpstreamFault) -> None:
        event = translate_stream_error(fault, Wire.ANTHROPIC, self._context.model)
        if self._phase is Phase.WAITING:
            answer = translate_error(fault, Wire.ANTHROPIC, self._context.model)
            self._early_error = EarlyError(answer.status, answer.headers, answer.body, fault)
            self._error_event = event
        else:
            self._writer.write(event)
        self._failed = True
        self._phase = Phase.DONE


def _is_last(chunk: Chunk) -> bool:
    """Return whether no choice of the chunk goes on."""
    return all(choice.finish_reason is not None for choice in chunk.choices or ())
