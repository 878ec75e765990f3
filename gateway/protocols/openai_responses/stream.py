"""
A chat stream as a Responses stream.

Theory. Chunks are taken in order; each gives zero or more events, numbered from 0. The states are
`WAITING` (no chunk yet: an error may still become an HTTP answer), `STREAMING`, `FINISHED` (a
finish reason came: usage or the end may follow, late deltas are still delivered) and `DONE`.

Rules of this file:

* `response.created` and `response.in_progress` come first; `response.completed`, `.incomplete` or
  `.failed` comes last, exactly one of them. There is no `[DONE]`.
* A failed response holds the items that were complete. An open item is not closed: nothing may
  pretend completeness.
* A body that ends before a finish reason and before `[DONE]` has failed.
"""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from gateway.core.model import Wire
from gateway.errors import GatewayError
from gateway.protocols.codec.json_decode import decode_event
from gateway.protocols.codec.sse import Event, EventDecoder
from gateway.protocols.http.upstream_errors import ErrorResponse, translate_error
from gateway.protocols.http.upstream_faults import (
    RESOURCES_GONE,
    STREAM_CUT,
    STREAM_MALFORMED,
    FaultClass,
    UpstreamFault,
    read_stream_fault,
)
from gateway.protocols.openai_chat.response import CHUNK, GAVE_UP, Choice, Chunk
from gateway.protocols.openai_chat.usage import read_chat_usage
from gateway.protocols.openai_responses.context import ResponsesContext
from gateway.protocols.openai_responses.items import EventWriter
from gateway.protocols.openai_responses.output import OutputBuilder, final_response, response_object
from gateway.protocols.translate.stream import EarlyError

_DONE: Final = b"[DONE]"
_REPORTED: Final = UpstreamFault(fault=FaultClass.FAILED, message="The upstream reported an error.")
_CODES: Final = frozenset(
    {
        "rate_limit_exceeded",
        "context_length_exceeded",
        "insufficient_quota",
        "server_is_overloaded",
    }
)
"""Codes of a failed response; any other failure is `server_error`."""


class _Phase(enum.Enum):
    WAITING = enum.auto()
    STREAMING = enum.auto()
    FINISHED = enum.auto()
    DONE = enum.auto()


class _Error(msgspec.Struct):
    message: str
    code: str | None = None


class _ErrorBody(msgspec.Struct):
    error: _Error


_ERROR_BODY: Final = msgspec.json.Decoder(_ErrorBody)


