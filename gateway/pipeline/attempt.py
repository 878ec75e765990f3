"""
The attempts of a call: one deployment after the other, until one responds or the list is exhausted.

The next deployment is tried only while nothing was sent to the client, and only where the failure
may not repeat: connection errors, overload, the upstream's own errors, the gateway's credentials.
An error of the request is returned to the client unchanged.
"""

from __future__ import annotations

import asyncio
import itertools
from contextlib import nullcontext
from time import monotonic

import msgspec

from gateway.core.routing import Candidate
from gateway.errors import ErrorKind, ErrorSource, GatewayError
from gateway.pipeline.call import Call
from gateway.pipeline.request.exchange import CallContext, RequestBuilder
from gateway.pipeline.response.relay import EarlyUpstreamError
from gateway.pipeline.response.sender import ResponseSender
from gateway.ports import Headers, Transport, UpstreamResponse
from gateway.protocols.http.errors.account_words import without_account_ids
from gateway.protocols.http.errors.credential_mask import CredentialMask
from gateway.protocols.http.errors.upstream_errors import (
    ErrorResponse,
    relay_error,
    translate_error,
)
from gateway.protocols.http.errors.upstream_faults import (
    UpstreamFault,
    error_kind,
    is_signature_refusal,
    log_detail,
    may_try_elsewhere,
    read_fault,
)
from gateway.protocols.http.headers import client_headers
from gateway.telemetry.call_metrics import CallMetrics
from gateway.upstream.decompress import decompress

RETRY_S = 0.1
MAX_RETRY_S = 2.0
"""Delay before a deployment is retried; doubles up to `MAX_RETRY_S`."""

ERROR_BYTES = 1024 * 1024
"""Largest error response that is read."""

_CLOSE_AT_ONCE = nullcontext()

_ELSEWHERE = frozenset(
    {
        ErrorKind.UPSTREAM_CONNECT,
        ErrorKind.UPSTREAM_BROKEN,
        ErrorKind.UPSTREAM_TIMEOUT,
        ErrorKind.UPSTREAM_MALFORMED,
        ErrorKind.OVERLOADED,
        ErrorKind.UNSUPPORTED,  # another provider may allow it
    }
)


class RefusalError(GatewayError):
    """An upstream returned an error status; `response` is the client's error response."""

    def __init__(self, fault: UpstreamFault, response: ErrorResponse, *, elsewhere: bool) -> None:
        super().__init__(error_kind(fault), fault.message, detail=log_detail(fault))
        self.fault = fault
        self.response = response
        self.elsewhere = elsewhere


