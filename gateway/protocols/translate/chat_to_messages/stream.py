"""
An Anthropic stream as an OpenAI stream.

Theory. Events are taken in order; each gives zero or more chunks. The states are `WAITING` (nothing
came that decides: an error may still become an HTTP answer), `STREAMING`, `FINISHED` (a stop reason
was named; usage or the end may follow) and `DONE`. Anthropic addresses deltas by block index;
OpenAI has no blocks, only text, thoughts and calls, so a block remembers where its pieces go.

Rules of this file:

* Text, thoughts and arguments go out as they come; each block holds back half an emoji at most.
* Calls are numbered 0, 1, 2, ... over tool_use blocks only. Id, type and name come once, in the
  call's first chunk: accumulators add strings up.
* A thought's signature is worthless without its text, so its detail carries the whole thought.
* Blocks of server tools, and deltas nobody knows, give nothing.
* The usage chunk is the last one, and `[DONE]` is only said after a stop reason or `message_stop`.
  A body that ends before is an error: a false end would stop an agent's work silently.
* Nothing is written after `DONE`; the rest is read and thrown away.
"""

from __future__ import annotations

import enum
from typing import Final

import msgspec
from msgspec import Raw

from gateway.core.model import Wire
from gateway.errors import GatewayError
from gateway.protocols.anthropic_messages.usage import UsageCounters
from gateway.protocols.codec.absent import ABSENT
from gateway.protocols.codec.json_decode import (
    SurrogateJoiner,
    decode_event,
    decode_response,
    join_surrogates,
)
from gateway.protocols.codec.sse import LIMIT_BYTES, Event, EventDecoder
from gateway.protocols.http.upstream_errors import translate_error, translate_stream_error
from gateway.protocols.http.upstream_faults import (
    STREAM_CUT,
    STREAM_MALFORMED,
    UpstreamFault,
    read_stream_fault,
)
from gateway.protocols.ids import missing_id
from gateway.protocols.openai_chat.completion import FunctionCall, ToolCall
from gateway.protocols.openai_chat.writer import ChunkWriter, Frame
from gateway.protocols.translate.chat_to_messages.meaning import (
    arguments_of,
    completion_usage,
    counted,
    encrypted_reasoning,
    finish_reason,
    signed_reasoning,
)
from gateway.protocols.translate.stream import EarlyError, ResponseContext


class _Delta(msgspec.Struct, gc=False):
    type: str | None = None
    text: str | None = None
    partial_json: str | None = None
    thinking: str | None = None
    signature: str | None = None
    stop_reason: str | None = None


class _ContentBlock(msgspec.Struct, gc=False):
    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None


class _StartedMessage(msgspec.Struct):
    id: str | None = None
    usage: dict[str, object] | None = None


class _StreamEvent(msgspec.Struct):
    """Any event; a member that its type does not have is None."""

    type: str | None = None
    index: int | None = None
    delta: _Delta | None = None
    content_block: _ContentBlock | None = None
    message: _StartedMessage | None = None
    usage: dict[str, object] | None = None
    error: object = None


class _ToolBlock(msgspec.Struct, gc=False):
    input: Raw = ABSENT


class _ToolStart(msgspec.Struct, gc=False):
    content_block: _ToolBlock


_EVENT: Final = msgspec.json.Decoder(_StreamEvent)
_TOOL_START: Final = msgspec.json.Decoder(_ToolStart)


class Phase(enum.Enum):
    """How far the stream is."""

    WAITING = enum.auto()
    STREAMING = enum.auto()
    FINISHED = enum.auto()
    DONE = enum.auto()


class _OpenBlock:
    """
    Where a block's pieces go.

    Args:
        takes: Type of the deltas that belong to it; empty: none.
        frame: What stands around a piece.
    """

    __slots__ = (
        "arguments",
        "detail_index",
        "frame",
        "half",
        "reasoning_chars",
        "takes",
        "thought",
    )

    def __init__(self, takes: str, frame: Frame) -> None:
        self.takes = takes
        self.frame = frame
        self.half = SurrogateJoiner()
        self.arguments: str | None = None
        """Of a call, as long as no delta brought some: what to say at its end."""
        self.detail_index: int | None = None
        """Of a thought, until its detail is written."""
        self.thought: list[str] = []
        self.reasoning_chars = 0


