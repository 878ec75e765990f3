"""
Renders an upstream's error for the clients of each dialect.

Two classes concern the operator's account at the provider: its key (`CREDENTIAL`) and its credit
(`QUOTA`). Their responses have fixed texts and never use 401 or 402: clients would ask their users
to log in again, or to pay.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec

from gateway.core.model import Wire
from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.codec.sse import anthropic_event, openai_data
from gateway.protocols.http.errors.account_words import (
    delay_words,
    mentions_account,
    without_account_ids,
)
from gateway.protocols.http.errors.error_codes import FaultClass
from gateway.protocols.http.errors.upstream_faults import (
    RESOURCES_GONE,
    STREAM_CUT,
    STREAM_LATE,
    STREAM_MALFORMED,
    UpstreamFault,
    error_kind,
    failure_class,
    is_signature_refusal,
    read_fault,
    read_stream_fault,
)

__all__ = [
    "RESOURCES_GONE",
    "STREAM_CUT",
    "STREAM_LATE",
    "STREAM_MALFORMED",
    "ErrorResponse",
    "FaultClass",
    "UpstreamFault",
    "error_for",
    "error_kind",
    "failure_class",
    "is_signature_refusal",
    "read_fault",
    "read_stream_fault",
    "relay_error",
    "translate_error",
    "translate_stream_error",
]


class ErrorResponse(NamedTuple):
    """An HTTP error response; `headers` of a translated one excludes content-type and length."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes

    def with_body(self, body: bytes) -> ErrorResponse:
        """Return the response with another body, and the content-length that it has, if any."""
        length = str(len(body)).encode()
        headers = tuple(
            (name, length if name == b"content-length" else value) for name, value in self.headers
        )
        return ErrorResponse(self.status, headers, body)


class ErrorBeforeCommit(msgspec.Struct, frozen=True):
    """An upstream failure before anything was sent: an HTTP error response is still possible."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    """Headers of the error, such as `x-should-retry`; without content-type and content-length."""
    body: bytes
    """Complete, in the client's dialect, without the gateway's request id."""
    fault: UpstreamFault | None = None
    """The upstream's fault, which decides whether another deployment may be tried."""


_NO_RETRY: Final = (b"x-should-retry", b"false")
_AUTH_TEXT: Final = "The gateway could not authenticate with the upstream provider"
_QUOTA_TEXT: Final = "The upstream provider is temporarily unavailable"
_RATE_TEXT: Final = "The upstream provider's rate limit is reached"
_OWN_WORDS: Final = ("prompt is too long", "input length and `max_tokens`")
_OPERATOR_FAULTS: Final = frozenset({FaultClass.QUOTA, FaultClass.CREDENTIAL})

_TO_ANTHROPIC: Final[Mapping[FaultClass, tuple[int, str]]] = {
    FaultClass.QUOTA: (529, "overloaded_error"),
    FaultClass.CREDENTIAL: (502, "api_error"),
    FaultClass.OVERLOADED: (529, "overloaded_error"),
    FaultClass.RATE_LIMITED: (429, "rate_limit_error"),
    FaultClass.NOT_FOUND: (404, "not_found_error"),
    FaultClass.TOO_LONG: (400, "invalid_request_error"),
    FaultClass.TOO_LARGE: (413, "request_too_large"),
    FaultClass.TIMEOUT: (504, "timeout_error"),
    FaultClass.INVALID: (400, "invalid_request_error"),
    FaultClass.FAILED: (500, "api_error"),
    FaultClass.BROKEN_OFF: (502, "api_error"),
}

_TO_OPENAI: Final[Mapping[FaultClass, tuple[int, str, str | None]]] = {
    FaultClass.QUOTA: (503, "service_unavailable_error", "server_is_overloaded"),
    FaultClass.CREDENTIAL: (502, "server_error", "upstream_auth"),
    FaultClass.OVERLOADED: (503, "service_unavailable_error", "server_is_overloaded"),
    FaultClass.RATE_LIMITED: (429, "rate_limit_error", "rate_limit_exceeded"),
    FaultClass.NOT_FOUND: (404, "invalid_request_error", "model_not_found"),
    FaultClass.TOO_LONG: (400, "invalid_request_error", "context_length_exceeded"),
    FaultClass.TOO_LARGE: (413, "invalid_request_error", "request_too_large"),
    FaultClass.TIMEOUT: (504, "server_error", "timeout"),
    FaultClass.INVALID: (400, "invalid_request_error", None),
    FaultClass.FAILED: (500, "server_error", None),
    FaultClass.BROKEN_OFF: (502, "server_error", None),
}


def translate_error(fault: UpstreamFault, client_wire: Wire, client_model: str) -> ErrorResponse:
    """
    Return the HTTP response in the client's dialect.

    Args:
        fault: From `read_fault`, or from a stream's first event.
        client_wire: The dialect of the requested path.
        client_model: The model's name as the client sent it.
    """
    headers = fault.kept_headers
    if fault.fault in _OPERATOR_FAULTS:
        headers = (*headers, _NO_RETRY)
    if client_wire is Wire.ANTHROPIC:
        status = _TO_ANTHROPIC[fault.fault][0]
        if fault.fault is FaultClass.FAILED and fault.status == 502:
            status = 502
    else:
        status = _TO_OPENAI[fault.fault][0]
    return ErrorResponse(status, headers, _body(fault, client_wire, client_model))


