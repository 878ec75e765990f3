"""
Starts streams before their upstream has responded, so that nothing between closes the connection.

A reasoning model may take minutes for its response head, while load balancers close a connection
that is idle for 60 s. Such a stream gets its head (200) and keep-alives early.

Rules.
1. Only the head is early: the call is still attempted, repeated and passed on to other deployments
   and models as if nothing had been sent, until its first event.
2. If it fails for good, the error that would have been an HTTP response is the stream's last event.
3. The early head names neither model, provider nor attempts, since they are not known.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from time import monotonic
from typing import Any, Final

import msgspec

from gateway.core.model import Wire
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.departure import Departure
from gateway.pipeline.request.context import CallContext
from gateway.pipeline.response.refusal import RefusalError, error_response
from gateway.ports import Headers
from gateway.protocols.codec.json_decode import decode_or_none
from gateway.protocols.codec.sse import KEEPALIVES, anthropic_event, openai_data
from gateway.protocols.http.errors.gateway_errors import render
from gateway.protocols.http.errors.upstream_errors import translate_error
from gateway.protocols.http.headers import client_headers
from gateway.protocols.http.limit_headers import limit_headers
from gateway.protocols.openai_responses.stream import failed_stream
from gateway.settings import Server

TICK_S = 0.25
MOST_ERROR_BYTES = 64 * 1024
"""A larger error of an upstream is replaced by the gateway's own."""

_MEMBERS: Final = msgspec.json.Decoder(dict[str, Any])


class EarlyHeads:
    """
    The streamed calls of one worker that have not begun, as a context manager.

    Args:
        server: How long a client may wait for a head, and for the next keep-alive.
    """

    def __init__(self, server: Server) -> None:
        self._after_s = server.early_head_s
        self._keepalive_s = server.stream_keepalive_s
        self._waiting: dict[Departure, CallContext] = {}
        self._written_at: dict[Departure, float] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> EarlyHeads:
        if self._after_s and self._keepalive_s:
            self._tick(asyncio.get_running_loop())
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    async def run(self, context: CallContext, execution: Coroutine[Any, Any, None]) -> None:
        """
        Run a streamed call, and end its stream if it fails after an early head.

        Raises:
            GatewayError: The failure.
        """
        departure = context.departure
        self._waiting[departure] = context
        try:
            await execution
        except GatewayError as error:
            await _end(context, error)
            raise
        except asyncio.CancelledError:
            cause = departure.error
            if cause is None or not _is_open(context):
                raise
            departure.task.uncancel()
            await _end(context, cause)
            raise cause from None
        finally:
            self._waiting.pop(departure, None)
            self._written_at.pop(departure, None)

    def check(self, now: float) -> None:
        """Send the heads and keep-alives that are due at `now`."""
        for departure, context in tuple(self._waiting.items()):
            channel, sent_at = context.channel, context.call.first_sent_at
            if channel.started or channel.gone:
                del self._waiting[departure]
            elif channel.opened:
                if now - self._written_at[departure] > self._keepalive_s:
                    self._write_keepalive(context, now)
            elif sent_at is not None and now - sent_at > self._after_s:
                channel.open(_headers(context))
                self._write_keepalive(context, now)

    def _write_keepalive(self, context: CallContext, now: float) -> None:
        self._written_at[context.departure] = now
        if context.channel.try_write(KEEPALIVES[context.call.client_wire]) is not None:
            # The send buffer is full: the client has read nothing for a long time.
            error = GatewayError(ErrorKind.SLOW_CLIENT, "The client took none of the keep-alives.")
            context.departure.end(error)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(TICK_S, self._tick, loop)
        if self._waiting:
            self.check(monotonic())


def _is_open(context: CallContext) -> bool:
    """Return whether the client has a head, and no part of a response."""
    channel = context.channel
    return channel.opened and not (channel.started or channel.gone)


async def _end(context: CallContext, error: GatewayError) -> None:
    if not _is_open(context):
        return
    context.call.status = 200
    context.channel.started = True
    if error.kind is not ErrorKind.SLOW_CLIENT:
        await context.channel.end(error_events(context, error))


def _headers(context: CallContext) -> Headers:
    call = context.call
    headers = client_headers((), call.request_id, stream=True)
    if call.reservation is not None:
        room = call.reservation.headroom
        headers.extend(limit_headers(room, call.client_wire, int(time.time())))
    return headers


def error_events(context: CallContext, error: GatewayError) -> bytes:
    """Return the end of a stream that fails before its first event."""
    body = _body(context, error)
    responses = context.request.responses
    if responses is not None:
        return failed_stream(responses, body)
    if context.call.client_wire is Wire.ANTHROPIC:
        return anthropic_event(b"error", body)
    return openai_data(body)


def _body(context: CallContext, error: GatewayError) -> bytes:
    """Return the body that the error has as an HTTP response, on one line."""
    call = context.call
    response = error_response(error, call)
    if response is None:
        return render(error, call.client_wire, None)[2]
    if len(response.body) <= MOST_ERROR_BYTES:
        members = decode_or_none(response.body, _MEMBERS) or {}
        fault = members.get("error")
        if isinstance(fault, dict) and isinstance(fault.get("message"), str):
            return msgspec.json.encode(members)
    if isinstance(error, RefusalError):
        fault = msgspec.structs.replace(error.fault, message="The upstream rejected the request.")
        return translate_error(fault, call.client_wire, call.model_asked).body
    return render(GatewayError(error.kind, ""), call.client_wire, None)[2]
