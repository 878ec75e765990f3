"""The gateway's own errors, in the dialect of who asked."""

from __future__ import annotations

import math

import msgspec

from gateway.core.model import Wire
from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.sse import anthropic_event, openai_data

Headers = list[tuple[bytes, bytes]]


def render(error: GatewayError, wire: Wire, request_id: str | None) -> tuple[int, Headers, bytes]:
    """Return status, headers and body of an error answer."""
    surface = error.surface
    status = surface.anthropic_status if wire is Wire.ANTHROPIC else surface.openai_status
    body = _body(error, wire, request_id)
    headers: Headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    if request_id is not None:
        headers += [(b"request-id", request_id.encode()), (b"x-request-id", request_id.encode())]
    if error.retry_after_s is not None:
        headers.append((b"retry-after", str(math.ceil(error.retry_after_s)).encode()))
    if surface.should_retry is not None:
        headers.append((b"x-should-retry", b"true" if surface.should_retry else b"false"))
    return status, headers, body


def render_event(error: GatewayError, wire: Wire) -> bytes:
    """Return the error as the last event of a stream whose head is out."""
    body = _body(error, wire, None)
    return anthropic_event(b"error", body) if wire is Wire.ANTHROPIC else openai_data(body)


def _body(error: GatewayError, wire: Wire, request_id: str | None) -> bytes:
    surface, message = error.surface, error.message
    if wire is Wire.ANTHROPIC:
        if error.kind is ErrorKind.UNKNOWN_MODEL:
            message = f"model: {message}"
        body: dict[str, object] = {
            "type": "error",
            "error": {"type": surface.anthropic_type, "message": message},
        }
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
