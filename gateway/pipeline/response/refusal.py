"""
Converts failures of attempts for the next attempt, the client's response and the log.

A credential that an upstream quotes is masked in all of them.
"""

from __future__ import annotations

import msgspec

from gateway.core.routing.failures import FailureClass, class_of
from gateway.core.routing.order import Failure
from gateway.core.routing.plan import Candidate
from gateway.errors import GatewayError
from gateway.pipeline.call import Call
from gateway.pipeline.response.relay import UpstreamErrorBeforeCommit
from gateway.protocols.http.errors.credential_mask import CredentialMask
from gateway.protocols.http.errors.upstream_errors import ErrorResponse
from gateway.protocols.http.errors.upstream_faults import (
    UpstreamFault,
    error_kind,
    failure_class,
    log_detail,
)
from gateway.protocols.http.headers import json_head


class RefusalError(GatewayError):
    """An upstream returned an error status; `response` is the client's error response."""

    def __init__(self, fault: UpstreamFault, response: ErrorResponse) -> None:
        super().__init__(error_kind(fault), fault.message, detail=log_detail(fault))
        self.fault = fault
        self.response = response


def failure_of(error: GatewayError) -> Failure:
    """Return an attempt's error as the failure that decides about further attempts."""
    fault = None
    if isinstance(error, RefusalError):
        fault = error.fault
    elif isinstance(error, UpstreamErrorBeforeCommit):
        fault = error.response.fault
        if fault is None:
            return Failure(FailureClass.CLIENT)  # the translator rejected the request's content
    if fault is not None:
        return Failure(failure_class(fault), fault.status, fault.retry_after_s)
    return Failure(class_of(error.kind))


def mask_credential(error: GatewayError, candidate: Candidate) -> None:
    """Mask the route's credential in everything that the client or the log receives."""
    mask = CredentialMask(candidate.headers)
    error.message = mask.clean_text(error.message)
    error.detail = None if error.detail is None else mask.clean_text(error.detail)
    if isinstance(error, RefusalError):
        error.response = _masked(error.response, mask)
    elif isinstance(error, UpstreamErrorBeforeCommit):
        early = error.response
        error.response = msgspec.structs.replace(
            early, body=mask.clean(early.body), headers=mask.clean_headers(early.headers)
        )


def _masked(response: ErrorResponse, mask: CredentialMask) -> ErrorResponse:
    cleaned = response._replace(headers=mask.clean_headers(response.headers))
    return cleaned.with_body(mask.clean(response.body))


def with_head(response: ErrorResponse, call: Call) -> ErrorResponse:
    """Return an error response with content and request headers."""
    headers = [*json_head(response.body, call.request_id), *response.headers]
    return ErrorResponse(response.status, tuple(headers), response.body)


def error_response(error: GatewayError, call: Call) -> ErrorResponse | None:
    """Return the response of an upstream's error; None: the gateway's own is to be rendered."""
    if isinstance(error, RefusalError):
        return error.response
    if isinstance(error, UpstreamErrorBeforeCommit):
        early = error.response
        return with_head(ErrorResponse(early.status, early.headers, early.body), call)
    return None