def error_before_commit(
    fault: UpstreamFault, client_wire: Wire, client_model: str
) -> ErrorBeforeCommit:
    """Return `translate_error` of a fault that occurred before anything was sent."""
    response = translate_error(fault, client_wire, client_model)
    return ErrorBeforeCommit(response.status, response.headers, response.body, fault)


def translate_stream_error(fault: UpstreamFault, client_wire: Wire, client_model: str) -> bytes:
    """Return the error as the last event of a committed stream in the client's dialect."""
    body = _body(fault, client_wire, client_model)
    if client_wire is Wire.ANTHROPIC:
        return anthropic_event(b"error", body)
    return openai_data(body)


def error_for(fault: UpstreamFault, client_wire: Wire, client_model: str) -> GatewayError:
    """Return the fault as a gateway error, for an error body under status 200."""
    overloaded = fault.fault is FaultClass.OVERLOADED
    kind = ErrorKind.OVERLOADED if overloaded else error_kind(fault)
    return GatewayError(kind, _message(fault, client_wire, client_model))


def relay_error(
    fault: UpstreamFault, wire: Wire, client_model: str, response: ErrorResponse
) -> ErrorResponse:
    """
    Return the response for a client of the upstream's own dialect.

    Status, headers and body are kept, since clients' retry logic matches their wording. A
    translated error replaces faults of the operator's account, 404s, which name the upstream's
    model, a full context that is not worded as in the dialect, and lists (Gemini's), which SDKs
    cannot read.
    """
    foreign = fault.fault is FaultClass.TOO_LONG and not _is_native(fault, wire)
    foreign = foreign or response.body.lstrip()[:1] == b"["
    if foreign or _may_reveal_operator(fault):
        return translate_error(fault, wire, client_model)
    return response


def own_stream_error(fault: UpstreamFault, wire: Wire, client_model: str) -> bytes | None:
    """Return the event that replaces an error in a relayed stream; None: it is relayed."""
    return (
        translate_stream_error(fault, wire, client_model) if _may_reveal_operator(fault) else None
    )


def _may_reveal_operator(fault: UpstreamFault) -> bool:
    """Return whether the error may reveal the operator's account or upstream models."""
    if fault.fault is FaultClass.RATE_LIMITED:
        return mentions_account(fault.message)
    return fault.fault in _OPERATOR_FAULTS or fault.fault is FaultClass.NOT_FOUND


def _is_native(fault: UpstreamFault, wire: Wire) -> bool:
    """Return whether the dialect's own clients recognise the full context."""
    if wire is Wire.ANTHROPIC:
        # Claude Code uses the numbers in the second form to lower `max_tokens`.
        return fault.message.lower().startswith(_OWN_WORDS)
    return fault.code == "context_length_exceeded"


def _body(fault: UpstreamFault, client_wire: Wire, client_model: str) -> bytes:
    message = _message(fault, client_wire, client_model)
    if client_wire is Wire.ANTHROPIC:
        kind = _TO_ANTHROPIC[fault.fault][1]
        return msgspec.json.encode({"type": "error", "error": {"type": kind, "message": message}})
    _, kind, code = _TO_OPENAI[fault.fault]
    return msgspec.json.encode(
        {"error": {"message": message, "type": kind, "param": None, "code": code}}
    )


def _message(fault: UpstreamFault, client_wire: Wire, client_model: str) -> str:
    if fault.fault is FaultClass.CREDENTIAL:
        return _AUTH_TEXT
    if fault.fault is FaultClass.QUOTA:
        return _QUOTA_TEXT
    if fault.fault is FaultClass.NOT_FOUND:
        if client_wire is Wire.ANTHROPIC:
            return f"model: {client_model}"
        return f"The model '{client_model}' does not exist or you do not have access to it."
    if fault.fault is FaultClass.TOO_LONG:
        return _too_long_message(fault, client_wire)
    if fault.fault is FaultClass.RATE_LIMITED and mentions_account(fault.message):
        delay = delay_words(fault.message)  # Codex parses it
        return (
            f"{_RATE_TEXT}; retry later"
            if delay is None
            else f"{_RATE_TEXT}. Try again in {delay}."
        )
    return without_account_ids(fault.message.encode()).decode()


def _too_long_message(fault: UpstreamFault, client_wire: Wire) -> str:
    message = without_account_ids(fault.message.encode()).decode()
    tokens, limit = fault.excess
    if message.lower().startswith(_OWN_WORDS) or (
        client_wire is Wire.OPENAI and "maximum context length is" in message
    ):
        return message
    # Claude Code matches this text and its numbers to compact its history.
    if tokens is not None and limit is not None:
        return f"prompt is too long: {tokens} tokens > {limit} maximum"
    return message if client_wire is Wire.OPENAI else f"prompt is too long: {message}"
