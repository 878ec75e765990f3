"""Streams that start before their upstream has responded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from time import monotonic

import pytest

from gateway.core.model import Deployment, Endpoint, HedgeRules
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.running import stopping
from gateway.settings import Server
from tests.support.pipeline_bench import Bench
from tests.support.pipeline_fakes import (
    ANTHROPIC_BODY,
    OPENAI_BODY,
    OPENAI_DONE,
    OPENAI_FINISH,
    OPENAI_USAGE,
    PATHS,
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

RESPONSES_BODY = b'{"model":"m","input":"Hello","stream":true}'
BODIES = {
    Endpoint.CHAT_COMPLETIONS: asking(OPENAI_BODY, stream=True),
    Endpoint.RESPONSES: RESPONSES_BODY,
    Endpoint.MESSAGES: asking(ANTHROPIC_BODY, stream=True),
}
COMMENT = b": keep-alive\n\n"
PING = b'event: ping\ndata: {"type":"ping"}\n\n'
STREAM = (openai_event("A"), OPENAI_FINISH, OPENAI_USAGE, OPENAI_DONE)
CHAT = Endpoint.CHAT_COMPLETIONS


class Late:
    """An upstream whose head comes when the test says so, or an error instead."""

    def __init__(self) -> None:
        self._head: asyncio.Future[FakeUpstreamResponse] | None = None

    async def __call__(self) -> FakeUpstreamResponse:
        self._head = asyncio.get_running_loop().create_future()
        return await self._head

    async def responds(self, response: FakeUpstreamResponse) -> None:
        await wait_until(lambda: self._head is not None)
        assert self._head is not None
        self._head.set_result(response)

    async def fails(self, error: Exception) -> None:
        await wait_until(lambda: self._head is not None)
        assert self._head is not None
        self._head.set_exception(error)


def two() -> list[Deployment]:
    """Two deployments of the model."""
    return [a_deployment(a_provider("a")), a_deployment(a_provider("b"))]


def refusing(status: int, body: bytes) -> FakeUpstreamResponse:
    """An error response."""
    return FakeUpstreamResponse(status, json_head(body), body)


def client_of(endpoint: Endpoint) -> FakeClient:
    """A client that requests a stream."""
    return FakeClient(PATHS[endpoint], BODIES[endpoint])


async def opened(bench: Bench, client: FakeClient) -> float:
    """Wait for the request, then let the time of an early head pass; return that moment."""
    await wait_until(lambda: bench.transport.requests)
    now = monotonic() + 45.5
    bench.early_heads.check(now)
    assert client.status == 200
    return now


async def test_nothing_is_sent_before_its_time() -> None:
    """An error is still an HTTP error, with the headers that say what was tried."""
    late = Late()
    bench = Bench(late)
    client = client_of(CHAT)
    call, task = bench.begin(client)
    await wait_until(lambda: bench.transport.requests)

    bench.early_heads.check(monotonic() + 44)
    assert client.status is None
    await late.fails(GatewayError(ErrorKind.UPSTREAM_TIMEOUT, ""))
    await task

    assert (client.status, call.status) == (504, 504)
    assert client.header(b"x-capio-attempts") == b"1"


@pytest.mark.parametrize(
    ("endpoint", "keepalive"),
    [(CHAT, COMMENT), (Endpoint.RESPONSES, COMMENT), (Endpoint.MESSAGES, PING)],
)
async def test_silent_upstream_gets_its_client_a_head_and_keepalives(
    endpoint: Endpoint, keepalive: bytes
) -> None:
    """At 45 s, then every 15 s; the response follows behind them, and no second head."""
    late, response = Late(), FakeUpstreamResponse()
    bench = Bench(late)
    client = client_of(endpoint)
    call, task = bench.begin(client, endpoint)
    now = await opened(bench, client)

    assert client.pieces == [keepalive]
    assert client.header(b"content-type") == b"text/event-stream"
    assert client.header(b"x-request-id") == b"req_1"
    named = {name for name, _ in client.headers if name.startswith(b"x-capio")}
    assert named == set()
    bench.early_heads.check(now + 14)
    assert client.pieces == [keepalive]
    bench.early_heads.check(now + 15.5)
    assert client.pieces == [keepalive] * 2

    await late.responds(response)
    await response.push(STREAM[0])
    bench.early_heads.check(now + 100)
    await response.end(*STREAM[1:])
    await task

    assert client.body.count(keepalive) == 2
    assert client.ended
    assert (call.outcome, call.status, bench.event.usage.output) == ("completed", 200, 4)
    bench.assert_recorded_once()


async def test_call_is_still_repeated_behind_an_early_head() -> None:
    """The second deployment serves it; the client sees only keep-alives before."""
    late, response = Late(), FakeUpstreamResponse()
    bench = Bench(late, response, deployments=two())
    client = client_of(CHAT)
    call, task = bench.begin(client)
    await opened(bench, client)

    await late.fails(GatewayError(ErrorKind.UPSTREAM_CONNECT, ""))
    await response.end(*STREAM)
    await task

    assert client.body == COMMENT + b"".join(STREAM)
    assert (call.outcome, call.attempts, call.deployment and call.deployment.label) == (
        "completed",
        2,
        "b/b-m",
    )
    bench.assert_recorded_once()


def chat_error(body: bytes) -> object:
    """Return the error at the end of a chat stream."""
    events = body.removeprefix(COMMENT).split(b"\n\n")
    assert events[1:] == [b""]
    return json.loads(events[0].removeprefix(b"data: "))["error"]


def messages_error(body: bytes) -> object:
    """Return the error at the end of a Messages stream."""
    name, data = body.removeprefix(PING).rstrip(b"\n").split(b"\n")
    assert name == b"event: error"
    members = json.loads(data.removeprefix(b"data: "))
    assert members["type"] == "error"
    return members["error"]


def responses_error(body: bytes) -> object:
    """Return the error at the end of a Responses stream."""
    events = body.removeprefix(COMMENT).rstrip(b"\n").split(b"\n\n")
    names = [each.split(b"\n")[0].removeprefix(b"event: ") for each in events]
    assert names == [b"response.created", b"response.in_progress", b"response.failed"]
    last = json.loads(events[-1].split(b"\n")[1].removeprefix(b"data: "))
    assert (last["sequence_number"], last["response"]["status"]) == (2, "failed")
    return last["response"]["error"]


LIMITED = b'{\n "error": {"message": "Slow down", "type": "rate_limit_error", "code": 429}\n}'
TIMEOUT = "The upstream model did not respond in time."


@pytest.mark.parametrize(
    ("endpoint", "read", "error", "expected"),
    [
        (
            CHAT,
            chat_error,
            GatewayError(ErrorKind.UPSTREAM_TIMEOUT, ""),
            {"message": TIMEOUT, "type": "server_error", "param": None, "code": "timeout"},
        ),
        (
            Endpoint.MESSAGES,
            messages_error,
            GatewayError(ErrorKind.UPSTREAM_TIMEOUT, ""),
            {"type": "timeout_error", "message": TIMEOUT},
        ),
        (
            Endpoint.RESPONSES,
            responses_error,
            GatewayError(ErrorKind.UPSTREAM_TIMEOUT, ""),
            {"code": "server_error", "message": TIMEOUT},
        ),
        (
            CHAT,
            chat_error,
            LIMITED,
            {"message": "Slow down", "type": "rate_limit_error", "code": 429},
        ),
        (
            Endpoint.RESPONSES,
            responses_error,
            LIMITED,
            {"code": "server_error", "message": "Slow down"},
        ),
        (
            Endpoint.MESSAGES,
            messages_error,
            LIMITED,
            {"type": "rate_limit_error", "message": "Slow down"},
        ),
        *(
            (
                CHAT,
                chat_error,
                unreadable,
                {
                    "message": "The upstream rejected the request.",
                    "type": "rate_limit_error",
                    "param": None,
                    "code": "rate_limit_exceeded",
                },
            )
            for unreadable in (
                b"<html>\n\n</html>",
                b'{"error":{"message":"a"},"x":' + b"[" * 5000 + b"]" * 5000 + b"}",
            )
        ),
    ],
)
async def test_failure_behind_an_early_head_is_the_end_of_the_stream(
    endpoint: Endpoint, read: Callable[[bytes], object], error: object, expected: object
) -> None:
    """The error that would have been an HTTP response is an event; nothing is charged."""
    late = Late()
    bench = Bench(late)
    client = client_of(endpoint)
    call, task = bench.begin(client, endpoint)
    await opened(bench, client)

    if isinstance(error, bytes):
        await late.responds(refusing(429, error))
    else:
        assert isinstance(error, GatewayError)
        await late.fails(error)
    await task

    assert read(client.body) == expected
    assert client.ended
    assert (call.outcome, call.status, call.cost_nanousd) == ("failed", 200, 0)
    bench.assert_recorded_once()


async def test_stop_of_the_worker_ends_an_early_stream_with_an_error() -> None:
    """The client can read why, and the call is recorded as ended by the gateway."""
    bench = Bench(never)
    client = client_of(CHAT)
    call, task = bench.begin(client)
    await opened(bench, client)

    (running,) = bench.running._calls
    running.end(stopping())
    await task

    error = chat_error(client.body)
    assert isinstance(error, dict)
    assert error["message"].startswith("The gateway is restarting.")
    assert client.ended
    assert (call.error and call.error.kind, call.status) == (ErrorKind.STOPPING, 200)
    bench.assert_recorded_once()


async def test_client_that_leaves_after_an_early_head_cancels_the_request() -> None:
    """As before the head; no further keep-alive is written."""
    bench = Bench(never)
    client = client_of(CHAT)
    call, task = bench.begin(client)
    now = await opened(bench, client)

    client.leave()
    await task
    bench.early_heads.check(now + 20)

    assert client.pieces == [COMMENT]
    assert (call.outcome, bench.transport.cancelled_count) == ("cancelled", 1)
    bench.assert_recorded_once()


async def test_client_that_takes_no_keepalives_is_left() -> None:
    """Its call ends, and nothing more is written to it."""
    bench = Bench(never)
    client = client_of(CHAT)
    call, task = bench.begin(client)
    now = await opened(bench, client)

    client.slow = True
    bench.early_heads.check(now + 20)
    await task

    assert client.pieces == [COMMENT]
    assert not client.ended
    assert call.error is not None
    assert (call.error.kind, bench.transport.cancelled_count) == (ErrorKind.SLOW_CLIENT, 1)
    bench.assert_recorded_once()


async def test_hedged_call_gets_an_early_head_as_well() -> None:
    """The attempt with the first content writes behind it."""
    first, second = Late(), FakeUpstreamResponse()
    bench = Bench(
        first,
        second,
        deployments=two(),
        hedge=HedgeRules(min_delay_s=0.01, budget_percent=100),
    )
    for _ in range(20):
        bench.hedging.learn("a/a-m", 0.001, stream=True)
    client = client_of(CHAT)
    call, task = bench.begin(client)
    await opened(bench, client)

    await second.end(*STREAM)
    await task

    assert client.body == COMMENT + b"".join(STREAM)
    assert (call.outcome, call.attempts) == ("completed", 2)
    bench.assert_recorded_once()


async def test_timer_sends_early_heads_unless_one_of_the_settings_is_zero() -> None:
    """As a context manager; a whole response never gets one."""
    for settings, status in (
        (Server(early_head_s=0.01), 200),
        (Server(early_head_s=0), None),
        (Server(early_head_s=0.01, stream_keepalive_s=0), None),
    ):
        bench = Bench(never, never, server=settings)
        streamed, whole = client_of(CHAT), FakeClient(PATHS[CHAT], OPENAI_BODY)
        with bench.early_heads:
            tasks = [bench.begin(each)[1] for each in (streamed, whole)]
            if status is None:
                await asyncio.sleep(0.3)
            else:
                await wait_until(lambda client=streamed: client.status is not None)
        assert (streamed.status, whole.status) == (status, None)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
