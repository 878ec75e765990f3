"""A client who leaves: the upstream is let go, and the call is recorded once, for what it was."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core.model import Deployment, Endpoint, Usage, Wire
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline import departure
from gateway.pipeline.response.sender import WHOLE_BYTES
from gateway.protocols.streams.relayed import HELD_BYTES
from tests.support.pipeline_bench import Bench
from tests.support.pipeline_fakes import (
    ANTHROPIC_BODY,
    JSON,
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
    never,
    openai_event,
)
from tests.support.waiting import wait_until

CHAT = "/v1/chat/completions"
STREAMED = asking(OPENAI_BODY, stream=True)
A, B = openai_event("A"), openai_event("B")
MESSAGE_START = (
    b'event: message_start\ndata: {"type":"message_start","message":{"id":"m1","type":"message",'
    b'"role":"assistant","model":"x","content":[],"stop_reason":null,'
    b'"usage":{"input_tokens":7,"cache_read_input_tokens":90,"output_tokens":1}}}\n\n'
)


def draining() -> list[Deployment]:
    """One deployment whose streams are read on."""
    return [a_deployment(a_provider(drains=True))]


async def test_client_that_leaves_before_the_head_cancels_the_request() -> None:
    """The upstream's connection is given up while its head is awaited."""
    bench = Bench(never)
    client = FakeClient(CHAT, OPENAI_BODY)
    call, task = bench.begin(client)
    await wait_until(lambda: bench.transport.requests)

    client.leave()
    await task

    assert bench.transport.cancelled_count == 1
    assert (call.outcome, call.status) == ("cancelled", 499)
    assert bench.event.usage == Usage(input=call.input_estimate)
    assert client.status is None
    bench.assert_recorded_once()


async def test_client_that_leaves_in_a_stream_closes_the_upstream() -> None:
    """The input and what was delivered so far is charged."""
    response = FakeUpstreamResponse()
    bench = Bench(response)
    client = FakeClient(CHAT, STREAMED)
    call, task = bench.begin(client)
    await response.push(A)

    client.leave()
    await task

    assert response.closed
    assert (bench.event.outcome, bench.event.status) == ("cancelled", 200)
    assert bench.event.error_kind == "client_gone"
    assert bench.event.estimated
    assert bench.event.usage.output > 0
    assert bench.event.cost_nanousd == call.cost_nanousd > 0
    bench.assert_recorded_once()


async def test_client_that_leaves_during_a_whole_answer_closes_the_upstream() -> None:
    """A whole response that nobody waits for is not read."""
    response = FakeUpstreamResponse(headers=json_head(OPENAI_ANSWER))
    response.stalls = True
    bench = Bench(response)
    client = FakeClient(CHAT, OPENAI_BODY)
    _, task = bench.begin(client)
    await wait_until(lambda: response.read_count)

    client.leave()
    await task

    assert response.closed
    assert bench.event.outcome == "cancelled"
    assert client.status is None
    bench.assert_recorded_once()


async def test_usage_that_was_reported_before_the_client_left_counts() -> None:
    """An Anthropic stream names its input first: that is charged, not an estimate."""
    response = FakeUpstreamResponse()
    deployments = [a_deployment(a_provider(wires=[Wire.ANTHROPIC]))]
    bench = Bench(response, deployments=deployments)
    client = FakeClient("/v1/messages", asking(ANTHROPIC_BODY, stream=True))
    _, task = bench.begin(client, Endpoint.MESSAGES)
    await response.push(MESSAGE_START)

    client.leave()
    await task

    assert (bench.event.usage.input, bench.event.usage.cache_read) == (7, 90)


async def test_drained_stream_is_charged_as_reported() -> None:
    """The upstream's report was awaited: nothing is estimated."""
    response = FakeUpstreamResponse()
    bench = Bench(response, deployments=draining())
    client = FakeClient(CHAT, STREAMED)
    _, task = bench.begin(client)
    await response.push(A)

    client.leave()
    await asyncio.sleep(0)
    await response.end(B, OPENAI_FINISH, OPENAI_USAGE, OPENAI_DONE)
    await task

    assert (bench.event.outcome, bench.event.estimated) == ("drained", False)
    assert bench.event.usage == Usage(input=10, output=4)
    assert client.body == A
    bench.assert_recorded_once()


