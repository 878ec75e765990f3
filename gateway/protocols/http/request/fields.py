"""
Decodes the request fields that the gateway uses, and locates the model name.

The rest of the body is relayed as bytes and validated by the upstream. One msgspec pass checks the
syntax of the whole document.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple, TypeVar

import msgspec

from gateway.core.model import Wire
from gateway.protocols.codec.absent import ABSENT
from gateway.protocols.codec.json_decode import decode_request, decode_shallow
from gateway.protocols.codec.json_spans import Member, members, unrepeated
from gateway.protocols.codec.nesting import SHALLOW_BYTES, refuse_deep
from gateway.protocols.http.request.bounds import DEFAULT_BOUNDS, RequestBounds
from gateway.protocols.http.request.call_fields import AnthropicFields, CallFields, OpenAIFields
from gateway.protocols.http.request.names import ACTED_ON, CHECKED, check_names, check_options
from gateway.protocols.http.request.priced_features import priced_uses

_Fields = TypeVar("_Fields", OpenAIFields, AnthropicFields)

_OPENAI: Final = msgspec.json.Decoder(OpenAIFields)
_ANTHROPIC: Final = msgspec.json.Decoder(AnthropicFields)

# In smaller bodies searching for the key is cheaper than walking the members.
_SMALL_BYTES: Final = 4096

_QUOTE: Final = ord('"')
_MODEL = re.compile(rb'"model"[ \t\r\n]*:[ \t\r\n]*("[^"\\]*(?:\\.[^"\\]*)*")', re.DOTALL)


class _Spans(NamedTuple):
    """See `CallFields.model_span` and `.member_spans`."""

    model: tuple[int, int]
    members: dict[str, tuple[int, int]] | None


def decode_call(
    body: bytes, wire: Wire, bounds: RequestBounds | None = DEFAULT_BOUNDS
) -> CallFields:
    """
    Return the fields of a request body.

    Args:
        body: The client's request.
        wire: Its dialect.
        bounds: Limits on its parts; None for a body that the gateway built.

    Raises:
        GatewayError: BAD_REQUEST with `param`: not JSON, not an object, nested too deeply, a field
            of the wrong type, no `model`, beyond a bound, or an ambiguous member, see
            `request.names`.
    """
    if wire is Wire.ANTHROPIC:
        messages, spans = _decode(body, _ANTHROPIC, wire, bounds)
        return CallFields(
            model=messages.model,
            model_span=spans.model,
            member_spans=spans.members,
            stream=messages.stream or False,
            max_tokens=messages.max_tokens,
            user_id=messages.metadata.user_id if messages.metadata else None,
            priced=priced_uses(messages),
            asks_reasoning=_asked(messages.thinking, messages.output_config),
        )
    chat, spans = _decode(body, _OPENAI, wire, bounds)
    return CallFields(
        model=chat.model,
        model_span=spans.model,
        member_spans=spans.members,
        stream=chat.stream or False,
        max_tokens=chat.max_tokens,
        max_completion_tokens=chat.max_completion_tokens,
        choices=max(chat.n or 1, chat.best_of or 1),
        prompt_cache_key=chat.prompt_cache_key,
        stream_options=chat.stream_options,
        priced=priced_uses(chat),
        asks_reasoning=_asked(
            chat.reasoning_effort,
            chat.reasoning,
            chat.thinking,
            chat.enable_thinking,
            chat.chat_template_kwargs,
        ),
        tool_choice=b"" if chat.tool_choice is ABSENT else bytes(chat.tool_choice),
        has_top_k=chat.top_k is not ABSENT and bytes(chat.top_k) != b"null",
    )


def check_request(body: bytes, wire: Wire, bounds: RequestBounds) -> None:
    """
    Check the names and sizes of a request that is decoded elsewhere.

    Raises:
        GatewayError: BAD_REQUEST: as `decode_call`, except for the types of fields.
    """
    if len(body) <= _SMALL_BYTES:
        _check_small(body, wire, bounds)
    else:
        _walk(body, wire, bounds)


def _asked(*switches: msgspec.Raw) -> bool | None:
    """Return whether a request enables reasoning; None if no field is set."""
    for switch in switches:
        if switch is not ABSENT:
            break
    else:
        return None  # the common case
    values = [bytes(switch) for switch in switches if bytes(switch) not in (b"", b"null")]
    if not values:
        return None
    # Only "none" is reliably honoured by models that reason by default.
    return values != [b'"none"']


def _decode(
    body: bytes, decoder: msgspec.json.Decoder[_Fields], wire: Wire, bounds: RequestBounds | None
) -> tuple[_Fields, _Spans]:
    if len(body) <= _SMALL_BYTES:
        fields = decode_request(body, decoder)
        _check_small(body, wire, bounds)
        return fields, _Spans(_span_in_small(body), None)
    found = _walk(body, wire, bounds)
    spans = {name: (start, end) for name, start, end in found}
    return _fields(body, found, decoder), _Spans(spans["model"], spans)


def _check_small(body: bytes, wire: Wire, bounds: RequestBounds | None) -> None:
    most = bounds.max_members if bounds else None
    values = unrepeated(body, most=most)
    if not ACTED_ON.issuperset(values):
        check_names(values)
    if not CHECKED.isdisjoint(values):
        for name in CHECKED.intersection(values):
            check_options(name, values[name], wire, most)


def _walk(body: bytes, wire: Wire, bounds: RequestBounds | None) -> list[Member]:
    """Check a larger body and return its members."""
    most = bounds.max_members if bounds else None
    found = members(body, most=most)
    check_names([name for name, _, _ in found])
    for name, start, end in found:
        if end - start > SHALLOW_BYTES and body[start] != _QUOTE:
            refuse_deep(body[start:end], outer=1)
        if name in CHECKED:
            check_options(name, body[start:end], wire, most)
    return found


def _fields(body: bytes, found: list[Member], decoder: msgspec.json.Decoder[_Fields]) -> _Fields:
    """Decode only the members needed, so that a large body is parsed once."""
    wanted = decoder.type.__struct_fields__
    parts = [
        b'"%b":%b' % (name.encode(), body[start:end])
        for name, start, end in found
        if name in wanted
    ]
    return decode_shallow(b"{%b}" % b",".join(parts), decoder)


def _span_in_small(body: bytes) -> tuple[int, int]:
    if body.count(b'"model"') == 1 and b"\\u00" not in body:
        # The decoder found the key, and without `\u00` escapes only these bytes encode it.
        key = _MODEL.search(body)
        assert key is not None
        return key.span(1)
    return _model_span(members(body))


def _model_span(found: list[Member]) -> tuple[int, int]:
    return next((start, end) for name, start, end in found if name == "model")
