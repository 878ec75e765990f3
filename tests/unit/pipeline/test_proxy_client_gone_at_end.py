"""A client that leaves with the whole response, before the end of the upstream's body."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core.model import Endpoint, Usage
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.response.sender import WHOLE_BYTES
from tests.support.pipeline_bench import Bench, Pump
from tests.support.pipeline_fakes import (
    ANTHROPIC_BODY,
    JSON,
    OPENAI_ANSWER,
    OPENAI_BODY,
    OPENAI_DONE,
    OPENAI_FINISH,
    OPENAI_USAGE,
    FakeClient,
    FakeUpstreamResponse,
    a_deployment,
    a_provider,
    asking,
    openai_event,
)

CHAT = "/v1/chat/completions"
STREAMED = asking(OPENAI_BODY, stream=True)
A = openai_event("A")
LARGE = [*JSON, (b"content-length", b"%d" % (WHOLE_BYTES + 1))]
"""The head of a response that is relayed as it arrives."""
HALF, REST = OPENAI_ANSWER[:50], OPENAI_ANSWER[50:]


@pytest.mark.parametrize("drains", [True, False])
async def test_stream_that_was_sent_whole_is_completed(drains: bool) -> None:
    """SDKs close their connection at the last event, before the body's end."""
    response = FakeUpstreamResponse()
    bench = Bench(response, deployments=[a_deployment(a_provider(drains=drains))])
    client = FakeClient(CHAT, STREAMED)
    _, task = bench.begin(client)
    for event in (A, OPENAI_FINISH, OPENAI_USAGE, OPENAI_DONE):
        await response.push(event)

    client.leave()
    await asyncio.wait_for(task, 1)

    assert (bench.event.outcome, bench.event.error_kind) == ("completed", None)
    assert bench.event.usage == Usage(input=10, output=4)
    assert client.body.endswith(OPENAI_DONE)
    bench.assert_recorded_once()


async def test_usage_behind_the_last_event_is_awaited() -> None:
    """Leaving early saves no hidden output."""
    response = FakeUpstreamResponse()
    bench = Bench(response)
    client = FakeClient(CHAT, STREAMED)
    _, task = bench.begin(client)
    for event in (A, OPENAI_FINISH, OPENAI_DONE):
        await response.push(event)

    client.leave()
    await asyncio.sleep(0)
    await response.end(OPENAI_USAGE)
    await asyncio.wait_for(task, 1)

    assert (bench.event.outcome, bench.event.estimated) == ("completed", False)
    assert bench.event.usage == Usage(input=10, output=4)


async def test_stream_whose_last_event_is_missing_is_drained() -> None:
    """The client left before it: the usage alone makes no complete stream."""
    response = FakeUpstreamResponse()
    bench = Bench(response, deployments=[a_deployment(a_provider(drains=True))])
    client = FakeClient(CHAT, STREAMED)
    _, task = bench.begin(client)
    for event in (A, OPENAI_FINISH, OPENAI_USAGE):
        await response.push(event)

    client.leave()
    await asyncio.sleep(0)
    await response.end(OPENAI_DONE)
    await task

    assert bench.event.outcome == "drained"


async def test_translated_stream_that_was_sent_whole_is_completed() -> None:
    """The translation's last event counts, not the upstream's."""
    response = FakeUpstreamResponse()
    bench = Bench(response)
    client = FakeClient("/v1/messages", asking(ANTHROPIC_BODY, stream=True))
    _, task = bench.begin(client, Endpoint.MESSAGES)
    for event in (A, OPENAI_FINISH, OPENAI_USAGE, OPENAI_DONE):
        await response.push(event)

    client.leave()
    await asyncio.wait_for(task, 1)

    assert b"event: message_stop" in client.body
    assert (bench.event.outcome, bench.event.error_kind) == ("completed", None)


@pytest.mark.parametrize("drains", [True, False])
async def test_whole_response_that_was_sent_whole_is_completed(drains: bool) -> None:
    """The upstream's body is received, and written, but its end was not noticed yet."""
    response = FakeUpstreamResponse(headers=LARGE)
    bench = Bench(response, deployments=[a_deployment(a_provider(drains=drains))])
    client = FakeClient(CHAT, OPENAI_BODY)
    _, task = bench.begin(client)
    await response.push(HALF, REST)
    response.complete = True

    client.leave()
    await asyncio.sleep(0)
    await response.end()
    await asyncio.wait_for(task, 1)

    assert (bench.event.outcome, bench.event.error_kind) == ("completed", None)
    assert bench.event.usage == Usage(input=10, output=4)
    assert client.body == OPENAI_ANSWER


@pytest.mark.parametrize("drains", [True, False])
async def test_whole_response_whose_end_was_not_sent_is_not_completed(drains: bool) -> None:
    """It is received, but not written."""
    response = FakeUpstreamResponse(headers=LARGE)
    bench = Bench(response, deployments=[a_deployment(a_provider(drains=drains))])
    client = FakeClient(CHAT, OPENAI_BODY)
    _, task = bench.begin(client)
    await response.push(HALF)
    response.complete = True

    client.leave()
    await asyncio.sleep(0)
    await response.end(REST)
    await asyncio.wait_for(task, 1)

    assert (bench.event.outcome, bench.event.error_kind) == ("drained", "client_gone")


@pytest.mark.parametrize(("clean", "whole"), [(True, True), (False, False)])
async def test_client_that_leaves_after_the_end_has_the_whole_response(
    clean: bool, whole: bool
) -> None:
    """Unless the end was a failure."""
    pump = Pump(stream=False)
    pump.relay.body_chunk(OPENAI_ANSWER)
    if clean:
        pump.relay.body_end()
    else:
        pump.relay.body_failed(GatewayError(ErrorKind.UPSTREAM_BROKEN, "broken"))

    pump.relay.client_left()

    assert pump.relay.sent_whole is whole
