"""
The usage that upstreams report, in all its spellings, as five disjoint token classes.

OpenAI's `prompt_tokens` includes cached tokens, Anthropic's `input_tokens` does not; reasoning is
part of the output on both wires, but some providers leave it out of `completion_tokens` and have it
only in the total. Everything is settled here, once.

A count that cannot be true (negative, fractional, no number, beyond `MAX_COUNT`) makes its whole
usage unreadable: the call is then estimated, as if nothing had been reported.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from gateway.core.model import Usage

Count = int | float | None
"""Some upstreams write `10.0`."""

MAX_COUNT: Final = 1_000_000_000
"""Largest count that is believed; a thousand times the longest contexts."""


class _ServerToolUse(msgspec.Struct, gc=False):
    web_search_requests: Count = None


class _Charged(msgspec.Struct, gc=False):
    """What is charged beside or instead of the plain price of tokens, on either wire."""

    server_tool_use: _ServerToolUse | None = None
    num_search_queries: Count = None
    # Of any type: upstreams use these names for other things, as tokens a second.
    service_tier: object = None
    speed: object = None
    inference_geo: object = None


class _PromptDetails(msgspec.Struct, gc=False):
    cached_tokens: Count = None
    cache_write_tokens: Count = None
    cache_creation_tokens: Count = None


class _CompletionDetails(msgspec.Struct, gc=False):
    reasoning_tokens: Count = None


class _OpenAIUsage(_Charged, gc=False):
    prompt_tokens: Count = None
    completion_tokens: Count = None
    total_tokens: Count = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    cached_tokens: Count = None
    prompt_cache_hit_tokens: Count = None
    cache_read_input_tokens: Count = None
    cache_creation_input_tokens: Count = None


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


class _AnthropicUsage(_Charged, gc=False):
    input_tokens: Count = None
    cache_read_input_tokens: Count = None
    cache_creation_input_tokens: Count = None
    cache_creation: _CacheCreation | None = None
    output_tokens: Count = None
    output_tokens_details: _OutputDetails | None = None
    iterations: list[_Iteration] | None = None


_OPENAI: Final = msgspec.json.Decoder(_OpenAIUsage)
_ANTHROPIC: Final = msgspec.json.Decoder(_AnthropicUsage)
_STANDARD: Final = frozenset(
    {"standard", "default", "auto", "standard_only", "global", "not_available"}
)
_TIER = re.compile(r"[a-z0-9_-]{1,32}\Z")


class _NotACountError(ValueError):
    """A count that cannot be true."""


_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, _NotACountError)


def read_openai_usage(raw: bytes, service_tier: object = None) -> Usage | None:
    """
    Return a `usage` object of the OpenAI wire.

    Args:
        raw: The object.
        service_tier: As the answer reports it beside its usage.

    Returns:
        None if it is null, no usage object, holds no count at all, or one that cannot be true.
    """
    try:
        return _openai_usage(_OPENAI.decode(raw), service_tier)
    except _UNREADABLE:
        return None


def _openai_usage(usage: _OpenAIUsage, service_tier: object) -> Usage | None:
    if usage.prompt_tokens is usage.completion_tokens is usage.total_tokens is None:
        return None
    prompt, total = _count(usage.prompt_tokens), _count(usage.total_tokens)
    details = usage.prompt_tokens_details or _PromptDetails()
    read = _first(
        details.cached_tokens,
        usage.cached_tokens,
        usage.prompt_cache_hit_tokens,
        usage.cache_read_input_tokens,
    )
    write = _first(
        details.cache_write_tokens,
        details.cache_creation_tokens,
        usage.cache_creation_input_tokens,
    )
    output = _count(usage.completion_tokens)
    if usage.prompt_tokens is not None:
        output = max(output, total - prompt)
    thought = (usage.completion_tokens_details or _CompletionDetails()).reasoning_tokens
    reasoning = min(_count(thought), output)
    return Usage(
        input=max(prompt - read - write, 0),
        cache_read=read,
        cache_write=write,
        output=output - reasoning,
        reasoning=reasoning,
        web_searches=_web_searches(usage),
        tier=_tier(usage, service_tier),
    )


def read_anthropic_usage(raw: bytes, known: Usage = Usage()) -> Usage | None:  # noqa: B008 frozen
    """
    Return a `usage` object of the Anthropic wire laid over what is known already.

    Args:
        raw: The object; members that are absent or null leave the known value.
        known: From earlier events of the same stream. Counts are cumulative: they replace.

    Returns:
        None if it is null, no usage object, holds no count at all, or one that cannot be true.
    """
    try:
        return _anthropic_usage(_ANTHROPIC.decode(raw), known)
    except _UNREADABLE:
        return None


def _anthropic_usage(usage: _AnthropicUsage, known: Usage) -> Usage | None:
    write = _cache_write(usage)
    if usage.input_tokens is usage.output_tokens is usage.cache_read_input_tokens is write is None:
        return None
    output, reasoning = _output(usage, known)
    written = _or(write, known.cache_write)
    parts = usage.cache_creation or _CacheCreation()
    found = Usage(
        input=_or(usage.input_tokens, known.input),
        cache_read=_or(usage.cache_read_input_tokens, known.cache_read),
        cache_write=written,
        output=output,
        reasoning=reasoning,
        cache_write_1h=min(_or(parts.ephemeral_1h_input_tokens, known.cache_write_1h), written),
        web_searches=_web_searches(usage) or known.web_searches,
        tier=_tier(usage, None) or known.tier,
    )
    return _with_compaction(found, usage.iterations) if usage.iterations else found


def _with_compaction(usage: Usage, iterations: list[_Iteration]) -> Usage:
    """Add the summaries that the upstream made of the history: the totals leave them out."""
    made = [each for each in iterations if each.type == "compaction"]
    return msgspec.structs.replace(
        usage,
        input=usage.input + sum(_count(each.input_tokens) for each in made),
        cache_read=usage.cache_read + sum(_count(each.cache_read_input_tokens) for each in made),
        cache_write=usage.cache_write
        + sum(_count(each.cache_creation_input_tokens) for each in made),
        output=usage.output + sum(_count(each.output_tokens) for each in made),
    )


def _web_searches(usage: _Charged) -> int:
    tools = usage.server_tool_use or _ServerToolUse()
    return _first(tools.web_search_requests, usage.num_search_queries)


def _tier(usage: _Charged, beside: object) -> str | None:
    """Return service tier, speed and region but for the standard ones; None: all are standard."""
    names = (usage.service_tier or beside, usage.speed, usage.inference_geo)
    if names == (None, None, None):
        return None
    return "+".join(name for name in names if isinstance(name, str) and _is_tier(name)) or None


def _is_tier(name: str) -> bool:
    return name not in _STANDARD and _TIER.match(name) is not None


def _cache_write(usage: _AnthropicUsage) -> Count:
    if usage.cache_creation_input_tokens is not None or usage.cache_creation is None:
        return usage.cache_creation_input_tokens
    parts = usage.cache_creation
    return _count(parts.ephemeral_5m_input_tokens) + _count(parts.ephemeral_1h_input_tokens)


def _output(usage: _AnthropicUsage, known: Usage) -> tuple[int, int]:
    """Return output without reasoning, and reasoning: the wire counts both together."""
    thought = (usage.output_tokens_details or _OutputDetails()).thinking_tokens
    both = _or(usage.output_tokens, known.output + known.reasoning)
    reasoning = min(_or(thought, known.reasoning), both)
    return both - reasoning, reasoning


def _count(value: Count) -> int:
    if value is None:
        return 0
    # The order matters: NaN and the infinities fail the comparison before they meet `int`.
    if not 0 <= value <= MAX_COUNT or value != int(value):
        raise _NotACountError
    return int(value)


def _or(value: Count, known: int) -> int:
    return known if value is None else _count(value)


def _first(*values: Count) -> int:
    return next((count for count in map(_count, values) if count), 0)
