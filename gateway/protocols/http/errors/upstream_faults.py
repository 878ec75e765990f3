"""
Reads and classifies upstream errors.

An upstream reports errors as an HTTP response or inside a stream, in one of two dialects and many
variants. Each is read once into an `UpstreamFault`, whose class determines the client's response,
whether another deployment may be tried, and what is recorded. The class is derived from the error's
code or type, else from the HTTP status, but not from its text; the exception is a prompt that is
too long, which most servers report only in words.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from gateway.core.model import Wire
from gateway.errors import ErrorKind

HeaderPairs = Sequence[tuple[bytes, bytes]]
"""Names in lower case."""


class FaultClass(enum.Enum):
    """The class of an upstream's error, a closed set."""

    QUOTA = "quota"
    """The operator's account at the provider has no credit."""
    CREDENTIAL = "credential"
    """The provider rejects the operator's key."""
    OVERLOADED = "overloaded"
    RATE_LIMITED = "rate_limited"
    NOT_FOUND = "not_found"
    """The upstream does not know the model."""
    TOO_LONG = "too_long"
    """The prompt exceeds the model's context."""
    TOO_LARGE = "too_large"
    """The body exceeds the upstream's limit in bytes."""
    TIMEOUT = "timeout"
    INVALID = "invalid"
    """The request is invalid."""
    FAILED = "failed"
    """The upstream failed."""
    BROKEN_OFF = "broken_off"
    """The response ended early or was malformed; detected by the gateway."""


class UpstreamFault(msgspec.Struct, frozen=True, kw_only=True):
    """A classified upstream error."""

    fault: FaultClass
    message: str
    """The upstream's message, or a sentence with the status if it sent none."""
    status: int = 0
    """The HTTP status; in a stream the error's numeric code, or 0."""
    type: str | None = None
    code: str | None = None
    retry_after_s: float | None = None
    """From `retry-after-ms` or `retry-after` in seconds; None for a date."""
    kept_headers: tuple[tuple[bytes, bytes], ...] = ()
    """Headers relayed to the client: `retry-after`, `retry-after-ms`."""


STREAM_CUT: Final = UpstreamFault(
    fault=FaultClass.BROKEN_OFF, message="Upstream stream ended before completion"
)
"""The body ended without the stream's final event."""

STREAM_LATE: Final = UpstreamFault(
    fault=FaultClass.TIMEOUT, message="The upstream model did not respond in time."
)
"""A timeout of the stream expired; detected by the gateway."""

STREAM_MALFORMED: Final = UpstreamFault(
    fault=FaultClass.BROKEN_OFF, message="Upstream sent malformed data"
)
"""An event is not JSON, or larger than the limit."""

STREAM_EMPTY: Final = UpstreamFault(
    fault=FaultClass.BROKEN_OFF, message="The upstream sent a stream without an answer."
)
"""The stream ended without content, finish reason and usage."""

RESOURCES_GONE: Final = UpstreamFault(fault=FaultClass.OVERLOADED, message="upstream is overloaded")
"""DeepSeek's finish reason `insufficient_system_resource`."""

_KEPT: Final = frozenset({b"retry-after", b"retry-after-ms"})
_OPENAI_NAMES: Final[Mapping[str, FaultClass]] = {
    "insufficient_quota": FaultClass.QUOTA,
    "credit_balance_exhausted": FaultClass.QUOTA,
    "server_is_overloaded": FaultClass.OVERLOADED,
    "slow_down": FaultClass.OVERLOADED,
    "overloaded_error": FaultClass.OVERLOADED,
    "service_unavailable_error": FaultClass.OVERLOADED,
    "rate_limit_exceeded": FaultClass.RATE_LIMITED,
    "model_not_found": FaultClass.NOT_FOUND,
    "context_length_exceeded": FaultClass.TOO_LONG,
}
"""Codes and types on the OpenAI wire that take precedence over the status."""

_ANTHROPIC_TYPES: Final[Mapping[str, FaultClass]] = {
    "authentication_error": FaultClass.CREDENTIAL,
    "permission_error": FaultClass.CREDENTIAL,
    "billing_error": FaultClass.QUOTA,
    "not_found_error": FaultClass.NOT_FOUND,
    "request_too_large": FaultClass.TOO_LARGE,
    "rate_limit_error": FaultClass.RATE_LIMITED,
    "overloaded_error": FaultClass.OVERLOADED,
    "timeout_error": FaultClass.TIMEOUT,
    "invalid_request_error": FaultClass.INVALID,
    "api_error": FaultClass.FAILED,
}
"""Types on the Anthropic wire; used on the OpenAI wire only without an error status."""

