"""
Reads and classifies upstream errors.

An upstream reports errors as an HTTP response or inside a stream, in one of two dialects and many
variants. Each is read once into an `UpstreamFault`, whose class determines the client's response
and, through `failure_class`, what is tried next. The class is derived from the error's code or
type, else from the HTTP status. The message decides only where many servers send no code or a
misleading one, as for a full context, the operator's account, or an unknown model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from gateway.core.model import Wire
from gateway.core.routing.failures import FailureClass
from gateway.errors import ErrorKind
from gateway.protocols.http.errors.account_words import (
    has_no_capacity,
    is_about_account,
    is_about_content,
    is_about_credential,
    is_about_model,
    is_throttled,
)
from gateway.protocols.http.errors.context_full import (
    LLAMA_CPP_FULL,
    SCANNED_CHARS,
    Excess,
    read_excess,
)
from gateway.protocols.http.errors.error_bodies import ErrorFields, read_error_body
from gateway.protocols.http.errors.error_codes import MINIMAX_CODES, NAMES, FaultClass
from gateway.protocols.http.retry_after import retry_after_s, retry_headers

HeaderPairs = Sequence[tuple[bytes, bytes]]
"""Names in lower case."""


class UpstreamFault(msgspec.Struct, frozen=True, kw_only=True):
    """A classified upstream error."""

    fault: FaultClass
    message: str
    """The upstream's message, or a sentence with the status if it sent none."""
    status: int = 0
    """The HTTP status; in a stream the error's numeric code, or 0."""
    type: str | None = None
    code: str | None = None
    kept_headers: tuple[tuple[bytes, bytes], ...] = ()
    """Headers relayed to the client: `retry-after`, `retry-after-ms`."""
    excess: Excess = Excess()
    """For `TOO_LONG`: the numbers that the upstream names."""

    @property
    def retry_after_s(self) -> float | None:
        """The delay that the upstream asks for; None: no time, 0, or one that has passed."""
        return retry_after_s(self.kept_headers) or None


STREAM_CUT: Final = UpstreamFault(
    fault=FaultClass.BROKEN_OFF, message="Upstream stream ended before completion"
)
"""The body ended without the stream's final event."""

STREAM_LATE: Final = UpstreamFault(
    fault=FaultClass.TIMEOUT, message="The upstream model did not respond in time."
)
"""A timeout of the stream expired; detected by the gateway."""

STREAM_STOPPED: Final = UpstreamFault(
    fault=FaultClass.OVERLOADED, message="The gateway is restarting. Send the request again."
)
"""The gateway is shutting down, and the grace period for running streams is over."""

STREAM_MALFORMED: Final = UpstreamFault(
    fault=FaultClass.BROKEN_OFF, message="Upstream sent malformed data"
)
"""An event is not JSON, or larger than the limit."""

STREAM_EMPTY: Final = UpstreamFault(
    fault=FaultClass.BROKEN_OFF, message="The upstream sent an empty stream."
)
"""The stream ended without content, finish reason or usage."""

RESOURCES_GONE: Final = UpstreamFault(fault=FaultClass.OVERLOADED, message="upstream is overloaded")
"""DeepSeek's finish reason `insufficient_system_resource`."""

_RATE_CODE: Final = "rate_limit_exceeded"

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

_GOOGLE_STATUSES: Final[Mapping[str, FaultClass]] = {
    "INVALID_ARGUMENT": FaultClass.INVALID,
    "FAILED_PRECONDITION": FaultClass.INVALID,
    "NOT_FOUND": FaultClass.NOT_FOUND,
    "INTERNAL": FaultClass.FAILED,
}
"""Gemini's status strings, used only without an error status."""

_STATUSES: Final[Mapping[int, FaultClass]] = {
    401: FaultClass.CREDENTIAL,
    402: FaultClass.QUOTA,
    403: FaultClass.CREDENTIAL,
    404: FaultClass.NOT_FOUND,
    413: FaultClass.TOO_LARGE,
    429: FaultClass.RATE_LIMITED,
    498: FaultClass.OVERLOADED,  # Groq, console.groq.com/docs/errors; 2026-11
    503: FaultClass.OVERLOADED,
    504: FaultClass.TIMEOUT,
    529: FaultClass.OVERLOADED,
}

_ACCOUNT_STATUSES: Final = frozenset({401, 402, 403})
"""Statuses that concern the operator's account, even if the error's type is generic."""

_KINDS: Final[Mapping[FaultClass, ErrorKind]] = {
    FaultClass.QUOTA: ErrorKind.UPSTREAM_QUOTA,
    FaultClass.CREDENTIAL: ErrorKind.UPSTREAM_AUTH,
    FaultClass.TIMEOUT: ErrorKind.UPSTREAM_TIMEOUT,
    FaultClass.BROKEN_OFF: ErrorKind.UPSTREAM_BROKEN,
}

