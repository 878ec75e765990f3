"""The parts of a chat completion that the gateway writes itself."""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from gateway.protocols.codec.json_decode import join_surrogates


class PromptDetails(msgspec.Struct, gc=False):
    """Tokens of the prompt that were read from the cache, and written to it."""

    cached_tokens: int
    cache_write_tokens: int


class CompletionDetails(msgspec.Struct, gc=False):
    """Tokens of the output that are reasoning."""

    reasoning_tokens: int


class CompletionUsage(msgspec.Struct, gc=False, omit_defaults=True):
    """OpenAI's `usage`."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails | UnsetType = UNSET


class ReasoningDetail(msgspec.Struct, gc=False, kw_only=True, omit_defaults=True):
    """Reasoning that must be sent back unchanged: signed text, or encrypted data."""

    index: int
    type: Literal["reasoning.text", "reasoning.encrypted"]
    text: str | UnsetType = UNSET
    signature: str | UnsetType = UNSET
    data: str | UnsetType = UNSET
    format: str | UnsetType = UNSET


class FunctionCall(msgspec.Struct, gc=False):
    """The called function; `arguments` is JSON in a string."""

    name: str
    arguments: str


class ToolCall(msgspec.Struct, gc=False, omit_defaults=True):
    """A call; `index` is for streams only."""

    index: int | UnsetType
    id: str
    type: str | UnsetType
    function: FunctionCall


def completion_id(message_id: str | None) -> str:
    """Return the chat completion's id for an Anthropic message id."""
    return "chatcmpl-" + (join_surrogates(message_id or "").removeprefix("msg_") or "unknown")
