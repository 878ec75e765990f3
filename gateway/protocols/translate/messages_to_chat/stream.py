"""
Translates an OpenAI-wire stream to an Anthropic stream.

`message_delta` and `message_stop` are written exactly once, or an error event instead. The open
block is not closed before an error, so that it does not appear complete.
"""

from __future__ import annotations

from msgspec import UNSET

from gateway.core.model import Wire
from gateway.protocols.anthropic_messages.writer import PING, EventWriter
from gateway.protocols.codec.json_decode import SurrogateJoiner
from gateway.protocols.http.errors.upstream_errors import translate_stream_error
from gateway.protocols.http.errors.upstream_faults import (
    UpstreamFault,
)
from gateway.protocols.ids import message_id
from gateway.protocols.openai_chat.response import CallFragment, detail_text
from gateway.protocols.openai_chat.usage import ChatUsage
from gateway.protocols.translate.capabilities import Capabilities
from gateway.protocols.translate.messages_to_chat.blocks import BlockSequencer
from gateway.protocols.translate.messages_to_chat.meaning import anthropic_usage, stop_of
from gateway.protocols.translate.messages_to_chat.reader import ChatReader
from gateway.protocols.translate.stream import ResponseContext, StreamTranslator


def messages_stream(context: ResponseContext, caps: Capabilities) -> StreamTranslator:
    """
    Return the translator of a chat stream for a Messages client.

    Args:
        context: Of the request.
        caps: Of the upstream's dialect.
    """
    writer = MessagesWriter(context)
    return StreamTranslator(ChatReader(writer, caps), writer)


class MessagesWriter:
    """
    Writes chat events as the events of an Anthropic stream.

    Args:
        context: Of the request.
    """

    __slots__ = (
        "_blocks",
        "_context",
        "_events",
        "_finish",
        "_named_stop",
        "_reasoning_half",
        "_refusal",
        "_text_half",
        "model",
        "take",
        "wire",
    )

    needs_id = False
    repeats_text = True

    def __init__(self, context: ResponseContext) -> None:
        self.wire = Wire.ANTHROPIC
        self.model = context.model
        self._context = context
        self._events = EventWriter()
        self.take = self._events.take
        self._blocks = BlockSequencer(self._events, context)
        self._text_half = SurrogateJoiner()
        self._reasoning_half = SurrogateJoiner()
        self._finish: str | None = None
        self._named_stop: object = None
        self._refusal: list[str] = []

    def begin(self, response_id: str | None, usage: ChatUsage | None) -> None:
        """Write `message_start`."""
        self._blocks.upstream_id = response_id or ""
        counters = anthropic_usage(usage)
        if usage is None:
            counters.input_tokens = self._context.input_estimate
        counters.output_tokens = 0
        counters.output_tokens_details = UNSET
        self._events.start_message(message_id(response_id), self.model, counters)

    def identify(self, response_id: str) -> None:
        """Derive the ids of calls without one from `response_id`."""
        self._blocks.upstream_id = response_id

    def text(self, text: str) -> None:
        """Write a piece of text."""
        text = self._text_half.feed(text)
        if text:
            self._blocks.put("text", text)

    def reasoning(self, text: str) -> None:
        """Write a piece of reasoning."""
        text = self._reasoning_half.feed(text)
        if text:
            self._blocks.put("thinking", text)

    def reasoning_details(self, details: list[dict[str, object]], *, has_text: bool) -> None:
        """Write the details' text, unless `reasoning` already got it."""
        text = "" if has_text else detail_text(details)
        if text:
            self.reasoning(text)

    def refusal(self, text: str) -> None:
        """Write a refusal as text."""
        text = self._text_half.feed(text)
        if text:
            self._refusal.append(text)
            self._blocks.put("text", text)

    def tool_call(self, fragment: CallFragment) -> None:
        """Write a piece of a tool call as soon as the order of blocks permits."""
        self._blocks.add_call(fragment)

    def ping(self) -> None:
        self._events.write(PING)

    def finish(self, reason: str | None, stop: object) -> None:
        """Write all held text and close the open block."""
        self._finish = reason
        self._named_stop = stop
        self._flush()

    def end(self, usage: ChatUsage | None) -> None:
        """Write `message_delta` and `message_stop`."""
        self._flush()
        stop = stop_of(
            self._finish,
            has_calls=self._blocks.has_calls,
            refusal="".join(self._refusal),
            named_stop=self._named_stop,
            stop_sequences=self._context.stop_sequences,
        )
        self._events.finish(stop, anthropic_usage(usage))

    def error(self, fault: UpstreamFault, usage: ChatUsage | None) -> None:  # noqa: ARG002
        """Write the error as the last event."""
        self._events.write(translate_stream_error(fault, Wire.ANTHROPIC, self.model))

    def _flush(self) -> None:
        rest = self._reasoning_half.flush()
        if rest:
            self._blocks.put("thinking", rest)
        rest = self._text_half.flush()
        if rest:
            self._blocks.put("text", rest)
        self._blocks.flush()
