"""A call's memory is freed at its end, not by the garbage collector thousands of calls later."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gateway.core.model import Endpoint, Wire
from gateway.errors import ErrorKind, GatewayError
from gateway.ports import Reservation, ReservationRequest
from tests.support.cycles import no_cycles
from tests.support.pipeline_bench import Bench
from tests.support.pipeline_fakes import (
    ANTHROPIC_BODY,
    OPENAI_ANSWER,
    OPENAI_BODY,
    OPENAI_DONE,
    OPENAI_ERROR,
    OPENAI_FINISH,
    OPENAI_USAGE,
    FakeClient,
    FakeUpstreamResponse,
    a_deployment,
    a_provider,
    asking,
    json_head,
    openai_event,
)

RESPONSES_BODY = b'{"model":"m","input":"Hello","store":false}'
ENDPOINTS = {
    Endpoint.CHAT_COMPLETIONS: OPENAI_BODY,
    Endpoint.MESSAGES: ANTHROPIC_BODY,  # the upstream speaks OpenAI's wire: translated
    Endpoint.RESPONSES: RESPONSES_BODY,
}
PATHS = {
    Endpoint.CHAT_COMPLETIONS: "/v1/chat/completions",
    Endpoint.MESSAGES: "/v1/messages",
    Endpoint.RESPONSES: "/v1/responses",
}


class Admitting:
    """Reservations that keep nothing."""

    async def reserve(self, request: ReservationRequest) -> Reservation:
        return Reservation(request=request, hold_nanousd=1, worst_nanousd=1, tokens=1)

    async def settle(self, reservation: Reservation, event: object) -> None: ...

    async def release(self, reservation: Reservation) -> None: ...


async def served(upstream: FakeUpstreamResponse, client: FakeClient) -> None:
    """Stream to the end."""
    await upstream.end(openai_event("A"), OPENAI_FINISH, OPENAI_USAGE, OPENAI_DONE)


async def left(upstream: FakeUpstreamResponse, client: FakeClient) -> None:
    """Let the client leave in the stream."""
    await upstream.push(openai_event("A"))
    client.leave()


async def broken(upstream: FakeUpstreamResponse, client: FakeClient) -> None:
    """Cut the stream."""
    await upstream.push(openai_event("A"))
    try:
        raise ConnectionResetError
    except ConnectionResetError as error:
        cut = GatewayError(ErrorKind.UPSTREAM_BROKEN, "reset")
        cut.__cause__ = error
    await upstream.fail(cut)


async def failed(upstream: FakeUpstreamResponse, client: FakeClient) -> None:
    """Report an error in the stream."""
    await upstream.end(openai_event("A"), OPENAI_ERROR)


async def finish(client: FakeClient) -> None:
    """Drop what the client's side refers to."""
    client.leave()
    await asyncio.sleep(0)


@pytest.mark.parametrize("end", [served, left, broken, failed])
@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_stream_leaves_no_reference_cycle(
    endpoint: Endpoint, end: Callable[[FakeUpstreamResponse, FakeClient], Awaitable[None]]
) -> None:
    """Whatever ends it, and whether it is relayed or translated."""
    deployment = a_deployment(a_provider(wires=(Wire.OPENAI,)))
    with no_cycles():
        upstream = FakeUpstreamResponse()
        bench = Bench(upstream, deployments=[deployment], reservations=Admitting())
        client = FakeClient(PATHS[endpoint], asking(ENDPOINTS[endpoint], stream=True))
        call, task = bench.begin(client, endpoint)
        await end(upstream, client)
        await task
        assert call.attempts == 1
        await finish(client)
        del call, task, bench, client, upstream


@pytest.mark.parametrize(
    "step",
    [
        FakeUpstreamResponse(headers=json_head(OPENAI_ANSWER), body=OPENAI_ANSWER),
        GatewayError(ErrorKind.UPSTREAM_CONNECT, "refused"),
    ],
)
async def test_whole_response_leaves_no_reference_cycle(
    step: FakeUpstreamResponse | GatewayError,
) -> None:
    """Neither does one that fails."""
    with no_cycles():
        bench = Bench(step, reservations=Admitting())
        client = FakeClient(PATHS[Endpoint.CHAT_COMPLETIONS], OPENAI_BODY)
        call = await bench.run(client)
        assert call.attempts == 1
        await finish(client)
        del call, bench, client


async def test_refused_request_leaves_no_reference_cycle() -> None:
    """The error's traceback has the frames that hold the call."""
    with no_cycles():
        bench = Bench(reservations=Admitting())
        client = FakeClient(
            PATHS[Endpoint.CHAT_COMPLETIONS], OPENAI_BODY.replace(b'"m"', b'"unknown"')
        )
        call = await bench.run(client)
        assert call.status == 404
        await finish(client)
        del call, bench, client
