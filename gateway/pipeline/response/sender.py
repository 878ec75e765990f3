"""
From an upstream's good response head to the end of the client's response: commit, relay, meter.

A stream is relayed chunk by chunk. A whole response that is small, or must be translated, is read
before it is sent; a large one is relayed as plain bytes.
"""

from __future__ import annotations

import asyncio
import time
from time import monotonic

from gateway.core.model import Clocks, Endpoint
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.call import Attempt, Call
from gateway.pipeline.client.channel import ClientChannel
from gateway.pipeline.request.exchange import Exchange
from gateway.pipeline.response.clocks import Expire
from gateway.pipeline.response.relay import EarlyUpstreamError, Relay
from gateway.pipeline.response.watchdog import Watchdog
from gateway.ports import Headers, UpstreamResponse
from gateway.protocols.codec.digits import read_digits
from gateway.protocols.http.errors.gateway_errors import render_event
from gateway.protocols.http.errors.upstream_faults import STREAM_CUT, STREAM_LATE
from gateway.protocols.http.headers import client_headers
from gateway.protocols.http.limit_headers import limit_headers
from gateway.protocols.streams.meter import JsonMeter, StreamMeter
from gateway.protocols.streams.usage_filter import at_event_boundary

WHOLE_BYTES = 256 * 1024
"""Unchanged responses up to this size are read before they are sent."""
TRANSLATED_BYTES = 32 * 1024 * 1024
"""
Largest response that is translated. A larger one fails as unreadable: its client gets 502, or the
next deployment's response, and is charged nothing, since nothing was delivered.
"""


_UPSTREAM_ENDS = (ErrorKind.UPSTREAM_BROKEN, ErrorKind.UPSTREAM_TIMEOUT)


class ResponseSender:
    """
    Sends upstream responses to clients.

    Args:
        watchdog: Checks the streams' clocks.
        stall_s: How long a client may accept no bytes.
    """

    def __init__(self, watchdog: Watchdog, stall_s: float) -> None:
        self._watchdog = watchdog
        self._stall_s = stall_s

    async def deliver(
        self,
        call: Call,
        attempt: Attempt,
        channel: ClientChannel,
        exchange: Exchange,
        response: UpstreamResponse,
    ) -> None:
        """
        Send one response to its end and set its usage in `attempt`.

        Raises:
            GatewayError: It failed. If `channel.started`, a part was sent and the response has
                been ended as its dialect requires.
        """
        kind = _header(response, b"content-type") or b""
        is_stream = kind.lower().startswith(b"text/event-stream")
        if response.status >= 300 or is_stream != call.stream:
            raise GatewayError(
                ErrorKind.UPSTREAM_MALFORMED,
                "The upstream model answered in an unexpected format.",
                detail=f"status {response.status}, {kind[:100].decode('latin-1')}",
            )
        length = _length(response)
        attempt.upstream_request_id = _upstream_id(response)
        head = (response.status, self._head(call, attempt, exchange, response))
        if call.stream:
            await self._stream(call, attempt, channel, exchange, response, head)
        elif exchange.reshape or (length is not None and length <= WHOLE_BYTES):
            await self._whole(call, attempt, channel, exchange, response, head)
        else:
            await self._large(call, attempt, channel, response, head)

    def _head(
        self, call: Call, attempt: Attempt, exchange: Exchange, response: UpstreamResponse
    ) -> Headers:
        translated = bool(exchange.reshape) or exchange.translator is not None
        headers = client_headers(
            response.headers, call.request_id, stream=call.stream, unchanged=not translated
        )
        now, sent = monotonic(), attempt.sent_at
        own, upstream = (sent - call.started_at) * 1000, (now - sent) * 1000
        timing = b"overhead;dur=%.2f, upstream;dur=%.2f" % (own, upstream)
        headers.append((b"server-timing", timing))
        if call.reservation is not None:
            room = call.reservation.headroom
            headers.extend(limit_headers(room, call.client_wire, int(time.time())))
        if call.dropped:
            headers.append((b"x-capio-dropped", ", ".join(call.dropped).encode()))
        return headers

    async def _whole(
        self,
        call: Call,
        attempt: Attempt,
        channel: ClientChannel,
        exchange: Exchange,
        response: UpstreamResponse,
        head: tuple[int, Headers],
    ) -> None:
        limit = TRANSLATED_BYTES if exchange.reshape else WHOLE_BYTES
        meter = JsonMeter(attempt.wire, held_bytes=limit)
        status, headers = head
        try:
            body = await self._read(attempt, response, limit)
            meter.feed(body)
            if channel.gone and not call.outlives_client:
                call.drained = True
                raise GatewayError(ErrorKind.CLIENT_GONE, "The client left.")
            for step in exchange.reshape:
                body = step(body)
            if exchange.reshape:
                headers.append((b"content-length", str(len(body)).encode()))
            await channel.respond(status, headers, body)
        finally:
            _keep_usage(call, attempt, meter, channel)

    async def _read(self, attempt: Attempt, response: UpstreamResponse, limit_bytes: int) -> bytes:
        """Read a whole response within the limit for its first byte."""
        task = asyncio.current_task()
        assert task is not None
        deadline = _Deadline(task)
        clocks = attempt.deployment.provider.clocks
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
        call: Call,
        attempt: Attempt,
        channel: ClientChannel,
        response: UpstreamResponse,
        head: tuple[int, Headers],
    ) -> None:
        meter = JsonMeter(attempt.wire)
        relay = Relay(
            call, attempt, channel, response, meter, Exchange(), head=head, stall_s=self._stall_s
        )
        try:
            error = await self._pump(call, attempt, channel, relay, response)
            if not call.outlives_client:
                _check_left(call, channel, relay, error)
            if error is not None:
                raise error  # JSON may have been sent in part: without `end` the connection breaks
            await relay.writer.write_last(b"")
            await channel.end()
        finally:
            _keep_usage(call, attempt, meter, channel)

    async def _stream(
        self,
        call: Call,
        attempt: Attempt,
        channel: ClientChannel,
        exchange: Exchange,
        response: UpstreamResponse,
        head: tuple[int, Headers],
    ) -> None:
        meter = StreamMeter(attempt.wire)
        attempt.meter = meter
        relay = Relay(
            call,
            attempt,
            channel,
            response,
            meter,
            exchange,
            head=head,
            stall_s=self._stall_s,
        )
        try:
            error = await self._pump(call, attempt, channel, relay, response)
            meter.end()
            _check_left(call, channel, relay, error)
            if isinstance(error, EarlyUpstreamError):
                raise error
            if exchange.translator is not None:
                await _end_translated(channel, exchange, relay, error or _reported(meter))
            else:
                await _end_relayed(call, channel, exchange, relay, _relay_error(error, meter))
            reported = _reported(meter)
            if reported is not None:
                raise reported
        finally:
            _keep_usage(call, attempt, meter, channel)

    async def _pump(
        self,
        call: Call,
        attempt: Attempt,
        channel: ClientChannel,
        relay: Relay,
        response: UpstreamResponse,
    ) -> GatewayError | None:
        self._watchdog.add(relay, attempt.deployment.provider.clocks)
        before = None
        if not call.outlives_client:
            before = channel.on_gone(relay.client_left)
        try:
            response.start(relay)
            return await relay.done
        finally:
            # Until the head is sent another deployment may be tried, unless the client leaves.
            channel.on_gone(None if channel.started or channel.gone else before)
            self._watchdog.discard(relay)
            response.close()
            await relay.writer.aclose()


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
    """Raise CLIENT_GONE if the client has left; record whether the response was read on."""
    if channel.gone:
        call.drained = relay.read_on and error is None
        raise GatewayError(ErrorKind.CLIENT_GONE, "The client left.")


