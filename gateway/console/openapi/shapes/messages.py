"""Anthropic Messages: request, response, event and token count."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from gateway.console.openapi.shapes.common import (
    CacheControl,
    Fallbacks,
    JsonSchema,
    ModelName,
    Stream,
    Temperature,
    TopP,
    about,
)


class MessagesBlock(Struct):
    """One content block; which members count depends on `type`."""

    type: Annotated[
        str, about("`text`, `image`, `document`, `tool_use`, `tool_result`, `thinking`, ...")
    ]
    text: str | UnsetType = UNSET
    source: (
        Annotated[Any, about("Of images and documents: `type`, `media_type`, `data` or `url`.")]
        | UnsetType
    ) = UNSET
    id: Annotated[str, about("Of a tool's call.")] | UnsetType = UNSET
    name: Annotated[str, about("Of the called tool.")] | UnsetType = UNSET
    input: Annotated[Any, about("Arguments of the called tool.")] | UnsetType = UNSET
    tool_use_id: Annotated[str, about("The call that a `tool_result` belongs to.")] | UnsetType = (
        UNSET
    )
    content: Annotated[Any, about("The result: a text or a list of blocks.")] | UnsetType = UNSET
    is_error: bool | UnsetType = UNSET
    thinking: str | UnsetType = UNSET
    signature: (
        Annotated[str, about("Of a `thinking` block: send it back unchanged.")] | UnsetType
    ) = UNSET
    cache_control: CacheControl | UnsetType | None = UNSET


class MessagesMessage(Struct):
    """One message of the conversation."""

    role: Annotated[str, about("`user` or `assistant`.")]
    content: Annotated[str | list[MessagesBlock], about("Text, or a list of blocks.")]


class MessagesTool(Struct):
    """A tool; without a `type`, one that the client runs."""

    name: str
    description: str | UnsetType = UNSET
    input_schema: JsonSchema | UnsetType = UNSET
    type: str | UnsetType | None = UNSET
    cache_control: CacheControl | UnsetType | None = UNSET


class MessagesToolChoice(Struct):
    type: Annotated[str, about("`auto`, `any`, `tool` or `none`.")]
    name: str | UnsetType = UNSET
    disable_parallel_tool_use: bool | UnsetType = UNSET


class MessagesThinking(Struct):
    type: Annotated[str, about("`enabled`, `adaptive` or `disabled`.")]
    budget_tokens: Annotated[int, about("Most tokens of thinking.")] | UnsetType = UNSET


class TokenCountRequest(Struct, kw_only=True):
    """The members of a Messages request that count as input. Others are forwarded."""

    model: ModelName
    messages: Annotated[list[MessagesMessage], Meta(min_length=1, description="The conversation.")]
    system: Annotated[str | list[MessagesBlock], about("The system prompt.")] | UnsetType = UNSET
    tools: Annotated[list[MessagesTool], about("Tools the model may call.")] | UnsetType = UNSET
    tool_choice: MessagesToolChoice | UnsetType = UNSET
    thinking: Annotated[MessagesThinking, about("Whether the model thinks.")] | UnsetType = UNSET


class MessagesRequest(TokenCountRequest, kw_only=True):
    """A request for a message. Other members are forwarded as they are."""

    max_tokens: Annotated[int, Meta(ge=0, description="Most output tokens, thinking included.")]
    stream: Stream | UnsetType = UNSET
    temperature: Temperature | UnsetType = UNSET
    top_p: TopP | UnsetType = UNSET
    top_k: int | UnsetType = UNSET
    stop_sequences: Annotated[list[str], about("Texts at which generation ends.")] | UnsetType = (
        UNSET
    )
    output_config: (
        Annotated[dict[str, Any], about("`effort`, and `format` with a JSON schema.")] | UnsetType
    ) = UNSET
    metadata: (
        Annotated[dict[str, Any], about("`user_id`: the end user's id.")] | UnsetType | None
    ) = UNSET
    fallbacks: Fallbacks | UnsetType = UNSET


class MessagesUsage(Struct):
    """Tokens of the call, in disjoint classes."""

    input_tokens: Annotated[int, about("Neither read from nor written to the cache.")]
    output_tokens: Annotated[int, about("Thinking included.")]
    cache_read_input_tokens: int | UnsetType | None = UNSET
    cache_creation_input_tokens: int | UnsetType | None = UNSET


class MessagesResponse(Struct):
    """A whole message."""

    id: str
    type: Literal["message"]
    role: str
    model: Annotated[str, about("The model's name as requested.")]
    content: list[MessagesBlock]
    stop_reason: Annotated[
        str | None, about("`end_turn`, `max_tokens`, `stop_sequence`, `tool_use` or `refusal`.")
    ]
    stop_sequence: str | None
    usage: MessagesUsage


class MessagesEvent(Struct):
    """The data of one event of a stream; `type` is also the event's name."""

    type: Annotated[
        str,
        about(
            "`message_start`, `content_block_start`, `content_block_delta`, `content_block_stop`,"
            " `message_delta`, `message_stop`, `ping` or `error`."
        ),
    ]
    index: Annotated[int, about("Of the content block.")] | UnsetType = UNSET
    message: Annotated[dict[str, Any], about("The message so far.")] | UnsetType = UNSET
    content_block: dict[str, Any] | UnsetType = UNSET
    delta: Annotated[dict[str, Any], about("What the event adds.")] | UnsetType = UNSET
    usage: dict[str, Any] | UnsetType = UNSET


class TokenCount(Struct):
    """The size of a request."""

    input_tokens: int
