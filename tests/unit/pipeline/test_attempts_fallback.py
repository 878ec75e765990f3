"""Which failures fall back, which are relayed to the client, and when it is too late."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from gateway.core.model import Deployment, Endpoint, Usage, Wire
from gateway.errors import ErrorKind, GatewayError
from tests.support.pipeline_bench import Bench
from tests.support.pipeline_fakes import (
    ANTHROPIC_BODY,
    COMMENT,
    JSON,
    OPENAI_ANSWER,
    OPENAI_BODY,
    OPENAI_DONE,
    OPENAI_ERROR,
    OPENAI_FINISH,
    SSE,
    FakeClient,
    FakeUpstreamResponse,
    a_deployment,
    a_provider,
    asking,
    json_head,
    openai_event,
)
from tests.support.waiting import wait_until

CHAT = "/v1/chat/completions"
STREAMED = asking(OPENAI_BODY, stream=True)
A = openai_event("A")


def two(wire: Wire = Wire.OPENAI) -> list[Deployment]:
    """Two deployments of the model."""
    return [a_deployment(a_provider("a", [wire])), a_deployment(a_provider("b", [wire]))]


def good() -> FakeUpstreamResponse:
    """A whole response."""
    return FakeUpstreamResponse(headers=json_head(OPENAI_ANSWER), body=OPENAI_ANSWER)


def refusing(status: int, body: bytes = b"{}") -> FakeUpstreamResponse:
    """An error response."""
    return FakeUpstreamResponse(status, json_head(body), body)


def hosts(bench: Bench) -> list[str]:
    """Whom the requests went to."""
    return [request.origin.host for request in bench.transport.requests]


@pytest.mark.parametrize(
    "kind",
    [
        ErrorKind.UPSTREAM_CONNECT,
        ErrorKind.UPSTREAM_BROKEN,
        ErrorKind.UPSTREAM_TIMEOUT,
        ErrorKind.UPSTREAM_MALFORMED,
        ErrorKind.OVERLOADED,
    ],
)
async def test_trouble_of_the_connection_is_tried_elsewhere(kind: ErrorKind) -> None:
    """The next deployment responds; the client learns of nothing."""
    bench = Bench(GatewayError(kind, "no"), good(), deployments=two())
    client = FakeClient(CHAT, OPENAI_BODY)

    await bench.run(client)

    assert (client.status, client.body) == (200, OPENAI_ANSWER)
    assert hosts(bench) == ["a.test", "b.test"]
    assert (bench.event.attempts, bench.event.provider) == (2, "b")
    bench.assert_recorded_once()


@pytest.mark.parametrize("status", [401, 402, 403, 404, 408, 409, 429, 500, 502, 503, 529])
async def test_refusal_that_may_not_repeat_is_tried_elsewhere(status: int) -> None:
    """Overload, our account and the upstream's own errors are that deployment's."""
    refusal = refusing(status)
    bench = Bench(refusal, good(), deployments=two())
    client = FakeClient(CHAT, OPENAI_BODY)

    await bench.run(client)

    assert client.status == 200
    assert refusal.closed


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_fault_of_the_request_is_told_as_it_is(status: int) -> None:
    """It would repeat everywhere: the upstream's own words go to the client."""
    body = b'{"error":{"message":"bad","type":"invalid_request_error","code":null}}'
    bench = Bench(refusing(status, body), deployments=two())
    client = FakeClient(CHAT, OPENAI_BODY)

    call = await bench.run(client)

    assert (client.status, client.body, call.status) == (status, body, status)
    assert len(bench.transport.requests) == 1
    assert bench.event.error_kind == "upstream_refused"


async def test_last_refusal_is_the_one_that_is_told() -> None:
    """When nobody is left the client gets the last upstream's response."""
    bench = Bench(refusing(503, b"first"), refusing(500, b"second"), deployments=two())
    client = FakeClient(CHAT, OPENAI_BODY)

    await bench.run(client)

    assert (client.status, client.body) == (500, b"second")
    bench.assert_recorded_once()


async def test_refusal_of_another_dialect_is_translated() -> None:
    """An Anthropic client reads Anthropic errors."""
    body = b'{"error":{"message":"slow","type":"rate_limit_error","code":"rate_limit_exceeded"}}'
    bench = Bench(refusing(429, body))
    client = FakeClient("/v1/messages", ANTHROPIC_BODY)

    await bench.run(client, Endpoint.MESSAGES)

    assert client.status == 429
    assert b'"type":"rate_limit_error"' in client.body
    assert client.header(b"x-request-id") == b"req_1"


