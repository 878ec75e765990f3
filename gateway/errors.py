"""
Every error that the gateway can report, in one table.

A `GatewayError` has a kind from a closed set, which alone determines status, type and code in each
dialect, retry advice and the metric label. Exceptions of libraries are mapped to a `GatewayError`
once, in the adapter that calls the library.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import NamedTuple


class ErrorKind(enum.Enum):
    """The kind of an error. The value is the metric label and the `error_kind` of a log line."""

    MISSING_KEY = "missing_key"
    INVALID_KEY = "invalid_key"
    EXPIRED_KEY = "expired_key"
    DISABLED_KEY = "disabled_key"
    FORBIDDEN = "forbidden"
    BAD_REQUEST = "bad_request"
    UNSUPPORTED = "unsupported"
    CONTENT_ENCODING = "content_encoding"
    CONTENT_TYPE = "content_type"
    BODY_TOO_LARGE = "body_too_large"
    BODY_TIMEOUT = "body_timeout"
    UNKNOWN_PATH = "unknown_path"
    WRONG_METHOD = "wrong_method"
    RESPONSE_NOT_FOUND = "response_not_found"
    UNKNOWN_MODEL = "unknown_model"
    MODEL_NOT_SUPPORTED = "model_not_supported"
    RATE_LIMITED = "rate_limited"
    NO_CREDIT = "no_credit"
    BUDGET_SPENT = "budget_spent"
    OVERLOADED = "overloaded"
    NO_ROUTE = "no_route"
    STORE_UNAVAILABLE = "store_unavailable"
    STOPPING = "stopping"
    CONFLICT = "conflict"
    IDEMPOTENCY_MISMATCH = "idempotency_mismatch"
    IDEMPOTENCY_COMPLETED = "idempotency_completed"
    UPSTREAM_CONNECT = "upstream_connect"
    UPSTREAM_BROKEN = "upstream_broken"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    UPSTREAM_AUTH = "upstream_auth"
    UPSTREAM_QUOTA = "upstream_quota"
    UPSTREAM_REFUSED = "upstream_refused"
    UPSTREAM_MALFORMED = "upstream_malformed"
    SLOW_CLIENT = "slow_client"
    CLIENT_GONE = "client_gone"
    INTERNAL = "internal"


class ErrorSource(enum.Enum):
    """Who caused an error: determines the log level and whether a deployment is at fault."""

    CLIENT = "client"
    GATEWAY = "gateway"
    UPSTREAM = "upstream"


class Surface(NamedTuple):
    """How clients of both dialects see one kind."""

    source: ErrorSource
    openai_status: int
    openai_type: str
    openai_code: str | None
    anthropic_status: int
    anthropic_type: str
    should_retry: bool | None = None
    """Value of `x-should-retry`; None omits the header."""


_C, _G, _U = ErrorSource.CLIENT, ErrorSource.GATEWAY, ErrorSource.UPSTREAM
_INVALID = "invalid_request_error"
_AUTH = "authentication_error"
_FULL = "service_unavailable_error"
_BUSY = "server_is_overloaded"

SURFACES: dict[ErrorKind, Surface] = {
    ErrorKind.MISSING_KEY: Surface(_C, 401, _AUTH, "invalid_key", 401, _AUTH, False),
    ErrorKind.INVALID_KEY: Surface(_C, 401, _AUTH, "invalid_key", 401, _AUTH, False),
    ErrorKind.EXPIRED_KEY: Surface(_C, 401, _AUTH, "invalid_key", 401, _AUTH, False),
    ErrorKind.DISABLED_KEY: Surface(_C, 401, _AUTH, "invalid_key", 401, _AUTH, False),
    ErrorKind.FORBIDDEN: Surface(
        _C, 403, "permission_error", "permission_denied", 403, "permission_error", False
    ),
    ErrorKind.BAD_REQUEST: Surface(_C, 400, _INVALID, None, 400, _INVALID),
    ErrorKind.UNSUPPORTED: Surface(_C, 400, _INVALID, None, 400, _INVALID),
    ErrorKind.CONTENT_ENCODING: Surface(
        _C, 415, _INVALID, "unsupported_content_encoding", 415, _INVALID
    ),
    ErrorKind.CONTENT_TYPE: Surface(_C, 415, _INVALID, "unsupported_content_type", 415, _INVALID),
    ErrorKind.BODY_TOO_LARGE: Surface(
        _C, 413, _INVALID, "request_too_large", 413, "request_too_large"
    ),
    ErrorKind.BODY_TIMEOUT: Surface(_C, 408, _INVALID, "timeout", 408, _INVALID),
    ErrorKind.UNKNOWN_PATH: Surface(_C, 404, _INVALID, None, 404, "not_found_error", False),
    ErrorKind.WRONG_METHOD: Surface(_C, 405, _INVALID, None, 405, _INVALID, False),
    ErrorKind.RESPONSE_NOT_FOUND: Surface(
        _C, 404, _INVALID, "response_not_found", 404, "not_found_error", False
    ),
    ErrorKind.UNKNOWN_MODEL: Surface(
        _C, 404, _INVALID, "model_not_found", 404, "not_found_error", False
    ),
    ErrorKind.MODEL_NOT_SUPPORTED: Surface(
        _C, 404, _INVALID, "model_not_supported", 404, "not_found_error", False
    ),
    ErrorKind.RATE_LIMITED: Surface(
        _C, 429, "rate_limit_error", "rate_limit_exceeded", 429, "rate_limit_error"
    ),
    ErrorKind.NO_CREDIT: Surface(
        _C, 429, "insufficient_quota", "insufficient_quota", 402, "billing_error", False
    ),
    ErrorKind.BUDGET_SPENT: Surface(
        _C, 429, "insufficient_quota", "insufficient_quota", 429, "rate_limit_error", False
    ),
    ErrorKind.OVERLOADED: Surface(_G, 503, _FULL, _BUSY, 529, "overloaded_error"),
    ErrorKind.NO_ROUTE: Surface(_G, 503, _FULL, _BUSY, 529, "overloaded_error"),
    ErrorKind.STORE_UNAVAILABLE: Surface(_G, 503, _FULL, _BUSY, 529, "overloaded_error"),
    ErrorKind.STOPPING: Surface(_G, 503, _FULL, _BUSY, 529, "overloaded_error"),
    ErrorKind.CONFLICT: Surface(_C, 409, _INVALID, "request_in_progress", 409, _INVALID),
    ErrorKind.IDEMPOTENCY_MISMATCH: Surface(
        _C, 422, _INVALID, "idempotency_key_reused", 422, _INVALID
    ),
    ErrorKind.IDEMPOTENCY_COMPLETED: Surface(
        _C, 409, _INVALID, "idempotency_key_completed", 409, _INVALID, False
    ),
    ErrorKind.UPSTREAM_CONNECT: Surface(_U, 502, "server_error", None, 502, "api_error"),
    ErrorKind.UPSTREAM_BROKEN: Surface(_U, 502, "server_error", None, 502, "api_error"),
    ErrorKind.UPSTREAM_TIMEOUT: Surface(_U, 504, "server_error", "timeout", 504, "timeout_error"),
    ErrorKind.UPSTREAM_AUTH: Surface(
        _U, 502, "server_error", "upstream_auth", 502, "api_error", False
    ),
    ErrorKind.UPSTREAM_QUOTA: Surface(_U, 503, _FULL, _BUSY, 529, "overloaded_error", False),
    ErrorKind.UPSTREAM_REFUSED: Surface(_U, 502, "server_error", None, 502, "api_error"),
    ErrorKind.UPSTREAM_MALFORMED: Surface(_U, 502, "server_error", None, 502, "api_error"),
    ErrorKind.SLOW_CLIENT: Surface(_C, 408, _INVALID, "timeout", 408, _INVALID),
    ErrorKind.CLIENT_GONE: Surface(_C, 499, _INVALID, None, 499, _INVALID),
    ErrorKind.INTERNAL: Surface(_G, 500, "server_error", None, 500, "api_error"),
}


class GatewayError(Exception):
    """
    An error, with all that its response contains.

    Args:
        kind: Determines everything else through `SURFACES`.
        message: For the client: names the field and the fix, never a secret.
        param: The invalid request field, such as `model` or `messages.0.content`.
        code: Overrides the kind's OpenAI code, for the finer codes of the native endpoint.
        retry_after_s: Sent as `retry-after`, rounded up.
        detail: For the log only; may name hosts, but no secret and no content.
        headers: Further headers of the response, such as rate limits in the client's dialect.
        details: The `error.details` that Anthropic's clients read, `error_code` first.
    """

    def __init__(  # one constructor, all keyword
        self,
        kind: ErrorKind,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
        detail: str | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        details: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message
        self.param = param
        self.code = code
        self.retry_after_s = retry_after_s
        self.detail = detail
        self.headers = headers
        self.details = details

    @property
    def surface(self) -> Surface:
        """The kind's row of `SURFACES`."""
        return SURFACES[self.kind]
