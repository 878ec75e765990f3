"""A whole Anthropic message as an OpenAI chat completion."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from gateway.core.model import Wire
from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.anthropic_messages.usage import UsageCounters
from gateway.protocols.codec.absent import ABSENT, is_given
from gateway.protocols.codec.json_decode import decode_response
from gateway.protocols.http.upstream_errors import error_for, read_fault
from gateway.protocols.openai_chat.completion import (
    CompletionUsage,
    FunctionCall,
    ReasoningDetail,
    ToolCall,
    completion_id,
)
from gateway.protocols.translate.chat_to_messages.meaning import (
    arguments_of,
    completion_usage,
    counted,
    encrypted_reasoning,
    finish_reason,
    signed_reasoning,
)
from gateway.protocols.translate.stream import ResponseContext


class _Block(msgspec.Struct, gc=False):
    type: str
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: Raw = ABSENT


class _StopDetails(msgspec.Struct, gc=False):
    explanation: str | None = None


class _Answer(msgspec.Struct):
    """An Anthropic message; an error with status 200 has no content."""

    type: str | None = None
    id: str | None = None
    content: list[_Block] | None = None
    stop_reason: str | None = None
    stop_details: _StopDetails | None = None
    usage: dict[str, object] | None = None
    error: Raw = ABSENT


class _Message(msgspec.Struct, gc=False, omit_defaults=True):
    role: str
    content: str | None
    refusal: str | None
    reasoning_content: str | UnsetType = UNSET
    reasoning_details: list[ReasoningDetail] | UnsetType = UNSET
    tool_calls: list[ToolCall] | UnsetType = UNSET


class _Choice(msgspec.Struct, gc=False):
    index: int
    message: _Message
    logprobs: None
    finish_reason: str


class _Completion(msgspec.Struct, gc=False):
    id: str
    object: str
    created: int
    model: str
    choices: list[_Choice]
    usage: CompletionUsage


_ANSWER: Final = msgspec.json.Decoder(_Answer)


def translate_response(body: bytes, context: ResponseContext) -> bytes:
    """
    Return the chat completion for an upstream's whole answer.

    Blocks of server tools, citations and the like are left out.

    Args:
        body: The answer, status 200.
        context: Of the request, with `created` set.

    Raises:
        GatewayError: UPSTREAM_MALFORMED: no Anthropic message. Another kind: the body is an error
            in spite of its status.
    """
    answer = decode_response(body, _ANSWER)
    if answer.type == "error" or (answer.content is None and is_given(answer.error)):
        fault = read_fault(Wire.ANTHROPIC, 200, (), body)
        raise error_for(fault, Wire.OPENAI, context.model)
    if answer.content is None:
        raise GatewayError(ErrorKind.UPSTREAM_MALFORMED, "Upstream sent malformed data")
    usage = UsageCounters()
    usage.merge(answer.usage)
    choice = _Choice(0, _message(answer, context), None, finish_reason(answer.stop_reason))
    return msgspec.json.encode(
        _Completion(
            id=completion_id(answer.id),
            object="chat.completion",
            created=context.created,
            model=context.model,
            choices=[choice],
            usage=completion_usage(counted(usage)),
        )
    )


def _message(answer: _Answer, context: ResponseContext) -> _Message:
    blocks = answer.content or []
    text = "".join(block.text for block in blocks if block.type == "text" and block.text)
    calls = [_tool_call(block, context) for block in blocks if block.type == "tool_use"]
    message = _Message("assistant", text or (None if calls else ""), None)
    if answer.stop_reason == "refusal" and answer.stop_details is not None:
        message.refusal = answer.stop_details.explanation
    thoughts = [block for block in blocks if block.type in ("thinking", "redacted_thinking")]
    details = [
        detail
        for index, block in enumerate(thoughts)
        if (detail := _reasoning_detail(index, block)) is not None
    ]
    spoken = [block.thinking for block in thoughts if block.type == "thinking" and block.thinking]
    if spoken:
        message.reasoning_content = "\n\n".join(spoken)
    if details:
        message.reasoning_details = details
    if calls:
        message.tool_calls = calls
    return message


def _reasoning_detail(index: int, block: _Block) -> ReasoningDetail | None:
    if block.type == "redacted_thinking":
        return encrypted_reasoning(index, block.data or "")
    if not block.signature:
        return None
    return signed_reasoning(index, block.thinking or "", block.signature)


def _tool_call(block: _Block, context: ResponseContext) -> ToolCall:
    name = block.name or ""
    function = FunctionCall(context.tool_names.get(name, name), arguments_of(block.input))
    return ToolCall(UNSET, block.id or "", "function", function)