async def test_drain_that_breaks_off_is_recorded_as_cancelled() -> None:
    """Without the report what was seen is charged."""
    response = FakeUpstreamResponse()
    bench = Bench(response, deployments=draining())
    client = FakeClient(CHAT, STREAMED)
    _, task = bench.begin(client)
    await response.push(A)

    client.leave()
    await response.fail(GatewayError(ErrorKind.UPSTREAM_BROKEN, "broken"))
    await task

    assert (bench.event.outcome, bench.event.estimated) == ("cancelled", True)


async def test_large_answer_that_is_read_on_is_recorded_as_drained() -> None:
    """The policy holds for whole responses that are on their way."""
    response = FakeUpstreamResponse(headers=list(JSON))
    bench = Bench(response, deployments=draining())
    client = FakeClient(CHAT, OPENAI_BODY)
    _, task = bench.begin(client)
    await response.push(OPENAI_ANSWER[:50])

    client.leave()
    await response.end(OPENAI_ANSWER[50:])
    await task

    assert bench.event.outcome == "drained"
    assert bench.event.usage == Usage(input=10, output=4)
    assert not client.ended


async def test_large_answer_whose_client_leaves_closes_the_upstream() -> None:
    """By default nothing is read on."""
    response = FakeUpstreamResponse(headers=[*JSON, (b"content-length", b"%d" % (WHOLE_BYTES + 1))])
    bench = Bench(response)
    client = FakeClient(CHAT, OPENAI_BODY)
    _, task = bench.begin(client)
    await response.push(b"{")

    client.leave()
    await task

    assert response.closed
    assert bench.event.outcome == "cancelled"


async def test_client_that_leaves_while_the_next_deployment_is_asked_cancels_it() -> None:
    """After a stream that began with an error the client is still listened to."""
    first = FakeUpstreamResponse()
    deployments = [a_deployment(a_provider("a")), a_deployment(a_provider("b"))]
    bench = Bench(first, never, deployments=deployments)
    client = FakeClient(CHAT, STREAMED)
    _, task = bench.begin(client)
    await first.push(OPENAI_ERROR)
    await wait_until(lambda: len(bench.transport.requests) == 2)

    client.leave()
    await asyncio.wait_for(task, 1)

    assert bench.transport.cancelled_count == 1
    assert bench.event.outcome == "cancelled"
    bench.assert_recorded_once()


async def test_client_that_leaves_between_two_attempts_pays_nothing() -> None:
    """What was refused cost nothing, and nothing else was sent."""
    refusal = FakeUpstreamResponse(503, list(JSON), b"{}")
    bench = Bench(refusal)
    client = FakeClient("/v1/chat", b'{"model":"m","input":"Hi","max_retries":5}')
    _, task = bench.begin(client, Endpoint.NATIVE_CHAT)
    await wait_until(lambda: refusal.closed)

    client.leave()
    await task

    assert (bench.event.outcome, bench.event.cost_nanousd) == ("cancelled", 0)


async def test_client_that_leaves_with_its_body_unfinished_is_recorded() -> None:
    """The call ends before anything was asked of an upstream: a line, but no event."""
    bench = Bench()
    client = FakeClient(CHAT)
    call, task = bench.begin(client)
    await asyncio.sleep(0)

    client.leave()
    await task

    assert call.error is not None
    assert call.error.kind is ErrorKind.CLIENT_GONE
    assert (bench.usage_log.events, client.status) == ([], None)
    bench.assert_recorded_once()


async def test_client_that_had_left_before_the_upstream_was_asked() -> None:
    """A departure that is known when the body was read ends the call."""
    bench = Bench(never)
    client = FakeClient(CHAT, OPENAI_BODY)
    client.leave()

    call = await bench.run(client)

    assert call.outcome == "cancelled"
    assert bench.transport.cancelled_count == len(bench.transport.requests)
    bench.assert_recorded_once()


async def test_client_that_leaves_after_the_end_is_no_departure() -> None:
    """The response is complete: who hangs up then has got all of it."""
    response = FakeUpstreamResponse(headers=json_head(OPENAI_ANSWER), body=OPENAI_ANSWER)
    bench = Bench(response)
    bench.usage_log.gate = asyncio.Event()
    client = FakeClient(CHAT, OPENAI_BODY)
    _, task = bench.begin(client)
    await wait_until(lambda: client.ended)

    client.leave()
    bench.usage_log.gate.set()
    await task

    assert bench.event.outcome == "completed"
    bench.assert_recorded_once()


