"""What an Anthropic response means in the terms of chat completions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import msgspec
from msgspec import Raw

from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.codec.json_decode import join_surrogates
from gateway.protocols.openai_chat.completion import (
    CompletionDetails,
    CompletionUsage,
    PromptDetails,
    ReasoningDetail,
)
from gateway.protocols.translate.chat_to_messages.thinking_blocks import FORMAT

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]
_FINISH: Final[Mapping[str, FinishReason]] = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_COUNTERS: Final = (
    "input_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "output_tokens",
    "output_tokens_details",
)


class UsageCounters:
    """
    Anthropic's usage of one answer, collected from its events.

    Counters are cumulative: a later one that is not null replaces the earlier, nothing is added up.
    """

    __slots__ = ("_counters",)

    def __init__(self) -> None:
        self._counters: dict[str, object] = {}

    def merge(self, usage: Mapping[str, object] | None) -> None:
        """Take a `usage` object."""
        for name in _COUNTERS:
            value = usage.get(name) if usage else None
            if value is not None:
                self._counters[name] = value

    def openai(self) -> CompletionUsage:
        """Return OpenAI's usage; its prompt includes what the cache gave and took."""
        read = self._number("cache_read_input_tokens")
        written = self._number("cache_creation_input_tokens")
        prompt = self._number("input_tokens") + read + written
        output = self._number("output_tokens")
        usage = CompletionUsage(prompt, output, prompt + output, PromptDetails(read, written))
        details = self._counters.get("output_tokens_details")
        thought = details.get("thinking_tokens") if isinstance(details, dict) else None
        if thought is not None:
            usage.completion_tokens_details = CompletionDetails(_count(thought))
        return usage

    def _number(self, name: str) -> int:
        return _count(self._counters.get(name))


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 and value is not True else 0


def finish_reason(stop_reason: str | None) -> FinishReason:
    """Return OpenAI's reason; one that is unknown or missing is `stop`."""
    return _FINISH.get(stop_reason or "", "stop")


def signed_reasoning(index: int, text: str, signature: str) -> ReasoningDetail:
    """Return the detail of a signed thought."""
    return ReasoningDetail(
        index=index,
        type="reasoning.text",
        text=text,
        signature=join_surrogates(signature),
        format=FORMAT,
    )


def encrypted_reasoning(index: int, data: str) -> ReasoningDetail:
    """Return the detail of a redacted thought."""
    return ReasoningDetail(
        index=index, type="reasoning.encrypted", data=join_surrogates(data), format=FORMAT
    )


def arguments_of(tool_input: Raw) -> str:
    """
    Return a call's arguments: its input compactly, numbers as they were written.

    Raises:
        GatewayError: UPSTREAM_MALFORMED: not UTF-8, or nested too deeply.
    """
    raw = bytes(tool_input)
    if raw.strip() in (b"", b"null"):
        return "{}"
    try:
        return msgspec.json.format(raw, indent=-1).decode()
    except (ValueError, RecursionError) as error:
        raise GatewayError(ErrorKind.UPSTREAM_MALFORMED, "Upstream sent malformed data") from error
