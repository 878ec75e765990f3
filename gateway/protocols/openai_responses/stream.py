"""
Translates a chat or an Anthropic stream to a Responses stream.

Rules of this file:

* `response.created` and `response.in_progress` come first; `response.completed`, `.incomplete` or
  `.failed` comes last, exactly one of them. There is no `[DONE]`.
* A failed response contains its complete items and is never stored. An open item is not closed, so
  that it does not appear complete.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from typing_extensions import override

from gateway.core.model import Wire
from gateway.protocols.http.errors.upstream_errors import translate_error
from gateway.protocols.http.errors.upstream_faults import (
    UpstreamFault,
)
from gateway.protocols.openai_chat.usage import ChatUsage
from gateway.protocols.openai_responses.context import ResponsesContext
from gateway.protocols.openai_responses.items import EventWriter
from gateway.protocols.openai_responses.output import (
    OutputBuilder,
    final_response,
    response_object,
    without_store,
)
from gateway.protocols.translate.capabilities import PLAIN, Capabilities
from gateway.protocols.translate.chat_to_messages.reader import MessagesReader
from gateway.protocols.translate.events import StreamReader
from gateway.protocols.translate.messages_to_chat.reader import ChatReader
from gateway.protocols.translate.stream import StreamTranslator

# Codes of a failed response; any other failure is `server_error`.
_CODES: Final = frozenset(
    {
        "rate_limit_exceeded",
        "context_length_exceeded",
        "insufficient_quota",
        "server_is_overloaded",
    }
)


class _Error(msgspec.Struct):
    message: str
    code: object = None


class _ErrorBody(msgspec.Struct):
    error: _Error


_ERROR_BODY: Final = msgspec.json.Decoder(_ErrorBody)


def responses_stream(context: ResponsesContext, caps: Capabilities = PLAIN) -> ResponsesStream:
    """
    Return the translator of a chat stream for a Responses client.

    Args:
        context: Of the request, `created` set.
        caps: Of the upstream's dialect.
    """
    writer = ResponsesWriter(context)
    return ResponsesStream(ChatReader(writer, caps), writer)


def responses_over_messages(
    context: ResponsesContext, tool_names: Mapping[str, str]
) -> ResponsesStream:
    """
    Return the translator of an Anthropic stream for a Responses client.

    Args:
        context: Of the request, `created` set.
        tool_names: Tool name shortened for Anthropic -> the name in the chat request.
    """
    writer = ResponsesWriter(context)
    return ResponsesStream(MessagesReader(writer, tool_names), writer)


def failed_stream(context: ResponsesContext, body: bytes) -> bytes:
    """
    Return the events of a stream that fails before its first one.

    Args:
        context: Of the request, `created` set.
        body: The error as the body of an HTTP response.
    """
    writer = ResponsesWriter(context)
    writer.fail(body, None)
    return writer.take()


class ResponsesStream(StreamTranslator):
    """A translator to Responses events; it holds back the last event of a response to be stored."""

    __slots__ = ("_events",)

    def __init__(self, reader: StreamReader, writer: ResponsesWriter) -> None:
        super().__init__(reader, writer)
        self._events = writer

    @property
    def held(self) -> bytes | None:
        """The response object, once the response has ended and its last event is held back."""
        return None if self._events.held is None else self._events.held[1]

    @override
    def wrote_end(self, upstream_ended: bool) -> bool:
        return self._events.held is None and super().wrote_end(upstream_ended)

    def when_held(self, call: Callable[[], object]) -> None:
        """Call `call` once the last event is held back."""
        self._events.when_held = call

    def complete(self, *, stored: bool) -> bytes:
        """Return the last event; `stored`: the response was stored."""
        return self._events.complete(stored=stored)


class ResponsesWriter(OutputBuilder):
    """
    Writes chat events as the events of a Responses stream, numbered from 0.

    The last event of a response to be stored is held back until it is: the event says whether it is
    stored, and the client may then refer to it at once.

    Args:
        context: Of the request, `created` set.
    """

    __slots__ = ("_begun", "_finish", "held", "model", "take", "when_held")

    wire = Wire.OPENAI
    needs_id = True
    repeats_text = False  # events are numbered

    def __init__(self, context: ResponsesContext) -> None:
        events = EventWriter()
        super().__init__(events, context, "")
        self.model = context.model
        self.take = events.take
        self._begun = False
        self._finish: str | None = None
        self.held: tuple[str, bytes] | None = None
        """Status and object of a response whose last event is held back."""
        self.when_held: Callable[[], object] | None = None

    def begin(self, response_id: str | None, usage: ChatUsage | None) -> None:  # noqa: ARG002
        """Write `response.created` and `response.in_progress`."""
        self._begun = True
        self.derive_ids(response_id or "")
        response = response_object(self._context, self.response_id, "in_progress", output=[])
        self._writer.write(b"response.created", b'"response":' + response)
        self._writer.write(b"response.in_progress", b'"response":' + response)

    def identify(self, response_id: str) -> None:
        """Do nothing: the id is the one in `response.created`."""

    def ping(self) -> None:
        """Do nothing: the API has no ping."""

    def finish(self, reason: str | None, stop: object) -> None:  # noqa: ARG002
        """Complete all open items."""
        self._finish = reason
        self.close()

    def end(self, usage: ChatUsage | None) -> None:
        """Write `response.completed` or `.incomplete`; `.failed` if a summary is missing."""
        self.close()
        status, response = final_response(self._context, self, self._finish, usage)
        if not self._context.store:
            self._write_last(status, response)
            return
        self.held = status, response
        if self.when_held is not None:
            self.when_held()

    def complete(self, *, stored: bool) -> bytes:
        """Return the held event, which says whether the response was stored."""
        if self.held is not None:
            status, response = self.held
            self.held = None
            self._write_last(status, response if stored else without_store(response))
        return self.take()

    def _write_last(self, status: str, response: bytes) -> None:
        self._writer.write(b"response.%b" % status.encode(), b'"response":' + response)

    def error(self, fault: UpstreamFault, usage: ChatUsage | None) -> None:
        """Write `response.failed`."""
        self.fail(translate_error(fault, Wire.OPENAI, self.model).body, usage)

    def fail(self, body: bytes, usage: ChatUsage | None) -> None:
        """Write `response.failed` with the error of an HTTP response's body."""
        if not self._begun:
            self.begin(None, None)
        error = _ERROR_BODY.decode(body).error
        known = isinstance(error.code, str) and error.code in _CODES
        code = error.code if known else "server_error"
        response = response_object(
            self._context,
            self.response_id,
            "failed",
            output=self.finished_items,
            usage=usage,
            error={"code": code, "message": error.message},
        )
        self._writer.write(b"response.failed", b'"response":' + response)