@pytest.mark.parametrize("streamed", [True, False])
async def test_client_that_leaves_a_broken_answer_does_not_stop_its_record(streamed: bool) -> None:
    """A response that was not ended can still be left: the record goes on."""
    response = FakeUpstreamResponse(headers=None if streamed else list(JSON))
    bench = Bench(response)
    bench.usage_log.gate = asyncio.Event()
    client = FakeClient(CHAT, STREAMED if streamed else OPENAI_BODY)
    _, task = bench.begin(client)
    begun = A if streamed else b" " * HELD_BYTES + b"{"
    await response.push(begun, B[:10])
    await response.fail(GatewayError(ErrorKind.UPSTREAM_BROKEN, "broken"))
    await wait_until(lambda: bench.call_log.lines)

    client.leave()
    await asyncio.sleep(0)
    bench.usage_log.gate.set()
    await task

    assert bench.event.outcome == "failed"
    assert not client.ended
    bench.assert_recorded_once()


async def test_worker_that_cancels_a_call_has_it_recorded() -> None:
    """A cancellation that is not the client's goes on, after the record."""
    bench = Bench(never)
    client = FakeClient(CHAT, OPENAI_BODY)
    _, task = bench.begin(client)
    await wait_until(lambda: bench.transport.requests)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert bench.event.outcome == "cancelled"
    bench.assert_recorded_once()


def hiding(*wires: Wire) -> list[Deployment]:
    """One deployment of a dialect that reasons unseen, left to decide for itself."""
    dialect = "anthropic" if wires == (Wire.ANTHROPIC,) else "openai"
    return [a_deployment(a_provider(wires=wires or (Wire.OPENAI,), dialect=dialect, drains=None))]


THINKING = b'{"type":"enabled","budget_tokens":1024}'
REST = (openai_event("B"), OPENAI_FINISH, OPENAI_USAGE, OPENAI_DONE)
MESSAGE_REST = (
    b'event: content_block_stop\ndata: {"type":"content_block_stop","index":0}\n\n',
    b'event: message_delta\ndata: {"type":"message_delta","delta":{"stop_reason":"end_turn"},'
    b'"usage":{"output_tokens":30000}}\n\n'
    b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
)


@pytest.mark.parametrize(
    ("path", "endpoint", "body"),
    [
        (CHAT, Endpoint.CHAT_COMPLETIONS, STREAMED),
        ("/v1/messages", Endpoint.MESSAGES, asking(ANTHROPIC_BODY, stream=True)),
        ("/v1/responses", Endpoint.RESPONSES, b'{"model":"m","input":"Hi","stream":true}'),
    ],
)
@pytest.mark.parametrize("moment", ["at the finish reason", "while it reasons"])
async def test_hidden_reasoning_is_charged_though_the_client_leaves(
    path: str, endpoint: Endpoint, body: bytes, moment: str
) -> None:
    """On every endpoint, whether anything was sent before or not."""
    response = FakeUpstreamResponse()
    bench = Bench(response, deployments=hiding())
    client = FakeClient(path, body)
    _, task = bench.begin(client, endpoint)
    started = (A, OPENAI_FINISH) if "finish" in moment else (b": thinking\n\n",)
    await response.push(*started)

    client.leave()
    await asyncio.sleep(0)
    await response.end(*REST[2:] if "finish" in moment else REST)
    await task

    assert (bench.event.outcome, bench.event.estimated) == ("drained", False)
    assert bench.event.usage == Usage(input=10, output=4)
    bench.assert_recorded_once()


@pytest.mark.parametrize("sent", [0, 1])
async def test_thinking_of_a_message_is_charged_though_the_client_leaves(sent: int) -> None:
    """Before a block has ended, and between its end and the report."""
    response = FakeUpstreamResponse()
    bench = Bench(response, deployments=hiding(Wire.ANTHROPIC))
    body = asking(ANTHROPIC_BODY, stream=True)[:-1] + b',"thinking":%b}' % THINKING
    client = FakeClient("/v1/messages", body)
    _, task = bench.begin(client, Endpoint.MESSAGES)
    await response.push(MESSAGE_START, *MESSAGE_REST[:sent])

    client.leave()
    await asyncio.sleep(0)
    await response.end(*MESSAGE_REST[sent:])
    await task

    assert bench.event.outcome == "drained"
    assert bench.event.usage == Usage(input=7, cache_read=90, output=30_000)


