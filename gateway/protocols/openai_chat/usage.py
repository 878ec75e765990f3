"""
Reads the OpenAI wire's `usage` in all its variants, for billing and for responses alike.

`prompt_tokens` includes cached tokens, and `completion_tokens` includes reasoning. Some providers
exclude audio, cached tokens or reasoning (xAI) from both and report them only in the details and in
the total. If the total exceeds the sum of both, the excess is therefore assigned to the detail of
equal size, with reasoning compared first. If no detail has that size, the excess is output, such as
reasoning without details (Gemini's OpenAI endpoint). If the prompt is not counted, the excess is
the prompt.
tests/unit/protocols/test_dialect_usage.py has the form of each provider.

Endpoints that translate to another API may report under its names: `input_tokens` includes cached
tokens (Responses) unless they are stated as `cache_read_input_tokens` (Messages).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from gateway.core.model import Usage
from gateway.protocols.codec.nesting import is_deep
from gateway.protocols.codec.usage_counts import UNREADABLE, count, first_count
from gateway.protocols.openai_chat.usage_fields import CompletionDetails, OpenAIUsage, PromptDetails

_DECODER: Final = msgspec.json.Decoder(OpenAIUsage)


class ChatUsage(NamedTuple):
    """Tokens as a chat client counts them: `input` includes cached and cache-written tokens."""

    input: int = 0
    output: int = 0
    cached: int = 0
    cache_write: int = 0
    reasoning: int | None = None
    """The part of `output` that is reasoning; None: the upstream does not report it."""

    @property
    def total(self) -> int:
        """Input and output."""
        return self.input + self.output


def chat_usage(usage: Usage, *, reasoning_stated: bool = True) -> ChatUsage:
    """Return usage in disjoint classes as a chat client counts it."""
    return ChatUsage(
        input=usage.input + usage.cache_read + usage.cache_write,
        output=usage.output + usage.reasoning,
        cached=usage.cache_read,
        cache_write=usage.cache_write,
        reasoning=usage.reasoning if reasoning_stated else None,
    )


def read_openai_usage(
    raw: bytes, service_tier: object = None, *, reasoning_apart: bool = False
) -> Usage | None:
    """
    Return a `usage` object of the OpenAI wire.

    Args:
        raw: The object.
        service_tier: The tier that the response reports next to its usage.
        reasoning_apart: Reasoning is neither in `completion_tokens` nor in the total.

    Returns:
        None if it is not a usage object, or has no count or an impossible one.
    """
    if is_deep(raw):
        return None
    try:
        return _usage(_DECODER.decode(raw), service_tier, reasoning_apart=reasoning_apart)
    except UNREADABLE:
        return None


def convert_openai_usage(
    usage: Mapping[str, object] | None, *, reasoning_apart: bool = False
) -> Usage | None:
    """Return the usage in a decoded object, as `read_openai_usage`; None without usage."""
    if usage is None:
        return None
    try:
        return _usage(msgspec.convert(usage, OpenAIUsage), None, reasoning_apart=reasoning_apart)
    except UNREADABLE:
        return None


def read_chat_usage(
    usage: Mapping[str, object] | None, *, reasoning_apart: bool = False
) -> ChatUsage | None:
    """Return the usage in a decoded object as a chat client counts it; None without usage."""
    found = convert_openai_usage(usage, reasoning_apart=reasoning_apart)
    return None if found is None else chat_usage(found)


def laid_over(usage: Usage, known: Usage) -> Usage:
    """Return `usage`, with the known input or output where it has 0."""
    if not (usage.input or usage.cache_read or usage.cache_write):
        usage = msgspec.structs.replace(
            usage, input=known.input, cache_read=known.cache_read, cache_write=known.cache_write
        )
    if not (usage.output or usage.reasoning):
        usage = msgspec.structs.replace(usage, output=known.output, reasoning=known.reasoning)
    return usage


def settled_usage(usage: Usage, reported: bool, input_tokens: int, *, output_tokens: int) -> Usage:
    """
    Return the usage to bill: `usage` if it is complete, else completed by estimates.

    An input of 0 tokens means that the upstream did not count it, since no input is empty.

    Args:
        usage: The reported usage.
        reported: Whether it covers the output.
        input_tokens: An estimate of the input, used if none was reported.
        output_tokens: An estimate of the output, reasoning included.
    """
    known = usage.input + usage.cache_read + usage.cache_write
    if reported and known:
        return usage
    if reported:
        return msgspec.structs.replace(usage, input=input_tokens)
    return Usage(
        input=usage.input if known else input_tokens,
        cache_read=usage.cache_read,
        cache_write=usage.cache_write,
        output=max(usage.output, output_tokens - usage.reasoning),
        reasoning=usage.reasoning,
    )


def _usage(usage: OpenAIUsage, service_tier: object, *, reasoning_apart: bool) -> Usage | None:
    if usage.prompt_tokens is usage.completion_tokens is None:
        _rename_counts(usage)
    if usage.prompt_tokens is usage.completion_tokens is usage.total_tokens is None:
        return None
    details = usage.prompt_tokens_details or usage.prompt_token_details or PromptDetails()
    read = first_count(
        details.cached_tokens,
        usage.cached_tokens,
        usage.num_cached_tokens,
        usage.prompt_cache_hit_tokens,
        usage.cache_read_input_tokens,
    )
    write = details.cache_write() or count(usage.cache_creation_input_tokens)
    stated = count((usage.completion_tokens_details or CompletionDetails()).reasoning_tokens)
    prompt, output = count(usage.prompt_tokens), count(usage.completion_tokens)
    is_stated = prompt > 0
    prompt = prompt or read + write
    beyond = count(usage.total_tokens) - prompt - output
    if beyond > 0 and not prompt:
        if not output:
            return None  # a total alone does not separate input from output
        prompt = beyond
    elif beyond > 0 and usage.prompt_tokens is not None:
        outside = (count(details.audio_tokens), read, write, read + write)
        more_input = _more_input(beyond, stated, outside) if is_stated else 0
        prompt += more_input
        output += beyond - more_input
    if reasoning_apart and beyond <= 0:
        output += stated
    apart = count(usage.cache_read_input_tokens) + count(usage.cache_creation_input_tokens)
    if apart > prompt:  # counted as in Messages, where the input excludes them
        prompt += apart
    read = min(read, prompt)
    write = min(write, prompt - read)
    reasoning = min(stated, output)
    return Usage(
        input=prompt - read - write,
        cache_read=read,
        cache_write=write,
        output=output - reasoning,
        reasoning=reasoning,
        web_searches=usage.web_searches(),
        tier=usage.tier(service_tier),
    )


def _more_input(beyond: int, reasoning: int, outside: tuple[int, ...]) -> int:
    """Return the input in the excess of a total over its parts; the rest of it is output."""
    if beyond == reasoning:
        return 0
    if beyond in outside:
        return beyond
    return beyond - reasoning if reasoning and beyond - reasoning in outside else 0


def _rename_counts(usage: OpenAIUsage) -> None:
    """Set the members of this wire from those of Responses or Messages, if there are any."""
    usage.completion_tokens = usage.output_tokens
    usage.prompt_tokens_details = usage.prompt_tokens_details or usage.input_tokens_details
    usage.completion_tokens_details = usage.completion_tokens_details or usage.output_tokens_details
    if usage.input_tokens is not None:
        apart = count(usage.cache_read_input_tokens) + count(usage.cache_creation_input_tokens)
        usage.prompt_tokens = count(usage.input_tokens) + apart
