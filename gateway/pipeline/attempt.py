"""
Asking upstreams, one deployment after the other, until one answers or none is left.

Another deployment is tried only while the caller has seen nothing, and only where the failure may
not repeat there: trouble of the connection, overload, the upstream's own errors, the gateway's
credentials. A fault of the request is told to the caller as it is.
"""

from __future__ import annotations

import asyncio
import itertools
from contextlib import nullcontext
from time import monotonic

import msgspec

from gateway.core.routing import Candidate
from gateway.errors import ErrorKind, ErrorSource, GatewayError
from gateway.pipeline.answer import ResponseSender
from gateway.pipeline.call import Call
from gateway.pipeline.channel import ClientChannel
from gateway.pipeline.departure import ReadingOn
from gateway.pipeline.exchange import CallContext, RequestBuilder
from gateway.pipeline.relay import EarlyUpstreamError
from gateway.ports import Headers, Transport, UpstreamResponse
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
    may_try_elsewhere,
    read_fault,
)
from gateway.protocols.http.headers import client_headers
from gateway.telemetry.call_metrics import CallMetrics
from gateway.upstream.decompress import decompress

RETRY_S = 0.1
MAX_RETRY_S = 2.0
"""Before the same deployment is asked again; doubles up to the second."""

ERROR_BYTES = 1024 * 1024
"""Largest error answer that is read."""

_CLOSED_AT_ONCE = nullcontext()
_LENGTH = b"content-length"

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
    """An upstream answered with an error status; `answer` is what the caller would be told."""

    def __init__(self, fault: UpstreamFault, answer: ErrorResponse, *, elsewhere: bool) -> None:
        super().__init__(error_kind(fault), fault.message, detail=fault.code or fault.type)
        self.fault = fault
        self.answer = answer
        self.elsewhere = elsewhere


class AttemptRunner:
    """
    Runs the attempts of a call.

    Args:
        transport: The way to upstreams.
        exchanges: Makes each attempt's request.
        answers: Brings a good answer to the caller.
        metrics: Counts failed attempts.
        error_s: How long the body of an error answer is waited for; its status says enough.
    """

    def __init__(
        self,
        transport: Transport,
        exchanges: RequestBuilder,
        answers: ResponseSender,
        metrics: CallMetrics,
        error_s: float = 10.0,
    ) -> None:
        self._transport = transport
        self._exchanges = exchanges
        self._answers = answers
        self._metrics = metrics
        self._error_s = error_s

    async def run(
        self, given: CallContext, channel: ClientChannel, candidates: tuple[Candidate, ...]
    ) -> None:
        """
        Answer the call from the first candidate that can.

        Raises:
            GatewayError: None could; the last failure. The caller may have been answered with it:
                `channel.started` tells.
        """
        call = given.call
        tries = given.max_attempts or len(candidates)
        for number, candidate in enumerate(itertools.islice(itertools.cycle(candidates), tries)):
            try:
                await self._attempt(given, channel, candidate)
            except GatewayError as error:
                _mask_credential(error, candidate)
                self._count(candidate, error)
                if number == tries - 1 or channel.started or not _repeats_elsewhere(error):
                    raise
                if error.kind is ErrorKind.UNSUPPORTED and number >= len(candidates) - 1:
                    raise  # each has been asked once, and none will change its mind
                if channel.gone and not call.outlives_client:
                    raise
                call.sent_at = None
                if number >= len(candidates) - 1:
                    await asyncio.sleep(min(RETRY_S * 2**number, MAX_RETRY_S))
            else:
                return

    async def _attempt(
        self, given: CallContext, channel: ClientChannel, candidate: Candidate
    ) -> None:
        try:
            await self._ask(given, channel, candidate)
        except RefusalError as refusal:
            if given.without_reasoning or not is_signature_refusal(refusal.fault):
                raise
            if channel.gone and not given.call.outlives_client:
                raise
            # Thoughts in the history were signed by another provider: once more without them.
            given.without_reasoning = True
            await self._ask(given, channel, candidate)

    async def _ask(self, given: CallContext, channel: ClientChannel, candidate: Candidate) -> None:
        call = given.call
        request, exchange = await self._exchanges.prepared(given, candidate)
        call.begin_attempt(candidate.deployment, candidate.wire, monotonic())
        reads_on = call.reads_on and not call.outlives_client
        with ReadingOn(channel) if reads_on else _CLOSED_AT_ONCE:
            response = decompress(await self._transport.send(request))
            del request
            try:
                if response.status >= 400:
                    raise await self._refusal(given, candidate, response)
                call.status = response.status
                await self._answers.deliver(call, channel, exchange, response)
            finally:
                response.close()

    async def _refusal(
        self, given: CallContext, candidate: Candidate, response: UpstreamResponse
    ) -> RefusalError:
        call = given.call
        body = await self._error_body(response)
        fault = read_fault(candidate.wire, response.status, response.headers, body or b"")
        if candidate.wire is call.client_wire and body is not None:
            headers = client_headers(response.headers, call.request_id, stream=False, error=True)
            told = ErrorResponse(response.status, tuple(headers), body)
            answer = relay_error(fault, candidate.wire, call.model_asked, told)
            if answer is not told:
                answer = completed(answer, call)
        else:
            answer = completed(translate_error(fault, call.client_wire, call.model_asked), call)
        return RefusalError(fault, answer, elsewhere=may_try_elsewhere(fault))

    async def _error_body(self, response: UpstreamResponse) -> bytes | None:
        """Return the body of an error answer; None: it does not come, or not whole."""
        try:
            async with asyncio.timeout(self._error_s):
                return await response.read(ERROR_BYTES)
        except (TimeoutError, GatewayError):
            return None

    def _count(self, candidate: Candidate, error: GatewayError) -> None:
        if error.surface.source is ErrorSource.UPSTREAM:
            self._metrics.count_upstream_error(candidate.deployment.label, error.kind.value)


