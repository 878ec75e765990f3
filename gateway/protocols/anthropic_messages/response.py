"""The parts of an Anthropic message that the gateway writes itself."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType


class ThinkingTokens(msgspec.Struct, gc=False):
    """Tokens of the output that are reasoning."""

    thinking_tokens: int


class AnthropicUsage(msgspec.Struct, gc=False, omit_defaults=True):
    """Anthropic's `usage`: always four counts, which do not overlap."""

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int
    output_tokens_details: ThinkingTokens | UnsetType = UNSET


class StopDetails(msgspec.Struct, gc=False):
    """Why a response was refused."""

    type: str
    category: str | None
    explanation: str | None


class Stop(msgspec.Struct, gc=False, omit_defaults=True):
    """How a response ended."""

    stop_reason: str
    stop_sequence: str | None
    stop_details: StopDetails | UnsetType = UNSET
