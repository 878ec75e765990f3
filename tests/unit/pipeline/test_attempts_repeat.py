"""Attempts on the same deployment: rejected reasoning, and the native endpoint's own bounds."""

from __future__ import annotations

import json

from gateway.core.model import Deployment, Endpoint, Wire
from gateway.errors import ErrorKind, GatewayError
from tests.support.pipeline_bench import Bench
from tests.support.pipeline_fakes import (
    OPENAI_ANSWER,
    FakeClient,
    FakeUpstreamResponse,
    a_deployment,
    a_provider,
    json_head,
    never,
)

THINKING = json.dumps(
    {
        "model": "m",
        "max_tokens": 9,
        "messages": [
            {"role": "user", "content": "Hi"},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
                    {"type": "text", "text": "Hello"},
                ],
            },
            {"role": "user", "content": "Again"},
        ],
    }
).encode()
REFUSED = (
    b'{"type":"error","error":{"type":"invalid_request_error","message":'
    b'"messages.1.content.0: Invalid `signature` in `thinking` block"}}'
)
ANSWER = (
    b'{"id":"m1","type":"message","role":"assistant","model":"a-m","stop_reason":"end_turn",'
    b'"content":[{"type":"text","text":"Hi"}],"usage":{"input_tokens":3,"output_tokens":2}}'
)
NATIVE = "/v1/chat"


def refusing(status: int, body: bytes) -> FakeUpstreamResponse:
    """An error response."""
    return FakeUpstreamResponse(status, json_head(body), body)


def good(body: bytes) -> FakeUpstreamResponse:
    """A whole response."""
    return FakeUpstreamResponse(headers=json_head(body), body=body)


def anthropic() -> list[Deployment]:
    """One deployment on the Anthropic wire."""
    return [a_deployment(a_provider(wires=[Wire.ANTHROPIC]))]


async def test_refused_signature_is_tried_once_more_without_thoughts() -> None:
    """A history that another provider signed is sent again without its reasoning."""
    bench = Bench(refusing(400, REFUSED), good(ANSWER), deployments=anthropic())
    client = FakeClient("/v1/messages", THINKING)

    await bench.run(client, Endpoint.MESSAGES)

    first, second = (request.body for request in bench.transport.requests)
    assert (client.status, client.body) == (200, ANSWER)
    assert b'"signature"' in first
    assert b'"thinking"' not in second
    assert b'"Hello"' in second
    assert bench.event.attempts == 2
    bench.assert_recorded_once()


async def test_signature_refused_twice_is_told() -> None:
    """There is no third time."""
    bench = Bench(refusing(400, REFUSED), refusing(400, REFUSED), deployments=anthropic())
    client = FakeClient("/v1/messages", THINKING)

    await bench.run(client, Endpoint.MESSAGES)

    assert (client.status, client.body) == (400, REFUSED)
    assert len(bench.transport.requests) == 2


async def test_native_call_is_repeated_as_often_as_it_asks() -> None:
    """`max_retries` further attempts go to the same deployment when there is no other."""
    bench = Bench(refusing(503, b"{}"), refusing(503, b"{}"), good(OPENAI_ANSWER))
    client = FakeClient(NATIVE, b'{"model":"m","input":"Hi","max_retries":2}')

    await bench.run(client, Endpoint.NATIVE_CHAT)

    assert client.status == 200
    assert json.loads(client.body)["result"]["text"] == "Hi"
    assert bench.event.attempts == 3
    bench.assert_recorded_once()


async def test_native_call_without_retries_is_tried_once() -> None:
    """`max_retries` 0 means one attempt, though there are two deployments."""
    deployments = [a_deployment(a_provider("a")), a_deployment(a_provider("b"))]
    bench = Bench(GatewayError(ErrorKind.UPSTREAM_CONNECT, "no"), deployments=deployments)
    client = FakeClient(NATIVE, b'{"model":"m","input":"Hi","max_retries":0}')

    await bench.run(client, Endpoint.NATIVE_CHAT)

    assert client.status == 502
    assert len(bench.transport.requests) == 1


async def test_native_call_ends_with_its_own_timeout() -> None:
    """After `timeout` seconds the client gets 504, and the upstream is closed."""
    bench = Bench(never)
    client = FakeClient(NATIVE, b'{"model":"m","input":"Hi","timeout":0.02}')

    await bench.run(client, Endpoint.NATIVE_CHAT)

    assert client.status == 504
    assert bench.transport.cancelled_count == 1
    assert bench.event.error_kind == "upstream_timeout"
    bench.assert_recorded_once()


async def test_native_call_within_its_timeout_is_answered() -> None:
    """A bound that is not reached changes nothing."""
    bench = Bench(good(OPENAI_ANSWER))
    client = FakeClient(NATIVE, b'{"model":"m","input":"Hi","timeout":30}')

    await bench.run(client, Endpoint.NATIVE_CHAT)

    assert client.status == 200
