"""Token counts: asked once however many want them, remembered, estimated where nobody counts."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core.model import Endpoint, Wire
from gateway.errors import ErrorKind, GatewayError
from gateway.protocols.http.request.bounds import DEFAULT_BOUNDS
from tests.support.pipeline_bench import Bench
from tests.support.pipeline_fakes import (
    ANTHROPIC_BODY,
    FakeClient,
    FakeUpstreamResponse,
    a_deployment,
    a_provider,
    json_head,
    never,
)
from tests.support.waiting import wait_until

PATH = "/v1/messages/count_tokens"
COUNT = b'{"input_tokens":42}'


def counted(body: bytes = COUNT) -> FakeUpstreamResponse:
    """An upstream's count."""
    return FakeUpstreamResponse(headers=json_head(body), body=body)


def counting(*steps: object) -> Bench:
    """A worker whose only deployment counts."""
    deployments = [a_deployment(a_provider(wires=[Wire.ANTHROPIC]))]
    return Bench(*steps, deployments=deployments, limit=100)  # type: ignore[arg-type]


def a_client() -> FakeClient:
    """A client who wants the usual request counted."""
    return FakeClient(PATH, ANTHROPIC_BODY)


async def test_fifty_clients_at_once_are_one_question() -> None:
    """Agents ask the same in bursts: the upstream is asked once, all get its response."""
    bench = counting(counted())
    clients = [a_client() for _ in range(50)]

    await asyncio.gather(*(bench.run(client, Endpoint.COUNT_TOKENS) for client in clients))

    assert {(client.status, client.body) for client in clients} == {(200, COUNT)}
    assert len(bench.transport.requests) == 1
    bench.assert_recorded_once()


async def test_later_clients_get_what_is_remembered() -> None:
    """The shared cache responds without an upstream."""
    bench = counting(counted())
    await bench.run(a_client(), Endpoint.COUNT_TOKENS)
    client = a_client()

    call = await bench.run(client, Endpoint.COUNT_TOKENS)

    assert (client.status, client.body, call.attempts) == (200, COUNT, 0)
    assert client.header(b"x-capio-token-count") is None
    assert len(bench.transport.requests) == 1


async def test_other_questions_are_other_counts() -> None:
    """The body and the headers that change the count are part of the question."""
    bench = counting(counted(b'{"input_tokens":1}'), counted(b'{"input_tokens":2}'))
    first = a_client()
    second = FakeClient(PATH, ANTHROPIC_BODY, headers=[(b"anthropic-beta", b"x")])

    await bench.run(first, Endpoint.COUNT_TOKENS)
    await bench.run(second, Endpoint.COUNT_TOKENS)

    assert (first.body, second.body) == (b'{"input_tokens":1}', b'{"input_tokens":2}')


async def test_failure_of_the_first_lets_the_others_try() -> None:
    """After a failed request, each waiting client sends its own."""
    bench = counting(GatewayError(ErrorKind.UPSTREAM_CONNECT, "no"), counted(), counted())
    clients = [a_client() for _ in range(3)]

    await asyncio.gather(*(bench.run(client, Endpoint.COUNT_TOKENS) for client in clients))

    assert sorted(client.status or 0 for client in clients) == [200, 200, 502]
    bench.assert_recorded_once()


async def test_first_client_that_leaves_lets_the_others_try() -> None:
    """When the first client disconnects, the others send their own request."""
    bench = counting(never, counted())
    first, second = a_client(), a_client()
    _, leading = bench.begin(first, Endpoint.COUNT_TOKENS)
    await wait_until(lambda: bench.transport.requests)
    _, waiting = bench.begin(second, Endpoint.COUNT_TOKENS)
    await asyncio.sleep(0)

    first.leave()
    await asyncio.gather(leading, waiting)

    assert (first.status, second.status, second.body) == (None, 200, COUNT)


async def test_waiting_client_that_leaves_fails_nobody() -> None:
    """The one who asks goes on for the others."""
    gate: asyncio.Future[FakeUpstreamResponse] = asyncio.get_running_loop().create_future()

    async def later() -> FakeUpstreamResponse:
        return await gate

    bench = counting(later)
    first, second = a_client(), a_client()
    _, leading = bench.begin(first, Endpoint.COUNT_TOKENS)
    await wait_until(lambda: bench.transport.requests)
    _, waiting = bench.begin(second, Endpoint.COUNT_TOKENS)
    await asyncio.sleep(0)

    second.leave()
    await waiting
    gate.set_result(counted())
    await leading

    assert (first.status, first.body, second.status) == (200, COUNT, None)
    bench.assert_recorded_once()


