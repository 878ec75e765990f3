"""
From an upstream's good response head to the end of the caller's answer: commit, relay, meter.

Three ways: a stream goes through the pump; a whole answer that is small, or must be translated, is
read before it is sent; a large one goes through the pump as plain bytes.
"""

from __future__ import annotations

import asyncio
import time
from time import monotonic

from gateway.core.model import Clocks, Endpoint
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.call import Call
from gateway.pipeline.channel import ClientChannel
from gateway.pipeline.exchange import Exchange
from gateway.pipeline.relay import EarlyUpstreamError, Relay, expired
from gateway.pipeline.watchdog import Watchdog
from gateway.ports import Headers, UpstreamResponse
from gateway.protocols.codec.digits import read_digits
from gateway.protocols.http.errors.gateway_errors import render_event
from gateway.protocols.http.errors.upstream_faults import STREAM_CUT, STREAM_LATE
from gateway.protocols.http.headers import client_headers
from gateway.protocols.http.limit_headers import limit_headers
from gateway.protocols.streams.meter import JsonMeter, StreamMeter
from gateway.protocols.streams.usage_filter import at_event_boundary

WHOLE_BYTES = 256 * 1024
"""An answer that goes through untouched is read before it is sent up to this size."""
TRANSLATED_BYTES = 32 * 1024 * 1024
"""
Largest answer that is translated. A larger one fails as unreadable: its client gets 502, or the
next deployment's answer, and is charged nothing, since nothing was delivered.
"""


_UPSTREAM_ENDS = (ErrorKind.UPSTREAM_BROKEN, ErrorKind.UPSTREAM_TIMEOUT)


