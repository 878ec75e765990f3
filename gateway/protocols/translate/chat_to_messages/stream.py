"""Translates an Anthropic stream to an OpenAI stream."""

from __future__ import annotations

from gateway.core.model import Wire
from gateway.protocols.http.errors.upstream_errors import translate_stream_error
from gateway.protocols.http.errors.upstream_faults import (
    UpstreamFault,
)
from gateway.protocols.openai_chat.completion import FunctionCall, ToolCall
from gateway.protocols.openai_chat.response import CallFragment
from gateway.protocols.openai_chat.usage import ChatUsage
from gateway.protocols.openai_chat.writer import ChunkWriter, Frame
from gateway.protocols.translate.chat_to_messages.meaning import completion_usage
from gateway.protocols.translate.chat_to_messages.reader import MessagesReader
from gateway.protocols.translate.stream import ResponseContext, StreamTranslator


def chat_stream(context: ResponseContext) -> StreamTranslator:
    """
    Return the translator of an Anthropic stream for a chat client.

    Args:
        context: Of the request, with `created` set.
    """
    writer = ChatWriter(context)
    return StreamTranslator(MessagesReader(writer, context.tool_names), writer)


class ChatWriter(ChunkWriter):
    """
    Writes chat events as chunks. Its strings have no lone surrogates.

    Args:
        context: Of the request, with `created` set.
    """

    __slots__ = ("_arguments", "model", "wire")

    needs_id = False
    repeats_text = True

    def __init__(self, context: ResponseContext) -> None:
        super().__init__(context.model, context.created, include_usage=context.include_usage)
        self.wire = Wire.OPENAI
        self.model = context.model
        self._arguments: dict[int | None, Frame] = {}

    def begin(self, response_id: str | None, usage: ChatUsage | None) -> None:  # noqa: ARG002
        """Write the first chunk, which contains the role."""
        self.start(response_id)

    def identify(self, response_id: str) -> None:
        """Do nothing: the id is the one in the first chunk."""

    def refusal(self, text: str) -> None:
        """Write a refusal as text, as Anthropic does."""
        self.text(text)

    def reasoning_details(
        self,
        details: list[dict[str, object]],
        *,
        has_text: bool,  # noqa: ARG002
    ) -> None:
        """Write a chunk with complete reasoning details."""
        self.details(details)

    def tool_call(self, fragment: CallFragment) -> None:
        """Write a call's first chunk, which has its id, or a piece of its arguments."""
        function, index = fragment.function, fragment.index
        if function is None or index is None:
            return
        if fragment.id is not None:
            call = FunctionCall(function.name or "", function.arguments or "")
            self.call(ToolCall(index, fragment.id, "function", call))
            self._arguments[index] = self.arguments_frame(index)
        elif function.arguments:
            self.piece(self._arguments[index], function.arguments)

    def finish(self, reason: str | None, stop: object) -> None:  # noqa: ARG002
        """Write the chunk with the finish reason."""
        self.finish_chunk(reason or "stop")

    def end(self, usage: ChatUsage | None) -> None:
        """Write the usage chunk, if the client requested it, and `[DONE]`."""
        self.done(completion_usage(usage or ChatUsage()))

    def error(self, fault: UpstreamFault, usage: ChatUsage | None) -> None:  # noqa: ARG002
        """Write the error as the last event."""
        self.write(translate_stream_error(fault, Wire.OPENAI, self.model))
