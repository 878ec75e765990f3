"""Calls that end before an upstream is asked: the right status, a line, no event, no place held."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from gateway.core.model import Endpoint, Principal, Wire
from gateway.errors import ErrorKind
from gateway.ports import Headers
from gateway.settings import Server
from tests.support.pipeline_bench import Bench
from tests.support.pipeline_fakes import (
    OPENAI_ANSWER,
    OPENAI_BODY,
    PRINCIPAL,
    RAW_KEY,
    FakeClient,
    FakeUpstreamResponse,
    a_deployment,
    a_provider,
    json_head,
    never,
)
from tests.support.waiting import wait_until

CHAT = "/v1/chat/completions"


def principal(**changes: object) -> Principal:
    """The usual principal, changed."""
    return msgspec.structs.replace(PRINCIPAL, **changes)


@pytest.mark.parametrize(
    ("who", "key", "kind"),
    [
        (PRINCIPAL, None, ErrorKind.MISSING_KEY),
        (PRINCIPAL, "sk-capio-live-noise", ErrorKind.INVALID_KEY),
        (PRINCIPAL, RAW_KEY[:-1] + "x", ErrorKind.INVALID_KEY),
        (principal(state="revoked"), RAW_KEY, ErrorKind.INVALID_KEY),
        (principal(state="disabled"), RAW_KEY, ErrorKind.DISABLED_KEY),
        (principal(expires_at=1), RAW_KEY, ErrorKind.EXPIRED_KEY),
    ],
)
async def test_key_that_does_not_count_is_refused(
    who: Principal, key: str | None, kind: ErrorKind
) -> None:
    """Each is 401, and its small body is read so that the connection can be used again."""
    bench = Bench(principal=who)
    client = FakeClient(CHAT, OPENAI_BODY[:9], OPENAI_BODY[9:], key=key)

    call = await bench.run(client)

    assert (client.status, client.ended) == (401, True)
    assert call.error is not None
    assert call.error.kind is kind
    assert bench.usage_log.events == []
    bench.assert_recorded_once()


async def test_key_that_is_not_cached_is_looked_up() -> None:
    """The near cache is asked first, then the stores."""
    response = FakeUpstreamResponse(headers=json_head(OPENAI_ANSWER), body=OPENAI_ANSWER)
    bench = Bench(response)
    bench.keys._cached = False
    client = FakeClient(CHAT, OPENAI_BODY)

    await bench.run(client)

    assert (client.status, bench.keys.lookup_count) == (200, 1)


@pytest.mark.parametrize(
    "key",
    [RAW_KEY[:-1] + "x", RAW_KEY + "x", "x" + RAW_KEY[1:], "x" * 60_000, RAW_KEY[:-1] + "\xe9"],
)
async def test_malformed_key_is_refused_without_a_lookup(key: str) -> None:
    """Typos and random probes reach no store, even if no key is cached."""
    bench = Bench()
    bench.keys._cached = False
    client = FakeClient(CHAT, OPENAI_BODY, key=key)

    await bench.run(client)

    assert (client.status, bench.keys.lookup_count) == (401, 0)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([(b"content-encoding", b"gzip")], 415),
        ([(b"content-type", b"text/plain")], 415),
        ([(b"content-type", b"application/json; charset=utf-8")], 200),
        ([(b"content-encoding", b"identity")], 200),
    ],
)
async def test_form_of_a_body_is_judged_before_it_is_read(headers: Headers, status: int) -> None:
    """Compressed bodies and other types than JSON are refused."""
    response = FakeUpstreamResponse(headers=json_head(OPENAI_ANSWER), body=OPENAI_ANSWER)
    bench = Bench(response)
    client = FakeClient(CHAT, OPENAI_BODY, headers=headers)

    await bench.run(client)

    assert client.status == status


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        (b"{", 400, ErrorKind.BAD_REQUEST),
        (b'{"messages":[]}', 400, ErrorKind.BAD_REQUEST),
        (OPENAI_BODY.replace(b'"m"', b'"other"', 1), 404, ErrorKind.UNKNOWN_MODEL),
        (b'{"model":"m","x":"' + b"x" * 2000 + b'"}', 413, ErrorKind.BODY_TOO_LARGE),
    ],
)
async def test_request_that_cannot_be_served_is_refused(
    body: bytes, status: int, kind: ErrorKind
) -> None:
    """Nothing is asked of an upstream, and no event is written."""
    bench = Bench(server=Server(max_body_bytes=1024))
    client = FakeClient(CHAT, body)

    call = await bench.run(client)

    assert (client.status, call.status) == (status, status)
    assert call.error is not None
    assert call.error.kind is kind
    assert (bench.transport.requests, bench.usage_log.events) == ([], [])
    bench.assert_recorded_once()


async def test_catalogue_without_models_says_what_to_do() -> None:
    """An operator who has just installed the gateway need not look for an error in the call."""
    bench = Bench()
    names = bench.catalogue.names
    msgspec.structs.force_setattr(bench.catalogue, "models", ())
    names.clear()
    client = FakeClient(CHAT, OPENAI_BODY)

    await bench.run(client)

    assert client.status == 503
    assert b"/admin/models" in client.body
    assert bench.transport.requests == []
    bench.assert_recorded_once()


async def test_body_that_does_not_come_is_a_timeout() -> None:
    """A client who sends too slowly gets the reason, and not waited for again."""
    bench = Bench(server=Server(body_timeout_s=0.01))
    client = FakeClient(CHAT, headers=[(b"content-length", b"100")])

    call = await bench.run(client)

    assert (client.status, call.status) == (408, 408)
    bench.assert_recorded_once()


async def test_model_that_the_key_may_not_use_is_forbidden() -> None:
    """The key's list of models holds."""
    bench = Bench(principal=principal(models=frozenset({"another"})))
    client = FakeClient(CHAT, OPENAI_BODY)

    await bench.run(client)

    assert client.status == 403
    assert b"'m'" in client.body


