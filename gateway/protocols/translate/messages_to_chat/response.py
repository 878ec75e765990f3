"""Translates a whole OpenAI-wire response to an Anthropic message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

from gateway.protocols.anthropic_messages.response import AnthropicUsage, StopDetails
from gateway.protocols.ids import (
    SIGNATURE,
    UnusedIds,
    message_id,
    missing_id,
    signature_of,
    to_anthropic_id,
)
from gateway.protocols.openai_chat.lenient import read_response
from gateway.protocols.openai_chat.response import (
    CallFragment,
    Delta,
    reasoning_and_text,
    thought_signature,
)
from gateway.protocols.openai_chat.usage import read_chat_usage
from gateway.protocols.translate.capabilities import Capabilities
from gateway.protocols.translate.messages_to_chat.meaning import (
    anthropic_usage,
    stop_of,
    tool_input,
)
from gateway.protocols.translate.stream import ResponseContext
from gateway.protocols.translate.think_tags import split_reasoning


class TextBlock(msgspec.Struct, gc=False):
    type: Literal["text"]
    text: str


class ThinkingBlock(msgspec.Struct, gc=False):
    """Reasoning, with the signature that marks it as another vendor's."""

    type: Literal["thinking"]
    thinking: str
    signature: str


class ToolUseBlock(msgspec.Struct, gc=False):
    """A tool call; `input` is a JSON object."""

    type: Literal["tool_use"]
    id: str
    name: str
    input: Raw


ContentBlock = TextBlock | ThinkingBlock | ToolUseBlock


class AnthropicMessage(msgspec.Struct, gc=False, omit_defaults=True):
    """The body of an Anthropic response."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[ContentBlock]
    stop_reason: str | None
    stop_sequence: str | None
    usage: AnthropicUsage
    stop_details: StopDetails | UnsetType = UNSET


def translate_response(body: bytes, context: ResponseContext, caps: Capabilities) -> bytes:
    """
    Return the Anthropic message for an upstream's whole response.

    Args:
        body: The response, with status 200.
        context: The request's.
        caps: The upstream's capabilities.

    Raises:
        GatewayError: UPSTREAM_MALFORMED: not a chat completion; OVERLOADED or UPSTREAM_REFUSED: the
            upstream failed, possibly after some text.
    """
    response, choice, message = read_response(body)
    content = _prose(message, caps)
    content += _calls(message.calls, response.id or "", context)
    stop = stop_of(
        choice.finish_reason,
        has_calls=any(isinstance(block, ToolUseBlock) for block in content),
        refusal=message.refusal or "",
        named_stop=choice.stop_reason,
        stop_sequences=context.stop_sequences,
    )
    usage = read_chat_usage(response.reported_usage, reasoning_apart=caps.reasoning_apart)
    return msgspec.json.encode(
        AnthropicMessage(
            id=message_id(response.id),
            type="message",
            role="assistant",
            model=context.model,
            content=content,
            stop_reason=stop.stop_reason,
            stop_sequence=stop.stop_sequence,
            usage=anthropic_usage(usage),
            stop_details=stop.stop_details,
        )
    )


def _prose(message: Delta, caps: Capabilities) -> list[ContentBlock]:
    reasoning, text = reasoning_and_text(message)
    if not reasoning and (caps.think_tags or caps.think_opened):
        reasoning, text = split_reasoning(text, opened=caps.think_opened)
    blocks: list[ContentBlock] = []
    if reasoning:
        blocks.append(ThinkingBlock("thinking", reasoning, SIGNATURE))
    if text:
        blocks.append(TextBlock("text", text))
    if message.refusal:
        blocks.append(TextBlock("text", message.refusal))
    return blocks


def _calls(
    calls: Sequence[CallFragment], upstream_id: str, context: ResponseContext
) -> list[ContentBlock]:
    blocks: list[ContentBlock] = []
    ids = UnusedIds(context.history_ids)
    for ordinal, call in enumerate(calls):
        if call.function is None or not call.function.name:
            continue
        signature = thought_signature(call.extra_content)
        if signature is not None:
            blocks.append(ThinkingBlock("thinking", "", signature_of(signature)))
        given = to_anthropic_id(call.id) if call.id else missing_id(upstream_id, ordinal)
        call_id = ids.take(given)
        name = context.tool_names.get(call.function.name, call.function.name)
        arguments = tool_input(call.function.arguments or "")
        blocks.append(ToolUseBlock("tool_use", call_id, name, arguments))
    return blocks
