"""
Translates an OpenAI Responses request to a Chat Completions request.

Any upstream can serve the chat form. Previous responses and item references were replaced by their
items before, see `stored`; conversations and prompts stored at the provider are rejected.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw

from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.codec.json_decode import decode_request
from gateway.protocols.openai_responses.context import ResponsesContext, read_context
from gateway.protocols.openai_responses.input.messages import ChatMessages, Item
from gateway.protocols.openai_responses.input.tools import ChatTools, Tool

_NULL: Final = Raw(b"null")


class ChatRequest(msgspec.Struct, frozen=True):
    """A chat request made from a Responses request. The same history gives the same bytes."""

    body: bytes
    """Has the client's model name, to be rewritten or translated like any chat request."""
    dropped: tuple[str, ...]
    """Names of members that were dropped and could have had an effect, each once."""
    context: ResponsesContext


class _Reasoning(msgspec.Struct):
    effort: str | None = None


class _Format(msgspec.Struct):
    type: str
    name: Raw = _NULL
    schema: Raw = _NULL
    strict: Raw = _NULL
    description: Raw = _NULL


class _Text(msgspec.Struct):
    format: _Format | None = None
    verbosity: str | None = None


class _Request(msgspec.Struct):
    model: str
    input: str | list[Item] | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    temperature: Raw = _NULL
    top_p: Raw = _NULL
    user: Raw = _NULL
    safety_identifier: Raw = _NULL
    prompt_cache_key: Raw = _NULL
    service_tier: Raw = _NULL
    reasoning: _Reasoning | None = None
    text: _Text | None = None
    tools: list[Tool] | None = None
    tool_choice: Raw = _NULL
    parallel_tool_calls: bool | None = None
    stream: bool | None = None
    background: bool | None = None
    top_logprobs: int | None = None
    previous_response_id: Raw = _NULL
    conversation: Raw = _NULL
    prompt: Raw = _NULL
    context_management: Raw = _NULL
    max_tool_calls: Raw = _NULL
    truncation: Raw = _NULL


_REQUEST: Final = msgspec.json.Decoder(_Request)
_SAME_NAME: Final = (
    "temperature",
    "top_p",
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "service_tier",
)
_WITHOUT_EFFECT: Final = ("context_management", "max_tool_calls", "truncation")
"""Dropped and reported: the gateway does not truncate, compact on its own, or run tools."""
_UNSET: Final = (b"null", b"[]", b'"disabled"')
_ABSENT: Final = (b"null", b'""')
_REMEDIES: Final = {
    "previous_response_id": "send the full input",
    "conversation": "continue a response with previous_response_id, or send the full input",
    "prompt": "prompt templates are stored at OpenAI; send instructions and input",
    "background": "leave it out, and read the response or its stream",
    "top_logprobs": "use /v1/chat/completions, or leave it out",
}


def translate_responses_request(body: bytes) -> ChatRequest:
    """
    Return the chat request, and the context for its response.

    Args:
        body: The client's request.

    Raises:
        GatewayError: BAD_REQUEST or UNSUPPORTED, with `param`.
    """
    context = read_context(body)
    request = decode_request(body, _REQUEST)
    _refuse_unsupported(request)
    tools = ChatTools()
    tools.add(request.tools or [])
    messages = ChatMessages(tools)
    messages.add_text("system", request.instructions or "")
    _add_input(messages, request.input)
    chat: dict[str, object] = {"model": request.model, "messages": messages.finish()}
    choice = request.tool_choice
    if messages.compacts:
        # The tools stay, since the provider's prompt cache begins with them.
        choice, request.text = Raw(b'"none"'), None
    chat |= _limits(request)
    chat |= tools.chat_members(choice, request.parallel_tool_calls)
    if request.stream:
        chat |= {"stream": True, "stream_options": {"include_usage": True}}
    context = msgspec.structs.replace(
        context,
        tool_names=tools.names,
        history_ids=frozenset(messages.history_ids),
        compacts=messages.compacts,
    )
    unused = [name for name in _WITHOUT_EFFECT if bytes(getattr(request, name)) not in _UNSET]
    dropped = tuple(dict.fromkeys(tools.dropped + messages.dropped + unused))
    return ChatRequest(msgspec.json.encode(chat), dropped, context)


def _refuse_unsupported(request: _Request) -> None:
    refused = {
        "previous_response_id": bytes(request.previous_response_id) not in _ABSENT,
        "conversation": bytes(request.conversation) not in _ABSENT,
        "prompt": bytes(request.prompt) not in _ABSENT,
        "background": request.background is True,
        "top_logprobs": bool(request.top_logprobs),
    }
    for name, is_refused in refused.items():
        if is_refused:
            raise _unsupported(name, f"{name} is not supported: {_REMEDIES[name]}")


def _add_input(messages: ChatMessages, given: str | list[Item] | None) -> None:
    if given is None:
        message = "Missing required parameter: 'input'."
        raise GatewayError(ErrorKind.BAD_REQUEST, message, param="input")
    if isinstance(given, str):
        messages.add_text("user", given)
        return
    for index, item in enumerate(given):
        messages.add(index, item)


def _limits(request: _Request) -> dict[str, object]:
    """Return the members for length, sampling, effort and format."""
    members: dict[str, object] = {}
    if request.max_output_tokens is not None:
        members["max_completion_tokens"] = request.max_output_tokens
    for name in _SAME_NAME:
        value = getattr(request, name)
        if bytes(value) != b"null":
            members[name] = value
    if request.reasoning is not None and request.reasoning.effort is not None:
        members["reasoning_effort"] = request.reasoning.effort
    text = request.text or _Text()
    if text.verbosity is not None:
        members["verbosity"] = text.verbosity
    if text.format is not None and text.format.type != "text":
        members["response_format"] = _response_format(text.format)
    return members


def _response_format(wanted: _Format) -> dict[str, object]:
    if wanted.type == "json_object":
        return {"type": "json_object"}
    if wanted.type != "json_schema":
        message = f"text.format: type '{wanted.type}' is not supported by this model"
        raise _unsupported("text.format", message)
    given = {name: getattr(wanted, name) for name in ("name", "schema", "strict", "description")}
    schema = {name: value for name, value in given.items() if bytes(value) != b"null"}
    return {"type": "json_schema", "json_schema": schema}


def _unsupported(param: str, message: str) -> GatewayError:
    return GatewayError(ErrorKind.UNSUPPORTED, message, param=param)
