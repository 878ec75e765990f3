"""Calls whose worker ends: each ends with an error its client can read, and is settled once."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core.model import Endpoint, Usage, Wire
from gateway.errors import GatewayError
from gateway.pipeline.call import Call
from gateway.pipeline.running import RunningCalls
from tests.support.pipeline_bench import Bench
from tests.support.pipeline_fakes import (
    ANTHROPIC_BODY,
    OPENAI_BODY,
    OPENAI_DONE,
    OPENAI_FINISH,
    FakeClient,
    FakeUpstreamResponse,
    a_deployment,
    a_provider,
    asking,
    never,
    openai_event,
)
from tests.support.waiting import wait_until

CHAT = "/v1/chat/completions"
STREAMED = asking(OPENAI_BODY, stream=True)
A, B = openai_event("A"), openai_event("B")
ERROR = (
    b'data: {"error":{"message":"The gateway is restarting. Send the request again.",'
    b'"type":"service_unavailable_error","param":null,"code":"server_is_overloaded"}}\n\n'
)


class FakeCall:
    """A call that ends when it is asked to, or only when it is cancelled."""

    def __init__(self, calls: RunningCalls, *, stubborn: bool) -> None:
        self.calls = calls
        self.stubborn = stubborn
        self.error: GatewayError | None = None
        self.cancelled = False
        calls.add(self, Call("req_1", Endpoint.CHAT_COMPLETIONS, Wire.OPENAI, 0.0))

    def end(self, error: GatewayError) -> None:
        self.error = error
        if not self.stubborn:
            self.calls.discard(self)

    def cancel(self) -> None:
        self.cancelled = True
        self.calls.discard(self)


async def test_only_calls_that_do_not_end_are_cancelled() -> None:
    """Every call is asked first."""
    calls = RunningCalls()
    willing, stubborn = FakeCall(calls, stubborn=False), FakeCall(calls, stubborn=True)

    cancelled = await calls.end_all(asked_s=0.05)

    assert cancelled == 1
    assert willing.error is not None
    assert stubborn.error is not None
    assert (willing.cancelled, stubborn.cancelled) == (False, True)
    assert len(calls) == 0


async def test_committed_stream_ends_with_an_error_event_and_is_charged() -> None:
    """The upstream is closed, and what was delivered is charged."""
    response = FakeUpstreamResponse()
    bench = Bench(response)
    client = FakeClient(CHAT, STREAMED)
    _, task = bench.begin(client)
    await response.push(A, B)

    assert await bench.running.end_all() == 0
    await task

    assert client.body == A + B + ERROR
    assert client.ended
    assert response.closed
    assert (bench.event.outcome, bench.event.error_kind) == ("failed", "stopping")
    assert bench.event.usage.output > 0
    assert bench.event.cost_nanousd > 0
    bench.assert_recorded_once()


async def test_event_that_was_sent_in_part_is_completed_first() -> None:
    """The error event stands between events, where the client's reader finds it."""
    response = FakeUpstreamResponse()
    bench = Bench(response)
    client = FakeClient(CHAT, STREAMED)
    _, task = bench.begin(client)
    with bench.watchdog:
        await response.push(A, B[:20])
        ending = asyncio.ensure_future(bench.running.end_all())
        await asyncio.sleep(0)
        assert not client.ended
        await response.push(B[20:])
        await ending
        await task

    assert client.body == A + B + ERROR


@pytest.mark.parametrize(
    ("endpoint", "body", "last"),
    [
        (Endpoint.MESSAGES, asking(ANTHROPIC_BODY, stream=True), b'"type":"overloaded_error"'),
        (Endpoint.RESPONSES, b'{"model":"m","input":"Hi","stream":true}', b"response.failed"),
    ],
    ids=["Messages", "Responses"],
)
async def test_translated_stream_ends_with_an_error_of_its_api(
    endpoint: Endpoint, body: bytes, last: bytes
) -> None:
    """The translator of the client's API writes the event."""
    response = FakeUpstreamResponse()
    bench = Bench(response)
    client = FakeClient(CHAT, body)
    _, task = bench.begin(client, endpoint)
    await response.push(A, B)

    await bench.running.end_all()
    await task

    ending = client.body.rpartition(b"event: ")[2]
    assert last in ending
    assert b"The gateway is restarting. Send the request again." in ending
    assert client.ended
    assert bench.event.error_kind == "stopping"
    assert bench.event.cost_nanousd > 0


async def test_call_without_a_response_gets_503_and_costs_nothing() -> None:
    """Nothing was delivered, so another gateway may serve the call; no deployment is to blame."""
    deployments = [a_deployment(a_provider("one")), a_deployment(a_provider("two"))]
    bench = Bench(never, FakeUpstreamResponse(), deployments=deployments)
    client = FakeClient(CHAT, OPENAI_BODY)
    call, task = bench.begin(client)
    await wait_until(lambda: bench.transport.requests)

    await bench.running.end_all()
    await task

    assert client.status == 503
    assert b"The gateway is restarting" in client.body
    assert client.header(b"retry-after") == b"1"
    assert bench.transport.cancelled_count == 1
    assert len(bench.transport.requests) == 1
    assert (call.outcome, call.cost_nanousd, call.usage) == ("failed", 0, Usage())
    bench.assert_recorded_once()


async def test_client_that_reads_nothing_is_cut_off_and_charged() -> None:
    """Its connection breaks, so that it takes nothing for a whole response."""
    response = FakeUpstreamResponse()
    bench = Bench(response)
    client = FakeClient(CHAT, STREAMED)
    _, task = bench.begin(client)
    await response.push(A)
    client.slow = True
    await response.push(B)

    assert await bench.running.end_all(asked_s=0.05) == 1
    with pytest.raises(asyncio.CancelledError):
        await task

    assert not client.ended
    assert bench.event.cost_nanousd > 0
    bench.assert_recorded_once()


async def test_call_that_is_being_recorded_is_left_alone() -> None:
    """Its response is complete; ending the worker waits for the record."""
    response = FakeUpstreamResponse()
    bench = Bench(response)
    bench.usage_log.gate = asyncio.Event()
    client = FakeClient(CHAT, STREAMED)
    _, task = bench.begin(client)
    await response.end(A, OPENAI_FINISH, OPENAI_DONE)
    await wait_until(lambda: client.ended)

    ending = asyncio.ensure_future(bench.running.end_all(asked_s=0.02))
    await asyncio.sleep(0.05)
    assert not ending.done()
    bench.usage_log.gate.set()
    await ending
    await task

    assert bench.event.outcome in ("completed", "estimated")
    bench.assert_recorded_once()
