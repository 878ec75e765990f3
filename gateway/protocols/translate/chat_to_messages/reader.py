"""
Reads an Anthropic stream as chat events.

Anthropic addresses deltas by block index; chat has no blocks, only text, reasoning and calls. So an
open block stores which event its deltas become.

Rules of this file:

* Text, reasoning and arguments pass at once; each block holds back at most half a surrogate pair.
* Calls are numbered 0, 1, 2, ... counting tool_use blocks only. Id and name are sent once, in the
  call's first fragment, since clients concatenate them.
* A signature is useless without its text, so its detail contains the whole reasoning.
* Blocks of server tools and unknown deltas are skipped.
* The response ends only after a stop reason or `message_stop`. A body that ends before is an error,
  since an agent would take the truncated response for a complete one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec
from msgspec import Raw

from gateway.core.model import Wire
from gateway.protocols.anthropic_messages.usage import UsageCounters
from gateway.protocols.codec.absent import ABSENT
from gateway.protocols.codec.json_decode import (
    SurrogateJoiner,
    decode_event,
    decode_response,
    join_surrogates,
)
from gateway.protocols.codec.sse import LIMIT_BYTES, Event
from gateway.protocols.codec.usage_bound import UsageBound
from gateway.protocols.http.errors.upstream_faults import (
    STREAM_CUT,
    STREAM_MALFORMED,
    UpstreamFault,
    read_stream_fault,
)
from gateway.protocols.ids import UnusedIds, missing_id
from gateway.protocols.openai_chat.completion import ReasoningDetail, completion_id
from gateway.protocols.openai_chat.response import CallFragment, FunctionFragment
from gateway.protocols.openai_chat.usage import ChatUsage
from gateway.protocols.translate.chat_to_messages.meaning import (
    arguments_of,
    counted,
    encrypted_reasoning,
    finish_reason,
    signed_reasoning,
)
from gateway.protocols.translate.events import ChatEvents, Phase


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
    """Any event; members that its type does not have are None."""

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


class _OpenBlock:
    """
    The event that a block's deltas become.

    Args:
        takes: Type of the deltas that belong to it; empty: none.
        emit: Called with each piece.
    """

    __slots__ = (
        "arguments",
        "detail_index",
        "emit",
        "half",
        "reasoning",
        "reasoning_chars",
        "takes",
    )

    def __init__(self, takes: str, emit: Callable[[str], None]) -> None:
        self.takes = takes
        self.emit = emit
        self.half = SurrogateJoiner()
        # A call's arguments in `content_block_start`, until a delta has some.
        self.arguments: str | None = None
        # Set for reasoning until its detail is written.
        self.detail_index: int | None = None
        self.reasoning: list[str] = []
        self.reasoning_chars = 0


class MessagesReader:
    """
    Calls `sink` for the events of one Anthropic stream.

    Args:
        sink: Receives the chat events.
        tool_names: Shortened tool name -> the client's own.
    """

    __slots__ = (
        "_blocks", "_call_ids", "_calls", "_details", "_id", "_sink", "_tool_names", "_usage",
        "passed_text", "phase",
    )  # fmt: skip

    def __init__(self, sink: ChatEvents, tool_names: Mapping[str, str]) -> None:
        self.phase = Phase.WAITING
        self.passed_text = ""
        self._sink = sink
        self._tool_names = tool_names
        self._call_ids = UnusedIds(())
        self._usage = UsageCounters()
        self._blocks: dict[int, _OpenBlock] = {}
        self._calls = 0
        self._details = 0
        self._id: str | None = None

    def bound_usage(self, bound: UsageBound) -> None:
        """Ignore usage beyond `bound`."""
        self._usage.bound = bound

    def usage(self) -> ChatUsage | None:
        """Return the usage reported so far."""
        return None if self._usage.total is None else counted(self._usage)

    def end(self) -> None:
        """Complete the response."""
        if self.phase is Phase.STREAMING:
            self._finish(None)
        self._sink.end(counted(self._usage))
        self.phase = Phase.DONE

    def skipped(self, text: bytes) -> None:
        """Do nothing: how text is read does not depend on the text before it."""

    def take(self, event: Event) -> UpstreamFault | None:
        """Read one event; return the fault that it reports, if any."""
        self.passed_text = ""
        data = event.data
        if data[:1] == b"[" and data.strip() == b"[DONE]":
            return None  # vLLM sends it here, too.
        if event.event == b"error":
            return read_stream_fault(Wire.ANTHROPIC, data)
        read = decode_event(data, _EVENT)
        if read is None:
            return None
        if read.type == "content_block_delta":
            if read.delta is not None:
                self._take_delta(read.index or 0, read.delta)
            return None
        if read.type == "error" or (read.type is None and read.error is not None):
            return read_stream_fault(Wire.ANTHROPIC, data)
        return self._take_rare(read, data)

    def _take_rare(self, read: _StreamEvent, data: bytes) -> UpstreamFault | None:
        match read.type:
            case "message_start" if self.phase is not Phase.WAITING:
                return STREAM_MALFORMED  # a second response began before the first one ended
            case "message_start":
                self._begin(read.message)
            case "content_block_start" if read.content_block is not None:
                self._open(read.index or 0, read.content_block, data)
            case "content_block_stop":
                self._close(read.index or 0)
            case "message_delta":
                self._take_message_delta(read)
            case "message_stop" if self.phase is Phase.WAITING:
                return STREAM_CUT
            case "message_stop":
                self.end()
            case "ping" if self.phase is not Phase.WAITING:
                self._sink.ping()
        return None

    def _begin(self, message: _StartedMessage | None) -> None:
        if message is not None:
            self._usage.merge(message.usage)
        if self.phase is Phase.WAITING:
            self._id = message.id if message is not None else None
            self.phase = Phase.STREAMING
            self._sink.begin(completion_id(self._id), self.usage())

    def _take_delta(self, index: int, delta: _Delta) -> None:
        block = self._blocks.get(index)
        if block is None:
            block = self._open_unannounced(index, delta.type)
        if delta.type == block.takes:
            text = delta.text or delta.partial_json or delta.thinking
            if text:
                self._add(block, text)
                if delta.type == "text_delta":
                    self.passed_text = text
        elif delta.type == "signature_delta" and delta.signature:
            self._sign(block, delta.signature)

    def _add(self, block: _OpenBlock, text: str) -> None:
        text = block.half.feed(text)
        if not text:
            return
        if block.detail_index is not None:
            block.reasoning_chars += len(text)
            if block.reasoning_chars <= LIMIT_BYTES:
                block.reasoning.append(text)
        block.arguments = None
        block.emit(text)

    def _sign(self, block: _OpenBlock, signature: str) -> None:
        # Once per block; reasoning that is too large to keep gets no detail.
        index, block.detail_index = block.detail_index, None
        if index is None or block.reasoning_chars > LIMIT_BYTES:
            return
        rest = block.half.flush()
        if rest:
            block.emit(rest)
        reasoning = "".join(block.reasoning) + rest
        self._write_detail(signed_reasoning(index, reasoning, signature))

    def _write_detail(self, detail: ReasoningDetail) -> None:
        self._sink.reasoning_details([msgspec.to_builtins(detail)], has_text=True)

    def _open_unannounced(self, index: int, delta_type: str | None) -> _OpenBlock:
        kind = {"text_delta": "text", "thinking_delta": "thinking"}.get(delta_type or "")
        self._open(index, _ContentBlock(kind), b"")
        return self._blocks[index]

    def _open(self, index: int, content: _ContentBlock, data: bytes) -> None:
        self._begin(None)
        self._close(index)
        match content.type:
            case "text":
                block = _OpenBlock("text_delta", self._sink.text)
            case "thinking":
                block = _OpenBlock("thinking_delta", self._sink.reasoning)
                block.detail_index = self._next_detail()
            case "tool_use":
                block = self._open_call(content, data)
            case kind:
                block = _OpenBlock("", _discard)
                if kind == "redacted_thinking":
                    self._write_detail(encrypted_reasoning(self._next_detail(), content.data or ""))
        self._blocks[index] = block
        first = content.text if content.type == "text" else content.thinking
        if first and block.takes:
            self._add(block, first)
        if content.signature and content.type == "thinking":
            self._sign(block, content.signature)

    def _open_call(self, content: _ContentBlock, data: bytes) -> _OpenBlock:
        index = self._calls
        self._calls += 1
        name = join_surrogates(content.name or "")
        call_id = join_surrogates(content.id or "") or missing_id(self._id or "", index)
        call_id = self._call_ids.take(call_id)
        emit = self._sink.tool_call
        emit(CallFragment(index, call_id, FunctionFragment(self._tool_names.get(name, name), "")))
        block = _OpenBlock(
            "input_json_delta",
            lambda text: emit(CallFragment(index, None, FunctionFragment(None, text))),
        )
        block.arguments = arguments_of(decode_response(data, _TOOL_START).content_block.input)
        return block

    def _next_detail(self) -> int:
        self._details += 1
        return self._details - 1

    def _close(self, index: int) -> None:
        block = self._blocks.pop(index, None)
        if block is None:
            return
        rest = block.half.flush()
        if rest:
            block.emit(rest)
        elif block.arguments is not None:
            block.emit(block.arguments)

    def _take_message_delta(self, read: _StreamEvent) -> None:
        self._begin(None)
        self._usage.merge(read.usage)
        stop_reason = read.delta.stop_reason if read.delta is not None else None
        if stop_reason is not None and self.phase is Phase.STREAMING:
            self._finish(stop_reason)

    def _finish(self, stop_reason: str | None) -> None:
        for index in list(self._blocks):
            self._close(index)
        self._sink.finish(finish_reason(stop_reason, has_calls=self._calls > 0), None)
        self.phase = Phase.FINISHED


def _discard(_: str) -> None:
    """Ignore the deltas of a block without counterpart in chat."""