async def test_refusal_of_our_credentials_is_not_the_clients() -> None:
    """A 401 would send the client to log in again: it is ours to mend."""
    bench = Bench(refusing(401, b'{"error":{"message":"bad key"}}'))
    client = FakeClient(CHAT, OPENAI_BODY)

    await bench.run(client)

    assert client.status == 502
    assert client.header(b"x-should-retry") == b"false"
    assert b"bad key" not in client.body
    assert bench.event.error_kind == "upstream_auth"


@pytest.mark.parametrize("how", ["breaks", "stalls"])
async def test_refusal_whose_body_does_not_come_is_known_by_its_status(
    how: str,
) -> None:
    """The status says enough: the client does not wait, nor get another error."""
    refusal = FakeUpstreamResponse(422, [*JSON, (b"content-length", b"99")])
    refusal.stalls = how == "stalls"
    refusal.failure = GatewayError(ErrorKind.UPSTREAM_BROKEN, "broken")
    bench = Bench(refusal, deployments=two(), error_s=0.01)
    client = FakeClient(CHAT, OPENAI_BODY)

    await bench.run(client)

    assert client.status == 400
    assert client.header(b"content-length") == b"%d" % len(client.body)
    assert len(bench.transport.requests) == 1


@pytest.mark.parametrize(
    "response",
    [
        FakeUpstreamResponse(302, [(b"location", b"/login")]),
        FakeUpstreamResponse(304, []),
        FakeUpstreamResponse(200, list(SSE)),
    ],
    ids=["redirect", "not modified", "stream for a document"],
)
async def test_answer_that_is_none_is_tried_elsewhere(response: FakeUpstreamResponse) -> None:
    """Redirects are not followed, and nobody gets events who did not ask for them."""
    bench = Bench(response, good(), deployments=two())
    client = FakeClient(CHAT, OPENAI_BODY)

    await bench.run(client)

    assert (client.status, client.body) == (200, OPENAI_ANSWER)
    assert response.closed


async def test_redirect_of_the_last_upstream_is_a_bad_gateway() -> None:
    """A client of an API does not follow the gateway's redirects."""
    bench = Bench(FakeUpstreamResponse(302, [(b"location", b"/login")]))
    client = FakeClient(CHAT, OPENAI_BODY)

    call = await bench.run(client)

    assert (client.status, call.status) == (502, 502)


async def test_unknown_coding_is_tried_elsewhere() -> None:
    """What cannot be read cannot be metered."""
    coded = FakeUpstreamResponse(headers=[*JSON, (b"content-encoding", b"br")], body=b"?")
    bench = Bench(coded, good(), deployments=two())
    client = FakeClient(CHAT, OPENAI_BODY)

    await bench.run(client)

    assert client.status == 200
    assert coded.closed


async def test_stream_that_begins_with_an_error_is_tried_elsewhere() -> None:
    """An engine that is full says so in its first event: another one may have room."""
    first, second = FakeUpstreamResponse(), FakeUpstreamResponse()
    bench = Bench(first, second, deployments=two())
    client = FakeClient(CHAT, STREAMED)
    _, task = bench.begin(client)

    await first.push(COMMENT, OPENAI_ERROR)
    await second.end(A, OPENAI_FINISH, OPENAI_DONE)
    await task

    assert client.body == A + OPENAI_FINISH + OPENAI_DONE
    assert first.closed
    bench.assert_recorded_once()


async def test_stream_that_begins_with_an_error_is_an_http_error_at_last() -> None:
    """With nobody left the status says it."""
    response = FakeUpstreamResponse()
    bench = Bench(response)
    client = FakeClient(CHAT, STREAMED)
    _, task = bench.begin(client)

    await response.push(OPENAI_ERROR)
    await task

    assert client.status == 500
    assert b"engine full" in client.body
    assert client.header(b"content-type") == b"application/json"
    assert bench.event.error_kind == "upstream_refused"


async def test_stream_that_breaks_before_its_first_event_is_tried_elsewhere() -> None:
    """Comments and a bare head are no response."""
    first, second = FakeUpstreamResponse(), FakeUpstreamResponse()
    bench = Bench(first, second, deployments=two())
    client = FakeClient(CHAT, STREAMED)
    _, task = bench.begin(client)

    await first.push(COMMENT)
    await first.fail(GatewayError(ErrorKind.UPSTREAM_BROKEN, "broken"))
    await second.end(A, OPENAI_FINISH, OPENAI_DONE)
    await task

    assert client.body == A + OPENAI_FINISH + OPENAI_DONE


async def test_nothing_is_tried_elsewhere_once_the_client_has_seen_bytes() -> None:
    """What was said cannot be taken back."""
    response = FakeUpstreamResponse()
    bench = Bench(response, deployments=two())
    client = FakeClient(CHAT, STREAMED)
    _, task = bench.begin(client)

    await response.push(A)
    await response.fail(GatewayError(ErrorKind.UPSTREAM_BROKEN, "broken"))
    await task

    assert len(bench.transport.requests) == 1
    assert client.status == 200
    assert b'"error"' in client.body
    bench.assert_recorded_once()


