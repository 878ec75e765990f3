"""
Asking upstreams, one deployment after the other, until one answers or none is left.

Another deployment is tried only while the caller has seen nothing, and only where the failure may
not repeat there: trouble of the connection, overload, the upstream's own errors, the gateway's
credentials. A fault of the request is told to the caller as it is.
"""

from __future__ import annotations

import asyncio

from gateway.core.routing import Candidate
from gateway.errors import ErrorKind, ErrorSource, GatewayError
from gateway.pipeline.answer import Answers
from gateway.pipeline.call import Call
from gateway.pipeline.channel import ClientChannel
from gateway.pipeline.exchange import relay_exchange
from gateway.ports import Headers, Transport, UpstreamResponse
from gateway.protocols.call_fields import CallFields
from gateway.protocols.headers import client_headers
from gateway.protocols.upstream_errors import ErrorAnswer, relay_error
from gateway.protocols.upstream_faults import error_kind, may_try_elsewhere, read_fault
from gateway.telemetry.metrics import CallMetrics

ERROR_BYTES = 1024 * 1024
"""Largest error answer that is read."""

_ELSEWHERE = frozenset(
    {
        ErrorKind.UPSTREAM_CONNECT,
        ErrorKind.UPSTREAM_BROKEN,
        ErrorKind.UPSTREAM_TIMEOUT,
        ErrorKind.UPSTREAM_MALFORMED,
        ErrorKind.UPSTREAM_AUTH,
        ErrorKind.UPSTREAM_QUOTA,
        ErrorKind.UPSTREAM_REFUSED,
        ErrorKind.OVERLOADED,
    }
)


class Attempts:
    """
    Runs the attempts of a call.

    Args:
        transport: The way to upstreams.
        answers: Brings a good answer to the caller.
        metrics: Counts failed attempts.
    """

    def __init__(self, transport: Transport, answers: Answers, metrics: CallMetrics) -> None:
        self._transport = transport
        self._answers = answers
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()

    async def run(
        self,
        call: Call,
        channel: ClientChannel,
        fields: CallFields,
        body: bytes,
        candidates: tuple[Candidate, ...],
    ) -> None:
        """
        Answer the call from the first candidate that can.

        Raises:
            GatewayError: None could; the last failure. If `channel.started`, the answer has ended.
        """
        last = len(candidates) - 1
        for index, candidate in enumerate(candidates):
            try:
                await self._attempt(call, channel, fields, body, candidate, final=index == last)
            except GatewayError as error:
                if error.surface.source is ErrorSource.UPSTREAM:
                    label = candidate.deployment.label
                    self._metrics.count_upstream_error(label, error.kind.value)
                if index == last or channel.started or error.kind not in _ELSEWHERE:
                    raise
            else:
                return

    async def _attempt(
        self,
        call: Call,
        channel: ClientChannel,
        fields: CallFields,
        body: bytes,
        candidate: Candidate,
        *,
        final: bool,
    ) -> None:
        call.attempts += 1
        call.deployment = candidate.deployment
        call.upstream_wire = candidate.wire
        exchange = relay_exchange(call, fields, body, channel.headers, candidate)
        if call.sent_at is None:
            call.sent_at = self._loop.time()
        response = await self._transport.send(exchange.request)
        if response.status >= 400:
            await self._refused(call, channel, response, final=final)
            return
        call.status = response.status
        await self._answers.deliver(call, channel, exchange, response)

    async def _refused(
        self, call: Call, channel: ClientChannel, response: UpstreamResponse, *, final: bool
    ) -> None:
        """Tell the caller of an upstream's refusal, or raise it for another attempt."""
        assert call.upstream_wire is not None
        wire = call.upstream_wire
        try:
            body = await response.read(ERROR_BYTES)
        finally:
            response.close()
        fault = read_fault(wire, response.status, response.headers, body)
        call.error = error = GatewayError(error_kind(fault), fault.message, detail=fault.code)
        if may_try_elsewhere(fault) and not final:
            raise error
        headers = client_headers(response.headers, call.request_id, stream=False)
        told = ErrorAnswer(response.status, tuple(headers), body)
        answer = relay_error(fault, wire, call.model_asked, told)
        call.status = answer.status
        await channel.respond(answer.status, _complete(answer, call, told), answer.body)
        raise error


def _complete(answer: ErrorAnswer, call: Call, told: ErrorAnswer) -> Headers:
    """Return the head of an error answer: the relayed one, or our own around a new body."""
    if answer is told:
        return list(told.headers)
    return [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(answer.body)).encode()),
        (b"request-id", call.request_id.encode()),
        (b"x-request-id", call.request_id.encode()),
        *answer.headers,
    ]