_STATUSES: Final[Mapping[int, FaultClass]] = {
    401: FaultClass.CREDENTIAL,
    402: FaultClass.QUOTA,
    403: FaultClass.CREDENTIAL,
    404: FaultClass.NOT_FOUND,
    413: FaultClass.TOO_LARGE,
    429: FaultClass.RATE_LIMITED,
    503: FaultClass.OVERLOADED,
    504: FaultClass.TIMEOUT,
    529: FaultClass.OVERLOADED,
}

_ACCOUNT_STATUSES: Final = frozenset({401, 402, 403})
"""Statuses that concern the operator's account, even if the error's type is generic."""

_MINIMAX_CODES: Final[Mapping[str, FaultClass]] = {
    "1001": FaultClass.TIMEOUT,
    "1002": FaultClass.RATE_LIMITED,
    "1004": FaultClass.CREDENTIAL,
    "1008": FaultClass.QUOTA,
    "1026": FaultClass.INVALID,
    "1039": FaultClass.RATE_LIMITED,
    "2013": FaultClass.INVALID,
    "2049": FaultClass.CREDENTIAL,
}
"""`base_resp.status_code` of a response with HTTP status 200 (MiniMax, error codes, 2026-11)."""

_KINDS: Final[Mapping[FaultClass, ErrorKind]] = {
    FaultClass.QUOTA: ErrorKind.UPSTREAM_QUOTA,
    FaultClass.CREDENTIAL: ErrorKind.UPSTREAM_AUTH,
    FaultClass.TIMEOUT: ErrorKind.UPSTREAM_TIMEOUT,
    FaultClass.BROKEN_OFF: ErrorKind.UPSTREAM_BROKEN,
}

_ELSEWHERE: Final = frozenset(
    {
        FaultClass.QUOTA,
        FaultClass.CREDENTIAL,
        FaultClass.OVERLOADED,
        FaultClass.RATE_LIMITED,
        FaultClass.NOT_FOUND,
        FaultClass.TIMEOUT,
        FaultClass.FAILED,
        FaultClass.BROKEN_OFF,
    }
)

_CODE_LIMIT: Final = 10**18
"""Larger numbers are not treated as error codes."""

SCANNED_CHARS: Final = 4096
"""Length of a message's beginning that is searched for patterns."""

_TOO_LONG: Final = re.compile(
    "context length|context_length|maximum context|context window|prompt is too long"
    "|too many (?:input )?tokens|exceeds?.*?(?:max|limit).*?tokens",
    re.IGNORECASE | re.DOTALL,
)


def read_fault(wire: Wire, status: int, headers: HeaderPairs, body: bytes) -> UpstreamFault:
    """
    Return the fault of an upstream's error response. Never raises.

    Accepts an `error` object or string, a list of these (Gemini), MiniMax's `base_resp`, a bare
    `message` or `detail`, and bodies that are not JSON.

    Args:
        wire: The dialect of the request to the upstream.
        status: The HTTP status; 200 for an error body under a success status.
        headers: Of the response, names in lower case.
        body: The complete body, of bounded size.
    """
    fields = _read_body(body)
    if not fields.message:
        fields = fields._replace(message=f"Upstream returned HTTP {status}")
    kept = tuple((name, value) for name, value in headers if name in _KEPT)
    return UpstreamFault(
        fault=_classify(wire, status, fields),
        message=fields.message,
        status=status,
        type=fields.type,
        code=fields.code,
        retry_after_s=_retry_after(kept),
        kept_headers=kept,
    )


def read_stream_fault(wire: Wire, event: bytes) -> UpstreamFault:
    """Return the fault of an error inside a stream; `event` is its JSON. Never raises."""
    fields = _read_body(event)
    code = fields.code or ""
    status = int(code) if len(code) == 3 and code.isdecimal() and 400 <= int(code) < 600 else 0
    return UpstreamFault(
        fault=_classify(wire, status, fields),
        message=fields.message or "Upstream reported an error",
        status=status,
        type=fields.type,
        code=fields.code,
    )


