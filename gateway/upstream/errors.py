"""
Errors of requests to upstreams: a message for the client, details for the log.

The message names no host. The detail names the host and the cause, but never contains a header, a
path or a body, so that no credential reaches the log.
"""

from __future__ import annotations

from typing import Final

from gateway.core.model import Origin
from gateway.errors import ErrorKind, GatewayError
from gateway.settings.urls import host_and_port

_MESSAGES: Final = {
    ErrorKind.UPSTREAM_CONNECT: "The upstream provider could not be reached.",
    ErrorKind.UPSTREAM_BROKEN: "The upstream provider's response ended before it was complete.",
    ErrorKind.UPSTREAM_TIMEOUT: "The upstream provider did not respond in time.",
    ErrorKind.UPSTREAM_MALFORMED: "The upstream provider sent an invalid response.",
    ErrorKind.OVERLOADED: "Too many requests to this provider are in flight. Retry shortly.",
    ErrorKind.INTERNAL: "The gateway could not build the upstream request.",
}


def upstream_failure(
    kind: ErrorKind, origin: Origin, what: str, cause: BaseException | None = None
) -> GatewayError:
    """
    Return an error of this kind, chained to its cause.

    Args:
        kind: One of the kinds that `ports.Transport` documents.
        origin: The upstream; only host and port are logged.
        what: What happened, for the log.
        cause: The original exception: `__cause__`, and its class name in the detail.
    """
    detail = f"{host_and_port(origin.host, origin.port)}: {what}"
    if cause is not None:
        detail = f"{detail} ({type(cause).__name__})"
    error = GatewayError(
        kind,
        _MESSAGES[kind],
        retry_after_s=1.0 if kind is ErrorKind.OVERLOADED else None,
        detail=detail,
    )
    error.__cause__ = cause
    return error