_BUSY_STATUSES: Final = frozenset({503, 529})
"""Statuses that mean overload, even if the error's type is generic."""

# Classes under which providers also report problems with the operator's account.
_MAY_BE_ACCOUNT: Final = frozenset(
    {
        FaultClass.INVALID,
        FaultClass.RATE_LIMITED,
        FaultClass.CREDENTIAL,
        FaultClass.NOT_FOUND,
        FaultClass.FAILED,
    }
)

_FAILURES: Final[Mapping[FaultClass, FailureClass]] = {
    FaultClass.QUOTA: FailureClass.QUOTA,
    FaultClass.CREDENTIAL: FailureClass.CREDENTIAL,
    FaultClass.OVERLOADED: FailureClass.OVERLOAD,
    FaultClass.RATE_LIMITED: FailureClass.RATE_LIMIT,
    FaultClass.NOT_FOUND: FailureClass.UNKNOWN_MODEL,
    FaultClass.TOO_LONG: FailureClass.CLIENT,
    FaultClass.TOO_LARGE: FailureClass.CLIENT,
    FaultClass.TIMEOUT: FailureClass.TIMEOUT,
    FaultClass.INVALID: FailureClass.CLIENT,
    FaultClass.FAILED: FailureClass.UPSTREAM,
    FaultClass.BROKEN_OFF: FailureClass.PROTOCOL,
}

# Faults that concern the operator only: clients get fixed messages.
_UNSHOWN: Final = frozenset({FaultClass.QUOTA, FaultClass.CREDENTIAL, FaultClass.NOT_FOUND})
_LOGGED_CHARS: Final = 500

# Statuses with which an error's message is read: rejections, 200, and 0 for errors in a stream.
_MESSAGE_READ: Final = frozenset({0, 200, 400, 401, 402, 403, 404, 413, 429})
_LENGTH_READ: Final = frozenset({0, 200, 400, 413})


def read_fault(wire: Wire, status: int, headers: HeaderPairs, body: bytes) -> UpstreamFault:
    """
    Return the fault of an upstream's error response. Never raises.

    Accepts every shape of `read_error_body`, and bodies that are not JSON.

    Args:
        wire: The dialect of the request to the upstream.
        status: The HTTP status; 200 for an error body under a success status.
        headers: Of the response, names in lower case.
        body: The complete body, of bounded size.
    """
    fields = read_error_body(body)
    if not fields.message:
        fields = fields._replace(message=f"Upstream returned HTTP {status}")
    fault = _classify(wire, status, fields)
    return UpstreamFault(
        fault=fault,
        message=fields.message,
        status=status,
        type=fields.type,
        code=fields.code,
        kept_headers=retry_headers(headers),
        excess=_excess(fault, fields),
    )


def read_stream_fault(wire: Wire, event: bytes) -> UpstreamFault:
    """Return the fault of an error inside a stream; `event` is its JSON. Never raises."""
    fields = read_error_body(event)
    code = fields.code or ""
    status = int(code) if len(code) == 3 and code.isdecimal() and 400 <= int(code) < 600 else 0
    fault = _classify(wire, status, fields)
    return UpstreamFault(
        fault=fault,
        message=fields.message or "Upstream reported an error",
        status=status,
        type=fields.type,
        code=fields.code,
        excess=_excess(fault, fields),
    )


def failure_class(fault: UpstreamFault) -> FailureClass:
    """
    Return the class that decides what is tried next, see `core.routing.failures`.

    400, 413 and 422 are errors of the request; 408 and 409 are errors of the upstream.
    """
    if fault.fault is FaultClass.TOO_LONG and fault.code == _RATE_CODE:
        # The request exceeds the account's tokens per minute; another account may allow it.
        return FailureClass.UNSUPPORTED
    found = _FAILURES[fault.fault]
    if found is FailureClass.CLIENT and fault.status in (408, 409):
        return FailureClass.OVERLOAD
    return found


def is_signature_refusal(fault: UpstreamFault) -> bool:
    """
    Return whether the upstream rejects the signature of a thinking block in the history.

    Such a block comes from another provider; the request may be retried without thinking blocks.
    """
    if fault.fault is not FaultClass.INVALID or fault.status not in (0, 400):
        return False
    message = fault.message[:SCANNED_CHARS].lower()
    return "signature" in message and "thinking" in message


def log_detail(fault: UpstreamFault) -> str | None:
    """Return the detail for the log: the code, and the message if clients do not see it."""
    name = fault.code or fault.type
    if fault.fault not in _UNSHOWN:
        return name
    words = fault.message[:_LOGGED_CHARS]
    return words if name is None else f"{name}: {words}"


