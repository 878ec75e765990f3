"""
Edits relayed requests in place: model name, usage option, other members.

All other bytes are kept: white space, order, number formats, unknown members. Upstream prompt
caches depend on this.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Final

import msgspec

from gateway.core.model import Wire
from gateway.protocols.codec.json_spans import elements, members
from gateway.protocols.http.request.call_fields import CallFields, StreamOptions
from gateway.protocols.http.request.fields import decode_call
from gateway.protocols.http.request.names import folded

Edit = tuple[int, int, bytes]
"""Replace `body[start:end]` by the bytes."""

_STREAM_OPTIONS: Final = b'"stream_options":{"include_usage":true},'
_USAGE_OPTION: Final = b'"include_usage":true'
_LIMIT: Final = b'"max_completion_tokens"'
_COMMA: Final = re.compile(rb"[ \t\r\n]*,[ \t\r\n]*")

BILLING_LINE: Final = b"x-anthropic-billing-header:"


def rewrite_model(body: bytes, model: str, call: CallFields | None = None) -> bytes:
    """
    Return `body` with the top-level `model` replaced.

    Args:
        body: The client's request.
        model: The model's name at the upstream.
        call: The result of `decode_call` for this body; None decodes it here.

    Raises:
        GatewayError: BAD_REQUEST as `decode_call`, if `call` is None.
    """
    call = call or decode_call(body, Wire.ANTHROPIC)
    return _edited(body, [_model_edit(call, model)])


def inject_usage(body: bytes, call: CallFields | None = None) -> tuple[bytes, bool]:
    """
    Return an OpenAI-wire body that requests the usage of its stream.

    Args:
        body: The client's request.
        call: The result of `decode_call` for this body; None decodes it here.

    Returns:
        The body, and whether the usage chunk must be hidden from the client, which did not request
        it. The body is unchanged if it is not streamed or already requests usage.

    Raises:
        GatewayError: BAD_REQUEST as `decode_call`.
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


def without_fields(body: bytes, names: Collection[str]) -> bytes:
    """
    Return a JSON object without the top-level members of these names.

    Names in another case are removed too, since some upstreams accept them. Each member is removed
    with one comma; all other bytes are kept. `body` itself is returned if nothing is removed.
    """
    unwanted = {folded(name) for name in names}
    edits: list[Edit] = []
    at = 0  # end of the previous member
    kept = False  # an earlier member is kept: remove the comma before this one
    for name, _, end in members(body):
        if folded(name) not in unwanted:
            kept = True
        elif kept:
            edits.append((at, end, b""))
        else:
            # Remove the comma after it instead; the last member has none.
            comma = _COMMA.match(body, end)
            key = body.index(b'"', at)
            edits.append((key, comma.end() if comma else end, b""))
        at = end
    return _edited(body, edits) if edits else body


def with_fields(body: bytes, fields: Mapping[str, bytes]) -> bytes:
    """
    Return a JSON object with top-level members of these names and values.

    Existing members get the new value; missing ones are inserted first. All other bytes are
    kept.
    """
    missing = dict(fields)
    edits: list[Edit] = []
    for name, start, end in members(body):
        if name in missing:
            edits.append((start, end, missing.pop(name)))
    if missing:
        start = body.index(b"{") + 1
        new = b"".join(b"%b:%b," % (msgspec.json.encode(name), missing[name]) for name in missing)
        # A request has at least the member `model`, so that another one follows the comma.
        edits.insert(0, (start, start, new))
    return _edited(body, edits)


def with_completion_limit(body: bytes, call: CallFields) -> bytes:
    """
    Return a chat request with `max_tokens` renamed to `max_completion_tokens`.

    OpenAI's reasoning models respond 400 to the old name, which OpenCode sends to every model. A
    request with the new name, or without a limit, is returned unchanged.

    Args:
        body: The request.
        call: The result of `decode_call` for it.
    """
    if call.max_tokens is None or call.max_completion_tokens is not None:
        return body
    edits: list[Edit] = []
    at = 0
    for name, start, end in members(body):
        if name == "max_tokens":
            edits.append((body.index(b'"', at), body.rindex(b'"', at, start) + 1, _LIMIT))
        at = end
    return _edited(body, edits)