async def test_endpoint_that_no_deployment_can_serve_is_not_an_overload() -> None:
    """Embeddings are never translated, so a retry cannot help."""
    bench = Bench(deployments=[a_deployment(a_provider(wires=[Wire.ANTHROPIC]))])
    client = FakeClient("/v1/embeddings", b'{"model":"m","input":"Hi"}')

    call = await bench.run(client, Endpoint.EMBEDDINGS)

    assert client.status == 404
    assert client.header(b"x-should-retry") == b"false"
    assert b'"code":"model_not_supported"' in client.body
    assert call.error is not None
    assert call.error.kind is ErrorKind.MODEL_NOT_SUPPORTED


async def test_place_is_held_to_the_end_of_the_answer() -> None:
    """A call counts as long as its response runs, and not longer."""
    response = FakeUpstreamResponse(headers=json_head(OPENAI_ANSWER), body=OPENAI_ANSWER)
    bench = Bench(never, response, limit=1)
    first = FakeClient(CHAT, OPENAI_BODY)
    _, running = bench.begin(first)
    await wait_until(lambda: bench.transport.requests)
    assert bench.metrics.in_flight == 1
    first.leave()
    await running
    client = FakeClient(CHAT, OPENAI_BODY)

    await bench.run(client)

    assert client.status == 200
    assert bench.metrics.in_flight == 0


async def test_mistake_of_ours_is_recorded_and_told_further() -> None:
    """Whatever is no GatewayError reaches the edge, after the record."""
    bench = Bench(ZeroDivisionError("ours"))
    client = FakeClient(CHAT, OPENAI_BODY)

    with pytest.raises(ZeroDivisionError):
        await bench.run(client)

    assert (bench.event.outcome, bench.event.error_kind) == ("failed", "internal")
    assert (bench.event.status, bench.event.cost_nanousd) == (500, 0)
    assert client.status is None
    bench.assert_recorded_once()


async def test_mistake_in_a_running_stream_is_recorded() -> None:
    """The response is left unended, and the upstream closed."""
    response = FakeUpstreamResponse()
    bench = Bench(response)
    client = FakeClient(CHAT, OPENAI_BODY[:-1] + b',"stream":true}')
    _, task = bench.begin(client)
    await response.push(b'data: {"choices":[{"delta":{"content":"A"}}]}\n\n')
    client.send_error = ZeroDivisionError("ours")

    await response.push(b'data: {"choices":[{"delta":{"content":"B"}}]}\n\n')
    with pytest.raises(ZeroDivisionError):
        await task

    assert response.closed
    assert (bench.event.status, bench.event.error_kind) == (200, "internal")
    assert not client.ended
    bench.assert_recorded_once()


async def test_body_is_forgotten_when_the_answer_has_begun() -> None:
    """A request of megabytes does not stay in memory for the minutes of its stream."""
    freed: list[int] = []

    class Body(bytes):
        def __del__(self) -> None:
            freed.append(len(self))

    response = FakeUpstreamResponse()
    bench = Bench(response)
    client = FakeClient(CHAT, Body(OPENAI_BODY[:-1] + b',"stream":true}'))
    _, task = bench.begin(client)
    await wait_until(lambda: bench.transport.requests)
    before = len(freed)

    await response.push(b'data: {"choices":[{"delta":{"content":"A"}}]}\n\n')
    await asyncio.sleep(0)
    after = len(freed)
    client.leave()
    await task

    assert (before, after) == (0, 1)