@pytest.mark.parametrize("body", [b'{"tokens":1}', b"<html>", b'{"input_tokens":1}' + b" " * 1024])
async def test_answer_that_is_no_count_is_not_remembered(body: bytes) -> None:
    """Without a count it is an error; a strange count goes to its client alone."""
    bench = counting(counted(body))
    client = a_client()

    await bench.run(client, Endpoint.COUNT_TOKENS)

    is_count = b"input_tokens" in body
    assert client.status == (200 if is_count else 502)
    assert (client.body == body) is is_count
    assert bench.answered.known == {}


async def test_counts_cost_nothing() -> None:
    """A count that an upstream made is on record, without usage."""
    bench = counting(counted())

    await bench.run(a_client(), Endpoint.COUNT_TOKENS)

    assert bench.event.cost_nanousd == 0
    assert bench.event.outcome == "completed"


async def test_count_is_estimated_where_no_upstream_counts() -> None:
    """The response says that it is an estimate."""
    bench = Bench()
    client = a_client()

    call = await bench.run(client, Endpoint.COUNT_TOKENS)

    assert client.status == 200
    assert client.body.startswith(b'{"input_tokens":')
    assert client.header(b"x-capio-token-count") == b"estimated"
    assert (call.attempts, bench.usage_log.events) == (0, [])


async def test_estimates_of_many_at_once_are_one_computation() -> None:
    """Tokenizing is work: it is done once."""
    bench = Bench(limit=100)
    clients = [a_client() for _ in range(50)]
    estimates: list[int] = []
    estimate = bench.counts.estimate

    async def counted_estimate(
        wire: Wire, body: bytes, upstream_model: str, most: int = DEFAULT_BOUNDS.max_values
    ) -> int:
        estimates.append(await estimate(wire, body, upstream_model, most))
        return estimates[-1]

    bench.counts.estimate = counted_estimate  # type: ignore[method-assign]
    await asyncio.gather(*(bench.run(client, Endpoint.COUNT_TOKENS) for client in clients))

    assert len(estimates) == 1
    assert len({client.body for client in clients}) == 1


async def test_estimate_learns_from_what_upstreams_counted() -> None:
    """Counts that came out too low raise later estimates."""
    counts = Bench().counts
    body = ANTHROPIC_BODY.replace(b"Hello", b"Hello " * 500)
    before = await counts.estimate(Wire.ANTHROPIC, body, "up-m")

    for _ in range(50):
        counts.learn("up-m", 2 * before, await counts.estimate(Wire.ANTHROPIC, body, "up-m"))

    assert await counts.estimate(Wire.ANTHROPIC, body, "up-m") > 1.3 * before
    assert await counts.estimate(Wire.ANTHROPIC, body, "other") == before


async def test_models_that_are_learned_of_are_bounded() -> None:
    """A catalogue's models are few; beyond a thousand nothing more is remembered."""
    counts = Bench().counts

    for number in range(1100):
        counts.learn(f"m{number}", 100, 50)

    assert len(counts._calibrations) == 1024


async def test_estimate_of_what_cannot_be_taken_apart_goes_by_size() -> None:
    """An estimate never fails."""
    counts = Bench().counts

    assert await counts.estimate(Wire.OPENAI, b"no json.", "up-m") == 3


async def test_translated_stream_learns_from_its_report() -> None:
    """The estimate that the client got is compared with the upstream's count."""
    response = FakeUpstreamResponse()
    bench = Bench(response)
    client = FakeClient("/v1/messages", ANTHROPIC_BODY[:-1] + b',"stream":true}')
    _, task = bench.begin(client, Endpoint.MESSAGES)

    await response.end(
        b'data: {"choices":[{"index":0,"delta":{"content":"Hi"}}]}\n\n'
        b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
        b'data: {"choices":[],"usage":{"prompt_tokens":90,"completion_tokens":4}}\n\n'
        b"data: [DONE]\n\n"
    )
    await task

    assert list(bench.counts._calibrations) == ["up-m"]
