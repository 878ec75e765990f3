"""OpenAI Chat Completions: request, response and chunk."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from gateway.console.openapi.shapes.common import (
    CacheControl,
    Fallbacks,
    JsonSchema,
    Metadata,
    ModelName,
    Stream,
    Temperature,
    TopP,
    about,
)


class ChatImageUrl(Struct):
    url: Annotated[str, about("An `https:` or `data:` URL.")]
    detail: str | UnsetType = UNSET


class ChatPart(Struct):
    """One part of a message's content; which members count depends on `type`."""

    type: Annotated[str, about("`text`, `image_url`, `file` or `input_audio`.")]
    text: str | UnsetType = UNSET
    image_url: ChatImageUrl | UnsetType = UNSET
    file: Annotated[dict[str, Any], about("A document: `filename`, `file_data`.")] | UnsetType = (
        UNSET
    )
    cache_control: CacheControl | UnsetType = UNSET


class ChatFunctionCall(Struct):
    name: str
    arguments: Annotated[str, about("The arguments as JSON in a string.")]


class ChatToolCall(Struct):
    id: str
    function: ChatFunctionCall
    type: str = "function"


class ChatMessage(Struct):
    """One message of the conversation."""

    role: Annotated[str, about("`system`, `developer`, `user`, `assistant` or `tool`.")]
    content: (
        Annotated[str | list[ChatPart] | None, about("Text, or a list of parts.")] | UnsetType
    ) = UNSET
    name: str | UnsetType = UNSET
    tool_calls: (
        Annotated[list[ChatToolCall], about("Calls that the model made, in an assistant message.")]
        | UnsetType
    ) = UNSET
    tool_call_id: (
        Annotated[str, about("The call that this `tool` message is the result of.")] | UnsetType
    ) = UNSET
    reasoning_content: (
        Annotated[str | None, about("Reasoning of an earlier turn, for models that want it back.")]
        | UnsetType
    ) = UNSET


class ChatFunction(Struct):
    name: str
    description: str | UnsetType = UNSET
    parameters: JsonSchema | UnsetType = UNSET
    strict: bool | UnsetType | None = UNSET


class ChatTool(Struct):
    """A function that the client runs."""

    function: ChatFunction
    type: str = "function"


class ChatStreamOptions(Struct):
    include_usage: (
        Annotated[bool, about("Send the usage in a last chunk; without it the chunk is left out.")]
        | UnsetType
    ) = UNSET


class ChatResponseFormat(Struct):
    type: Annotated[str, about("`text`, `json_object` or `json_schema`.")]
    json_schema: Annotated[dict[str, Any], about("`name`, `schema`, `strict`.")] | UnsetType = UNSET


class ChatRequest(Struct, kw_only=True):
    """A request for a chat completion. Other members are forwarded as they are."""

    model: ModelName
    messages: Annotated[list[ChatMessage], Meta(min_length=1, description="The conversation.")]
    stream: Stream | UnsetType | None = UNSET
    stream_options: ChatStreamOptions | UnsetType | None = UNSET
    max_tokens: (
        Annotated[int | None, about("Most output tokens, reasoning included.")] | UnsetType
    ) = UNSET
    max_completion_tokens: (
        Annotated[int | None, about("As `max_tokens`, under OpenAI's newer name.")] | UnsetType
    ) = UNSET
    temperature: Temperature | UnsetType | None = UNSET
    top_p: TopP | UnsetType | None = UNSET
    stop: (
        Annotated[str | list[str] | None, about("Texts at which generation ends.")] | UnsetType
    ) = UNSET
    n: Annotated[int | None, about("Number of choices; each is charged.")] | UnsetType = UNSET
    tools: Annotated[list[ChatTool], about("Functions the model may call.")] | UnsetType = UNSET
    tool_choice: (
        Annotated[str | dict[str, Any], about("`auto`, `none`, `required`, or one function.")]
        | UnsetType
    ) = UNSET
    parallel_tool_calls: bool | UnsetType | None = UNSET
    response_format: ChatResponseFormat | UnsetType = UNSET
    reasoning_effort: (
        Annotated[str | None, about("`none`, `minimal`, `low`, `medium`, `high` or `xhigh`.")]
        | UnsetType
    ) = UNSET
    seed: int | UnsetType | None = UNSET
    presence_penalty: float | UnsetType | None = UNSET
    frequency_penalty: float | UnsetType | None = UNSET
    logprobs: bool | UnsetType | None = UNSET
    top_logprobs: int | UnsetType | None = UNSET
    logit_bias: dict[str, Any] | UnsetType | None = UNSET
    user: (
        Annotated[str, about("The end user's id. It also groups calls of a conversation.")]
        | UnsetType
    ) = UNSET
    prompt_cache_key: str | UnsetType = UNSET
    metadata: Metadata | UnsetType | None = UNSET
    models: Fallbacks | UnsetType = UNSET


