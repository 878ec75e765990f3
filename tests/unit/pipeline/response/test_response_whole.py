"""Whole responses: small ones are read before they are sent, large ones go through the pump."""

from __future__ import annotations

import asyncio
import gzip
import json

import pytest

from gateway.core.model import Clocks, Endpoint, Prices, Usage, Wire
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.response.sender import WHOLE_BYTES
from gateway.protocols.streams.relayed import HELD_BYTES
from tests.support.pipeline_bench import Bench
from tests.support.pipeline_fakes import (
    ANTHROPIC_BODY,
    CLOCKS,
    JSON,
    OPENAI_ANSWER,
    OPENAI_BODY,
    FakeClient,
    FakeUpstreamResponse,
    a_deployment,
    a_provider,
    asking,
    json_head,
)
from tests.support.waiting import wait_until

CHAT = "/v1/chat/completions"
BROKEN = GatewayError(ErrorKind.UPSTREAM_BROKEN, "broken")


def good(body: bytes = OPENAI_ANSWER) -> FakeUpstreamResponse:
    """A whole response of known length."""
    return FakeUpstreamResponse(headers=json_head(body), body=body)


async def test_small_answer_goes_out_as_it_came() -> None:
    """Status, type, length and bytes are the upstream's; its usage is charged."""
    bench = Bench(good())
    client = FakeClient(CHAT, OPENAI_BODY)

    await bench.run(client)

    assert (client.status, client.pieces, client.ended) == (200, [OPENAI_ANSWER], True)
    assert client.header(b"content-length") == b"%d" % len(OPENAI_ANSWER)
    event = bench.event
    assert (event.outcome, event.usage) == ("completed", Usage(input=10, output=4))
    assert event.cost_nanousd == 18
    bench.assert_recorded_once()


BOM = b"\xef\xbb\xbf"


@pytest.mark.parametrize(
    ("endpoint", "body", "expected"),
    [
        (Endpoint.CHAT_COMPLETIONS, OPENAI_BODY, OPENAI_ANSWER),
        (Endpoint.MESSAGES, ANTHROPIC_BODY, None),
        (Endpoint.RESPONSES, b'{"model":"m","input":"Hi"}', None),
    ],
)
@pytest.mark.parametrize("known_length", [True, False])
async def test_byte_order_mark_before_a_response_is_removed(
    endpoint: Endpoint, body: bytes, expected: bytes | None, known_length: bool
) -> None:
    answer = BOM + OPENAI_ANSWER
    response = good(answer) if known_length else FakeUpstreamResponse(headers=JSON, body=answer)
    bench = Bench(response)
    client = FakeClient(CHAT, body)

    _, task = bench.begin(client, endpoint)
    if not known_length and endpoint is Endpoint.CHAT_COMPLETIONS:
        await response.end(answer[:1], answer[1:])
    await task

    sent = b"".join(client.pieces)
    assert client.status == 200
    assert sent == expected if expected else sent.startswith(b"{")
    assert client.header(b"content-length") in (None, b"%d" % len(sent))
    assert bench.event.usage == Usage(input=10, output=4)


async def test_upstream_cost_is_known_where_its_prices_are() -> None:
    """The margin needs both."""
    cost = Prices(input=500_000, output=500_000, cache_read=0, cache_write=0, reasoning=0)
    bench = Bench(good(), deployments=[a_deployment(a_provider(), cost)])

    await bench.run(FakeClient(CHAT, OPENAI_BODY))

    assert bench.event.upstream_cost_nanousd == 7


async def test_answer_of_unknown_length_is_held_until_it_is_known_to_be_one() -> None:
    """Then each read goes on as it comes."""
    response = FakeUpstreamResponse(headers=list(JSON))
    bench = Bench(response)
    client = FakeClient(CHAT, OPENAI_BODY)
    _, task = bench.begin(client)

    padding = b" " * HELD_BYTES
    await response.end(OPENAI_ANSWER[:40], OPENAI_ANSWER[40:] + padding, b" ")
    await task

    assert client.pieces == [OPENAI_ANSWER + padding, b" "]
    assert client.ended
    assert bench.event.usage == Usage(input=10, output=4)
    bench.assert_recorded_once()