def may_try_elsewhere(fault: UpstreamFault) -> bool:
    """
    Return whether another deployment may be tried before the response is committed.

    True for 401, 402, 403, 404, 408, 409, 429 and 5xx and the equivalent codes and types; false for
    400, 413 and 422, which are errors of the request.
    """
    return fault.fault in _ELSEWHERE or fault.status in (408, 409)


def is_signature_refusal(fault: UpstreamFault) -> bool:
    """
    Return whether the upstream rejects the signature of a thinking block in the history.

    Such a block comes from another provider; the request may be retried without thinking blocks.
    """
    if fault.fault is not FaultClass.INVALID or fault.status not in (0, 400):
        return False
    message = fault.message[:SCANNED_CHARS].lower()
    return "signature" in message and "thinking" in message


def error_kind(fault: UpstreamFault) -> ErrorKind:
    """Return the error kind for metrics and logs."""
    return _KINDS.get(fault.fault, ErrorKind.UPSTREAM_REFUSED)


class _ErrorFields(NamedTuple):
    """Fields of an error body; absent ones are None or empty."""

    message: str = ""
    type: str | None = None
    code: str | None = None
    minimax: bool = False


def _read_body(body: bytes) -> _ErrorFields:
    value = _decode(body)
    if isinstance(value, list):
        value = value[0] if value else None
    if not isinstance(value, dict):
        return _ErrorFields()
    error = value.get("error")
    if isinstance(error, dict):
        kind = _text(error.get("type")) or _text(error.get("status"))
        return _ErrorFields(_text(error.get("message")) or "", kind, _code(error.get("code")))
    base = value.get("base_resp")
    if error is None and isinstance(base, dict):
        message = _text(base.get("status_msg")) or ""
        return _ErrorFields(message, None, _code(base.get("status_code")), minimax=True)
    message = _text(error) or _text(value.get("message")) or _text(value.get("detail")) or ""
    return _ErrorFields(message, _text(value.get("type")), _code(value.get("code")))


def _decode(body: bytes) -> object:
    """Decode leniently: invalid UTF-8 is replaced; return None if the body is not JSON."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass  # Usually HTML. The standard library accepts lone surrogates.
    try:
        return json.loads(body.decode(json.detect_encoding(body), "replace"))
    except (ValueError, RecursionError):
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


def _classify(wire: Wire, status: int, fields: _ErrorFields) -> FaultClass:
    found = _by_name(wire, status, fields) or _by_status(wire, status)
    if status in _ACCOUNT_STATUSES and found in (FaultClass.INVALID, FaultClass.FAILED):
        return _STATUSES[status]
    if found is not FaultClass.INVALID:
        return found
    if (wire is Wire.ANTHROPIC or status in (0, 400)) and _is_length(fields.message):
        return FaultClass.TOO_LONG
    return found


def _by_name(wire: Wire, status: int, fields: _ErrorFields) -> FaultClass | None:
    if fields.minimax:
        return _MINIMAX_CODES.get(fields.code or "") if status < 400 else None
    kind = fields.type or ""
    if wire is Wire.ANTHROPIC and kind in _ANTHROPIC_TYPES:
        return _ANTHROPIC_TYPES[kind]
    for name in (fields.code or "", kind):
        if name in _OPENAI_NAMES:
            return _OPENAI_NAMES[name]
    if "rate_limit" in kind:
        return FaultClass.RATE_LIMITED
    return _ANTHROPIC_TYPES.get(kind) if status < 400 else None


def _by_status(wire: Wire, status: int) -> FaultClass:
    if status == 408 and wire is Wire.OPENAI:
        return FaultClass.TIMEOUT
    if status in _STATUSES:
        return _STATUSES[status]
    return FaultClass.INVALID if 400 <= status < 500 else FaultClass.FAILED


def _is_length(message: str) -> bool:
    return _TOO_LONG.search(message[:SCANNED_CHARS]) is not None


def _retry_after(kept: HeaderPairs) -> float | None:
    """Return seconds; the more precise `retry-after-ms` takes precedence."""
    values = dict(kept)
    for name, unit in ((b"retry-after-ms", 0.001), (b"retry-after", 1.0)):
        value = values.get(name, b"").strip()
        if re.fullmatch(rb"\d{1,9}(\.\d{1,9})?", value):
            return float(value) * unit
    return None