class AttemptRunner:
    """
    Runs the attempts of a call.

    Args:
        transport: Sends requests to upstreams.
        builder: Builds each attempt's request.
        sender: Sends a good response to the client.
        metrics: Counts failed attempts.
        error_s: Timeout for the body of an error response; its status alone is enough.
    """

    def __init__(
        self,
        transport: Transport,
        builder: RequestBuilder,
        sender: ResponseSender,
        metrics: CallMetrics,
        error_s: float = 10.0,
    ) -> None:
        self._transport = transport
        self._builder = builder
        self._sender = sender
        self._metrics = metrics
        self._error_s = error_s

    async def run(self, context: CallContext, candidates: tuple[Candidate, ...]) -> bytes | None:
        """
        Respond from the first candidate that succeeds.

        Returns:
            The body that was sent, if it was read whole; see `ResponseSender.deliver`.

        Raises:
            GatewayError: The last failure. If `channel.started`, the client has received a part of
                the response.
        """
        call, channel = context.call, context.channel
        tries = context.max_attempts or len(candidates)
        for number, candidate in enumerate(itertools.islice(itertools.cycle(candidates), tries)):
            try:
                return await self._attempt(context, candidate)
            except GatewayError as error:
                _mask_credential(error, candidate)
                self._count(candidate, error)
                if number == tries - 1 or channel.started or not _may_succeed_elsewhere(error):
                    raise
                if error.kind is ErrorKind.UNSUPPORTED and number >= len(candidates) - 1:
                    raise  # each was tried once, and a retry would fail in the same way
                if channel.gone and not call.outlives_client:
                    raise
                if call.attempt is not None:
                    call.attempt.given_up = True
                if number >= len(candidates) - 1:
                    await asyncio.sleep(min(RETRY_S * 2**number, MAX_RETRY_S))
        raise AssertionError("no candidate")

    async def _attempt(self, context: CallContext, candidate: Candidate) -> bytes | None:
        try:
            return await self._send(context, candidate)
        except RefusalError as refusal:
            if context.without_reasoning or not is_signature_refusal(refusal.fault):
                raise
            if context.channel.gone and not context.call.outlives_client:
                raise
            # Reasoning in the history was signed by another provider: retry without it.
            context.without_reasoning = True
            return await self._send(context, candidate)

    async def _send(self, context: CallContext, candidate: Candidate) -> bytes | None:
        call = context.call
        request, exchange = await self._builder.prepared(context, candidate)
        attempt = call.begin_attempt(candidate.deployment, candidate.wire, monotonic())
        reads_on = call.reads_on and not call.outlives_client
        with context.departure.reading_on() if reads_on else _CLOSE_AT_ONCE:
            response = decompress(await self._transport.send(request))
            del request
            try:
                if response.status >= 400:
                    raise await self._refusal(context, candidate, response)
                call.status = response.status
                return await self._sender.deliver(context, attempt, exchange, response)
            finally:
                response.close()

    async def _refusal(
        self, context: CallContext, candidate: Candidate, upstream: UpstreamResponse
    ) -> RefusalError:
        call = context.call
        body = await self._error_body(upstream)
        fault = read_fault(candidate.wire, upstream.status, upstream.headers, body or b"")
        if candidate.wire is call.client_wire and body is not None:
            headers = client_headers(upstream.headers, call.request_id, stream=False, error=True)
            original = ErrorResponse(upstream.status, tuple(headers), body)
            original = original.with_body(without_account_ids(body))
            response = relay_error(fault, candidate.wire, call.model_asked, original)
            if response is not original:
                response = with_head(response, call)
        else:
            translated = translate_error(fault, call.client_wire, call.model_asked)
            response = with_head(translated, call)
        return RefusalError(fault, response, elsewhere=may_try_elsewhere(fault))

    async def _error_body(self, response: UpstreamResponse) -> bytes | None:
        """Return the body of an error response; None if it does not arrive completely."""
        try:
            async with asyncio.timeout(self._error_s):
                return await response.read(ERROR_BYTES)
        except (TimeoutError, GatewayError):
            return None

    def _count(self, candidate: Candidate, error: GatewayError) -> None:
        if error.surface.source is ErrorSource.UPSTREAM:
            self._metrics.count_upstream_error(candidate.deployment.label, error.kind.value)


def _mask_credential(error: GatewayError, candidate: Candidate) -> None:
    """Remove the route's credential from everything that the client or the log gets."""
    mask = CredentialMask(candidate.deployment.provider.wires[candidate.wire].headers)
    error.message = mask.clean_text(error.message)
    error.detail = None if error.detail is None else mask.clean_text(error.detail)
    if isinstance(error, RefusalError):
        error.response = _masked(error.response, mask)
    elif isinstance(error, EarlyUpstreamError):
        early = error.response
        error.response = msgspec.structs.replace(
            early, body=mask.clean(early.body), headers=mask.clean_headers(early.headers)
        )


def _masked(response: ErrorResponse, mask: CredentialMask) -> ErrorResponse:
    cleaned = response._replace(headers=mask.clean_headers(response.headers))
    return cleaned.with_body(mask.clean(response.body))


def with_head(response: ErrorResponse, call: Call) -> ErrorResponse:
    """Return an error response with content and request headers."""
    headers: Headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(response.body)).encode()),
        (b"request-id", call.request_id.encode()),
        (b"x-request-id", call.request_id.encode()),
        *response.headers,
    ]
    return ErrorResponse(response.status, tuple(headers), response.body)


def error_response(error: GatewayError, call: Call) -> ErrorResponse | None:
    """Return the response that an upstream's error carries; None: render the gateway's own."""
    if isinstance(error, RefusalError):
        return error.response
    if isinstance(error, EarlyUpstreamError):
        early = error.response
        return with_head(ErrorResponse(early.status, early.headers, early.body), call)
    return None


def _may_succeed_elsewhere(error: GatewayError) -> bool:
    """Return whether another deployment may succeed."""
    if isinstance(error, RefusalError):
        return error.elsewhere
    if isinstance(error, EarlyUpstreamError):
        return error.response.fault is not None and may_try_elsewhere(error.response.fault)
    return error.kind in _ELSEWHERE
