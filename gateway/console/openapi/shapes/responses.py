"""OpenAI Responses: request, response, event; stored responses; and the native chat."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from gateway.console.openapi.shapes.common import (
    Metadata,
    ModelName,
    Stream,
    Temperature,
    TopP,
    about,
)


class ResponsesItem(Struct):
    """
    One item of the input or the output: a message, a call, a result, reasoning, or a reference.
    """

    type: (
        Annotated[
            str,
            about(
                "`message`, `function_call`, `function_call_output`, `reasoning`,"
                " `item_reference`, ..."
            ),
        ]
        | UnsetType
    ) = UNSET
    id: str | UnsetType | None = UNSET
    role: str | UnsetType = UNSET
    content: Any | UnsetType = UNSET
    status: str | UnsetType | None = UNSET
    call_id: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    arguments: Any | UnsetType = UNSET
    output: Any | UnsetType = UNSET
    encrypted_content: (
        Annotated[str | None, about("Of reasoning: send it back unchanged.")] | UnsetType
    ) = UNSET


class ResponsesTool(Struct):
    """A tool that the client runs; tools that OpenAI runs are left out or refused."""

    type: Annotated[str, about("`function`, `custom`, `local_shell`, `apply_patch`, ...")]
    name: str | UnsetType = UNSET
    description: str | UnsetType | None = UNSET
    parameters: Annotated[dict[str, Any] | None, about("A JSON schema.")] | UnsetType = UNSET
    strict: bool | UnsetType | None = UNSET


class ResponsesReasoning(Struct):
    effort: (
        Annotated[str | None, about("`none`, `minimal`, `low`, `medium`, `high` or `xhigh`.")]
        | UnsetType
    ) = UNSET
    summary: str | UnsetType | None = UNSET


class ResponsesRequest(Struct, kw_only=True):
    """A request for a response."""

    model: ModelName
    input: Annotated[str | list[ResponsesItem], about("A text, or items.")] | UnsetType = UNSET
    instructions: Annotated[str | None, about("The system prompt.")] | UnsetType = UNSET
    stream: Stream | UnsetType | None = UNSET
    store: (
        Annotated[
            bool | None, about("Store the response so that it can be continued; default true.")
        ]
        | UnsetType
    ) = UNSET
    previous_response_id: (
        Annotated[str | None, about("A stored response that `input` continues.")] | UnsetType
    ) = UNSET
    max_output_tokens: (
        Annotated[int | None, about("Most output tokens, reasoning included.")] | UnsetType
    ) = UNSET
    temperature: Temperature | UnsetType | None = UNSET
    top_p: TopP | UnsetType | None = UNSET
    tools: Annotated[list[ResponsesTool], about("Tools the model may call.")] | UnsetType = UNSET
    tool_choice: str | dict[str, Any] | UnsetType = UNSET
    parallel_tool_calls: bool | UnsetType | None = UNSET
    reasoning: ResponsesReasoning | UnsetType | None = UNSET
    text: (
        Annotated[dict[str, Any], about("`format` with a JSON schema, `verbosity`.")] | UnsetType
    ) = UNSET
    include: list[str] | UnsetType | None = UNSET
    metadata: Metadata | UnsetType | None = UNSET
    prompt_cache_key: str | UnsetType = UNSET
    user: str | UnsetType = UNSET


class ResponsesUsage(Struct):
    """Tokens of the call."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_details: dict[str, Any] | UnsetType = UNSET
    output_tokens_details: dict[str, Any] | UnsetType = UNSET


class ResponsesResponse(Struct):
    """A whole response."""

    id: str
    object: Literal["response"]
    created_at: Annotated[float, about("Unix seconds.")]
    status: Annotated[str, about("`completed`, `incomplete`, `failed` or `in_progress`.")]
    model: Annotated[str, about("The model's name as requested.")]
    output: list[ResponsesItem]
    usage: ResponsesUsage | UnsetType | None = UNSET
    store: Annotated[bool, about("Whether the response is stored.")] | UnsetType = UNSET
    previous_response_id: str | UnsetType | None = UNSET
    error: dict[str, Any] | UnsetType | None = UNSET
    incomplete_details: dict[str, Any] | UnsetType | None = UNSET


class ResponsesEvent(Struct):
    """The data of one event of a stream; `type` is also the event's name."""

    type: Annotated[
        str,
        about("`response.created`, `response.output_text.delta`, `response.completed`, ..."),
    ]
    sequence_number: int
    delta: Any | UnsetType = UNSET
    response: dict[str, Any] | UnsetType = UNSET
    item: dict[str, Any] | UnsetType = UNSET


class DeletedResponse(Struct):
    """What is left of a response."""

    id: str
    object: Literal["response"]
    deleted: bool


class InputItems(Struct):
    """One page of the items that a response was made from."""

    object: Literal["list"]
    data: list[ResponsesItem]
    first_id: str | None
    last_id: str | None
    has_more: bool


class NativeRequest(Struct, forbid_unknown_fields=True, kw_only=True):
    """Plain text in. Any other member is refused."""

    model: ModelName
    input: Annotated[str, Meta(min_length=1, description="The text, sent as one user message.")]
    temperature: Annotated[float, Meta(ge=0, description="Sampling temperature.")] | UnsetType = (
        UNSET
    )
    max_output_tokens: (
        Annotated[int, Meta(ge=1, description="Maximum tokens to generate.")] | UnsetType
    ) = UNSET
    max_retries: (
        Annotated[int, Meta(ge=0, description="Further attempts of this call after the first.")]
        | UnsetType
    ) = UNSET
    timeout: (
        Annotated[float, Meta(gt=0, description="Seconds for the whole call, then 504 `timeout`.")]
        | UnsetType
    ) = UNSET
    web_search: (
        Annotated[bool, about("Let the model search the web; only for a model that does.")]
        | UnsetType
    ) = UNSET


class NativeResult(Struct):
    text: Annotated[str, about("The text; the refusal if the model refused.")]


class NativeUsage(Struct):
    input_tokens: Annotated[int, about("Tokens read, cached ones included.")]
    output_tokens: Annotated[int, about("Tokens generated, reasoning included.")]
    total_tokens: int
    cached_tokens: Annotated[int, about("Input tokens that came from the provider's cache.")]
    charged_tokens: Annotated[
        int, about("Uncached input, output, and cached input at its price ratio, rounded up.")
    ]


class NativeResponse(Struct):
    """Plain text out."""

    id: Annotated[str, about("A UUID of this response.")]
    model: Annotated[str, about("The model's name as requested.")]
    result: NativeResult
    usage: NativeUsage
