"""
From an upstream's good response head to the end of the caller's answer: commit, relay, meter.

Three ways: a stream goes through the pump event by event; a small JSON answer is read whole and
sent in one piece; a large one goes through the pump as plain bytes.
"""

from __future__ import annotations

import asyncio

from gateway.core.model import Clocks, Wire
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.call import Call
from gateway.pipeline.channel import ClientChannel
from gateway.pipeline.exchange import Exchange
from gateway.pipeline.relay import Relay
from gateway.pipeline.watchdog import Watchdog
from gateway.ports import Headers, UpstreamResponse
from gateway.protocols.error_bodies import render_event
from gateway.protocols.headers import client_headers
from gateway.protocols.usage_hider import at_event_boundary
from gateway.protocols.usage_meter import JsonMeter, StreamMeter

WHOLE_BYTES = 256 * 1024
"""A JSON answer up to this size is read before it is sent."""


class Answers:
    """
    Brings answers to callers.

    Args:
        watchdog: Keeps the streams' clocks.
        stall_s: How long a caller may take no bytes.
    """

    def __init__(self, watchdog: Watchdog, stall_s: float) -> None:
        self._watchdog = watchdog
        self._stall_s = stall_s
        self._loop = asyncio.get_running_loop()

    async def deliver(
        self, call: Call, channel: ClientChannel, exchange: Exchange, response: UpstreamResponse
    ) -> None:
        """
        Bring one answer to its end and leave its usage in `call`.

        Raises:
            GatewayError: It failed. `channel.started` tells whether the caller has seen any of it;
                if so, this has already ended the answer as its dialect asks.
        """
        streamed = _content_type(response).startswith(b"text/event-stream")
        if streamed != call.stream:
            response.close()
            raise GatewayError(
                ErrorKind.UPSTREAM_MALFORMED,
                "The upstream model answered in an unexpected format.",
                detail=f"content-type {_content_type(response).decode('latin-1')[:100]}",
            )
        call.upstream_request_id = _upstream_id(response)
        head = (response.status, self._head(call, response))
        if streamed:
            await self._stream(call, channel, exchange, response, head)
        elif (_length(response) or WHOLE_BYTES + 1) <= WHOLE_BYTES:
            await self._whole(call, channel, response, head)
        else:
            await self._large(call, channel, response, head)

    def _head(self, call: Call, response: UpstreamResponse) -> Headers:
        headers = client_headers(response.headers, call.request_id, stream=call.stream)
        headers.append((b"server-timing", self._timing(call)))
        return headers

    def _timing(self, call: Call) -> bytes:
        now, sent = self._loop.time(), call.sent_at or call.started_at
        own, upstream = (sent - call.started_at) * 1000, (now - sent) * 1000
        return b"overhead;dur=%.2f, upstream;dur=%.2f" % (own, upstream)

    async def _whole(
        self,
        call: Call,
        channel: ClientChannel,
        response: UpstreamResponse,
        head: tuple[int, Headers],
    ) -> None:
        meter = JsonMeter(_upstream_wire(call))
        try:
            body = await response.read(WHOLE_BYTES)
            meter.feed(body)
            await channel.respond(*head, body)
        finally:
            response.close()
            _keep_usage(call, meter)
        if channel.gone:
            raise GatewayError(ErrorKind.CLIENT_GONE, "The caller left.")

    async def _large(
        self,
        call: Call,
        channel: ClientChannel,
        response: UpstreamResponse,
        head: tuple[int, Headers],
    ) -> None:
        meter = JsonMeter(_upstream_wire(call))
        relay = Relay(
            call, channel, response, meter, shaper=None, head=head, stall_s=self._stall_s
        )
        try:
            error = await self._pump(call, channel, relay, response)
            if error is not None:
                raise error  # bytes of JSON may be out: without `end` the connection breaks
            await relay.write(b"")
            await channel.end()
        finally:
            _keep_usage(call, meter)

    async def _stream(
        self,
        call: Call,
        channel: ClientChannel,
        exchange: Exchange,
        response: UpstreamResponse,
        head: tuple[int, Headers],
    ) -> None:
        meter = StreamMeter(_upstream_wire(call))
        relay = Relay(
            call,
            channel,
            response,
            meter,
            shaper=exchange.shaper,
            head=head,
            stall_s=self._stall_s,
        )
        try:
            error = await self._pump(call, channel, relay, response)
            meter.end()
            await self._end_stream(call, channel, exchange, relay, error, meter)
        finally:
            _keep_usage(call, meter)

    async def _pump(
        self, call: Call, channel: ClientChannel, relay: Relay, response: UpstreamResponse
    ) -> GatewayError | None:
        clocks = _clocks(call)
        self._watchdog.add(relay, clocks)
        channel.on_gone(relay.client_left)
        try:
            response.start(relay)
            return await relay.done
        finally:
            channel.on_gone(None)
            self._watchdog.discard(relay)
            response.close()
            await relay.aclose()

    async def _end_stream(
        self,
        call: Call,
        channel: ClientChannel,
        exchange: Exchange,
        relay: Relay,
        error: GatewayError | None,
        meter: StreamMeter,
    ) -> None:
        if exchange.shaper is not None:
            rest = exchange.shaper.end(error is None)
            if rest and not channel.gone:
                await relay.write(rest)
        if error is None and not (meter.saw_end or meter.failed or meter.finish_reason):
            error = GatewayError(
                ErrorKind.UPSTREAM_BROKEN, "Upstream stream ended before completion"
            )
        if error is None:
            if not channel.started:
                await relay.write(b"")
            await channel.end()
            if meter.failed:
                raise GatewayError(
                    ErrorKind.UPSTREAM_REFUSED, "The upstream reported an error in its stream."
                )
            return
        if channel.started and not channel.gone and error.kind is not ErrorKind.SLOW_CLIENT:
            await self._tell(call, channel, relay, error)
        raise error

    async def _tell(
        self, call: Call, channel: ClientChannel, relay: Relay, error: GatewayError
    ) -> None:
        """
        End a committed stream with an error event, as its dialect has it.

        In the middle of an event there is no way to say anything: the connection is broken instead,
        by not ending the answer.
        """
        if at_event_boundary(*relay.tail):
            await relay.write(render_event(error, call.client_wire))
            await channel.end()


def _keep_usage(call: Call, meter: StreamMeter | JsonMeter) -> None:
    call.usage = meter.usage
    call.finish_reason = meter.finish_reason
    call.estimated = not meter.reported


def _clocks(call: Call) -> Clocks:
    assert call.deployment is not None
    return call.deployment.provider.clocks


def _upstream_wire(call: Call) -> Wire:
    assert call.upstream_wire is not None
    return call.upstream_wire


def _content_type(response: UpstreamResponse) -> bytes:
    return _header(response, b"content-type") or b""


def _length(response: UpstreamResponse) -> int | None:
    value = _header(response, b"content-length")
    return int(value) if value is not None and value.isdigit() else None


def _upstream_id(response: UpstreamResponse) -> str | None:
    value = _header(response, b"request-id") or _header(response, b"x-request-id")
    return value.decode("latin-1")[:200] if value else None


def _header(response: UpstreamResponse, name: bytes) -> bytes | None:
    for key, value in response.headers:
        if key == name:
            return value
    return None