def _reported(meter: StreamMeter) -> GatewayError | None:
    """Return the failure that the upstream reported in its stream."""
    if not meter.failed:
        return None
    return GatewayError(ErrorKind.UPSTREAM_REFUSED, "The upstream reported an error in its stream.")


def _relay_error(error: GatewayError | None, meter: StreamMeter) -> GatewayError | None:
    """
    Return the error of a relayed body that is incomplete.

    A body that broke off or timed out after its finish reason is complete; one that ended cleanly
    before it is not. An error that the upstream reported itself needs no second one.
    """
    complete = bool(meter.saw_end or meter.finish_reason or meter.failed)
    if error is None:
        return None if complete else _cut_off()
    return None if complete and error.kind in _UPSTREAM_ENDS else error


def _cut_off() -> GatewayError:
    return GatewayError(ErrorKind.UPSTREAM_BROKEN, "Upstream stream ended before completion")


async def _end_relayed(
    call: Call,
    channel: ClientChannel,
    exchange: Exchange,
    relay: Relay,
    error: GatewayError | None,
) -> None:
    """
    End a stream of the client's own dialect.

    A committed stream that failed ends with an error event. In the middle of an event none can be
    added: the connection is broken instead, by not ending the response.
    """
    if exchange.hider is not None:
        rest = exchange.hider.end(error is None)
        if rest:
            await relay.writer.write_last(rest)
    if error is None:
        await relay.writer.write_last(b"")
        await channel.end()
        return
    may_report = channel.started and error.kind is not ErrorKind.SLOW_CLIENT
    if may_report and at_event_boundary(*relay.writer.tail):
        await relay.writer.write_last(render_event(error, call.client_wire))
        await channel.end()
    raise error


async def _end_translated(
    channel: ClientChannel, exchange: Exchange, relay: Relay, error: GatewayError | None
) -> None:
    """End a translated stream as its translator decides."""
    translator = exchange.translator
    assert translator is not None
    if error is not None and error.kind is ErrorKind.SLOW_CLIENT:
        raise error
    late = error is not None and error.kind is ErrorKind.UPSTREAM_TIMEOUT
    rest = translator.end(error is None, STREAM_LATE if late else STREAM_CUT)
    early = translator.early_error
    if early is not None and not channel.started:
        raise EarlyUpstreamError(early)
    await relay.writer.write_last(rest or translator.error_event)
    await channel.end()
    if translator.failed:
        raise error or _cut_off()


def _keep_usage(
    call: Call, attempt: Attempt, meter: StreamMeter | JsonMeter, channel: ClientChannel
) -> None:
    """Set the attempt's usage: as reported, else estimated if anything was delivered."""
    attempt.finish_reason = meter.finish_reason
    attempt.delivered = meter.contents > 0 and channel.started
    if call.endpoint is Endpoint.COUNT_TOKENS:
        return  # free at every provider
    if meter.reported or meter.seen or meter.contents or meter.finish_reason:
        attempt.usage = meter.settled(call.input_estimate)
        attempt.estimated = not meter.reported
        attempt.unreadable_usage = attempt.estimated and meter.unreadable_usage


def _length(response: UpstreamResponse) -> int | None:
    value = _header(response, b"content-length")
    return None if value is None else read_digits(value)


def _upstream_id(response: UpstreamResponse) -> str | None:
    value = _header(response, b"request-id") or _header(response, b"x-request-id")
    return value.decode("latin-1")[:200] if value else None


def _header(response: UpstreamResponse, name: bytes) -> bytes | None:
    for key, value in response.headers:
        if key == name:
            return value
    return None