def without_billing_line(body: bytes) -> bytes:
    """
    Return a Messages request without the system text that Claude Code changes on each turn.

    It begins with `x-anthropic-billing-header:` and is a separate block, or the first line of a
    string. All other bytes are kept; `body` itself is returned if nothing is removed.
    """
    # Most bodies are searched for five bytes only, which takes a fifth of the time.
    if BILLING_LINE[:5] not in body or BILLING_LINE not in body:
        return body

    def system(raw: bytes) -> bytes:
        if raw[:1] == b"[":
            return edited_elements(raw, lambda block: None if _is_billing(block) else block)
        if not raw.startswith(b'"' + BILLING_LINE):
            return raw
        end = raw.find(b"\\n")
        return b'"' + raw[end + 2 :] if end >= 0 else b'""'

    return edited_member(body, "system", system)


def _is_billing(block: bytes) -> bool:
    return any(
        name == "text" and block[start:end].startswith(b'"' + BILLING_LINE)
        for name, start, end in members(block)
    )


def _model_edit(call: CallFields, model: str) -> Edit:
    start, end = call.model_span
    return start, end, msgspec.json.encode(model)


def _usage_edit(body: bytes, call: CallFields) -> Edit | None:
    if not call.stream or call.include_usage:
        return None
    if call.stream_options is msgspec.UNSET:
        start = body.index(b"{") + 1
        return start, start, _STREAM_OPTIONS
    start, end = _span(body, "stream_options")
    if not isinstance(call.stream_options, StreamOptions):
        return start, end, b"{" + _USAGE_OPTION + b"}"
    return _usage_edit_inside(body[start:end], start)


def _span(body: bytes, name: str) -> tuple[int, int]:
    return next((start, end) for found, start, end in members(body) if found == name)


def _usage_edit_inside(options: bytes, offset: int) -> Edit:
    found = members(options, "stream_options")
    spans = [(start, end) for name, start, end in found if name == "include_usage"]
    if spans:
        start, end = spans[0]
        return offset + start, offset + end, b"true"
    comma = b"," if found else b""
    return offset + 1, offset + 1, _USAGE_OPTION + comma


def _edited(body: bytes, edits: list[Edit]) -> bytes:
    """Apply ordered, non-overlapping edits."""
    # Slices of a view are not copied, which for a long body costs more than all else here.
    kept = memoryview(body)
    parts: list[bytes | memoryview] = []
    at = 0
    for start, end, new in edits:
        parts += (kept[at:start], new)
        at = end
    parts.append(kept[at:])
    return b"".join(parts)


def edited_member(raw: bytes, name: str, change: Callable[[bytes], bytes]) -> bytes:
    """Return the object with the value of `name` changed; `raw` itself if nothing changed."""
    if raw.lstrip()[:1] != b"{":
        return raw
    parts: list[bytes] = []
    at = 0
    for key, start, end in members(raw):
        if key == name:
            parts += (raw[at:start], change(raw[start:end]))
            at = end
    parts.append(raw[at:])
    changed = b"".join(parts)
    return raw if changed == raw else changed


def edited_elements(raw: bytes, change: Callable[[bytes], bytes | None]) -> bytes:
    """Return the array with each element changed or removed; `raw` itself if nothing changed."""
    if raw[:1] != b"[":
        return raw
    spans = elements(raw)
    changed = [change(raw[start:end]) for start, end in spans]
    if all(new == raw[start:end] for new, (start, end) in zip(changed, spans, strict=True)):
        return raw
    return b"[" + b",".join(new for new in changed if new is not None) + b"]"
