"""
The usage that upstreams report, in all its spellings, as five disjoint token classes.

OpenAI's `prompt_tokens` includes cached tokens, Anthropic's `input_tokens` does not; reasoning is
part of the output on both wires, but some providers leave it out of `completion_tokens` and have it
only in the total. Everything is settled here, once.
"""

from __future__ import annotations

from typing import Final

import msgspec

from gateway.core.model import Usage

Count = int | float | None
"""Some upstreams write `10.0`."""


class _PromptDetails(msgspec.Struct, gc=False):
    cached_tokens: Count = None
    cache_write_tokens: Count = None
    cache_creation_tokens: Count = None


class _CompletionDetails(msgspec.Struct, gc=False):
    reasoning_tokens: Count = None


class _OpenAIUsage(msgspec.Struct, gc=False):
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


class _AnthropicUsage(msgspec.Struct, gc=False):
    input_tokens: Count = None
    cache_read_input_tokens: Count = None
    cache_creation_input_tokens: Count = None
    cache_creation: _CacheCreation | None = None
    output_tokens: Count = None
    output_tokens_details: _OutputDetails | None = None


_OPENAI: Final = msgspec.json.Decoder(_OpenAIUsage)
_ANTHROPIC: Final = msgspec.json.Decoder(_AnthropicUsage)
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def read_openai_usage(raw: bytes) -> Usage | None:
    """
    Return a `usage` object of the OpenAI wire.

    Returns:
        None if it is null, no usage object, or holds no count at all.
    """
    try:
        usage = _OPENAI.decode(raw)
    except _UNREADABLE:
        return None
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
    )


def read_anthropic_usage(raw: bytes, known: Usage = Usage()) -> Usage | None:  # noqa: B008 frozen
    """
    Return a `usage` object of the Anthropic wire laid over what is known already.

    Args:
        raw: The object; members that are absent or null leave the known value.
        known: From earlier events of the same stream. Counts are cumulative: they replace.

    Returns:
        None if it is null, no usage object, or holds no count at all.
    """
    try:
        usage = _ANTHROPIC.decode(raw)
    except _UNREADABLE:
        return None
    write = _cache_write(usage)
    if usage.input_tokens is usage.output_tokens is usage.cache_read_input_tokens is write is None:
        return None
    output, reasoning = _output(usage, known)
    return Usage(
        input=_or(usage.input_tokens, known.input),
        cache_read=_or(usage.cache_read_input_tokens, known.cache_read),
        cache_write=_or(write, known.cache_write),
        output=output,
        reasoning=reasoning,
    )


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
    return max(int(value), 0) if value else 0


def _or(value: Count, known: int) -> int:
    return known if value is None else _count(value)


def _first(*values: Count) -> int:
    return next((count for value in values if (count := _count(value))), 0)