class ResponsesStream:
    """
    The translator of one streamed answer; see `translate.contract.StreamTranslator`.

    Args:
        context: Of the request, `created` set.
    """

    __slots__ = (
        "_builder",
        "_context",
        "_decoder",
        "_early_error",
        "_error_event",
        "_failed",
        "_finish",
        "_phase",
        "_usage",
        "_writer",
    )

    def __init__(self, context: ResponsesContext) -> None:
        self._context = context
        self._decoder = EventDecoder()
        self._writer = EventWriter()
        self._builder = OutputBuilder(self._writer, context, "")
        self._phase = _Phase.WAITING
        self._usage: dict[str, object] | None = None
        self._finish: str | None = None
        self._failed = False
        self._early_error: EarlyError | None = None
        self._error_event = b""

    @property
    def started(self) -> bool:
        """Whether `response.created` was written."""
        return self._phase is not _Phase.WAITING and self._early_error is None

    @property
    def early_error(self) -> EarlyError | None:
        """The error that came before anything was written."""
        return self._early_error

    @property
    def error_event(self) -> bytes:
        """The early error as a whole stream: created, in progress, failed."""
        return self._error_event

    @property
    def finish_seen(self) -> bool:
        """Whether the upstream has named a finish reason."""
        return self._finish is not None

    @property
    def done(self) -> bool:
        """Whether nothing more will be written."""
        return self._phase is _Phase.DONE

    @property
    def failed(self) -> bool:
        """Whether the stream ended in an error."""
        return self._failed

    def feed(self, chunk: bytes) -> bytes:
        """Take one network chunk and return the events for it."""
        if self._phase is _Phase.DONE:
            return b""
        try:
            for event in self._decoder.feed(chunk):
                self._take(event)
                if self.done:
                    break
        except (GatewayError, RecursionError):
            self._fail(STREAM_MALFORMED)
        return self._writer.take()

    def end(self, clean: bool, fault: UpstreamFault = STREAM_CUT) -> bytes:
        """Take the end of the body and return the last events."""
        if self._phase is _Phase.DONE:
            return b""
        if clean:
            self._take_unfinished()
        if self._phase is _Phase.FINISHED:
            self._finalise()
        elif not self.done:
            self._fail(fault)
        return self._writer.take()

    def expire_after_finish(self) -> bytes:
        """Finalise a stream that is silent after its finish reason."""
        if self._phase is _Phase.FINISHED:
            self._finalise()
        return self._writer.take()

    def _take_unfinished(self) -> None:
        """Take the event that the body left without its end; a torn one counts as missing."""
        try:
            for event in self._decoder.end():
                self._take(event)
        except (GatewayError, RecursionError):
            return

    def _take(self, event: Event) -> None:
        data = event.data
        if len(data) < 16 and data.strip() == _DONE:
            if self._phase is _Phase.WAITING:
                self._start("")
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
        if self._phase is _Phase.WAITING:
            if not chunk.id and choice is None and usage is None:
                return  # Azure opens with the filter's verdict on the prompt, without an id.
            self._start(chunk.id or "")
        if choice is not None:
            if choice.delta is not None:
                self._builder.add(choice.delta)
            if choice.finish_reason is not None:
                self._take_finish(choice.finish_reason)
        if usage is not None and self._phase is _Phase.FINISHED and _is_last(choice):
            self._finalise()

    def _start(self, upstream_id: str) -> None:
        self._phase = _Phase.STREAMING
        self._builder = OutputBuilder(self._writer, self._context, upstream_id)
        response_id = self._builder.response_id
        response = response_object(self._context, response_id, "in_progress", output=[])
        self._writer.write(b"response.created", b'"response":' + response)
        self._writer.write(b"response.in_progress", b'"response":' + response)

    def _take_finish(self, finish: str) -> None:
        if finish in GAVE_UP:
            self._fail(RESOURCES_GONE if finish == "insufficient_system_resource" else _REPORTED)
            return
        self._finish = finish
        self._phase = _Phase.FINISHED
        self._builder.close()

    def _finalise(self) -> None:
        self._builder.close()
        usage = read_chat_usage(self._usage)
        status, response = final_response(self._context, self._builder, self._finish, usage)
        self._writer.write(b"response.%b" % status.encode(), b'"response":' + response)
        self._phase = _Phase.DONE

    def _fail(self, fault: UpstreamFault) -> None:
        answer = translate_error(fault, Wire.OPENAI, self._context.model)
        if self._phase is _Phase.WAITING:
            self._early_error = EarlyError(answer.status, answer.headers, answer.body, fault)
            self._start("")
            self._write_failure(answer)
            self._error_event = self._writer.take()
        else:
            self._write_failure(answer)
        self._failed = True
        self._phase = _Phase.DONE

    def _write_failure(self, answer: ErrorResponse) -> None:
        told = _ERROR_BODY.decode(answer.body).error
        code = told.code if told.code in _CODES else "server_error"
        response = response_object(
            self._context,
            self._builder.response_id,
            "failed",
            output=self._builder.finished_items,
            usage=read_chat_usage(self._usage),
            error={"code": code, "message": told.message},
        )
        self._writer.write(b"response.failed", b'"response":' + response)


def _is_last(choice: Choice | None) -> bool:
    return choice is None or choice.finish_reason is not None
