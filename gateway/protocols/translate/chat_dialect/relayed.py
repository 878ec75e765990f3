"""
Adapts a relayed chat request to an upstream of another dialect.

Members are replaced in the bytes; a request that needs no change is returned as it is.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec
from msgspec import Raw

from gateway.protocols.codec.absent import is_given
from gateway.protocols.codec.json_decode import decode_or_none, decode_request
from gateway.protocols.codec.json_spans import unrepeated
from gateway.protocols.http.request.call_fields import CallFields
from gateway.protocols.http.request.rewrite import with_fields, without_fields
from gateway.protocols.translate.capabilities import Capabilities
from gateway.protocols.translate.chat_dialect.history import fitting_messages
from gateway.protocols.translate.chat_dialect.tool_choice import Choice, Tools
from gateway.protocols.translate.closed_schema import plain_refs
from gateway.protocols.translate.foreign_reasoning import FIELDS, foreign_effort
from gateway.protocols.translate.reasoning_effort import keeps_thinking, thinking_fields

_FREE: Final = (b"", b"null", b'"auto"', b'"none"')
_REQUIRED: Final = b'"required"'
_MODES: Final = {"any": _REQUIRED, "auto": b'"auto"', "none": b'"none"'}
"""Types of a choice in Anthropic's form."""


_TOOLS: Final = msgspec.json.Decoder(Tools)


_CHOICE: Final = msgspec.json.Decoder(Choice)


class AdaptedChat(NamedTuple):
    """A chat request, and the fields that were dropped from it."""

    body: bytes
    dropped: tuple[str, ...] = ()


def adapt_chat(body: bytes, call: CallFields, caps: Capabilities) -> AdaptedChat:
    """
    Return a chat request adapted to an upstream; `body` itself if nothing changes.

    * Forms of `tool_choice` of other dialects are converted: `"any"`, a function without a type,
      and Anthropic's objects.
    * `top_k` is dropped for the dialects that do not have it.
    * Reasoning fields that the upstream does not know are converted to those that it knows.
    * Schemas of tools are converted by `closed_schema.plain_refs`.
    * Thinking is disabled if a tool is forced and the upstream rejects both together.
    * Tool calls and results get the order and ids that the upstream accepts, see `fit_history`.

    Args:
        body: The request.
        call: The result of `decode_call` for it.
        caps: The upstream's capabilities.
    """
    messages = fitting_messages(body, caps)
    if messages is not None:
        body = with_fields(body, {"messages": messages})
    if caps.plain_refs and (b'"$ref"' in body or b'"anyOf"' in body):
        body = _with_plain_schemas(body)
    choice = _spelled(call.tool_choice)
    if choice != call.tool_choice:
        body = with_fields(body, {"tool_choice": choice})
    dropped: tuple[str, ...] = ()
    if call.has_top_k and caps.reasoning_fields and not caps.top_k:
        body, dropped = without_fields(body, ("top_k",)), ("top_k",)
    if call.asks_reasoning is not None and caps.reasoning_fields:
        body, more = _with_own_reasoning(body, caps)
        dropped += more
    if not caps.forced_while_thinking and _is_forced(choice):
        body, more = _without_thinking(body, caps)
        dropped = tuple(dict.fromkeys((*dropped, *more)))
    return AdaptedChat(body, dropped)


def _with_plain_schemas(body: bytes) -> bytes:
    tools = decode_request(body, _TOOLS).tools or []
    for tool in tools:
        function = tool.get("function")
        if isinstance(function, dict) and "parameters" in function:
            function["parameters"] = plain_refs(function["parameters"])
    return with_fields(body, {"tools": msgspec.json.encode(tools)}) if tools else body


def _spelled(choice: bytes) -> bytes:
    """Return a tool choice in OpenAI's form."""
    if choice == b'"any"':
        return _REQUIRED
    read = _read(choice) if choice[:1] == b"{" else None
    if read is None:
        return choice
    if read.type is None and is_given(read.function):
        return with_fields(choice, {"type": b'"function"'})
    if read.type == "tool" and read.name is not None:
        return msgspec.json.encode({"type": "function", "function": {"name": read.name}})
    return _MODES.get(read.type or "", choice)


def _is_forced(choice: bytes) -> bool:
    if choice[:1] != b"{":
        return choice not in _FREE
    read = _read(choice)
    if read is not None and read.allowed_tools is not None:
        return read.allowed_tools.mode == "required"
    return True


def _read(choice: bytes) -> Choice | None:
    return decode_or_none(choice, _CHOICE)  # None: left to the upstream to reject


def _with_own_reasoning(body: bytes, caps: Capabilities) -> AdaptedChat:
    values = unrepeated(body)
    foreign = [name for name in FIELDS if name in values and name not in caps.reasoning_fields]
    if not foreign:
        return AdaptedChat(body)
    own: dict[str, object] = {}
    dropped = tuple(name for name in foreign if is_given(values[name]))
    if not any(name in values for name in caps.reasoning_fields):
        want = foreign_effort({name: values[name] for name in foreign})
        mapped = thinking_fields(want, caps)
        if want is not None and mapped is not None:
            own, dropped = mapped, dropped if keeps_thinking(want, mapped) else ()
    body = without_fields(body, foreign)
    return AdaptedChat(_with_values(body, own), dropped)


def _without_thinking(body: bytes, caps: Capabilities) -> AdaptedChat:
    off = thinking_fields("none", caps)
    if not off:
        return AdaptedChat(body)
    values = unrepeated(body)
    asked = [name for name in caps.reasoning_fields if name in values and is_given(values[name])]
    if all(msgspec.json.decode(values.get(name, Raw(b"null"))) == off[name] for name in off):
        return AdaptedChat(body)
    body = without_fields(body, [name for name in asked if name not in off])
    return AdaptedChat(_with_values(body, off), ("thinking",))


def _with_values(body: bytes, fields: dict[str, object]) -> bytes:
    return with_fields(body, {name: msgspec.json.encode(fields[name]) for name in fields})