class ResponseSender:
    """
    Brings answers to callers.

    Args:
        watchdog: Keeps the streams' clocks.
        stall_s: How long a caller may take no bytes.
    """

    def __init__(self, watchdog: Watchdog, stall_s: float) -> None:
        self._watchdog = watchdog
        self._stall_s = stall_s

    async def deliver(
        self, call: Call, channel: ClientChannel, exchange: Exchange, response: UpstreamResponse
    ) -> None:
        """
        Bring one answer to its end and leave its usage in `call`.

        Raises:
            GatewayError: It failed. `channel.started` tells whether the caller has seen any of it;
                if so, this has already ended the answer as its dialect asks.
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
        call.upstream_request_id = _upstream_id(response)
        head = (response.status, self._head(call, exchange, response))
        if call.stream:
            await self._stream(call, channel, exchange, response, head)
        elif exchange.reshape or (length is not None and length <= WHOLE_BYTES):
            await self._whole(call, channel, exchange, response, head)
        else:
            await self._large(call, channel, response, head)

    def _head(self, call: Call, exchange: Exchange, response: UpstreamResponse) -> Headers:
        translated = bool(exchange.reshape) or exchange.translator is not None
        headers = client_headers(
            response.headers, call.request_id, stream=call.stream, unchanged=not translated
        )
        now, sent = monotonic(), call.sent_at or call.started_at
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
        channel: ClientChannel,
        exchange: Exchange,
        response: UpstreamResponse,
        head: tuple[int, Headers],
    ) -> None:
        assert call.upstream_wire is not None
        limit = TRANSLATED_BYTES if exchange.reshape else WHOLE_BYTES
        meter = JsonMeter(call.upstream_wire, held_bytes=limit)
        status, headers = head
        try:
            body = await self._read(call, response, limit)
            meter.feed(body)
            if channel.gone and not call.outlives_client:
                call.drained = True
                raise GatewayError(ErrorKind.CLIENT_GONE, "The caller left.")
            for step in exchange.reshape:
                body = step(body)
            if exchange.reshape:
                headers.append((b"content-length", str(len(body)).encode()))
            await channel.respond(status, headers, body)
        finally:
            _keep_usage(call, meter, channel)

    async def _read(self, call: Call, response: UpstreamResponse, limit_bytes: int) -> bytes:
        """Read a whole answer; what stalls for longer than a first byte may take is late."""
        assert call.deployment is not None
        task = asyncio.current_task()
        assert task is not None
        deadline = _Deadline(task)
        clocks = call.deployment.provider.clocks
        self._watchdog.add(deadline, clocks)
        try:
            return await response.read(limit_bytes)
        except asyncio.CancelledError:
            if not deadline.is_over:
                raise
            task.uncancel()
        finally:
            self._watchdog.discard(deadline)
        raise expired("whole answer", clocks.first_byte_s)

    async def _large(
        self,
        call: Call,
        channel: ClientChannel,
        response: UpstreamResponse,
        head: tuple[int, Headers],
    ) -> None:
        assert call.upstream_wire is not None
        meter = JsonMeter(call.upstream_wire)
        relay = Relay(call, channel, response, meter, head=head, stall_s=self._stall_s)
        try:
            error = await self._pump(call, channel, relay, response)
            if not call.outlives_client:
                _check_left(call, channel, relay, error)
            if error is not None:
                raise error  # bytes of JSON may be out: without `end` the connection breaks
            await relay.write(b"")
            await channel.end()
        finally:
            _keep_usage(call, meter, channel)

    async def _stream(
        self,
        call: Call,
        channel: ClientChannel,
        exchange: Exchange,
        response: UpstreamResponse,
        head: tuple[int, Headers],
    ) -> None:
        assert call.upstream_wire is not None
        meter = StreamMeter(call.upstream_wire)
        call.live_usage = lambda: meter.settled(call.input_estimate)
        relay = Relay(
            call,
            channel,
            response,
            meter,
            shaper=exchange.hider,
            translator=exchange.translator,
            head=head,
            stall_s=self._stall_s,
        )
        try:
            error = await self._pump(call, channel, relay, response)
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
            _keep_usage(call, meter, channel)

    async def _pump(
        self, call: Call, channel: ClientChannel, relay: Relay, response: UpstreamResponse
    ) -> GatewayError | None:
        assert call.deployment is not None
        self._watchdog.add(relay, call.deployment.provider.clocks)
        before = None
        if not call.outlives_client:
            before = channel.on_gone(relay.client_left)
        try:
            response.start(relay)
            return await relay.done
        finally:
            # While nothing is written another deployment may be asked: that ends with the caller.
            channel.on_gone(None if channel.started or channel.gone else before)
            self._watchdog.discard(relay)
            response.close()
            await relay.aclose()


class _Deadline:
    """Cancels a task that waits for a whole answer too long; a `Watched`."""

    __slots__ = ("_since", "_task", "is_over")

    def __init__(self, task: asyncio.Task[object]) -> None:
        self._task = task
        self._since = monotonic()
        self.is_over = False

    def check(self, now: float, clocks: Clocks) -> None:
        """Cancel once."""
        if not self.is_over and now - self._since > clocks.first_byte_s:
            self.is_over = True
            self._task.cancel()


def _check_left(
    call: Call, channel: ClientChannel, relay: Relay, error: GatewayError | None
) -> None:
    """Raise CLIENT_GONE if the caller has left, with a note whether all was read on."""
    if channel.gone:
        call.drained = relay.drained and error is None
        raise GatewayError(ErrorKind.CLIENT_GONE, "The caller left.")


def _reported(meter: StreamMeter) -> GatewayError | None:
    """Return the failure that the upstream itself reported inside of its stream."""
    if not meter.failed:
        return None
    return GatewayError(ErrorKind.UPSTREAM_REFUSED, "The upstream reported an error in its stream.")


def _relay_error(error: GatewayError | None, meter: StreamMeter) -> GatewayError | None:
    """
    Return what is wrong with a body that was relayed to its end.

    A body that broke off after the finish reason, or then went on without an end, has said all; one
    that ended cleanly before it has not. After an error that the upstream reported itself there is
    nothing to add.
    """
    told = bool(meter.saw_end or meter.finish_reason or meter.failed)
    if error is None:
        return None if told else _cut_off()
    return None if told and error.kind in _UPSTREAM_ENDS else error


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
    End a stream of the caller's own dialect.

    A committed stream that failed ends with an error event. In the middle of an event there is no
    way to say anything: the connection is broken instead, by not ending the answer.
    """
    if exchange.hider is not None:
        rest = exchange.hider.end(error is None)
        if rest:
            await relay.write(rest)
    if error is None:
        await relay.write(b"")
        await channel.end()
        return
    may_tell = channel.started and error.kind is not ErrorKind.SLOW_CLIENT
    if may_tell and at_event_boundary(*relay.tail):
        await relay.write(render_event(error, call.client_wire))
        await channel.end()
    raise error


async def _end_translated(
    channel: ClientChannel, exchange: Exchange, relay: Relay, error: GatewayError | None
) -> None:
    """End a translated stream: its translator knows what is complete."""
    translator = exchange.translator
    assert translator is not None
    if error is not None and error.kind is ErrorKind.SLOW_CLIENT:
        raise error
    late = error is not None and error.kind is ErrorKind.UPSTREAM_TIMEOUT
    rest = translator.end(error is None, STREAM_LATE if late else STREAM_CUT)
    early = translator.early_error
    if early is not None and not channel.started:
        raise EarlyUpstreamError(early)
    await relay.write(rest or translator.error_event)
    await channel.end()
    if translator.failed:
        raise error or _cut_off()


def _keep_usage(call: Call, meter: StreamMeter | JsonMeter, channel: ClientChannel) -> None:
    """Leave the usage in the call: as reported, else estimated if anything was delivered."""
    call.finish_reason = meter.finish_reason
    call.delivered = meter.contents > 0 and channel.started
    if call.endpoint is Endpoint.COUNT_TOKENS:
        return  # costs nothing anywhere
    if meter.reported or meter.seen or meter.contents or meter.finish_reason:
        call.usage = meter.settled(call.input_estimate)
        call.estimated = not meter.reported
        call.unreadable_usage = call.estimated and meter.unreadable_usage


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