class ChatPromptDetails(Struct):
    cached_tokens: Annotated[int, about("Of `prompt_tokens`: read from the cache.")] | UnsetType = (
        UNSET
    )


class ChatCompletionDetails(Struct):
    reasoning_tokens: Annotated[int, about("Of `completion_tokens`: reasoning.")] | UnsetType = (
        UNSET
    )


class ChatUsage(Struct):
    """Tokens of the call."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: ChatPromptDetails | UnsetType | None = UNSET
    completion_tokens_details: ChatCompletionDetails | UnsetType | None = UNSET


class ChatReply(Struct):
    """The model's message."""

    role: str = "assistant"
    content: str | None = None
    reasoning_content: (
        Annotated[str | None, about("The model's reasoning, where it shows it.")] | UnsetType
    ) = UNSET
    refusal: str | UnsetType | None = UNSET
    tool_calls: list[ChatToolCall] | UnsetType | None = UNSET


class ChatChoice(Struct):
    index: int
    message: ChatReply
    finish_reason: Annotated[
        str | None, about("`stop`, `length`, `tool_calls` or `content_filter`.")
    ]


class ChatResponse(Struct):
    """A whole chat completion."""

    id: str
    object: Literal["chat.completion"]
    created: Annotated[int, about("Unix seconds.")]
    model: Annotated[str, about("The model's name as requested.")]
    choices: list[ChatChoice]
    usage: ChatUsage | UnsetType | None = UNSET


class ChatDeltaCall(Struct):
    index: int
    id: str | UnsetType | None = UNSET
    function: dict[str, Any] | UnsetType = UNSET


class ChatDelta(Struct):
    """What a chunk adds to the message."""

    role: str | UnsetType | None = UNSET
    content: str | UnsetType | None = UNSET
    reasoning_content: str | UnsetType | None = UNSET
    tool_calls: list[ChatDeltaCall] | UnsetType | None = UNSET


class ChatChunkChoice(Struct):
    index: int
    delta: ChatDelta
    finish_reason: str | None = None


class ChatChunk(Struct):
    """The data of one event of a stream. The last event's data is `[DONE]`."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: ChatUsage | UnsetType | None = UNSET


class EmbeddingsRequest(Struct, kw_only=True):
    """A request for embeddings. Other members are forwarded as they are."""

    model: ModelName
    input: Annotated[
        str | list[Any], about("A text, a list of texts, a list of tokens, or a list of those.")
    ]
    dimensions: int | UnsetType = UNSET
    encoding_format: Annotated[str, about("`float` or `base64`.")] | UnsetType = UNSET
    user: str | UnsetType = UNSET


class Embedding(Struct):
    object: str
    index: int
    embedding: Annotated[list[float] | str, about("Numbers, or their base64.")]


class EmbeddingsResponse(Struct):
    """Embeddings in the order of the input."""

    object: str
    data: list[Embedding]
    model: str
    usage: Annotated[dict[str, Any], about("`prompt_tokens` and `total_tokens`.")]