def error_kind(fault: UpstreamFault) -> ErrorKind:
    """Return the error kind for metrics and logs."""
    return _KINDS.get(fault.fault, ErrorKind.UPSTREAM_REFUSED)


def _classify(wire: Wire, status: int, fields: ErrorFields) -> FaultClass:
    named = _by_name(wire, status, fields)
    found = named or _by_status(wire, status)
    if status in _ACCOUNT_STATUSES and found in (FaultClass.INVALID, FaultClass.FAILED):
        found = _STATUSES[status]
    is_full = found is FaultClass.RATE_LIMITED and has_no_capacity(fields.message)
    if status in _BUSY_STATUSES and (found is FaultClass.FAILED or is_full):
        found = FaultClass.OVERLOADED
    if _is_full_elsewhere(status, fields.message):
        return FaultClass.TOO_LONG
    if status not in _MESSAGE_READ or (status == 402 and named is FaultClass.RATE_LIMITED):
        return found
    message = fields.message
    plain = _by_plain_words(found, status, message)
    if plain is not None:
        return plain
    if found in _MAY_BE_ACCOUNT and is_about_account(message):
        return FaultClass.QUOTA
    if found is FaultClass.RATE_LIMITED and status in (413, 429):
        # One request with more tokens than the account may use in a minute never succeeds.
        return FaultClass.TOO_LONG if _is_too_large(message) else found
    if found is FaultClass.TOO_LARGE and named is not None:
        return found
    if found in (FaultClass.INVALID, FaultClass.TOO_LARGE, FaultClass.FAILED):
        return _by_words(wire, status, message) or found
    return found


def _by_plain_words(found: FaultClass, status: int, message: str) -> FaultClass | None:
    """Return the class that the message names if it contradicts the code or status, else None."""
    if found is FaultClass.QUOTA and is_throttled(message):
        return FaultClass.RATE_LIMITED
    if status == 403 and found is FaultClass.CREDENTIAL and not is_about_account(message):
        if read_excess(message) is not None:
            return FaultClass.TOO_LONG  # Together, docs.together.ai, "Error codes"; 2026-11
        return FaultClass.INVALID if is_about_content(message) else None
    if found in (FaultClass.RATE_LIMITED, FaultClass.INVALID) and has_no_capacity(message):
        return FaultClass.OVERLOADED
    return None


def _by_words(wire: Wire, status: int, message: str) -> FaultClass | None:
    """Return the class of an invalid request by its message; None: it is not recognised."""
    may_be_length = status in _LENGTH_READ or wire is Wire.ANTHROPIC
    if may_be_length and read_excess(message) is not None:
        return FaultClass.TOO_LONG
    if is_about_credential(message):
        return FaultClass.CREDENTIAL
    return FaultClass.NOT_FOUND if is_about_model(message) else None


def _is_full_elsewhere(status: int, message: str) -> bool:
    """Return whether an error is a full context although its status usually means another."""
    if status == 422:  # Hugging Face; other words with this status are about fields
        excess = read_excess(message)
        return excess is not None and excess.tokens is not None
    return status == 500 and LLAMA_CPP_FULL in message


def _is_too_large(message: str) -> bool:
    return message[:SCANNED_CHARS].lower().startswith("request too large for")


def _excess(fault: FaultClass, fields: ErrorFields) -> Excess:
    if fault is not FaultClass.TOO_LONG:
        return Excess()
    if fields.tokens is not None or fields.limit is not None:
        return Excess(fields.tokens, fields.limit)
    return read_excess(fields.message) or Excess()


def _by_name(wire: Wire, status: int, fields: ErrorFields) -> FaultClass | None:
    if fields.minimax:
        return MINIMAX_CODES.get(fields.code or "") if status < 400 else None
    kind = fields.type or ""
    if wire is Wire.ANTHROPIC and kind in _ANTHROPIC_TYPES:
        by_code = NAMES.get(fields.code or "")
        return by_code or _ANTHROPIC_TYPES[kind]
    for name in (fields.code or "", kind):
        if name in NAMES:
            return NAMES[name]
    if "rate_limit" in kind or (kind == "RESOURCE_EXHAUSTED" and status != 402):
        return FaultClass.RATE_LIMITED
    return (_ANTHROPIC_TYPES.get(kind) or _GOOGLE_STATUSES.get(kind)) if status < 400 else None


def _by_status(wire: Wire, status: int) -> FaultClass:
    if status == 408 and wire is Wire.OPENAI:
        return FaultClass.TIMEOUT
    if status in _STATUSES:
        return _STATUSES[status]
    return FaultClass.INVALID if 400 <= status < 500 else FaultClass.FAILED
