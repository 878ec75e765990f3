"""The request fields that the gateway uses: as each wire has them, and as `CallFields`."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import msgspec
from msgspec import UNSET, Raw, UnsetType

from gateway.protocols.codec.absent import ABSENT


class _Tool(msgspec.Struct, gc=False):
    type: str | None = None


class PricedFields(msgspec.Struct, gc=False, kw_only=True):
    """The top-level members that name a priced feature, on either wire."""

    service_tier: Raw | UnsetType = UNSET
    speed: Raw | UnsetType = UNSET
    inference_geo: Raw | UnsetType = UNSET
    prompt_cache_retention: Raw | UnsetType = UNSET
    models: Raw | UnsetType = UNSET
    fallbacks: Raw | UnsetType = UNSET
    provider: Raw | UnsetType = UNSET
    preset: Raw | UnsetType = UNSET
    web_search_options: Raw | UnsetType = UNSET
    search_parameters: Raw | UnsetType = UNSET
    enable_search: Raw | UnsetType = UNSET
    plugins: Raw | UnsetType = UNSET
    mcp_servers: Raw | UnsetType = UNSET
    container: Raw | UnsetType = UNSET
    audio: Raw | UnsetType = UNSET
    modalities: Raw | UnsetType = UNSET
    tools: list[_Tool] | UnsetType | None = UNSET


class PricedUse(NamedTuple):
    """A priced feature that a request uses."""

    feature: str
    """Its name in `providers.allow_features`."""
    field: str
    """The top-level member."""
    tool: str | None = None
    """The type of the hosted tool, for `tools`."""


Tokens = Annotated[int, msgspec.Meta(ge=0)]
Choices = Annotated[int, msgspec.Meta(ge=1, le=128)]


class StreamOptions(msgspec.Struct, frozen=True, gc=False):
    """The part of OpenAI's `stream_options` that the gateway uses."""

    include_usage: bool | None = None


class CallFields(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a request that the gateway uses."""

    model: str
    """The name sent by the client."""
    model_span: tuple[int, int]
    """`body[start:end]` is the value of the top-level `model`, quotes included."""
    member_spans: dict[str, tuple[int, int]] | None = None
    """As `model_span`, of all top-level members by name; None for a small body."""
    stream: bool = False
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    choices: int = 1
    """Choices that the upstream generates: the larger of `n` and `best_of`."""
    user_id: str | None = None
    """Anthropic's `metadata.user_id`."""
    prompt_cache_key: str | None = None
    stream_options: StreamOptions | UnsetType | None = UNSET
    priced: tuple[PricedUse, ...] = ()
    """Requested features that the upstream charges separately, see `request.priced_features`."""
    asks_reasoning: bool | None = None
    """Whether the request enables or disables reasoning; None for the model's default."""
    tool_choice: bytes = b""
    """The JSON of the OpenAI wire's `tool_choice`; empty if absent."""
    has_top_k: bool = False
    """Whether the OpenAI wire's `top_k` is set, which OpenAI does not have."""

    @property
    def include_usage(self) -> bool:
        """Whether the client requested the usage chunk of an OpenAI stream."""
        return isinstance(self.stream_options, StreamOptions) and bool(
            self.stream_options.include_usage
        )

    @property
    def output_limit(self) -> int | None:
        """
        The most output tokens of one choice; None without a limit.

        The larger of two limits: upstreams differ in which one they apply.
        """
        limits = [
            limit for limit in (self.max_tokens, self.max_completion_tokens) if limit is not None
        ]
        return max(limits) if limits else None


class _Metadata(msgspec.Struct, gc=False):
    user_id: str | None = None


class OpenAIFields(PricedFields, gc=False, kw_only=True):
    model: str
    stream: bool | None = None
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    n: Choices | None = None
    best_of: Choices | None = None
    prompt_cache_key: str | None = None
    stream_options: StreamOptions | UnsetType | None = UNSET
    reasoning_effort: msgspec.Raw = ABSENT
    reasoning: msgspec.Raw = ABSENT
    thinking: msgspec.Raw = ABSENT
    enable_thinking: msgspec.Raw = ABSENT
    chat_template_kwargs: msgspec.Raw = ABSENT
    tool_choice: msgspec.Raw = ABSENT
    top_k: msgspec.Raw = ABSENT


class AnthropicFields(PricedFields, gc=False, kw_only=True):
    model: str
    stream: bool | None = None
    max_tokens: Tokens | None = None
    metadata: _Metadata | None = None
    thinking: msgspec.Raw = ABSENT
    output_config: msgspec.Raw = ABSENT
