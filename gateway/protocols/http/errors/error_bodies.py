"""Finds the message, type and code of an error in the many shapes that upstreams write."""

from __future__ import annotations

import json
from typing import Final, NamedTuple

import msgspec

from gateway.protocols.codec.nesting import is_deep

_CODE_LIMIT: Final = 10**18
"""Larger numbers are not treated as error codes."""

_MESSAGES: Final = ("message", "msg", "detail", "error_msg", "Message")
_CODES: Final = ("code", "error_code", "error_code_string")


class ErrorFields(NamedTuple):
    """Fields of an error body; absent ones are None or empty."""

    message: str = ""
    type: str | None = None
    code: str | None = None
    minimax: bool = False
    """The code is MiniMax's `base_resp.status_code`."""
    tokens: int | None = None
    """The prompt's length; llama.cpp's `n_prompt_tokens`."""
    limit: int | None = None
    """The context's length; llama.cpp's `n_ctx`."""


def read_error_body(body: bytes) -> ErrorFields:
    """
    Return the fields of an error body, in any known shape. Never raises.

    Accepts an `error` object or string, a list of these (Gemini), an `errors` list (Cloudflare),
    MiniMax's `base_resp`, the members at the top (vLLM, GLM, DashScope, FastAPI), and within
    `metadata.raw`, or as JSON in the message, the body of the provider behind the upstream.
    """
    value = decode_leniently(body)
    if isinstance(value, list):
        value = value[0] if value else None
    return _fields(value) if isinstance(value, dict) else ErrorFields()


def decode_leniently(body: bytes) -> object:
    """Return the body's JSON, invalid UTF-8 replaced; None if it is not JSON."""
    if is_deep(body):
        return None
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass  # Usually HTML. The standard library accepts lone surrogates.
    try:
        text = body.decode(json.detect_encoding(body), "replace")
        return None if is_deep(text) else json.loads(text)
    except ValueError:
        return None


def _fields(value: dict[str, object]) -> ErrorFields:
    error = value.get("error")
    errors = value.get("errors")
    if error is None and isinstance(errors, list) and errors and isinstance(errors[0], dict):
        error = errors[0]
    if isinstance(error, dict):
        return _of_object(error)
    base = value.get("base_resp")
    if error is None and isinstance(base, dict):
        message = _text(base.get("status_msg")) or ""
        return ErrorFields(message, None, _code(base.get("status_code")), minimax=True)
    return _of_object(value)._replace(message=_text(error) or _message(value))


def _of_object(error: dict[str, object]) -> ErrorFields:
    metadata = error.get("metadata")
    kind = _text(error.get("type")) or _text(error.get("status")) or _text(error.get("reason"))
    if kind is None and isinstance(metadata, dict):  # OpenRouter's; its code is the HTTP status
        kind = _text(metadata.get("error_type")) or _text(metadata.get("limit_source"))
    code = next((code for name in _CODES if (code := _code(error.get(name)))), None)
    fields = ErrorFields(
        _message(error),
        kind,
        code or _reason(error.get("details")),
        tokens=_count(error.get("n_prompt_tokens")),
        limit=_count(error.get("n_ctx")),
    )
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    if raw is None and fields.message.startswith("{"):
        raw = fields.message  # github.com/continuedev/continue/issues/10560, 2026-02: Gemini's
    return fields if raw is None else _behind(fields, raw)


def _behind(fields: ErrorFields, raw: object) -> ErrorFields:
    """Return the fields with the more specific ones of the provider behind the upstream."""
    value = decode_leniently(raw.encode("utf-8", "replace")) if isinstance(raw, str) else raw
    if isinstance(value, list):
        value = value[0] if value else None
    if not isinstance(value, dict):
        return fields._replace(message=_text(raw) or fields.message)
    error = value.get("error")
    inner = error if isinstance(error, dict) else value
    return fields._replace(
        message=_text(error) or _message(inner) or fields.message,
        type=_text(inner.get("type")) or _text(inner.get("status")) or fields.type,
        code=_code(inner.get("code")) or fields.code,
    )


def _message(error: dict[str, object]) -> str:
    for name in _MESSAGES:
        value = error.get(name)
        if isinstance(value, list) and value and isinstance(value[0], dict):
            value = value[0].get("msg")  # FastAPI's list of what is invalid
        text = _text(value)
        if text is not None:
            return text
    return ""


def _reason(details: object) -> str | None:
    """Return the reason in Gemini's list of details, such as `API_KEY_INVALID`."""
    for detail in details if isinstance(details, list) else ():
        reason = detail.get("reason") if isinstance(detail, dict) else None
        if isinstance(reason, str) and reason:
            return _text(reason)
    return None


def _text(value: object) -> str | None:
    if isinstance(value, str) and value:
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return None


def _code(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        # Python raises for integers beyond 4,300 digits.
        return str(value) if abs(value) < _CODE_LIMIT else None
    return _text(value)


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and 0 < value < _CODE_LIMIT else None
