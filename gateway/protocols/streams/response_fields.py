"""Reads a meter's fields from one event or one whole response of an upstream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec

from gateway.core.model import Usage, Wire
from gateway.errors import GatewayError
from gateway.protocols.anthropic_messages.event_fields import Event, Message
from gateway.protocols.anthropic_messages.usage import read_anthropic_usage
from gateway.protocols.codec.content_size import content_bytes
from gateway.protocols.codec.json_decode import decode_response
from gateway.protocols.openai_chat.lenient import coerced_json, is_error_object, named_reason
from gateway.protocols.openai_chat.response import RawChunk
from gateway.protocols.openai_chat.usage import read_openai_usage
from gateway.protocols.streams.event_fields import Choice, EventFields, Holder, Piece, UsualResponse
from gateway.protocols.streams.response_scan import ResponseScanner

T = TypeVar("T")

_NO_USAGE: Final = Usage()
_NOTHING: Final = frozenset({b"", b"null", b'""', b"[]", b"{}"})
_STRUCTURED_BYTES: Final = 4
"""Least bytes counted for a delta that is not a string; most of such a delta is framing."""
_MEDIA: Final = frozenset({"images", "audio"})

_CHUNK: Final = msgspec.json.Decoder(RawChunk)
_USUAL: Final = msgspec.json.Decoder(UsualResponse)
_HOLDER: Final = msgspec.json.Decoder(Holder)
_CHOICES: Final = msgspec.json.Decoder(list[Choice])
_EVENT: Final = msgspec.json.Decoder(Event)
_MESSAGE: Final = msgspec.json.Decoder(Message)
_TEXT: Final = msgspec.json.Decoder(str)
_BLOCKS: Final = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_PIECES: Final = msgspec.json.Decoder(list[Piece])


def read_openai_chunk(data: bytes, *, reasoning_apart: bool = False) -> EventFields | None:
    """Return the fields of an OpenAI stream's event; None: it cannot be read."""
    if data.strip() == b"[DONE]":
        return EventFields(end=True)
    chunk = _decoded(data, _CHUNK)
    return None if chunk is None else _read_chunk(chunk, data, reasoning_apart)


def read_openai_response(body: bytes, *, reasoning_apart: bool = False) -> EventFields:
    """Return the fields of an OpenAI response."""
    usual = _decoded(body, _USUAL)
    if usual is not None and usual.choices and usual.choices[0].message is not None:
        raw = bytes(usual.usage)
        reported = _usage(raw, usual.service_tier, reasoning_apart)
        usage = _stated(reported)
        if usage is not None:
            return EventFields(
                usage=usage,
                raw_usage=raw,
                final_usage=True,
                finish_reason=named_reason(usual.choices[0].finish_reason),
                end=True,
            )
    response = _decoded(body, _CHUNK)
    return (
        EventFields()
        if response is None
        else _read_chunk(response, body, reasoning_apart, end=True)
    )


def _has_message(choice: Choice) -> bool:
    # Azure sends none if it filters all of a response.
    given = choice.message if choice.message is not None else choice.delta
    return given is not None or choice.finish_reason == "content_filter"


def read_anthropic_event(data: bytes, known: Usage) -> EventFields | None:
    """
    Return the fields of an Anthropic stream's event; None: it cannot be read.

    Args:
        data: The event's data.
        known: Usage of earlier events, which the new one updates.
    """
    event = _decoded(data, _EVENT)
    if event is None:
        return None
    match event.type:
        case "message_start":
            message = _decoded(bytes(event.message), _MESSAGE) or Message()
            found = _with_usage(message.usage, known, final=False)
            return msgspec.structs.replace(found, start=True)
        case "message_delta":
            reason = (event.delta or {}).get("stop_reason")
            finish = _decoded(bytes(reason), _TEXT) if reason is not None else None
            return _with_usage(event.usage, known, final=True, finish_reason=finish)
        case "message_stop":
            return EventFields(end=True)
        case "error":
            return EventFields(failed=True)
        case "content_block_delta":
            return EventFields(content_bytes=_content_bytes(event.delta or {}, Wire.ANTHROPIC))
        case "content_block_start":
            block = event.content_block or {}
            kind = bytes(block.get("type", b""))
            size = _content_bytes(block, Wire.ANTHROPIC, whole=True)
            is_empty = kind in (b'"text"', b'"thinking"', b"") and not size
            return EventFields(block_bytes=size, alive=not is_empty)
        case "content_block_stop":
            return EventFields(block_end=True)
    return None


def read_anthropic_response(body: bytes) -> EventFields:
    response = _decoded(body, _MESSAGE)
    if response is None:
        return EventFields()
    reported = read_anthropic_usage(bytes(response.usage))
    usage = _stated(reported)
    blocks = _decoded(bytes(response.content), _BLOCKS) if usage is None else None
    return EventFields(
        usage=usage,
        raw_usage=bytes(response.usage) if usage else None,
        unreadable_usage=reported is None and bytes(response.usage) not in _NOTHING,
        final_usage=True,
        finish_reason=response.stop_reason,
        end=True,
        without_message=memoryview(response.content)[:5].tobytes() in (b"", b"null"),
        failed=response.type == "error",
        content_bytes=sum(
            _content_bytes(block, Wire.ANTHROPIC, whole=True) for block in blocks or ()
        ),
    )


