"""
The parts of an OpenAI Responses request that its response depends on.

The API repeats much of the request in every response object; these members are kept as the client's
JSON without line ends, which would end an event early.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw

from gateway.protocols.codec.json_decode import decode_request


class ToolName(msgspec.Struct, frozen=True, omit_defaults=True):
    """The client's name and kind of a tool with another name or kind upstream."""

    name: str
    namespace: str | None = None
    custom: bool = False
    """Its calls are `custom_tool_call` items, whose input is one text, not an object."""
    item: str = ""
    """The item type of its calls, for tools of the API that the client runs itself."""


class ResponsesContext(msgspec.Struct, frozen=True, kw_only=True):
    """The properties of a Responses request that its response needs."""

    model: str
    """The model's name as the client sent it."""
    echo: dict[str, Raw]
    """Members of the response object that repeat the request."""
    stream: bool = False
    tool_names: dict[str, ToolName] = {}
    """Upstream name -> the client's, only for tools where they differ."""
    history_ids: frozenset[str] = frozenset()
    """Call ids in the request, which new calls must not repeat."""
    compacts: bool = False
    """The response's text is a summary, and becomes a compaction item."""
    created: int = 0
    """Unix seconds; set with `msgspec.structs.replace`."""
    token: str = ""
    """The ids of the response and its items derive from it; empty: from the upstream's id."""
    previous_response_id: str | None = None
    store: bool = False
    """The response is to be stored; a stream's last event waits until it is."""


class _EchoedReasoning(msgspec.Struct):
    effort: Raw = Raw(b"null")
    summary: Raw = Raw(b"null")


class _EchoedText(msgspec.Struct, omit_defaults=True):
    format: Raw = Raw(b"null")
    verbosity: Raw = Raw(b"null")


class _Echoed(msgspec.Struct):
    model: str
    stream: bool | None = None
    instructions: Raw = Raw(b"null")
    max_output_tokens: Raw = Raw(b"null")
    metadata: Raw = Raw(b"null")
    parallel_tool_calls: Raw = Raw(b"null")
    reasoning: _EchoedReasoning | None = None
    temperature: Raw = Raw(b"null")
    text: _EchoedText | None = None
    tool_choice: Raw = Raw(b"null")
    tools: Raw = Raw(b"null")
    top_p: Raw = Raw(b"null")


_REQUEST: Final = msgspec.json.Decoder(_Echoed)
_NULL: Final = Raw(b"null")
_PLAIN_TEXT: Final = Raw(b'{"type":"text"}')


def read_context(body: bytes) -> ResponsesContext:
    """
    Return the context, without what tools and input add to it.

    Raises:
        GatewayError: BAD_REQUEST: not a JSON object, no model, or a member of the wrong type.
    """
    request = decode_request(body, _REQUEST)
    reasoning = request.reasoning or _EchoedReasoning()
    echo = {
        "instructions": request.instructions,
        "max_output_tokens": request.max_output_tokens,
        "parallel_tool_calls": _or(request.parallel_tool_calls, b"true"),
        "reasoning": _object({"effort": reasoning.effort, "summary": reasoning.summary}),
        "temperature": request.temperature,
        "text": _text(request.text or _EchoedText()),
        "tool_choice": _or(request.tool_choice, b'"auto"'),
        "tools": _or(request.tools, b"[]"),
        "top_p": request.top_p,
        "metadata": _or(request.metadata, b"{}"),
    }
    return ResponsesContext(
        model=request.model,
        echo={name: _compact(value) for name, value in echo.items()},
        stream=request.stream is True,
    )


def _text(text: _EchoedText) -> Raw:
    members = {"format": _or(text.format, bytes(_PLAIN_TEXT))}
    if bytes(text.verbosity) != b"null":
        members["verbosity"] = text.verbosity
    return _object(members)


def _or(value: Raw, default: bytes) -> Raw:
    return Raw(default) if bytes(value) == b"null" else value


def _object(members: dict[str, Raw]) -> Raw:
    return Raw(msgspec.json.encode(members))


def _compact(value: Raw) -> Raw:
    return Raw(msgspec.json.format(bytes(value), indent=-1))
