"""Renders the gateway's own errors in the client's dialect."""

from __future__ import annotations

import math
from typing import Final

import msgspec

from gateway.core.model import Wire
from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.codec.json_decode import join_surrogates
from gateway.protocols.codec.sse import anthropic_event, openai_data
from gateway.protocols.http.headers import json_head

Headers = list[tuple[bytes, bytes]]


MESSAGES: Final[dict[ErrorKind, str]] = {
    ErrorKind.MISSING_KEY: "Missing API key.",
    ErrorKind.INVALID_KEY: "Invalid API key.",
    ErrorKind.EXPIRED_KEY: "Invalid API key.",
    ErrorKind.DISABLED_KEY: "Invalid API key.",
    ErrorKind.FORBIDDEN: "This API key is not allowed to do this.",
    ErrorKind.CONTENT_ENCODING: "Request bodies must not be compressed.",
    ErrorKind.CONTENT_TYPE: "The content-type of the request must be application/json.",
    ErrorKind.BODY_TOO_LARGE: "Request exceeds the maximum size.",
    ErrorKind.BODY_TIMEOUT: "The request body was not received in time.",
    ErrorKind.UNKNOWN_PATH: "Unknown path.",
    ErrorKind.WRONG_METHOD: "This path does not support this method.",
    ErrorKind.RATE_LIMITED: "Rate limit reached.",
    ErrorKind.NO_CREDIT: "Insufficient balance.",
    ErrorKind.BUDGET_SPENT: "The budget is used up.",
    ErrorKind.OVERLOADED: "The service is overloaded. Try again.",
    ErrorKind.NO_ROUTE: "No upstream is available for this model. Try again.",
    ErrorKind.STORE_UNAVAILABLE: "The service is temporarily unavailable. Try again.",
    ErrorKind.STOPPING: "The gateway is restarting. Send the request again.",
    ErrorKind.UPSTREAM_CONNECT: "The upstream model could not be reached.",
    ErrorKind.UPSTREAM_BROKEN: "The upstream response was interrupted.",
    ErrorKind.UPSTREAM_TIMEOUT: "The upstream model did not respond in time.",
    ErrorKind.UPSTREAM_MALFORMED: "Upstream sent malformed data",
    ErrorKind.INTERNAL: "Internal error.",
}
"""The messages of errors without a message of their own."""

_RETRY_AFTER_S: Final = {
    ErrorKind.OVERLOADED: 1.0,
    ErrorKind.NO_ROUTE: 1.0,
    ErrorKind.STOPPING: 1.0,
}
"""Default `retry-after` by kind."""


def render(error: GatewayError, wire: Wire, request_id: str | None) -> tuple[int, Headers, bytes]:
    """
    Return status, complete headers and body of an error response.

    Args:
        error: Its message is for the client; for UNKNOWN_MODEL it is only the model's name, since
            each dialect words the rest differently.
        wire: The client's dialect.
        request_id: The gateway's id of the call.
    """
    surface = error.surface
    status = surface.anthropic_status if wire is Wire.ANTHROPIC else surface.openai_status
    body = _body(error, wire, request_id)
    headers = json_head(body, request_id)
    retry_after_s = error.retry_after_s
    if retry_after_s is None:
        retry_after_s = _RETRY_AFTER_S.get(error.kind)
    if retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % math.ceil(retry_after_s)))
    if surface.should_retry is not None:
        headers.append((b"x-should-retry", b"true" if surface.should_retry else b"false"))
    headers += error.headers
    return status, headers, body


def render_event(error: GatewayError, wire: Wire) -> bytes:
    """Return the error as the last event of a stream whose head has been sent."""
    body = _body(error, wire, None)
    return anthropic_event(b"error", body) if wire is Wire.ANTHROPIC else openai_data(body)


def _body(error: GatewayError, wire: Wire, request_id: str | None) -> bytes:
    surface = error.surface
    # The message may quote a path that is not UTF-8; lone surrogates cannot be encoded.
    message = join_surrogates(error.message or MESSAGES.get(error.kind, "The request failed."))
    if wire is Wire.ANTHROPIC:
        if error.kind is ErrorKind.UNKNOWN_MODEL:
            message = f"model: {message}"
        fields: dict[str, object] = {"type": surface.anthropic_type, "message": message}
        if error.details is not None:
            fields["details"] = error.details
        body: dict[str, object] = {"type": "error", "error": fields}
        if request_id is not None:
            body["request_id"] = request_id
        return msgspec.json.encode(body)
    if error.kind is ErrorKind.UNKNOWN_MODEL:
        message = f"The model '{message}' does not exist or you do not have access to it."
    return msgspec.json.encode(
        {
            "error": {
                "message": message,
                "type": surface.openai_type,
                "param": error.param,
                "code": error.code or surface.openai_code,
            }
        }
    )