def read_scanned(
    wire: Wire, scanner: ResponseScanner, *, reasoning_apart: bool = False
) -> EventFields:
    """Return the fields of a response or an event that is too large or cut off."""
    if wire is Wire.ANTHROPIC:
        raw = scanner.kept("usage")
        reported = read_anthropic_usage(raw)
        finish = _decoded(scanner.kept("stop_reason"), _TEXT)
        failed = scanner.kept("type") == b'"error"'
    else:
        raw = scanner.kept("usage")
        if raw in _NOTHING:
            raw = scanner.kept("choice_usage")
        tier = _decoded(scanner.kept("service_tier"), _TEXT)
        reported = _usage(raw, tier, reasoning_apart)
        finish = _decoded(scanner.kept("finish_reason"), _TEXT)
        failed = scanner.kept("error") not in _NOTHING
    usage = _stated(reported)
    return EventFields(
        usage=usage,
        raw_usage=raw if usage else None,
        unreadable_usage=reported is None and raw not in _NOTHING,
        final_usage=True,
        finish_reason=finish,
        end=scanner.complete,
        failed=failed,
        content_bytes=scanner.content_bytes,
    )


def _read_chunk(
    chunk: RawChunk, data: bytes, reasoning_apart: bool, *, end: bool = False
) -> EventFields:
    choices = _decoded(bytes(chunk.choices), _CHOICES)
    if choices is None and chunk.choices:
        coerced = _decoded(coerced_json(data) or b"{}", _CHUNK) or RawChunk()
        choices = _decoded(bytes(coerced.choices), _CHOICES)
    choices = choices or []
    raw = bytes(chunk.usage)
    if raw in _NOTHING:  # Kimi reports usage inside the choice
        raw = next((own for each in choices if (own := bytes(each.usage)) not in _NOTHING), b"")
    if raw in _NOTHING and chunk.x_groq:
        raw = bytes((_decoded(bytes(chunk.x_groq), _HOLDER) or Holder()).usage)
    reported = _usage(raw, chunk.service_tier, reasoning_apart)
    usage = _stated(reported)
    return EventFields(
        usage=usage,
        raw_usage=raw if usage else None,
        unreadable_usage=reported is None and raw not in _NOTHING,
        final_usage=True,
        finish_reason=next(filter(None, (named_reason(c.finish_reason) for c in choices)), None),
        end=end,
        without_message=end and not any(map(_has_message, choices)),
        failed=bytes(chunk.error) not in _NOTHING or (not choices and is_error_object(data)),
        content_bytes=sum(
            _content_bytes(each.delta or {}, Wire.OPENAI)
            + _content_bytes(each.message or {}, Wire.OPENAI, whole=True)
            for each in choices
        ),
    )


def _usage(raw: bytes, tier: object, reasoning_apart: bool) -> Usage | None:
    if raw in _NOTHING:
        return None
    return read_openai_usage(raw, tier, reasoning_apart=reasoning_apart)


def _with_usage(
    raw: msgspec.Raw, known: Usage, *, final: bool, finish_reason: str | None = None
) -> EventFields:
    reported = read_anthropic_usage(bytes(raw), known)
    usage = _stated(reported)
    return EventFields(
        usage=usage,
        raw_usage=bytes(raw) if usage else None,
        unreadable_usage=reported is None and bytes(raw) not in _NOTHING,
        final_usage=final,
        finish_reason=finish_reason,
    )


def _stated(usage: Usage | None) -> Usage | None:
    """Return usage unless it is all zeros, which some upstreams send before they know it."""
    return None if usage == _NO_USAGE else usage


def _content_bytes(pieces: Mapping[str, msgspec.Raw], wire: Wire, *, whole: bool = False) -> int:
    sizes: dict[str, int] = {}
    for name, raw in pieces.items():
        value = bytes(raw)
        if value not in _NOTHING:
            is_text = value.startswith(b'"')
            counts = is_text or name in _MEDIA or (whole and value.startswith((b"[", b"{")))
            sizes[name] = len(value) if counts else _structured_bytes(value)
    return content_bytes(wire, sizes)


def _structured_bytes(value: bytes) -> int:
    """Return the bytes of content in a delta's list of pieces, without their framing."""
    total = 0
    for piece in _decoded(value, _PIECES) or ():
        for part in (piece, piece.function):
            if part is not None:
                strings = (part.name, part.arguments, part.text, part.summary)
                total += sum(len(bytes(raw)) for raw in strings if bytes(raw) not in _NOTHING)
                total += len(bytes(part.data)) * 3 // 4
    return max(total, _STRUCTURED_BYTES)


def _decoded(data: bytes, decoder: msgspec.json.Decoder[T]) -> T | None:
    try:
        return decode_response(data, decoder)
    except GatewayError:
        return None
