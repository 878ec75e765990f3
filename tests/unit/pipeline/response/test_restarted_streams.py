"""Streams of two responses, and end marks that come twice."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.core.model import Endpoint, Usage, Wire
from gateway.protocols.codec.sse import EventDecoder
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

REQUESTS = {
    Endpoint.CHAT_COMPLETIONS: asking(OPENAI_BODY, stream=True),
    Endpoint.MESSAGES: asking(ANTHROPIC_BODY, stream=True),
    Endpoint.RESPONSES: b'{"model":"m","input":"Hi","stream":true}',
}


def event(kind: str, **members: Any) -> bytes:
    """An event of a Messages stream."""
    data = json.dumps({"type": kind} | members, separators=(",", ":"))
    return f"event: {kind}\ndata: {data}\n\n".encode()


USAGE = {"input_tokens": 7, "output_tokens": 1}
START = event("message_start", message={"id": "m1", "type": "message", "usage": USAGE})
BLOCK = event("content_block_start", index=0, content_block={"type": "text", "text": ""})
HALF = event("content_block_delta", index=0, delta={"type": "text_delta", "text": "half"})
OTHER = event("content_block_delta", index=0, delta={"type": "text_delta", "text": "other"})
REST = (
    event("content_block_stop", index=0)
    + event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 3})
    + event("message_stop")
)


@pytest.mark.parametrize("endpoint", list(REQUESTS))
async def test_second_response_in_a_stream_is_an_error(endpoint: Endpoint) -> None:
    """Half of one response and the other's rest are no response."""
    response = FakeUpstreamResponse()
    provider = a_provider(wires=(Wire.ANTHROPIC,))
    bench = Bench(response, deployments=[a_deployment(provider)])
    client = FakeClient("/", REQUESTS[endpoint])
    _, task = bench.begin(client, endpoint)

    await response.end(START + BLOCK, HALF, START, BLOCK, OTHER, REST)
    await task

    assert b"half" in client.body
    assert b"other" not in client.body
    assert b"Upstream sent malformed data" in client.body
    assert client.body.count(b"message_stop") == client.body.count(b"response.completed") == 0
    assert bench.event.outcome == "failed"
    bench.assert_recorded_once()


@pytest.mark.parametrize("joined", [False, True])
async def test_start_of_a_second_response_does_not_reach_the_client(joined: bool) -> None:
    """What came before it does, also in the same read, and is what is charged."""
    response = FakeUpstreamResponse()
    provider = a_provider(wires=(Wire.ANTHROPIC,))
    bench = Bench(response, deployments=[a_deployment(provider)])
    client = FakeClient("/", REQUESTS[Endpoint.MESSAGES])
    _, task = bench.begin(client, Endpoint.MESSAGES)

    second = START.replace(b"m1", b"m2")
    reads = (HALF + second, OTHER) if joined else (HALF, second, OTHER)
    await response.end(START + BLOCK, *reads, REST)
    await task

    error = client.body.removeprefix(START + BLOCK + HALF)
    assert error.startswith(b"event: error\n")
    assert client.body.count(b"message_start") == 2
    assert bench.event.usage == Usage(input=7, output=2)


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("endpoint", list(REQUESTS))
async def test_second_response_in_single_bytes_is_an_error_event(
    endpoint: Endpoint, ending: bytes
) -> None:
    """However reads and lines end, what the client gets are whole events of one response."""
    response = FakeUpstreamResponse()
    bench = Bench(response, deployments=[a_deployment(a_provider(wires=(Wire.ANTHROPIC,)))])
    client = FakeClient("/", REQUESTS[endpoint])
    _, task = bench.begin(client, endpoint)

    body = (START + BLOCK + HALF + START + BLOCK + OTHER + REST).replace(b"\n", ending)
    await response.end(*[body[at : at + 1] for at in range(len(body))])
    await task

    events = [json.loads(event.data) for event in EventDecoder().feed(client.body)]
    assert client.body.count(b"half") >= 1
    assert b"other" not in client.body
    assert "Upstream sent malformed data" in json.dumps(events[-1])
    assert client.ended
    if endpoint is Endpoint.MESSAGES:
        kinds = ["message_start", "content_block_start", "content_block_delta", "error"]
        assert [event["type"] for event in events] == kinds
    assert (bench.event.outcome, bench.event.usage) == ("failed", Usage(input=7, output=2))
    bench.assert_recorded_once()


@pytest.mark.parametrize("at", range(1, len(START)))
async def test_second_start_may_be_split_anywhere(at: int) -> None:
    response = FakeUpstreamResponse()
    bench = Bench(response, deployments=[a_deployment(a_provider(wires=(Wire.ANTHROPIC,)))])
    client = FakeClient("/", REQUESTS[Endpoint.MESSAGES])
    _, task = bench.begin(client, Endpoint.MESSAGES)

    await response.end(START + BLOCK, HALF + START[:at], START[at:] + BLOCK, OTHER, REST)
    await task

    error = client.body.removeprefix(START + BLOCK + HALF)
    assert error.startswith(b"event: error\ndata: {")
    assert error.endswith(b"}\n\n")
    assert client.ended


async def test_stream_that_is_cut_within_an_event_ends_with_an_error_event() -> None:
    response = FakeUpstreamResponse()
    bench = Bench(response, deployments=[a_deployment(a_provider(wires=(Wire.ANTHROPIC,)))])
    client = FakeClient("/", REQUESTS[Endpoint.MESSAGES])
    _, task = bench.begin(client, Endpoint.MESSAGES)

    await response.end(START + BLOCK, HALF, OTHER[:50])
    await task

    error = client.body.removeprefix(START + BLOCK + HALF)
    assert error.startswith(b"event: error\ndata: {")
    assert client.ended


async def test_text_about_the_event_is_relayed() -> None:
    response = FakeUpstreamResponse()
    bench = Bench(response, deployments=[a_deployment(a_provider(wires=(Wire.ANTHROPIC,)))])
    client = FakeClient("/", REQUESTS[Endpoint.MESSAGES])
    _, task = bench.begin(client, Endpoint.MESSAGES)

    said = 'event: message_start\n\ndata: {"type":"message_start"}'
    text = event("content_block_delta", index=0, delta={"type": "text_delta", "text": said})
    await response.end(START + BLOCK, text, REST)
    await task

    assert client.body == START + BLOCK + text + REST
    assert bench.event.outcome == "completed"


@pytest.mark.parametrize("endpoint", list(REQUESTS))
async def test_end_mark_that_comes_twice_ends_a_stream_once(endpoint: Endpoint) -> None:
    response = FakeUpstreamResponse()
    bench = Bench(response)
    client = FakeClient("/", REQUESTS[endpoint])
    _, task = bench.begin(client, endpoint)

    await response.end(openai_event("A"), OPENAI_FINISH, OPENAI_USAGE, OPENAI_DONE, OPENAI_DONE)
    await task

    assert (client.status, bench.event.outcome) == (200, "completed")
    assert bench.event.usage == Usage(input=10, output=4)
    if endpoint is not Endpoint.CHAT_COMPLETIONS:
        ends = (b"event: message_stop", b"event: response.completed")
        assert sum(map(client.body.count, ends)) == 1
    else:  # relayed; clients read up to the first
        assert client.body.endswith(OPENAI_DONE + OPENAI_DONE)
