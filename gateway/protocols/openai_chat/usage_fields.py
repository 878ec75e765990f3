"""The members of the OpenAI wire's `usage`, in all its variants, see `usage`."""

from __future__ import annotations

import msgspec

from gateway.protocols.charged_extras import ChargedExtras
from gateway.protocols.codec.usage_counts import Count, first_count


class _CacheCreation(msgspec.Struct, gc=False):
    """DashScope reports one count in either of these members, or next to this object."""

    cache_creation_input_tokens: Count = None
    ephemeral_5m_input_tokens: Count = None


class PromptDetails(msgspec.Struct, gc=False):
    cached_tokens: Count = None
    cache_write_tokens: Count = None
    cache_creation_tokens: Count = None
    cache_creation_input_tokens: Count = None
    cache_creation: _CacheCreation | None = None
    audio_tokens: Count = None

    def cache_write(self) -> int:
        """Return the tokens that were written to the cache."""
        created = self.cache_creation or _CacheCreation()
        return first_count(
            self.cache_write_tokens,
            self.cache_creation_tokens,
            self.cache_creation_input_tokens,
            created.cache_creation_input_tokens,
            created.ephemeral_5m_input_tokens,
        )


class CompletionDetails(msgspec.Struct, gc=False):
    reasoning_tokens: Count = None


class OpenAIUsage(ChargedExtras, gc=False):
    prompt_tokens: Count = None
    completion_tokens: Count = None
    total_tokens: Count = None
    prompt_tokens_details: PromptDetails | None = None
    prompt_token_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None
    cached_tokens: Count = None
    num_cached_tokens: Count = None
    prompt_cache_hit_tokens: Count = None
    cache_read_input_tokens: Count = None
    cache_creation_input_tokens: Count = None
    input_tokens: Count = None
    output_tokens: Count = None
    input_tokens_details: PromptDetails | None = None
    output_tokens_details: CompletionDetails | None = None