async def test_message_left_at_the_end_of_its_block_is_charged_as_reported() -> None:
    """Also where nothing says that the model reasons: only the report was missing."""
    response = FakeUpstreamResponse()
    deployments = [a_deployment(a_provider(wires=[Wire.ANTHROPIC]))]
    bench = Bench(response, deployments=deployments)
    client = FakeClient("/v1/messages", asking(ANTHROPIC_BODY, stream=True))
    _, task = bench.begin(client, Endpoint.MESSAGES)
    await response.push(MESSAGE_START, MESSAGE_REST[0])

    client.leave()
    await asyncio.sleep(0)
    await response.end(*MESSAGE_REST[1:])
    await task

    assert (bench.event.outcome, bench.event.usage.output) == ("drained", 30_000)


@pytest.mark.parametrize(
    ("path", "endpoint", "body"),
    [
        (CHAT, Endpoint.CHAT_COMPLETIONS, OPENAI_BODY),
        ("/v1/messages", Endpoint.MESSAGES, ANTHROPIC_BODY),
        ("/v1/chat", Endpoint.NATIVE_CHAT, b'{"model":"m","input":"Hi"}'),
    ],
)
async def test_whole_answer_with_hidden_reasoning_is_charged_though_the_client_leaves(
    path: str, endpoint: Endpoint, body: bytes
) -> None:
    """The upstream works and bills, whether or not a client waits."""
    head = asyncio.Event()

    async def later() -> FakeUpstreamResponse:
        await head.wait()
        return FakeUpstreamResponse(headers=json_head(OPENAI_ANSWER), body=OPENAI_ANSWER)

    bench = Bench(later, deployments=hiding())
    client = FakeClient(path, body)
    _, task = bench.begin(client, endpoint)
    await wait_until(lambda: bench.transport.requests)

    client.leave()
    await asyncio.sleep(0)
    head.set()
    await task

    assert (bench.event.outcome, bench.event.usage) == ("drained", Usage(input=10, output=4))
    assert bench.event.cost_nanousd == 18
    assert client.status is None
    bench.assert_recorded_once()


async def test_wait_for_the_head_of_a_call_that_was_left_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After that the upstream is let go and the input charged."""
    monkeypatch.setattr(departure, "DRAIN_S", 0.02)
    bench = Bench(never, deployments=hiding())
    client = FakeClient(CHAT, OPENAI_BODY)
    call, task = bench.begin(client)
    await wait_until(lambda: bench.transport.requests)

    client.leave()
    await task

    assert bench.transport.cancelled_count == 1
    assert bench.event.outcome == "cancelled"
    assert bench.event.usage == Usage(input=call.input_estimate)
    bench.assert_recorded_once()


async def test_refusal_after_the_client_left_is_tried_nowhere_else() -> None:
    """Nothing was billed, and nobody waits."""
    head = asyncio.Event()

    async def later() -> FakeUpstreamResponse:
        await head.wait()
        return FakeUpstreamResponse(503, list(JSON), b"{}")

    bench = Bench(later, never, deployments=hiding() * 2)
    client = FakeClient(CHAT, OPENAI_BODY)
    _, task = bench.begin(client)
    await wait_until(lambda: bench.transport.requests)

    client.leave()
    await asyncio.sleep(0)
    head.set()
    await task

    assert len(bench.transport.requests) == 1
    assert (bench.event.outcome, bench.event.cost_nanousd) == ("failed", 0)


async def test_stream_that_ends_without_output_and_usage_is_charged_its_input() -> None:
    """All of the output was hidden, and the upstream ignores `include_usage`."""
    response = FakeUpstreamResponse()
    bench = Bench(response)
    call, task = bench.begin(FakeClient(CHAT, STREAMED))

    await response.end(OPENAI_FINISH, OPENAI_DONE)
    await task

    assert (bench.event.outcome, bench.event.estimated) == ("estimated", True)
    assert bench.event.usage == Usage(input=call.input_estimate)
    assert bench.event.usage.input == len(STREAMED) // 4 + 1
