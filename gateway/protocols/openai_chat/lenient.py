"""
Decodes chat responses and chunks leniently, with members of nearly the right type.

Some providers send a number as id, `"0"` as index, arguments or content as an object, and empty
strings in place of objects. Unambiguous values are coerced and unneeded ones dropped, so that no
response fails for a member that the gateway does not use. Regular responses decode directly, at no
additional cost.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.codec.json_decode import (
    decode_event,
    decode_response,
    replace_lone_surrogates,
)
from gateway.protocols.codec.nesting import is_deep
from gateway.protocols.openai_chat.response import CHUNK, Choice, Chunk, Delta

_NO_REASONS: Final = frozenset({"", "null", "none"})
_PLAIN_REASONS: Final = frozenset({"stop", "length", "tool_calls", "content_filter"})
_OTHER_REASONS: Final[Mapping[str, str]] = {
    "max_tokens": "length",  # Gemini's own, and Anthropic's behind a chat endpoint
    "max_output_tokens": "length",
    "model_length": "length",  # docs.mistral.ai, Chat; 2026-11
    "model_context_window_exceeded": "length",  # docs.z.ai, Chat; 2026-11
    "sensitive": "content_filter",  # docs.z.ai
    "safety": "content_filter",  # ai.google.dev, FinishReason, these and the next; 2026-11
    "recitation": "content_filter",
    "blocklist": "content_filter",
    "prohibited_content": "content_filter",
    "spii": "content_filter",
    "refusal": "content_filter",
    "tool_use": "tool_calls",
    "tool_call": "tool_calls",
    "network_error": "error",  # docs.z.ai
}
"""Finish reasons in other spellings, in lower case -> OpenAI's, or one of `FAILED_REASONS`."""

_ERROR_OBJECT: Final = re.compile(rb'"object"\s*:\s*"error"|\A\s*\{\s*"detail"\s*:')


def is_error_object(data: bytes) -> bool:
    """Return whether a chunk without choices is vLLM's error, or FastAPI's `{"detail": ...}`."""
    return _ERROR_OBJECT.search(data) is not None


def named_reason(reason: str | None) -> str | None:
    """Return a finish reason; None for `""`, blanks and `"null"`, which earlier chunks may have."""
    if reason is None or reason.strip().lower() in _NO_REASONS:
        return None
    return reason


def plain_reason(reason: str | None) -> str | None:
    """Return a finish reason in OpenAI's spelling, if it is a known one; None as `named_reason`."""
    named = named_reason(reason)
    if named is None or named in _PLAIN_REASONS:
        return named
    lower = named.strip().lower()
    return _OTHER_REASONS.get(lower, lower)


def decode_chunk(data: bytes) -> Chunk | None:
    """
    Return a stream's chunk; None for events to ignore; see `decode_event`.

    Raises:
        GatewayError: UPSTREAM_MALFORMED: not JSON.
    """
    try:
        return decode_event(data, CHUNK)
    except GatewayError:
        coerced = _coerced(data)
        if coerced is None:
            raise
        return coerced


def decode_completion(body: bytes) -> Chunk:
    """
    Return a whole response.

    Raises:
        GatewayError: UPSTREAM_MALFORMED: not a JSON object.
    """
    try:
        return decode_response(body, CHUNK)
    except GatewayError:
        coerced = _coerced(replace_lone_surrogates(body))
        if coerced is None:
            raise
        return coerced


def read_response(body: bytes) -> tuple[Chunk, Choice, Delta]:
    """
    Return a whole response with its choice and message.

    Raises:
        GatewayError: UPSTREAM_MALFORMED: not a chat completion; OVERLOADED or UPSTREAM_REFUSED: its
            finish reason says that the upstream failed.
    """
    response = decode_completion(body)
    choice = response.first_choice
    if choice is not None:
        choice.finish_reason = plain_reason(choice.finish_reason)
        if choice.message is None and choice.delta != Delta():
            choice.message = choice.delta
    if choice is not None and choice.message is None and choice.finish_reason == "content_filter":
        choice.message = Delta()  # Azure sends no message
    if choice is None or choice.message is None:
        raise GatewayError(
            ErrorKind.UPSTREAM_MALFORMED, "The upstream sent a response without a message."
        )
    if choice.finish_reason == "insufficient_system_resource":
        raise GatewayError(ErrorKind.OVERLOADED, "upstream is overloaded")
    if choice.finish_reason == "error":
        raise GatewayError(ErrorKind.UPSTREAM_REFUSED, "The upstream reported an error.")
    return response, choice, choice.message


def coerced_json(data: bytes) -> bytes | None:
    """Return a chunk or response with its members coerced, as JSON; None: not a JSON object."""
    if is_deep(data):
        return None
    try:
        value = json.loads(data.decode())  # from bytes it accepts encoded surrogates
    except ValueError:
        return None
    return json.dumps(_object(value)).encode() if isinstance(value, dict) else None


def _coerced(data: bytes) -> Chunk | None:
    if is_deep(data):
        return None
    try:
        value = json.loads(data.decode())  # as above
        return msgspec.convert(_object(value), Chunk) if isinstance(value, dict) else None
    except ValueError:
        return None


def _object(chunk: dict[str, Any]) -> dict[str, Any]:
    return chunk | _members(chunk, _CHUNK)


def _members(
    given: dict[str, Any], rules: dict[str, Callable[[object], object]]
) -> dict[str, object]:
    return {name: rule(given[name]) for name, rule in rules.items() if name in given}


def _text(value: object) -> str | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else None


def _json_text(value: object) -> str | None:
    """Return a string as it is, and any other value as JSON."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _content(value: object) -> object:
    return value if isinstance(value, list) else _json_text(value)


def _string(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _index(value: object) -> int | None:
    if isinstance(value, str) and value.strip().isdecimal() and len(value) < 10:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _object_or_none(value: object) -> object:
    return value if isinstance(value, dict) else None


def _objects(value: object) -> list[Any] | None:
    if isinstance(value, dict):
        return [value] if value else None
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else None


def _function(value: object) -> object:
    return value | _members(value, _FUNCTION) if isinstance(value, dict) else None


def _calls(value: object) -> object:
    calls = _objects(value)
    return None if calls is None else [each | _members(each, _CALL) for each in calls]


def _delta(value: object) -> object:
    return value | _members(value, _DELTA) if isinstance(value, dict) else None


def _choices(value: object) -> object:
    choices = _objects(value)
    return None if choices is None else [each | _members(each, _CHOICE) for each in choices]


_FUNCTION: Final[dict[str, Callable[[object], object]]] = {"name": _string, "arguments": _json_text}
_CALL: Final[dict[str, Callable[[object], object]]] = {
    "index": _index,
    "id": _text,
    "function": _function,
}
_DELTA: Final[dict[str, Callable[[object], object]]] = {
    "content": _content,
    "reasoning_content": _string,
    "reasoning": _string,
    "reasoning_details": _objects,
    "refusal": _string,
    "tool_calls": _calls,
    "function_call": _function,
}
_CHOICE: Final[dict[str, Callable[[object], object]]] = {
    "index": _index,
    "delta": _delta,
    "message": _delta,
    "finish_reason": _string,
    "usage": _object_or_none,
}
_CHUNK: Final[dict[str, Callable[[object], object]]] = {
    "id": _text,
    "choices": _choices,
    "usage": _object_or_none,
}