async def test_large_answer_keeps_its_length() -> None:
    """A response that is too large to be read first is relayed with its length."""
    body = OPENAI_ANSWER + b" " * WHOLE_BYTES
    response = FakeUpstreamResponse(headers=json_head(body))
    bench = Bench(response)
    client = FakeClient(CHAT, OPENAI_BODY)
    _, task = bench.begin(client)

    await response.end(body)
    await task

    assert response.read_count == 0
    assert client.header(b"content-length") == b"%d" % len(body)
    assert client.body == body


async def test_large_answer_that_breaks_is_left_unended() -> None:
    """Half a document has no end."""
    response = FakeUpstreamResponse(headers=list(JSON))
    bench = Bench(response)
    client = FakeClient(CHAT, OPENAI_BODY)
    _, task = bench.begin(client)

    await response.push(b" " * HELD_BYTES + OPENAI_ANSWER[:40])
    await response.fail(BROKEN)
    await task

    assert (client.status, client.ended) == (200, False)
    assert bench.event.error_kind == "upstream_broken"


async def test_large_answer_that_breaks_before_a_byte_is_an_http_error() -> None:
    """Nothing was said yet."""
    response = FakeUpstreamResponse(headers=list(JSON))
    bench = Bench(response)
    client = FakeClient(CHAT, OPENAI_BODY)
    _, task = bench.begin(client)

    await response.fail(BROKEN)
    await task

    assert client.status == 502
    assert (bench.event.outcome, bench.event.cost_nanousd) == ("failed", 0)


async def test_compressed_answer_is_made_plain() -> None:
    """The client gets what it would have got uncompressed, without the coding's headers."""
    coded = gzip.compress(OPENAI_ANSWER)
    head = [*json_head(coded), (b"content-encoding", b"gzip")]
    response = FakeUpstreamResponse(headers=head)
    bench = Bench(response)
    client = FakeClient(CHAT, OPENAI_BODY)
    _, task = bench.begin(client)

    await response.end(coded[:30], coded[30:])
    await task

    assert client.body == OPENAI_ANSWER
    assert client.header(b"content-encoding") is None
    assert client.header(b"content-length") is None


async def test_translated_answer_has_a_length_of_its_own() -> None:
    """An Anthropic client gets a message; what could not be carried is named."""
    bench = Bench(good())
    client = FakeClient("/v1/messages", asking(ANTHROPIC_BODY, top_k=5))

    await bench.run(client, Endpoint.MESSAGES)

    assert json.loads(client.body)["content"] == [{"type": "text", "text": "Hi"}]
    assert client.header(b"content-length") == b"%d" % len(client.body)
    assert client.header(b"x-capio-dropped") == b"top_k"
    assert (bench.event.upstream_wire, bench.event.client_wire) == ("openai", "anthropic")


async def test_answer_that_cannot_be_translated_costs_its_client_nothing() -> None:
    """The upstream reported usage, but the client got an error: that is insured."""
    body = b'{"choices":"none","usage":{"prompt_tokens":10,"completion_tokens":4}}'
    bench = Bench(good(body))
    client = FakeClient("/v1/messages", ANTHROPIC_BODY)

    await bench.run(client, Endpoint.MESSAGES)

    assert client.status == 502
    assert bench.event.cost_nanousd == 0
    assert bench.event.outcome in ("insured", "failed")
    bench.assert_recorded_once()


@pytest.mark.parametrize("kind", [b"application/json", b"text/plain", b"text/event-stream"])
async def test_document_for_a_stream_becomes_a_stream(kind: bytes) -> None:
    """The upstream has charged for it."""
    response = FakeUpstreamResponse(headers=[(b"content-type", kind)])
    bench = Bench(response)
    client = FakeClient(CHAT, asking(OPENAI_BODY, stream=True))
    _, task = bench.begin(client)

    await response.end(OPENAI_ANSWER)
    await task

    assert (client.status, client.header(b"content-type")) == (200, b"text/event-stream")
    assert b'"delta":{"role":"assistant","content":"Hi"}' in client.body
    assert client.body.endswith(b"data: [DONE]\n\n")
    assert bench.event.usage == Usage(input=10, output=4)


