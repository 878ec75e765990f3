"""
Sends an upstream's successful response to the client: commit, relay, meter.

A stream is relayed chunk by chunk. A whole response that is small, or must be translated, is read
before it is sent; a large one is relayed as plain bytes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from time import monotonic

from gateway.core.model import Clocks, Endpoint
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.call import Attempt, Call
from gateway.pipeline.client.channel import ClientChannel
from gateway.pipeline.client.writer import ResponseHead
from gateway.pipeline.request.context import CallContext, ResponseTransforms
from gateway.pipeline.response.clocks import ClientClocks, Expire
from gateway.pipeline.response.endings import (
    check_error_before_commit,
    end_relayed,
    end_translated,
    end_when_held,
    relay_error,
    with_usage,
)
from gateway.pipeline.response.relay import Relay, UpstreamErrorBeforeCommit
from gateway.pipeline.response.unfold import UnfoldedResponse
from gateway.pipeline.response.watchdog import Watchdog
from gateway.ports import Headers, UpstreamResponse
from gateway.protocols.codec.digits import read_digits
from gateway.protocols.codec.event_filter import at_event_boundary
from gateway.protocols.codec.json_decode import BOM
from gateway.protocols.http.errors.response_faults import read_response_fault
from gateway.protocols.http.errors.upstream_errors import error_before_commit
from gateway.protocols.http.headers import client_headers, served_by
from gateway.protocols.http.limit_headers import limit_headers
from gateway.protocols.openai_responses.output import without_store
from gateway.protocols.openai_responses.stream import ResponsesStream
from gateway.protocols.streams.json_meter import JsonMeter
from gateway.protocols.streams.meter import StreamMeter
from gateway.protocols.streams.refold import begins_stream, folded
from gateway.protocols.streams.relayed import HeldBody, Unchanged
from gateway.protocols.streams.transform import StreamTransform
from gateway.settings import Server

WHOLE_BYTES = 256 * 1024
"""Unchanged responses up to this size are read before they are sent."""
TRANSLATED_BYTES = 32 * 1024 * 1024
"""
Largest response that is translated. A larger one fails as malformed: its client gets 502, or the
next deployment's response. Since nothing was delivered, nothing is charged.
"""


class ResponseSender:
    """
    Sends upstream responses to clients.

    Args:
        watchdog: Checks the streams' clocks.
        server: The settings with the limits for clients.
        show_provider: Whether a header names the provider.
    """

    def __init__(self, watchdog: Watchdog, server: Server, *, show_provider: bool = True) -> None:
        self._watchdog = watchdog
        self._clocks = ClientClocks(server.send_stall_s, server.stream_keepalive_s)
        self._show_provider = show_provider

    async def deliver(
        self,
        context: CallContext,
        attempt: Attempt,
        transforms: ResponseTransforms,
        response: UpstreamResponse,
    ) -> bytes | None:
        """
        Send one response to its end and set its usage in `attempt`.

        Returns:
            The body that was sent, if it was read whole.

        Raises:
            GatewayError: It failed. If `channel.started`, a part was sent and the response was
                ended as its dialect requires.
        """
        call = context.call
        # The first of each header wins.
        upstream = dict(reversed(response.headers))
        kind = upstream.get(b"content-type", b"")
        is_stream = kind.lower().startswith(b"text/event-stream")
        if response.status >= 300:
            raise GatewayError(
                ErrorKind.UPSTREAM_MALFORMED,
                "The upstream model responded in an unexpected format.",
                detail=f"status {response.status}, {kind[:100].decode('latin-1')}",
            )
        if call.stream:
            response = UnfoldedResponse(response, attempt.wire, call.endpoint, labelled=is_stream)
        attempt.upstream_request_id = _upstream_id(upstream)
        headers = self._headers(call, attempt, transforms, response)
        head = ResponseHead(response.status, headers, context.release_body)
        if call.stream:
            await self._stream(context, attempt, transforms, response, head)
            return None
        length = _length(upstream)
        is_small = length is not None and length <= WHOLE_BYTES
        is_count = call.endpoint is Endpoint.COUNT_TOKENS
        if transforms.translated or is_small or is_stream or is_count:
            limit = TRANSLATED_BYTES if transforms.translated or is_stream else WHOLE_BYTES
            return await self._whole(context, attempt, transforms, response, head, limit)
        await self._large(context, attempt, transforms, response, head)
        return None

    def _headers(
        self,
        call: Call,
        attempt: Attempt,
        transforms: ResponseTransforms,
        response: UpstreamResponse,
    ) -> Headers:
        headers = client_headers(
            response.headers,
            call.request_id,
            stream=call.stream,
            unchanged=not transforms.translated,
        )
        now, sent = monotonic(), attempt.sent_at
        own, upstream = (sent - call.started_at) * 1000, (now - sent) * 1000
        timing = b"overhead;dur=%.2f, upstream;dur=%.2f" % (own, upstream)
        headers.append((b"server-timing", timing))
        if call.reservation is not None:
            room = call.reservation.headroom
            headers.extend(limit_headers(room, call.client_wire, int(time.time())))
        provider = attempt.deployment.provider.name if self._show_provider else None
        headers.extend(served_by(call.model, provider, call.attempts))
        if call.dropped:
            headers.append((b"x-capio-dropped", ", ".join(call.dropped).encode()))
        return headers

    async def _whole(
        self,
        context: CallContext,
        attempt: Attempt,
        transforms: ResponseTransforms,
        response: UpstreamResponse,
        head: ResponseHead,
        limit: int,
    ) -> bytes:
        call, channel = context.call, context.channel
        apart, bound = transforms.reasoning_apart, transforms.bound
        meter = JsonMeter(attempt.wire, limit, reasoning_apart=apart, bound=bound)
        try:
            body = await self._read(attempt, response, limit)
            body = folded(attempt.wire, body) if begins_stream(body) else body.removeprefix(BOM)
            meter.feed(body)
            if not meter.has_message:
                _check_response(call, attempt, body)
            if channel.gone and not call.outlives_client:
                call.drained = True
                raise GatewayError(ErrorKind.CLIENT_GONE, "The client left.")
            if transforms.reshape and meter.unreadable_usage:
                body = with_usage(body, attempt.wire, meter.settled(call.input_estimate))
            for step in transforms.reshape:
                body = step(body)
            channel.claim()
            if context.keeper is not None and not await context.keeper.keep(body):
                body = without_store(body)
            if transforms.translated or _length(dict(reversed(response.headers))) != len(body):
                head.headers[:] = [each for each in head.headers if each[0] != b"content-length"]
                head.headers.append((b"content-length", str(len(body)).encode()))
            await channel.respond(head.status, head.headers, body)
        finally:
            _keep_usage(call, attempt, meter, channel)
        return body

    async def _read(self, attempt: Attempt, response: UpstreamResponse, limit_bytes: int) -> bytes:
        """Read a whole response within the limit for its first byte."""
        if response.complete:
            return await response.read(limit_bytes)
        task = asyncio.current_task()
        assert task is not None
        deadline = _Deadline(task)
        clocks = attempt.deployment.clocks
        self._watchdog.add(deadline, clocks)
        try:
            return await response.read(limit_bytes)
        except asyncio.CancelledError:
            if not deadline.is_over:
                raise
            task.uncancel()
        finally:
            self._watchdog.discard(deadline)
        raise Expire("whole response", clocks.first_byte_s).error

    async def _large(
        self,
        context: CallContext,
        attempt: Attempt,
        transforms: ResponseTransforms,
        response: UpstreamResponse,
        head: ResponseHead,
    ) -> None:
        call, channel = context.call, context.channel
        apart, bound = transforms.reasoning_apart, transforms.bound
        meter = JsonMeter(attempt.wire, reasoning_apart=apart, bound=bound)
        transform = Unchanged()
        if _length(dict(reversed(response.headers))) is None:
            transform = HeldBody(attempt.wire, call.endpoint, call.model_asked)
        relay = self._relay(context, attempt, response, meter, transform, head)
        try:
            error = await self._pump(context, attempt, relay, response)
            if not call.outlives_client:
                _check_left(call, channel, relay, error)
            if error is not None:
                raise error  # part of the JSON may be sent: without `end`, the connection breaks
            rest = transform.end(clean=True)
            check_error_before_commit(channel, transform)
            await relay.writer.write_last(rest)
            await channel.end()
        finally:
            _keep_usage(call, attempt, meter, channel)

    async def _stream(
        self,
        context: CallContext,
        attempt: Attempt,
        transforms: ResponseTransforms,
        response: UpstreamResponse,
        head: ResponseHead,
    ) -> None:
        call, channel = context.call, context.channel
        apart, bound = transforms.reasoning_apart, transforms.bound
        meter = StreamMeter(attempt.wire, reasoning_apart=apart, bound=bound)
        attempt.meter = meter
        relay = self._relay(context, attempt, response, meter, transforms.transform, head)
        if isinstance(transforms.transform, ResponsesStream):
            end_when_held(transforms.transform, relay)
        try:
            error = await self._pump(context, attempt, relay, response)
            meter.end()
            _check_left(call, channel, relay, error)
            if isinstance(error, UpstreamErrorBeforeCommit):
                raise error
            reported = _reported(meter)
            failure = reported or relay_error(error, meter)
            if failure is not None and channel.holds and not channel.started:
                raise failure  # nothing was sent: another deployment may serve the call
            if transforms.translated:
                await end_translated(context, transforms.transform, relay, error or reported)
            else:
                incomplete = relay_error(error, meter)
                if reported is not None and not at_event_boundary(*relay.writer.tail):
                    raise reported  # an incomplete event after the error: the connection breaks
                await end_relayed(call, channel, transforms.transform, relay, incomplete)
            if reported is not None:
                raise reported
        finally:
            _keep_usage(call, attempt, meter, channel)

    def _relay(
        self,
        context: CallContext,
        attempt: Attempt,
        response: UpstreamResponse,
        meter: StreamMeter | JsonMeter,
        transform: StreamTransform,
        head: ResponseHead,
    ) -> Relay:
        return Relay(
            context.call,
            attempt,
            context.channel,
            response,
            meter,
            transform,
            head=head,
            clocks=self._clocks,
        )

    async def _pump(
        self, context: CallContext, attempt: Attempt, relay: Relay, response: UpstreamResponse
    ) -> GatewayError | None:
        hides = context.call.hides_reasoning
        self._watchdog.add(
            relay, attempt.deployment.clocks_for(attempt.wire, hides_reasoning=hides)
        )
        error: GatewayError | None = None
        interruption: BaseException | None = None
        try:
            with context.departure.relaying(relay):
                response.start(relay)
                error = await relay.done
        except BaseException as raised:  # noqa: BLE001 # raised below
            interruption = raised
        self._watchdog.discard(relay)
        response.close()
        await relay.aclose()
        if interruption is not None:
            try:
                raise interruption
            finally:
                interruption = None  # its traceback refers to this frame
        return error


class _Deadline:
    """Cancels a task that waits too long for a whole response; a `Watched`."""

    __slots__ = ("_since", "_task", "is_over")

    def __init__(self, task: asyncio.Task[object]) -> None:
        self._task = task
        self._since = monotonic()
        self.is_over = False

    def check(self, now: float, clocks: Clocks) -> None:
        """Cancel the task once the limit is exceeded."""
        if not self.is_over and now - self._since > clocks.first_byte_s:
            self.is_over = True
            self._task.cancel()


def _check_left(
    call: Call, channel: ClientChannel, relay: Relay, error: GatewayError | None
) -> None:
    """Raise CLIENT_GONE if the client left too early; record whether the response was read on."""
    if channel.gone and not relay.sent_whole:
        call.drained = relay.read_on and error is None
        raise GatewayError(ErrorKind.CLIENT_GONE, "The client left.")


def _reported(meter: StreamMeter) -> GatewayError | None:
    """Return the failure that the upstream reported in its stream."""
    if not meter.failed:
        return None
    return GatewayError(ErrorKind.UPSTREAM_REFUSED, "The upstream reported an error in its stream.")


def _check_response(call: Call, attempt: Attempt, body: bytes) -> None:
    """Raise the fault of a whole response without content."""
    fault = read_response_fault(attempt.wire, call.endpoint, body)
    if fault is not None:
        raise UpstreamErrorBeforeCommit(
            error_before_commit(fault, call.client_wire, call.model_asked)
        )


def _keep_usage(
    call: Call, attempt: Attempt, meter: StreamMeter | JsonMeter, channel: ClientChannel
) -> None:
    """Set the attempt's usage: the reported one, or an estimate if anything was delivered."""
    attempt.finish_reason = meter.finish_reason
    attempt.delivered = meter.contents > 0 and channel.started
    if call.endpoint is Endpoint.COUNT_TOKENS:
        return  # free at every provider
    if meter.reported or meter.seen or meter.contents or meter.finish_reason:
        attempt.usage = meter.settled(call.input_estimate)
        attempt.estimated = not meter.reported or attempt.usage != meter.usage
        attempt.unreadable_usage = attempt.estimated and meter.unreadable_usage


def _length(upstream: Mapping[bytes, bytes]) -> int | None:
    value = upstream.get(b"content-length")
    return None if value is None else read_digits(value)


def _upstream_id(upstream: Mapping[bytes, bytes]) -> str | None:
    value = upstream.get(b"request-id") or upstream.get(b"x-request-id")
    return value.decode("latin-1")[:200] if value else None
