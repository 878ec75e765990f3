"""
The parts of an OpenAI Chat Completions request that the gateway interprets.

Values that only pass through stay raw bytes: schemas, arguments and numbers (big integers, `1.0`)
must not change. All variants that clients send are accepted, such as images and arguments as a
string or as an object. Members without effect are not listed.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Raw

from gateway.protocols.codec.absent import ABSENT

_Positive = Annotated[int, Meta(ge=1)]


class CacheBreakpoint(msgspec.Struct, gc=False):
    """End of a reusable prefix."""

    ttl: str | None = None


class ImageUrl(msgspec.Struct, gc=False):
    """An http(s) or data URL."""

    url: str


class File(msgspec.Struct, gc=False):
    """A document, inline or by reference."""

    filename: str | None = None
    file_data: str | None = None
    file_id: str | None = None


class Part(msgspec.Struct, gc=False):
    """A content part of any type; which members apply depends on `type`."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: ImageUrl | str | None = None
    file: File | None = None
    cache_control: Raw = ABSENT
    prompt_cache_breakpoint: CacheBreakpoint | None = None


class FunctionCall(msgspec.Struct, gc=False):
    """The called function; `arguments` is a JSON string that holds JSON, or the object itself."""

    name: str
    arguments: Raw = ABSENT


class CustomCall(msgspec.Struct, gc=False):
    """A call whose input is free text."""

    name: str
    input: str | None = None


class ToolCall(msgspec.Struct, gc=False):
    """A call in an assistant message."""

    id: str
    function: FunctionCall | None = None
    custom: CustomCall | None = None
    cache_control: Raw = ABSENT


class Message(msgspec.Struct, gc=False):
    role: str
    content: str | list[Part] | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    function_call: Raw = ABSENT
    reasoning_details: Raw = ABSENT
    thinking_blocks: Raw = ABSENT
    cache_control: Raw = ABSENT
    """The AI SDK writes it next to the content if that is a string."""


class FunctionDefinition(msgspec.Struct, gc=False):
    """A function the client runs; `parameters` is a JSON schema."""

    name: str
    description: str | None = None
    parameters: Raw = ABSENT
    strict: bool | None = None
    cache_control: Raw = ABSENT


class Tool(msgspec.Struct, gc=False):
    type: str = "function"
    function: FunctionDefinition | None = None
    cache_control: Raw = ABSENT


class FunctionName(msgspec.Struct, gc=False):
    name: str


class AllowedTool(msgspec.Struct, gc=False):
    type: str = "function"
    function: FunctionName | None = None


class AllowedTools(msgspec.Struct, gc=False):
    """The subset of tools that the model may use."""

    mode: str = "auto"
    tools: list[AllowedTool] = []


class ToolChoice(msgspec.Struct, gc=False):
    """Which tool the model must or may use; some clients omit the type."""

    type: str | None = None
    name: str | None = None
    """In Anthropic's form, whose type is `tool`."""
    function: FunctionName | None = None
    allowed_tools: AllowedTools | None = None


class JsonSchema(msgspec.Struct, gc=False):
    """The schema of the response's text."""

    schema: Raw = ABSENT


class ResponseFormat(msgspec.Struct, gc=False):
    """Whether the response's text is JSON, and its schema."""

    type: str
    json_schema: JsonSchema | None = None


class StreamOptions(msgspec.Struct, gc=False):
    include_usage: bool | None = None


class ChatRequest(msgspec.Struct, gc=False):
    """The top level. Members not listed have no effect."""

    model: str
    messages: list[Message] | None = None
    max_completion_tokens: _Positive | None = None
    max_tokens: _Positive | None = None
    stop: str | list[str] | None = None
    temperature: Raw = ABSENT
    top_p: Raw = ABSENT
    top_k: Raw = ABSENT
    tools: list[Tool] | None = None
    tool_choice: str | ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: str | None = None
    thinking: Raw = ABSENT
    reasoning: Raw = ABSENT
    """OpenRouter's."""
    enable_thinking: Raw = ABSENT
    """Qwen's."""
    chat_template_kwargs: Raw = ABSENT
    """vLLM's."""
    response_format: ResponseFormat | None = None
    user: str | None = None
    safety_identifier: str | None = None
    service_tier: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    cache_control: Raw = ABSENT
    n: _Positive | None = None
    logprobs: bool | None = None
    top_logprobs: Raw = ABSENT
    functions: Raw = ABSENT
    function_call: Raw = ABSENT
    modalities: list[str] | None = None
    audio: Raw = ABSENT
    web_search_options: Raw = ABSENT
    logit_bias: Raw = ABSENT
    seed: Raw = ABSENT
    presence_penalty: Raw = ABSENT
    frequency_penalty: Raw = ABSENT
    prediction: Raw = ABSENT
    verbosity: Raw = ABSENT
    moderation: Raw = ABSENT