async def test_document_of_wrong_types_for_a_stream_is_malformed() -> None:
    body = b'{"choices":[{"message":"Hi","finish_reason":"stop"}]}'
    response = FakeUpstreamResponse(headers=[(b"content-type", b"application/json")])
    bench = Bench(response)
    client = FakeClient(CHAT, asking(OPENAI_BODY, stream=True))
    _, task = bench.begin(client)

    await response.end(body)
    await task

    assert client.status == 502
    assert bench.event.error_kind == "upstream_malformed"
    assert bench.event.cost_nanousd == 0


@pytest.mark.parametrize("kind", [b"application/json", b"", b"text/plain"])
async def test_stream_of_another_content_type_is_relayed(kind: bytes) -> None:
    response = FakeUpstreamResponse(headers=[(b"content-type", kind)])
    bench = Bench(response)
    client = FakeClient(CHAT, asking(OPENAI_BODY, stream=True))
    _, task = bench.begin(client)
    events = (
        b'data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n'
        b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
        b'data: {"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":4}}\n\n'
    )

    await response.push(events[:3], events[3:70])
    begun = client.body
    await response.end(events[70:])
    await task

    assert begun == events[:70]
    assert (client.status, client.body) == (200, events)
    assert client.header(b"content-type") == b"text/event-stream"
    assert bench.event.usage == Usage(input=10, output=4)


