"""
What an upstream's error means.

Theory. An upstream reports trouble as an HTTP answer or inside a stream, in one of two dialects and
many variants. It is read once into an `UpstreamFault`, whose class decides everything that follows:
the answer in the client's dialect, whether another deployment may be tried, what is recorded. The
class comes from the error's code or type first, then from the HTTP status, never from its text;
the one exception is a prompt that is too long, which most servers report in words only.
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
    """What the upstream complains of. A closed set; the value is a label."""

    QUOTA = "quota"
    """The gateway's account at the provider has no credit."""
    CREDENTIAL = "credential"
    """The provider refuses the gateway's key."""
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
    """The request is at fault."""
    FAILED = "failed"
    """The upstream is at fault."""
    BROKEN_OFF = "broken_off"
    """The upstream's answer ended early or made no sense; found by the gateway."""


class UpstreamFault(msgspec.Struct, frozen=True, kw_only=True):
    """An upstream's error, read."""

    fault: FaultClass
    message: str
    """The upstream's words, or a sentence that names the status when it has none."""
    status: int = 0
    """The HTTP status; inside a stream the error's numeric code, else 0."""
    type: str | None = None
    code: str | None = None
    retry_after_s: float | None = None
    """From `retry-after-ms` or a `retry-after` in seconds; None for a date."""
    kept_headers: tuple[tuple[bytes, bytes], ...] = ()
    """Headers that go on to the client: `retry-after`, `retry-after-ms`."""


STREAM_CUT: Final = UpstreamFault(
    fault=FaultClass.BROKEN_OFF, message="Upstream stream ended before completion"
)
"""The body ended before the upstream said that its answer is complete."""

STREAM_LATE: Final = UpstreamFault(
    fault=FaultClass.TIMEOUT, message="The upstream model did not answer in time."
)
"""One of the stream's clocks ran out; found by the gateway."""

STREAM_MALFORMED: Final = UpstreamFault(
    fault=FaultClass.BROKEN_OFF, message="Upstream sent malformed data"
)
"""An event that is no JSON, or larger than the limit."""

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
"""Codes and types of OpenAI-wire upstreams that decide whatever the status is."""

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
"""Types of Anthropic-wire upstreams; on the OpenAI wire only where there is no status."""

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
"""These concern the gateway's account, however vaguely the error is named."""

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
"""`base_resp.status_code` of an answer whose HTTP status is 200 (MiniMax, error codes, 2026-11)."""

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
"""Numeric error codes are smaller."""

SCANNED_CHARS: Final = 4096
"""A message is searched for patterns no further than this."""

_TOO_LONG: Final = re.compile(
    "context length|context_length|maximum context|context window|prompt is too long"
    "|too many (?:input )?tokens|exceeds?.*?(?:max|limit).*?tokens",
    re.IGNORECASE | re.DOTALL,
)


def read_fault(wire: Wire, status: int, headers: HeaderPairs, body: bytes) -> UpstreamFault:
    """
    Return what an upstream's error answer says.

    Understands an `error` object or string, a list of such (Gemini), MiniMax's `base_resp`, a bare
    `message` or `detail`, and anything that is no JSON. Never raises.

    Args:
        wire: The dialect the upstream was spoken to in.
        status: The HTTP status; 200 for an answer that turned out to be an error.
        headers: The answer's, names in lower case.
        body: The whole body, bounded by the caller.
    """
    words = _read_body(body)
    if not words.message:
        words = words._replace(message=f"Upstream returned HTTP {status}")
    kept = tuple((name, value) for name, value in headers if name in _KEPT)
    return UpstreamFault(
        fault=_classify(wire, status, words),
        message=words.message,
        status=status,
        type=words.type,
        code=words.code,
        retry_after_s=_retry_after(kept),
        kept_headers=kept,
    )


