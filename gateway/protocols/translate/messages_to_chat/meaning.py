"""
Converts the parts of an OpenAI-wire response to Anthropic's: stop reason, usage, tool input.

Shared by whole responses and streams.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw

from gateway.protocols.anthropic_messages.response import (
    AnthropicUsage,
    Stop,
    StopDetails,
    ThinkingTokens,
)
from gateway.protocols.codec.json_decode import decode_or_none, is_object
from gateway.protocols.openai_chat.usage import ChatUsage

_TOOL_FINISH: Final = frozenset({"tool_calls", "function_call"})


_NO_ARGUMENTS: Final = frozenset({"", "null"})
_STRING: Final = msgspec.json.Decoder(str)


def anthropic_usage(usage: ChatUsage | None) -> AnthropicUsage:
    """
    Return Anthropic's usage; without usage four zeros, since clients need numbers.

    OpenAI's input includes cache reads and cache writes, Anthropic's does not.
    """
    if usage is None:
        return AnthropicUsage(0, 0, 0, 0)
    counters = AnthropicUsage(
        max(usage.input - usage.cached - usage.cache_write, 0),
        usage.cache_write,
        usage.cached,
        usage.output,
    )
    if usage.reasoning:
        counters.output_tokens_details = ThinkingTokens(usage.reasoning)
    return counters


def stop_of(
    finish: str | None,
    *,
    has_calls: bool,
    refusal: str,
    named_stop: object,
    stop_sequences: tuple[str, ...],
) -> Stop:
    """
    Return Anthropic's stop reason.

    Several upstreams finish with `stop` although tools were called, which would end an agent's
    loop, so calls take precedence. OpenAI does not report the stop sequence; vLLM does.

    Args:
        finish: `finish_reason`; None if the upstream sent none.
        has_calls: The response has a tool call.
        refusal: The text of `refusal`; may be empty.
        named_stop: vLLM's `stop_reason`, of any type.
        stop_sequences: The request's.
    """
    if finish == "length":
        return Stop("max_tokens", None)
    if finish == "content_filter":
        return _refused(refusal)
    if has_calls:
        return Stop("tool_use", None)
    if finish in _TOOL_FINISH:
        return Stop("end_turn", None)
    if refusal:
        return _refused(refusal)
    if isinstance(named_stop, str) and named_stop in stop_sequences:
        return Stop("stop_sequence", named_stop)
    return Stop("end_turn", None)


def tool_input(arguments: str) -> Raw:
    """
    Return a call's arguments as the JSON object of `tool_use.input`, its bytes unchanged.

    Empty arguments and `null` become `{}`; a JSON string that contains an object becomes that
    object; anything else is wrapped, so that the model sees its error instead of a tool running
    with defaults.
    """
    if arguments.strip() in _NO_ARGUMENTS:
        return Raw(b"{}")
    if is_object(arguments):
        return Raw(arguments.encode())
    inner = decode_or_none(arguments, _STRING)
    if inner is not None and is_object(inner):
        return Raw(inner.encode())
    return Raw(msgspec.json.encode({"INVALID_JSON": arguments}))


def _refused(refusal: str) -> Stop:
    return Stop("refusal", None, StopDetails("refusal", None, refusal or None))
