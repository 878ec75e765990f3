"""
Reads the Anthropic wire's `usage`, for billing and for responses alike.

`input_tokens` does not include cached tokens; `output_tokens` includes thinking. Endpoints that
translate to another API may report under its names: `prompt_tokens` includes cached tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from gateway.core.model import Usage
from gateway.protocols.charged_extras import ChargedExtras
from gateway.protocols.codec.nesting import is_deep
from gateway.protocols.codec.usage_bound import UNBOUNDED
from gateway.protocols.codec.usage_counts import UNREADABLE, Count, count, count_or


class _CacheCreation(msgspec.Struct, gc=False):
    ephemeral_5m_input_tokens: Count = None
    ephemeral_1h_input_tokens: Count = None


class _OutputDetails(msgspec.Struct, gc=False):
    thinking_tokens: Count = None


class _Iteration(msgspec.Struct, gc=False):
    type: str | None = None
    input_tokens: Count = None
    cache_read_input_tokens: Count = None
    cache_creation_input_tokens: Count = None
    output_tokens: Count = None


class _PromptDetails(msgspec.Struct, gc=False):
    cached_tokens: Count = None


class _AnthropicUsage(ChargedExtras, gc=False):
    input_tokens: Count = None
    cache_read_input_tokens: Count = None
    cache_creation_input_tokens: Count = None
    cache_creation: _CacheCreation | None = None
    output_tokens: Count = None
    output_tokens_details: _OutputDetails | None = None
    iterations: list[_Iteration] | None = None
    prompt_tokens: Count = None
    completion_tokens: Count = None
    prompt_tokens_details: _PromptDetails | None = None


_DECODER: Final = msgspec.json.Decoder(_AnthropicUsage)
_NOTHING: Final = Usage()


def read_anthropic_usage(raw: bytes, known: Usage = _NOTHING) -> Usage | None:
    """
    Return the known counts updated from a `usage` object of the Anthropic wire.

    Args:
        raw: The object; members that are absent, null or zero leave the known value.
        known: From earlier events of the same stream. Counts are cumulative: new ones replace them.

    Returns:
        None if it is not a usage object, or has no count or an impossible one.
    """
    if is_deep(raw):
        return None
    try:
        return _usage(_DECODER.decode(raw), known)
    except UNREADABLE:
        return None


class UsageCounters:
    """
    The usage of one response, collected from its events by the rules of `read_anthropic_usage`.

    Attributes:
        bound: Usage beyond it is ignored.
        total: All counts so far; None before any.
        states_thinking: Thinking tokens were stated, even if zero.
    """

    __slots__ = ("bound", "states_thinking", "total")

    def __init__(self) -> None:
        self.bound = UNBOUNDED
        self.total: Usage | None = None
        self.states_thinking = False

    def merge(self, usage: Mapping[str, object] | None) -> None:
        """Add a `usage` object; an unreadable one is ignored."""
        if usage is None:
            return
        try:
            counts = msgspec.convert(usage, _AnthropicUsage)
            found = _usage(counts, self.total or _NOTHING)
        except UNREADABLE:
            return
        if found is not None and not self.bound.allows(found):
            return
        self.total = found or self.total
        details = counts.output_tokens_details
        if details is not None and details.thinking_tokens is not None:
            self.states_thinking = True


def _usage(usage: _AnthropicUsage, known: Usage) -> Usage | None:
    if usage.input_tokens is usage.output_tokens is None:
        _rename_chat_counts(usage)
    write = _cache_write(usage)
    if usage.input_tokens is usage.output_tokens is usage.cache_read_input_tokens is write is None:
        return None
    output, reasoning = _output(usage, known)
    written = count_or(write, known.cache_write)
    parts = usage.cache_creation or _CacheCreation()
    hour = min(count_or(parts.ephemeral_1h_input_tokens, known.cache_write_1h), written)
    found = Usage(
        input=count(usage.input_tokens) or _known_input(usage, written, known),
        cache_read=count_or(usage.cache_read_input_tokens, known.cache_read),
        cache_write=written,
        output=output,
        reasoning=reasoning,
        cache_write_1h=hour,
        web_searches=usage.web_searches() or known.web_searches,
        tier=usage.tier() or known.tier,
    )
    return _with_compaction(found, usage.iterations) if usage.iterations else found


def _known_input(usage: _AnthropicUsage, written: int, known: Usage) -> int:
    """Return the known input, less the cached tokens if this event is the first to report them."""
    if usage.input_tokens is None or known.cache_read or known.cache_write:
        return known.input
    return max(known.input - count(usage.cache_read_input_tokens) - written, 0)


def _rename_chat_counts(usage: _AnthropicUsage) -> None:
    """Set the members of this wire from those of chat completions, if there are any."""
    usage.output_tokens = usage.completion_tokens
    if usage.prompt_tokens is None:
        return
    cached = count((usage.prompt_tokens_details or _PromptDetails()).cached_tokens)
    read = min(cached or count(usage.cache_read_input_tokens), count(usage.prompt_tokens))
    usage.input_tokens = count(usage.prompt_tokens) - read
    usage.cache_read_input_tokens = read


def _with_compaction(usage: Usage, iterations: list[_Iteration]) -> Usage:
    """Add the tokens of compacting the history, which the totals do not include."""
    made = [each for each in iterations if each.type == "compaction"]
    return msgspec.structs.replace(
        usage,
        input=usage.input + sum(count(each.input_tokens) for each in made),
        cache_read=usage.cache_read + sum(count(each.cache_read_input_tokens) for each in made),
        cache_write=usage.cache_write
        + sum(count(each.cache_creation_input_tokens) for each in made),
        output=usage.output + sum(count(each.output_tokens) for each in made),
    )


def _cache_write(usage: _AnthropicUsage) -> Count:
    if usage.cache_creation_input_tokens is not None or usage.cache_creation is None:
        return usage.cache_creation_input_tokens
    parts = usage.cache_creation
    return count(parts.ephemeral_5m_input_tokens) + count(parts.ephemeral_1h_input_tokens)


def _output(usage: _AnthropicUsage, known: Usage) -> tuple[int, int]:
    """Return output without reasoning, and reasoning; the wire counts both together."""
    stated = (usage.output_tokens_details or _OutputDetails()).thinking_tokens
    both = count_or(usage.output_tokens, known.output + known.reasoning)
    reasoning = min(count_or(stated, known.reasoning), both)
    return both - reasoning, reasoning
