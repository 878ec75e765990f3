"""What matters to a meter in one event or one whole answer of an upstream."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec

from gateway.core.model import Usage
from gateway.errors import GatewayError
from gateway.protocols.codec.json_decode import decode_answer
from gateway.protocols.http.usage_numbers import read_anthropic_usage, read_openai_usage

T = TypeVar("T")

_NOTHING: Final = frozenset({b"", b"null", b'""', b"[]", b"{}"})
_NO_CONTENT: Final = frozenset({"role", "type"})
_STRUCTURED_BYTES: Final = 4
"""What a delta counts that is not a string: most of a tool call's first piece is framing."""


class Reading(msgspec.Struct, frozen=True, gc=False):
    """What was found; all at rest if nothing was."""

    usage: Usage | None = None
    raw_usage: bytes | None = None
    unreadable_usage: bool = False
    """A usage object is there, and no usage can be read of it."""
    final_usage: bool = False
    """The usage covers the output."""
    finish_reason: str | None = None
    end: bool = False
    """The wire's last event, or a complete document."""
    failed: bool = False
    content_bytes: int = 0
    """Length of the JSON strings that hold content."""
    alive: bool = False
    """Progress without content of its own: a tool call's block has started."""


class _Chunk(msgspec.Struct, gc=False):
    choices: msgspec.Raw = msgspec.Raw()
    usage: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()
    service_tier: object = None


class _Choice(msgspec.Struct, gc=False):
    delta: dict[str, msgspec.Raw] | None = None
    message: dict[str, msgspec.Raw] | None = None
    finish_reason: str | None = None
    usage: msgspec.Raw = msgspec.Raw()


class _UsualChoice(msgspec.Struct, gc=False):
    finish_reason: str | None = None


class _UsualAnswer(msgspec.Struct, gc=False):
    """All that is read of an answer that states its usage: its content stays undecoded."""

    choices: list[_UsualChoice] | None = None
    usage: msgspec.Raw = msgspec.Raw()
    service_tier: object = None


class _Event(msgspec.Struct, gc=False):
    type: str | None = None
    message: msgspec.Raw = msgspec.Raw()
    usage: msgspec.Raw = msgspec.Raw()
    delta: dict[str, msgspec.Raw] | None = None
    content_block: dict[str, msgspec.Raw] | None = None


class _Message(msgspec.Struct, gc=False):
    type: str | None = None
    usage: msgspec.Raw = msgspec.Raw()
    stop_reason: str | None = None
    content: msgspec.Raw = msgspec.Raw()


_CHUNK: Final = msgspec.json.Decoder(_Chunk)
_USUAL: Final = msgspec.json.Decoder(_UsualAnswer)
_CHOICES: Final = msgspec.json.Decoder(list[_Choice])
_EVENT: Final = msgspec.json.Decoder(_Event)
_MESSAGE: Final = msgspec.json.Decoder(_Message)
_TEXT: Final = msgspec.json.Decoder(str)


def read_openai_chunk(data: bytes) -> Reading | None:
    """Return what an OpenAI stream's event holds; None: it cannot be read."""
    if data.strip() == b"[DONE]":
        return Reading(end=True)
    chunk = _decoded(data, _CHUNK)
    return None if chunk is None else _read_chunk(chunk)


def read_openai_answer(body: bytes) -> Reading:
    """Return what an OpenAI answer holds."""
    usual = _decoded(body, _USUAL)
    if usual is not None and usual.choices:
        raw = bytes(usual.usage)
        usage = None if raw in _NOTHING else read_openai_usage(raw, usual.service_tier)
        if usage is not None:
            return Reading(
                usage=usage,
                raw_usage=raw,
                final_usage=True,
                finish_reason=usual.choices[0].finish_reason,
                end=True,
            )
    answer = _decoded(body, _CHUNK)
    return Reading() if answer is None else _read_chunk(answer, end=True)


def read_anthropic_event(data: bytes, known: Usage) -> Reading | None:
    """
    Return what an Anthropic stream's event holds; None: it cannot be read.

    Args:
        data: The event's data.
        known: Usage of earlier events: the new one is laid over it.
    """
    event = _decoded(data, _EVENT)
    if event is None:
        return None
    match event.type:
        case "message_start":
            message = _decoded(bytes(event.message), _MESSAGE) or _Message()
            return _with_usage(message.usage, known, final=False)
        case "message_delta":
            reason = (event.delta or {}).get("stop_reason")
            finish = _decoded(bytes(reason), _TEXT) if reason is not None else None
            return _with_usage(event.usage, known, final=True, finish_reason=finish)
        case "message_stop":
            return Reading(end=True)
        case "error":
            return Reading(failed=True)
        case "content_block_delta":
            return Reading(content_bytes=_content_bytes(event.delta or {}))
        case "content_block_start":
            kind = bytes((event.content_block or {}).get("type", b""))
            return Reading(alive=kind not in (b'"text"', b'"thinking"', b""))
    return None


def read_anthropic_answer(body: bytes) -> Reading:
    """Return what an Anthropic answer holds."""
    answer = _decoded(body, _MESSAGE)
    if answer is None:
        return Reading()
    content = bytes(answer.content)
    usage = read_anthropic_usage(bytes(answer.usage))
    return Reading(
        usage=usage,
        raw_usage=bytes(answer.usage) or None,
        unreadable_usage=usage is None and bytes(answer.usage) not in _NOTHING,
        final_usage=True,
        finish_reason=answer.stop_reason,
        end=True,
        failed=answer.type == "error",
        content_bytes=0 if content in _NOTHING else len(content),
    )


def _read_chunk(chunk: _Chunk, *, end: bool = False) -> Reading:
    choices = _decoded(bytes(chunk.choices), _CHOICES) or []
    raw = bytes(chunk.usage)
    if raw in _NOTHING:  # Kimi reports inside of the choice
        raw = next((own for each in choices if (own := bytes(each.usage)) not in _NOTHING), b"")
    usage = read_openai_usage(raw, chunk.service_tier)
    return Reading(
        usage=usage,
        raw_usage=raw if usage else None,
        unreadable_usage=usage is None and raw not in _NOTHING,
        final_usage=True,
        finish_reason=next((each.finish_reason for each in choices if each.finish_reason), None),
        end=end,
        failed=bytes(chunk.error) not in _NOTHING,
        content_bytes=sum(
            _content_bytes(each.delta or {}) + _content_bytes(each.message or {}, whole=True)
            for each in choices
        ),
    )


def _with_usage(
    raw: msgspec.Raw, known: Usage, *, final: bool, finish_reason: str | None = None
) -> Reading:
    usage = read_anthropic_usage(bytes(raw), known)
    return Reading(
        usage=usage,
        raw_usage=bytes(raw) if usage else None,
        unreadable_usage=usage is None and bytes(raw) not in _NOTHING,
        final_usage=final,
        finish_reason=finish_reason,
    )


def _content_bytes(pieces: Mapping[str, msgspec.Raw], *, whole: bool = False) -> int:
    total = 0
    for name, raw in pieces.items():
        value = bytes(raw)
        if name not in _NO_CONTENT and value not in _NOTHING:
            counts = whole or value.startswith(b'"')
            total += len(value) if counts else _STRUCTURED_BYTES
    return total


def _decoded(data: bytes, decoder: msgspec.json.Decoder[T]) -> T | None:
    try:
        return decode_answer(data, decoder)
    except GatewayError:
        return None