def _mask_credential(error: GatewayError, candidate: Candidate) -> None:
    """Take the route's credential out of everything that the client or the log gets to see."""
    mask = CredentialMask(candidate.deployment.provider.wires[candidate.wire].headers)
    error.message = mask.clean_text(error.message)
    error.detail = None if error.detail is None else mask.clean_text(error.detail)
    if isinstance(error, RefusalError):
        error.answer = _masked(error.answer, mask)
    elif isinstance(error, EarlyUpstreamError):
        early = error.answer
        error.answer = msgspec.structs.replace(
            early, body=mask.clean(early.body), headers=mask.clean_headers(early.headers)
        )


def _masked(answer: ErrorResponse, mask: CredentialMask) -> ErrorResponse:
    body = mask.clean(answer.body)
    headers = mask.clean_headers(answer.headers)
    if body is not answer.body:
        length = str(len(body)).encode()
        headers = tuple((name, length if name == _LENGTH else value) for name, value in headers)
    return ErrorResponse(answer.status, headers, body)


def completed(answer: ErrorResponse, call: Call) -> ErrorResponse:
    """Return an error answer of our own making with the rest of its head."""
    headers: Headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(answer.body)).encode()),
        (b"request-id", call.request_id.encode()),
        (b"x-request-id", call.request_id.encode()),
        *answer.headers,
    ]
    return ErrorResponse(answer.status, tuple(headers), answer.body)


def error_response(error: GatewayError, call: Call) -> ErrorResponse | None:
    """Return the answer that an upstream's error brings along; None: it is rendered as ours."""
    if isinstance(error, RefusalError):
        return error.answer
    if isinstance(error, EarlyUpstreamError):
        early = error.answer
        return completed(ErrorResponse(early.status, early.headers, early.body), call)
    return None


def _repeats_elsewhere(error: GatewayError) -> bool:
    """Whether another deployment may do better."""
    if isinstance(error, RefusalError):
        return error.elsewhere
    if isinstance(error, EarlyUpstreamError):
        return error.answer.fault is not None and may_try_elsewhere(error.answer.fault)
    return error.kind in _ELSEWHERE
