"""
The failures of the upstream hop: one sentence for the caller, the particulars for the log.

The caller's sentence names no host. The detail names the host and what happened; it never holds a
header, a path or a body, so no credential can get into a log by this way.
"""

from __future__ import annotations

from typing import Final

from gateway.core.model import Origin
from gateway.errors import ErrorKind, GatewayError

_MESSAGES: Final = {
    ErrorKind.UPSTREAM_CONNECT: "The upstream provider could not be reached.",
    ErrorKind.UPSTREAM_BROKEN: "The upstream provider broke off before its answer was complete.",
    ErrorKind.UPSTREAM_TIMEOUT: "The upstream provider did not answer in time.",
    ErrorKind.UPSTREAM_MALFORMED: "The upstream provider's answer could not be used.",
    ErrorKind.OVERLOADED: "Too many requests are open to this provider. Retry in a moment.",
    ErrorKind.INTERNAL: "The gateway could not form the upstream request.",
}


def upstream_failure(
    kind: ErrorKind, origin: Origin, what: str, cause: BaseException | None = None
) -> GatewayError:
    """
    Return the error of this kind, chained to its cause.

    Args:
        kind: One of the transport port's kinds.
        origin: Where it happened; only host and port are told.
        what: For the log, in plain words.
        cause: The foreign exception; becomes `__cause__`, its class name goes into the detail.
    """
    detail = f"{origin.host}:{origin.port}: {what}"
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