async def test_later_attempt_inherits_nothing_of_an_earlier_one() -> None:
    """Times and usage of a failed attempt are not those of the response."""
    first, second = FakeUpstreamResponse(), FakeUpstreamResponse()
    start = (
        b'event: message_start\ndata: {"type":"message_start","message":{"type":"message",'
        b'"usage":{"input_tokens":700,"output_tokens":1}}}\n\n'
    )
    bench = Bench(first, second, deployments=two(Wire.ANTHROPIC))
    client = FakeClient("/v1/messages", asking(ANTHROPIC_BODY, stream=True))
    call, task = bench.begin(client, Endpoint.MESSAGES)
    await wait_until(lambda: call.attempt)
    earlier = call.attempt
    assert earlier is not None
    earlier.usage, earlier.delivered = Usage(input=700), True
    earlier.first_content_at = earlier.last_content_at = 1.0

    await first.fail(GatewayError(ErrorKind.UPSTREAM_BROKEN, "broken"))
    await second.push(start)
    later = call.attempt
    assert later is not None
    times = later.first_content_at, later.last_content_at
    await second.fail(GatewayError(ErrorKind.UPSTREAM_BROKEN, "broken"))
    await task

    assert times == (None, None)
    assert bench.event.provider == "b"


async def test_failed_attempts_are_counted_for_their_deployment() -> None:
    """Metrics name who failed, also when the call went well."""
    bench = Bench(GatewayError(ErrorKind.UPSTREAM_CONNECT, "no"), good(), deployments=two())

    await bench.run(FakeClient(CHAT, OPENAI_BODY))

    assert bench.metrics._upstream_errors == {("a/a-m", "upstream_connect"): 1}


async def test_request_that_a_deployment_cannot_take_is_not_an_attempt() -> None:
    """What cannot be translated was never sent: no upstream is blamed, no event written."""
    bench = Bench(deployments=[a_deployment(a_provider(wires=[Wire.ANTHROPIC]))])
    client = FakeClient(CHAT, asking(OPENAI_BODY, n=2))

    call = await bench.run(client)

    assert client.status == 400
    assert (call.attempts, call.deployment, bench.usage_log.events) == (0, None, [])
    bench.assert_recorded_once()


async def test_nobody_else_is_asked_for_a_client_that_has_left() -> None:
    """A failure and a departure at the same time end the call."""
    client = FakeClient(CHAT, OPENAI_BODY)

    async def fails_as_the_client_leaves() -> FakeUpstreamResponse:
        task = asyncio.current_task()
        assert task is not None
        client.leave()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(1)
        task.uncancel()
        raise GatewayError(ErrorKind.UPSTREAM_CONNECT, "no")

    bench = Bench(fails_as_the_client_leaves, good(), deployments=two())

    await bench.run(client)

    assert len(bench.transport.requests) == 1
    assert client.status is None
    bench.assert_recorded_once()


async def test_relayed_rate_limit_keeps_the_delay_without_the_operators_organization() -> None:
    """Codex reads the seconds to wait from the message, which names the operator's account."""
    body = (
        b'{"error":{"message":"Rate limit reached for gpt-4o in organization org-Abc123def456. '
        b'Please try again in 6s.","type":"tokens","code":"rate_limit_exceeded"}}'
    )
    bench = Bench(refusing(429, body))
    client = FakeClient(CHAT, OPENAI_BODY)

    await bench.run(client)

    assert client.status == 429
    assert client.body == (
        b'{"error":{"message":"The upstream provider\'s rate limit is reached. Try again in 6s.",'
        b'"type":"rate_limit_error","param":null,"code":"rate_limit_exceeded"}}'
    )
    assert client.header(b"content-length") == b"%d" % len(client.body)


async def test_suspended_account_of_the_operator_is_written_to_the_log_alone() -> None:
    """The client sees fixed words and is not asked to pay."""
    words = b"Your account org-0000 <ak-0000> is suspended, please recharge your account"
    body = b'{"error":{"message":"%b","type":"exceeded_current_quota_error"}}' % words
    bench = Bench(refusing(429, body))
    client = FakeClient(CHAT, OPENAI_BODY)

    await bench.run(client)

    assert client.status == 503
    assert b"The upstream provider is temporarily unavailable" in client.body
    assert client.header(b"x-should-retry") == b"false"
    assert bench.event.error_kind == "upstream_quota"
    assert (
        bench.call_log.lines[-1]["error_detail"]
        == f"exceeded_current_quota_error: {words.decode()}"
    )
