"""Streams whose upstream sent a whole response, and streams that are handed over."""

from __future__ import annotations

import json

import pytest

from gateway.core.model import Endpoint, Usage, Wire
from gateway.errors import GatewayError
from gateway.pipeline.response.unfold import UnfoldedResponse
from tests.support.pipeline_bench import Bench
from tests.support.pipeline_fakes import (
    ANTHROPIC_BODY,
    JSON,
    OPENAI_ANSWER,
    OPENAI_BODY,
    SSE,
    FakeClient,
    FakeUpstreamResponse,
    a_deployment,
    a_provider,
    asking,
    openai_event,
)

ANTHROPIC_ANSWER = json.dumps(
    {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "up-m",
        "content": [{"type": "text", "text": "Hi"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 4},
    }
).encode()
ANSWERS = {Wire.OPENAI: OPENAI_ANSWER, Wire.ANTHROPIC: ANTHROPIC_ANSWER}
REQUESTS = {
    Endpoint.CHAT_COMPLETIONS: asking(OPENAI_BODY, stream=True),
    Endpoint.MESSAGES: asking(ANTHROPIC_BODY, stream=True),
    Endpoint.RESPONSES: b'{"model":"m","input":"Hi","stream":true}',
}
LASTS = {
    Endpoint.CHAT_COMPLETIONS: b"data: [DONE]\n\n",
    Endpoint.MESSAGES: b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
    Endpoint.RESPONSES: b"}\n\n",
}


class Sink:
    """Keeps what it gets."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.ends: list[GatewayError | None] = []

    def body_chunk(self, chunk: bytes) -> None:
        self.chunks.append(chunk)

    def body_end(self) -> None:
        self.ends.append(None)

    def body_failed(self, error: GatewayError) -> None:
        self.ends.append(error)


@pytest.mark.parametrize("headers", [SSE, JSON])
@pytest.mark.parametrize("wire", list(Wire))
@pytest.mark.parametrize("endpoint", list(REQUESTS))
async def test_whole_response_is_streamed_whatever_it_is_labelled(
    endpoint: Endpoint, wire: Wire, headers: list[tuple[bytes, bytes]]
) -> None:
    response = FakeUpstreamResponse(headers=list(headers))
    bench = Bench(response, deployments=[a_deployment(a_provider(wires=(wire,)))])
    client = FakeClient("/", REQUESTS[endpoint])
    _, task = bench.begin(client, endpoint)

    body = b"\xef\xbb\xbf \n" + ANSWERS[wire]
    await response.end(body[:1], body[1:30], body[30:])
    await task

    assert (client.status, client.header(b"content-type")) == (200, b"text/event-stream")
    assert b'"Hi"' in client.body
    assert client.body.endswith(LASTS[endpoint])
    assert bench.event.usage == Usage(input=10, output=4)


async def test_stream_is_handed_over_to_its_sink() -> None:
    """From the second read on nothing stands between upstream and sink."""
    upstream, sink = FakeUpstreamResponse(), Sink()
    response = UnfoldedResponse(upstream, Wire.OPENAI, Endpoint.CHAT_COMPLETIONS, labelled=True)
    response.start(sink)
    first, second = openai_event("A"), openai_event("B")

    await upstream.push(first)
    assert upstream.sink is sink
    await upstream.end(second)

    assert (sink.chunks, sink.ends) == ([first, second], [None])


async def test_stream_that_is_closed_at_its_first_bytes_stays_closed() -> None:
    upstream, sink = FakeUpstreamResponse(), Sink()
    response = UnfoldedResponse(upstream, Wire.OPENAI, Endpoint.CHAT_COMPLETIONS, labelled=True)
    response.start(sink)
    sink.body_chunk = lambda _: response.close()  # type: ignore[method-assign,assignment]

    await upstream.push(openai_event("A"))

    assert (upstream.closed, upstream.sink) == (True, None)


async def test_labelled_stream_with_unknown_fields_is_not_held() -> None:
    upstream, sink = FakeUpstreamResponse(), Sink()
    response = UnfoldedResponse(upstream, Wire.OPENAI, Endpoint.CHAT_COMPLETIONS, labelled=True)
    response.start(sink)

    await upstream.push(b"x: 1\n")

    assert sink.chunks == [b"x: 1\n"]
