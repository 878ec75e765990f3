"""A client that leaves at its stream's last event, before the end of the body."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core.model import Endpoint, Usage
from tests.support.pipeline_bench import Bench
from tests.support.pipeline_fakes import (
    ANTHROPIC_BODY,
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