@pytest.mark.parametrize("kind", [b"text/event-stream", b"application/json"])
async def test_stream_for_a_whole_response_is_assembled(kind: bytes) -> None:
    body = (
        b'data: {"id":"c1","choices":[{"index":0,"delta":{"content":"He"}}]}\n\n'
        b'data: {"choices":[{"index":0,"delta":{"content":"y"},"finish_reason":"stop"}]}\n\n'
        b'data: {"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":4}}\n\n'
        b"data: [DONE]\n\n"
    )
    response = FakeUpstreamResponse(headers=[(b"content-type", kind)], body=body)
    bench = Bench(response)
    client = FakeClient(CHAT, OPENAI_BODY)
    _, task = bench.begin(client)

    if kind == b"application/json":  # it is known to be a stream from its first bytes
        await response.end(body[:30], body[30:])
    await task

    assert client.status == 200
    message = json.loads(client.body)["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "Hey"}
    assert bench.event.usage == Usage(input=10, output=4)
    bench.assert_recorded_once()


ERROR_200 = b'{"error":{"message":"model overloaded","type":"overloaded_error"}}'


@pytest.mark.parametrize("body", [ERROR_200, b"null", b"<html>no</html>", b"", b" ", b"{}"])
async def test_error_that_is_labelled_as_a_stream_is_an_error_and_free(body: bytes) -> None:
    bench = Bench(response := FakeUpstreamResponse())
    client = FakeClient(CHAT, asking(OPENAI_BODY, stream=True))
    _, task = bench.begin(client)

    await response.end(body)
    await task

    assert client.status == (503 if body is ERROR_200 else 502)
    assert (b"model overloaded" in client.body) is (body is ERROR_200)
    assert bench.event.cost_nanousd == 0


@pytest.mark.parametrize("length", [True, False])
@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("body", [ERROR_200, b"null", b"<html>no</html>", b"", b"{}"])
async def test_success_without_an_answer_is_an_error_and_free(
    body: bytes, streamed: bool, length: bool
) -> None:
    """In the upstream's words where it has any."""
    headers = json_head(body) if length else list(JSON)
    response = FakeUpstreamResponse(headers=headers, body=body)
    bench = Bench(response)
    client = FakeClient(CHAT, asking(OPENAI_BODY, stream=True) if streamed else OPENAI_BODY)
    _, task = bench.begin(client)

    if streamed or not length:
        await response.end(body)
    await task

    assert client.status == (503 if body is ERROR_200 else 502)
    assert (b"model overloaded" in client.body) is (body is ERROR_200)
    assert bench.event.outcome in ("failed", "insured")
    assert bench.event.cost_nanousd == 0
    if body is not ERROR_200:
        assert bench.event.error_kind == "upstream_malformed"


@pytest.mark.parametrize("kind", [b"text/event-stream", b"Text/Event-Stream; charset=utf-8"])
async def test_type_of_a_stream_is_known_however_it_is_written(kind: bytes) -> None:
    """Types are compared without case and parameters."""
    response = FakeUpstreamResponse(headers=[(b"content-type", kind)])
    bench = Bench(response)
    client = FakeClient(CHAT, asking(OPENAI_BODY, stream=True))
    _, task = bench.begin(client)

    await response.end(b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n')
    await task

    assert client.status == 200


@pytest.mark.parametrize("complete", [True, False])
async def test_only_an_answer_that_is_still_arriving_has_a_deadline(*, complete: bool) -> None:
    """Nothing needs to be watched when all bytes came with the head."""
    watched: list[int] = []

    class Response(FakeUpstreamResponse):
        async def read(self, limit_bytes: int) -> bytes:
            watched.append(len(bench.watchdog._watched))
            return await super().read(limit_bytes)

    response = Response(headers=json_head(OPENAI_ANSWER), body=OPENAI_ANSWER)
    response.complete = complete
    bench = Bench(response)
    client = FakeClient(CHAT, OPENAI_BODY)

    await bench.run(client)

    assert (client.status, client.body) == (200, OPENAI_ANSWER)
    assert watched == [0 if complete else 1]
    assert bench.watchdog._watched == {}


async def test_whole_answer_that_stalls_is_a_timeout() -> None:
    """A body that does not follow its head is given up, and may be tried elsewhere."""
    stalled = good()
    stalled.stalls = True
    deployments = [a_deployment(a_provider("a")), a_deployment(a_provider("b"))]
    bench = Bench(stalled, good(), deployments=deployments)
    client = FakeClient(CHAT, OPENAI_BODY)
    call, task = bench.begin(client)
    await wait_until(lambda: stalled.read_count)
    (watched,) = bench.watchdog._watched

    watched.check(call.started_at + CLOCKS.first_byte_s - 1, CLOCKS)
    await asyncio.sleep(0)
    waits = not task.done()
    watched.check(call.started_at + CLOCKS.first_byte_s + 10, CLOCKS)
    watched.check(call.started_at + CLOCKS.first_byte_s + 10, CLOCKS)
    await task

    assert waits
    assert stalled.closed
    assert (client.status, bench.event.provider) == (200, "b")
    assert bench.watchdog._watched == {}
    bench.assert_recorded_once()


async def test_deadline_of_a_whole_answer_is_the_providers() -> None:
    """Each provider has its own clocks."""
    hasty = Clocks(connect_s=1, first_byte_s=1, first_content_s=1, idle_s=1, total_s=1)
    stalled = good()
    stalled.stalls = True
    bench = Bench(stalled, deployments=[a_deployment(a_provider(clocks=hasty))])
    client = FakeClient(CHAT, OPENAI_BODY)
    call, task = bench.begin(client)
    await wait_until(lambda: stalled.read_count)
    ((watched, clocks),) = bench.watchdog._watched.items()

    watched.check(call.started_at + 3, clocks)
    await task

    assert client.status == 504
    assert bench.event.error_kind == "upstream_timeout"


async def test_embeddings_are_relayed_and_their_input_charged() -> None:
    """They have usage, but no output."""
    body = (
        b'{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5]}],'
        b'"model":"up-m","usage":{"prompt_tokens":6,"total_tokens":6}}'
    )
    bench = Bench(good(body))
    client = FakeClient("/v1/embeddings", b'{"model":"m","input":"Hi"}')

    await bench.run(client, Endpoint.EMBEDDINGS)

    assert client.body == body
    assert bench.transport.requests[0].path == "/v1/embeddings"
    assert bench.event.usage == Usage(input=6)


async def test_messages_of_an_anthropic_upstream_are_relayed() -> None:
    """The client's own dialect needs no translation."""
    body = (
        b'{"id":"m1","type":"message","role":"assistant","model":"x","stop_reason":"end_turn",'
        b'"content":[{"type":"text","text":"Hi"}],"usage":{"input_tokens":3,"output_tokens":2}}'
    )
    bench = Bench(good(body), deployments=[a_deployment(a_provider(wires=[Wire.ANTHROPIC]))])
    client = FakeClient("/v1/messages", ANTHROPIC_BODY)

    await bench.run(client, Endpoint.MESSAGES)

    assert client.body == body
    assert bench.transport.requests[0].path == "/v1/messages"
    assert bench.event.finish_reason == "end_turn"
