"""
Ends a client's stream: completely, with an error event, or by breaking the connection.

A response that is to be stored is stored before its last event is written.
"""

from __future__ import annotations

import asyncio

import msgspec

from gateway.core.model import Usage, Wire
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.call import Call
from gateway.pipeline.client.channel import ClientChannel
from gateway.pipeline.request.context import CallContext
from gateway.pipeline.response.relay import Relay, UpstreamErrorBeforeCommit
from gateway.protocols.codec.event_filter import at_event_boundary
from gateway.protocols.http.errors.gateway_errors import render_event
from gateway.protocols.http.errors.upstream_faults import (
    STREAM_CUT,
    STREAM_LATE,
    STREAM_STOPPED,
    UpstreamFault,
)
from gateway.protocols.http.request.rewrite import with_fields
from gateway.protocols.openai_chat.usage import chat_usage
from gateway.protocols.openai_responses.stream import ResponsesStream
from gateway.protocols.streams.meter import StreamMeter
from gateway.protocols.streams.transform import StreamTransform
from gateway.protocols.translate.chat_to_messages.meaning import completion_usage
from gateway.protocols.translate.messages_to_chat.meaning import anthropic_usage

HELD_S = 0.05
"""How long the upstream may take to end the body while the last event is held back."""

_UPSTREAM_ENDS = (ErrorKind.UPSTREAM_BROKEN, ErrorKind.UPSTREAM_TIMEOUT)


def relay_error(error: GatewayError | None, meter: StreamMeter) -> GatewayError | None:
    """
    Return the error of a relayed body that is incomplete.

    A body that was cut off or timed out after its finish reason is complete; one that ended cleanly
    before it is not. No error is added to one that the upstream has reported itself.
    """
    responded = meter.contents > 0 or meter.seen
    complete = bool(meter.finish_reason or meter.failed or (meter.saw_end and responded))
    if error is None:
        return None if complete else cut_off()
    return None if complete and error.kind in _UPSTREAM_ENDS else error


def cut_off() -> GatewayError:
    """Return the error of a stream that ended before its response."""
    return GatewayError(ErrorKind.UPSTREAM_BROKEN, "Upstream stream ended before completion")


async def end_relayed(
    call: Call,
    channel: ClientChannel,
    transform: StreamTransform,
    relay: Relay,
    error: GatewayError | None,
) -> None:
    """
    End a stream of the client's own dialect.

    A committed stream that failed ends with an error event. Inside an event none can be added:
    there the connection is broken instead, by not ending the response.
    """
    rest = transform.end(error is None)
    check_error_before_commit(channel, transform)
    if error is None:
        await relay.writer.write_last(rest)
        await channel.end()
        return
    may_report = channel.started and error.kind is not ErrorKind.SLOW_CLIENT
    if may_report and at_event_boundary(*relay.writer.tail):
        await relay.writer.write_last(render_event(error, call.client_wire))
        await channel.end()
    raise error


def end_when_held(transform: ResponsesStream, relay: Relay) -> None:
    """End the relay soon after the response, since upstreams may leave their connection open."""
    loop = asyncio.get_running_loop()
    transform.when_held(lambda: loop.call_later(HELD_S, relay.body_end))


async def end_translated(
    context: CallContext, transform: StreamTransform, relay: Relay, error: GatewayError | None
) -> None:
    """End a translated stream as its translator decides; before that, store the response."""
    channel = context.channel
    if error is not None and error.kind is ErrorKind.SLOW_CLIENT:
        raise error
    rest = transform.end(error is None, _fault_of(error))
    check_error_before_commit(channel, transform)
    channel.claim()
    if isinstance(transform, ResponsesStream) and transform.held is not None:
        keeper = context.keeper
        stored = keeper is not None and await keeper.keep(transform.held)
        rest += transform.complete(stored=stored)
    await relay.writer.write_last(rest or transform.error_event)
    await channel.end()
    if transform.failed:
        raise error or cut_off()


def _fault_of(error: GatewayError | None) -> UpstreamFault:
    """Return how a translated stream reports the error that ended it."""
    kind = None if error is None else error.kind
    if kind is ErrorKind.STOPPING:
        return STREAM_STOPPED
    return STREAM_LATE if kind is ErrorKind.UPSTREAM_TIMEOUT else STREAM_CUT


def check_error_before_commit(channel: ClientChannel, transform: StreamTransform) -> None:
    """Raise an error from before anything was written, unless the head was sent."""
    early = transform.error_before_commit
    if early is not None and not channel.started:
        raise UpstreamErrorBeforeCommit(early)


def with_usage(body: bytes, wire: Wire, usage: Usage) -> bytes:
    """Return a whole response with this usage, so that its translation shows what is charged."""
    counts = chat_usage(usage)
    written = completion_usage(counts) if wire is Wire.OPENAI else anthropic_usage(counts)
    return with_fields(body, {"usage": msgspec.json.encode(written)})