_NOWHERE: Final = Frame(b"", b"")


class OpenAIStream:
    """
    The translator of one streamed answer; see `contract.StreamTranslator`.

    Args:
        context: Of the request, with `created` set.
    """

    __slots__ = (
        "_blocks", "_calls", "_context", "_decoder", "_early_error", "_error_event", "_failed",
        "_id", "_phase", "_thoughts", "_usage", "_writer",
    )  # fmt: skip

    def __init__(self, context: ResponseContext) -> None:
        self._context = context
        self._decoder = EventDecoder()
        self._writer = ChunkWriter(
            context.model, context.created, include_usage=context.include_usage
        )
        self._usage = UsageCounters()
        self._blocks: dict[int, _OpenBlock] = {}
        self._calls = 0
        self._thoughts = 0
        self._id: str | None = None
        self._phase = Phase.WAITING
        self._failed = False
        self._early_error: EarlyError | None = None
        self._error_event = b""

    @property
    def started(self) -> bool:
        """Whether the first chunk was written."""
        return self._phase is not Phase.WAITING and self._early_error is None

    @property
    def early_error(self) -> EarlyError | None:
        """The error that came before anything was written."""
        return self._early_error

    @property
    def error_event(self) -> bytes:
        """The early error as an event."""
        return self._error_event

    @property
    def finish_seen(self) -> bool:
        """Whether the upstream has named a stop reason."""
        return self._phase is Phase.FINISHED or (self.done and not self._failed)

    @property
    def done(self) -> bool:
        """Whether nothing more will be written."""
        return self._phase is Phase.DONE

    @property
    def failed(self) -> bool:
        """Whether the stream ended in an error."""
        return self._failed

    def feed(self, chunk: bytes) -> bytes:
        """Take one network chunk and return the chunks for it."""
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
        """Take the end of the body and return the last chunks."""
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
        """Finalise a stream that is silent after its stop reason."""
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
        if data[:1] == b"[" and data.strip() == b"[DONE]":
            return  # vLLM says it here, too.
        told = None if event.event == b"error" else decode_event(data, _EVENT)
        if told is None:
            if event.event == b"error":
                self._fail(read_stream_fault(Wire.ANTHROPIC, data))
        elif told.type == "content_block_delta":
            if told.delta is not None:
                self._take_delta(told.index or 0, told.delta)
        elif told.type == "error" or (told.type is None and told.error is not None):
            self._fail(read_stream_fault(Wire.ANTHROPIC, data))
        else:
            self._take_rare(told, data)

    def _take_rare(self, told: _StreamEvent, data: bytes) -> None:
        match told.type:
            case "message_start":
                self._start(told.message)
            case "content_block_start" if told.content_block is not None:
                self._open(told.index or 0, told.content_block, data)
            case "content_block_stop":
                self._close(told.index or 0)
            case "message_delta":
                self._take_message_delta(told)
            case "message_stop" if self._phase is Phase.WAITING:
                self._fail(STREAM_CUT)
            case "message_stop":
                self._finalise()
            case "ping" if self._phase is not Phase.WAITING:
                self._writer.ping()

    def _start(self, message: _StartedMessage | None) -> None:
        """Write the first chunk; an upstream that leaves `message_start` out is helped along."""
        if message is not None:
            self._usage.merge(message.usage)
        if self._phase is Phase.WAITING:
            self._id = message.id if message is not None else None
            self._phase = Phase.STREAMING
            self._writer.start(self._id)

    def _take_delta(self, index: int, delta: _Delta) -> None:
        block = self._blocks.get(index)
        if block is None:
            block = self._open_unannounced(index, delta.type)
        if delta.type == block.takes:
            text = delta.text or delta.partial_json or delta.thinking
            if text:
                self._say(block, text)
        elif delta.type == "signature_delta" and delta.signature:
            self._sign(block, delta.signature)

    def _say(self, block: _OpenBlock, text: str) -> None:
        text = block.half.feed(text)
        if not text:
            return
        if block.detail_index is not None:
            block.reasoning_chars += len(text)
            if block.reasoning_chars <= LIMIT_BYTES:
                block.thought.append(text)
        block.arguments = None
        self._writer.piece(block.frame, text)

    def _sign(self, block: _OpenBlock, signature: str) -> None:
        """Write a thought's detail, once; a thought too large to be kept goes without."""
        index, block.detail_index = block.detail_index, None
        if index is None or block.reasoning_chars > LIMIT_BYTES:
            return
        rest = block.half.flush()
        if rest:
            self._writer.piece(block.frame, rest)
        thought = "".join(block.thought) + rest
        self._writer.reasoning_detail(signed_reasoning(index, thought, signature))

    def _open_unannounced(self, index: int, delta_type: str | None) -> _OpenBlock:
        kind = {"text_delta": "text", "thinking_delta": "thinking"}.get(delta_type or "")
        self._open(index, _ContentBlock(kind), b"")
        return self._blocks[index]

    def _open(self, index: int, content: _ContentBlock, data: bytes) -> None:
        self._start(None)
        self._close(index)
        match content.type:
            case "text":
                block = _OpenBlock("text_delta", self._writer.content)
            case "thinking":
                block = _OpenBlock("thinking_delta", self._writer.reasoning)
                block.detail_index = self._next_reasoning()
            case "tool_use":
                block = self._open_call(content, data)
            case kind:
                block = _OpenBlock("", _NOWHERE)
                if kind == "redacted_thinking":
                    detail = encrypted_reasoning(self._next_reasoning(), content.data or "")
                    self._writer.reasoning_detail(detail)
        self._blocks[index] = block
        first = content.text if content.type == "text" else content.thinking
        if first and block.takes:
            self._say(block, first)
        if content.signature and content.type == "thinking":
            self._sign(block, content.signature)

    def _open_call(self, content: _ContentBlock, data: bytes) -> _OpenBlock:
        index = self._calls
        self._calls += 1
        name = join_surrogates(content.name or "")
        call_id = join_surrogates(content.id or "") or missing_id(self._id or "", index)
        function = FunctionCall(self._context.tool_names.get(name, name), "")
        self._writer.call(ToolCall(index, call_id, "function", function))
        block = _OpenBlock("input_json_delta", self._writer.arguments_frame(index))
        block.arguments = arguments_of(decode_response(data, _TOOL_START).content_block.input)
        return block

    def _next_reasoning(self) -> int:
        self._thoughts += 1
        return self._thoughts - 1

    def _close(self, index: int) -> None:
        block = self._blocks.pop(index, None)
        if block is None:
            return
        rest = block.half.flush()
        if rest:
            self._writer.piece(block.frame, rest)
        elif block.arguments is not None:
            self._writer.piece(block.frame, block.arguments)

    def _take_message_delta(self, told: _StreamEvent) -> None:
        self._start(None)
        self._usage.merge(told.usage)
        stop_reason = told.delta.stop_reason if told.delta is not None else None
        if stop_reason is not None and self._phase is Phase.STREAMING:
            self._finish(stop_reason)

    def _finish(self, stop_reason: str | None) -> None:
        for index in list(self._blocks):
            self._close(index)
        self._writer.finish(finish_reason(stop_reason))
        self._phase = Phase.FINISHED

    def _finalise(self) -> None:
        if self._phase is Phase.STREAMING:
            self._finish(None)
        self._writer.done(self._id, completion_usage(counted(self._usage)))
        self._phase = Phase.DONE

    def _fail(self, fault: UpstreamFault) -> None:
        event = translate_stream_error(fault, Wire.OPENAI, self._context.model)
        if self._phase is Phase.WAITING:
            answer = translate_error(fault, Wire.OPENAI, self._context.model)
            self._early_error = EarlyError(answer.status, answer.headers, answer.body, fault)
            self._error_event = event
        else:
            self._writer.write(event)
        self._failed = True
        self._phase = Phase.DONE
