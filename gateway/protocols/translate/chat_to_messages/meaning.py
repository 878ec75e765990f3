"""Converts the parts of an Anthropic response to those of a chat completion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec
from msgspec import Raw

from gateway.core.model import Usage
from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.anthropic_messages.usage import UsageCounters
from gateway.protocols.codec.json_decode import join_surrogates, quoted_object
from gateway.protocols.openai_chat.completion import (
    CompletionDetails,
    CompletionUsage,
    PromptDetails,
    ReasoningDetail,
)
from gateway.protocols.openai_chat.usage import ChatUsage, chat_usage
from gateway.protocols.translate.chat_to_messages.thinking_blocks import FORMAT

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]
_FINISH: Final[Mapping[str, FinishReason]] = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def completion_usage(usage: ChatUsage) -> CompletionUsage:
    """Return OpenAI's usage object."""
    made = CompletionUsage(
        usage.input, usage.output, usage.total, PromptDetails(usage.cached, usage.cache_write)
    )
    if usage.reasoning is not None:
        made.completion_tokens_details = CompletionDetails(usage.reasoning)
    return made


def counted(usage: UsageCounters) -> ChatUsage:
    """Return a message's usage as a chat client counts it; zeros if there is none."""
    return chat_usage(usage.total or Usage(), reasoning_stated=usage.states_thinking)


def finish_reason(stop_reason: str | None, *, has_calls: bool) -> FinishReason:
    """Return OpenAI's reason; for others or none it is `tool_calls` after a call, else `stop`."""
    reason = _FINISH.get(stop_reason or "", "stop")
    return "tool_calls" if has_calls and reason == "stop" else reason


def signed_reasoning(index: int, text: str, signature: str) -> ReasoningDetail:
    """Return the `reasoning_details` entry of signed reasoning."""
    return ReasoningDetail(
        index=index,
        type="reasoning.text",
        text=text,
        signature=join_surrogates(signature),
        format=FORMAT,
    )


def encrypted_reasoning(index: int, data: str) -> ReasoningDetail:
    """Return the `reasoning_details` entry of redacted thinking."""
    return ReasoningDetail(
        index=index, type="reasoning.encrypted", data=join_surrogates(data), format=FORMAT
    )


def arguments_of(tool_input: Raw) -> str:
    """
    Return a call's arguments: its input as compact JSON, with numbers unchanged.

    An input that is the JSON of an object in a string is that object.

    Raises:
        GatewayError: UPSTREAM_MALFORMED: not UTF-8.
    """
    raw = bytes(tool_input)
    if raw.strip()[:1] == b'"':
        raw = quoted_object(raw) or raw
    if raw.strip() in (b"", b"null"):
        return "{}"
    try:
        return msgspec.json.format(raw, indent=-1).decode()
    except ValueError as error:
        raise GatewayError(ErrorKind.UPSTREAM_MALFORMED, "Upstream sent malformed data") from error