def read_stream_fault(wire: Wire, event: bytes) -> UpstreamFault:
    """Return what an error inside a stream says; `event` is the event's JSON. Never raises."""
    words = _read_body(event)
    code = words.code or ""
    status = int(code) if len(code) == 3 and code.isdecimal() and 400 <= int(code) < 600 else 0
    return UpstreamFault(
        fault=_classify(wire, status, words),
        message=words.message or "Upstream reported an error",
        status=status,
        type=words.type,
        code=words.code,
    )


def may_try_elsewhere(fault: UpstreamFault) -> bool:
    """
    Return whether another deployment may be asked, as long as nothing was committed.

    Yes for 401, 402, 403, 404, 408, 409, 429 and 5xx, and for the codes and types that mean the
    same; never for 400, 413 and 422, which are the caller's fault everywhere.
    """
    return fault.fault in _ELSEWHERE or fault.status in (408, 409)


def is_signature_refusal(fault: UpstreamFault) -> bool:
    """
    Return whether the upstream refuses the signature of a thinking block in the history.

    Such a block stems from another provider. The same request without any thinking block may be
    sent once more.
    """
    if fault.fault is not FaultClass.INVALID or fault.status not in (0, 400):
        return False
    words = fault.message[:SCANNED_CHARS].lower()
    return "signature" in words and "thinking" in words


def error_kind(fault: UpstreamFault) -> ErrorKind:
    """Return the kind under which the fault is counted and logged."""
    return _KINDS.get(fault.fault, ErrorKind.UPSTREAM_REFUSED)


class _Words(NamedTuple):
    """What an error body says; members it lacks are None or empty."""

    message: str = ""
    type: str | None = None
    code: str | None = None
    minimax: bool = False


def _read_body(body: bytes) -> _Words:
    value = _decode(body)
    if isinstance(value, list):
        value = value[0] if value else None
    if not isinstance(value, dict):
        return _Words()
    error = value.get("error")
    if isinstance(error, dict):
        kind = _text(error.get("type")) or _text(error.get("status"))
        return _Words(_text(error.get("message")) or "", kind, _code(error.get("code")))
    base = value.get("base_resp")
    if error is None and isinstance(base, dict):
        words = _text(base.get("status_msg")) or ""
        return _Words(words, None, _code(base.get("status_code")), minimax=True)
    message = _text(error) or _text(value.get("message")) or _text(value.get("detail")) or ""
    return _Words(message, _text(value.get("type")), _code(value.get("code")))


def _decode(body: bytes) -> object:
    """Decode leniently: bytes that are not UTF-8 are replaced; what is no JSON gives None."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass  # Most often HTML. Lone surrogates are left to the standard library.
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
        # Python refuses to print integers beyond 4,300 digits.
        return str(value) if abs(value) < _CODE_LIMIT else None
    return _text(value)


def _classify(wire: Wire, status: int, words: _Words) -> FaultClass:
    found = _by_name(wire, status, words) or _by_status(wire, status)
    if status in _ACCOUNT_STATUSES and found in (FaultClass.INVALID, FaultClass.FAILED):
        return _STATUSES[status]
    if found is not FaultClass.INVALID:
        return found
    if (wire is Wire.ANTHROPIC or status in (0, 400)) and _is_length(words.message):
        return FaultClass.TOO_LONG
    return found


def _by_name(wire: Wire, status: int, words: _Words) -> FaultClass | None:
    if words.minimax:
        return _MINIMAX_CODES.get(words.code or "") if status < 400 else None
    kind = words.type or ""
    if wire is Wire.ANTHROPIC and kind in _ANTHROPIC_TYPES:
        return _ANTHROPIC_TYPES[kind]
    for name in (words.code or "", kind):
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
    """Return seconds; `retry-after-ms` is finer and wins."""
    values = dict(kept)
    for name, unit in ((b"retry-after-ms", 0.001), (b"retry-after", 1.0)):
        value = values.get(name, b"").strip()
        if re.fullmatch(rb"\d{1,9}(\.\d{1,9})?", value):
            return float(value) * unit
    return None
