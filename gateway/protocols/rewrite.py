"""
The only edits of a request that passes through: model name, usage wish, thoughts of other models.

Every byte beside the edited value stays as the client sent it: white space, order, the spelling of
numbers, unknown members. Upstream prompt caches depend on it.
"""

from __future__ import annotations

from typing import Final

import msgspec

from gateway.core.model import Wire
from gateway.protocols.call_fields import CallFields, StreamOptions, decode_call
from gateway.protocols.json_spans import members

Edit = tuple[int, int, bytes]
"""Replace `body[start:end]` by the bytes."""

_ASK: Final = b'"stream_options":{"include_usage":true},'
_ASK_INSIDE: Final = b'"include_usage":true'


def rewrite_model(body: bytes, model: str, call: CallFields | None = None) -> bytes:
    """
    Return `body` with the top-level `model` replaced.

    Args:
        body: The client's request.
        model: The upstream's name of the model.
        call: What `decode_call` returned for this body; None decodes it here.

    Raises:
        GatewayError: BAD_REQUEST as `decode_call`, with call None only.
    """
    call = call or decode_call(body, Wire.ANTHROPIC)
    return _edited(body, [_model_edit(call, model)])


def inject_usage(body: bytes, call: CallFields | None = None) -> tuple[bytes, bool]:
    """
    Return an OpenAI-wire body that asks for the usage of its stream.

    Args:
        body: The client's request.
        call: What `decode_call` returned for this body; None decodes it here.

    Returns:
        The body, and whether the usage chunk must be hidden from the client, who did not ask for
        it. The body is unchanged if it is no stream, asks already, or says it twice.

    Raises:
        GatewayError: BAD_REQUEST as `decode_call`, with call None only.
    """
    edit = _usage_edit(body, call or decode_call(body, Wire.OPENAI))
    return (_edited(body, [edit]), True) if edit else (body, False)


def relay_body(body: bytes, call: CallFields, model: str, *, ask_usage: bool) -> tuple[bytes, bool]:
    """
    Return `rewrite_model` and, with `ask_usage`, `inject_usage` in one copy of the body.

    Returns:
        The body, and whether the usage chunk must be hidden from the client.
    """
    edits = [_model_edit(call, model)]
    usage = _usage_edit(body, call) if ask_usage else None
    if usage:
        edits.append(usage)
        edits.sort()
    return _edited(body, edits), usage is not None


def _model_edit(call: CallFields, model: str) -> Edit:
    start, end = call.model_span
    return start, end, msgspec.json.encode(model)


def _usage_edit(body: bytes, call: CallFields) -> Edit | None:
    if not call.stream or call.include_usage:
        return None
    if call.stream_options is msgspec.UNSET:
        start = body.index(b"{") + 1
        return start, start, _ASK
    spans = [(start, end) for name, start, end in members(body) if name == "stream_options"]
    if len(spans) != 1:
        return None
    start, end = spans[0]
    if not isinstance(call.stream_options, StreamOptions):
        return start, end, b"{" + _ASK_INSIDE + b"}"
    return _usage_edit_inside(body[start:end], start)


def _usage_edit_inside(options: bytes, offset: int) -> Edit | None:
    found = members(options)
    spans = [(start, end) for name, start, end in found if name == "include_usage"]
    if len(spans) > 1:
        return None
    if spans:
        start, end = spans[0]
        return offset + start, offset + end, b"true"
    comma = b"," if found else b""
    return offset + 1, offset + 1, _ASK_INSIDE + comma


def _edited(body: bytes, edits: list[Edit]) -> bytes:
    """Apply edits that are in order and do not overlap."""
    parts: list[bytes] = []
    at = 0
    for start, end, new in edits:
        parts += (body[at:start], new)
        at = end
    parts.append(body[at:])
    return b"".join(parts)
