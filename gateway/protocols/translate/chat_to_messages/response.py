"""Translates a whole Anthropic message to an OpenAI chat completion."""

from __future__ import annotations

import json
from typing import Final

import msgspec
from msgspec import UNSET, Raw, UnsetType

from gateway.core.model import Wire
from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.anthropic_messages.usage import UsageCounters
from gateway.protocols.codec.absent import ABSENT, is_given
from gateway.protocols.codec.json_decode import decode_response
from gateway.protocols.http.errors.error_bodies import decode_leniently
from gateway.protocols.http.errors.upstream_errors import error_for, read_fault
from gateway.protocols.ids import UnusedIds
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


class _Response(msgspec.Struct):
    """An Anthropic message; an error with status 200 has no content."""

    type: str | None = None
    id: str | None = None
    content: list[_Block] | None = None
    stop_reason: str | None = None
    stop_details: _StopDetails | None = None
    usage: dict[str, object] | None = None
    error: Raw = ABSENT


class CompletionMessage(msgspec.Struct, gc=False, omit_defaults=True):
    role: str
    content: str | None
    refusal: str | None
    reasoning_content: str | UnsetType = UNSET
    reasoning_details: list[ReasoningDetail] | UnsetType = UNSET
    tool_calls: list[ToolCall] | UnsetType = UNSET


class CompletionChoice(msgspec.Struct, gc=False):
    index: int
    message: CompletionMessage
    logprobs: None
    finish_reason: str


class Completion(msgspec.Struct, gc=False):
    id: str
    object: str
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: CompletionUsage


_RESPONSE: Final = msgspec.json.Decoder(_Response)


def translate_response(body: bytes, context: ResponseContext) -> bytes:
    """
    Return the result of `read_completion` as JSON.

    Raises:
        GatewayError: As `read_completion`.
    """
    return msgspec.json.encode(read_completion(body, context))


def read_completion(body: bytes, context: ResponseContext) -> Completion:
    """
    Return the chat completion for an upstream's whole message.

    Blocks of server tools, citations and the like are dropped.

    Args:
        body: The message, with status 200.
        context: The request's, with `created` set.

    Raises:
        GatewayError: UPSTREAM_MALFORMED: not an Anthropic message. Another kind: the body is an
            error despite its status.
    """
    response = _decoded(body)
    if response.type == "error" or (response.content is None and is_given(response.error)):
        fault = read_fault(Wire.ANTHROPIC, 200, (), body)
        raise error_for(fault, Wire.OPENAI, context.model)
    if response.content is None:
        raise GatewayError(ErrorKind.UPSTREAM_MALFORMED, "Upstream sent malformed data")
    usage = UsageCounters()
    usage.merge(response.usage)
    message = _message(response, context)
    finish = finish_reason(response.stop_reason, has_calls=bool(message.tool_calls))
    choice = CompletionChoice(0, message, None, finish)
    return Completion(
        id=completion_id(response.id),
        object="chat.completion",
        created=context.created,
        model=context.model,
        choices=[choice],
        usage=completion_usage(counted(usage)),
    )


def _decoded(body: bytes) -> _Response:
    """Return the message; its content may also be one block, a text, or have elements of null."""
    try:
        return decode_response(body, _RESPONSE)
    except GatewayError:
        value = decode_leniently(body)
        if not isinstance(value, dict):
            raise
    content = value.get("content")
    if isinstance(content, str):
        content = {"type": "text", "text": content}
    blocks = content if isinstance(content, list) else [content]
    typed = [each for each in blocks if isinstance(each, dict) and "type" in each]
    value["content"] = typed or None
    # Escapes lone surrogates, which msgspec does not encode.
    return decode_response(json.dumps(value).encode(), _RESPONSE)


def _message(response: _Response, context: ResponseContext) -> CompletionMessage:
    blocks = response.content or []
    text = "".join(block.text for block in blocks if block.type == "text" and block.text)
    ids = UnusedIds(())
    calls = [_tool_call(block, context, ids) for block in blocks if block.type == "tool_use"]
    message = CompletionMessage("assistant", text or (None if calls else ""), None)
    if response.stop_reason == "refusal" and response.stop_details is not None:
        message.refusal = response.stop_details.explanation
    reasoning = [block for block in blocks if block.type in ("thinking", "redacted_thinking")]
    details = [
        detail
        for index, block in enumerate(reasoning)
        if (detail := _reasoning_detail(index, block)) is not None
    ]
    texts = [block.thinking for block in reasoning if block.type == "thinking" and block.thinking]
    if texts:
        message.reasoning_content = "\n\n".join(texts)
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


def _tool_call(block: _Block, context: ResponseContext, ids: UnusedIds) -> ToolCall:
    name = block.name or ""
    function = FunctionCall(context.tool_names.get(name, name), arguments_of(block.input))
    return ToolCall(UNSET, ids.take(block.id or ""), "function", function)
