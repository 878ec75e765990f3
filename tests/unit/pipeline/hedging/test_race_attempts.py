"""Two deployments for one call: who responds, who is charged, and what the health learns."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

import pytest

from gateway.core.model import Deployment, Endpoint, HedgeRules, Prices, Usage, Wire
from gateway.core.routing.health import HealthRules, HealthState
from gateway.core.routing.retries import RetryLimits
from gateway.errors import ErrorKind, GatewayError
from tests.support.cycles import no_cycles
from tests.support.pipeline_bench import Bench
from tests.support.pipeline_fakes import (
    ANTHROPIC_BODY,
    OPENAI_ANSWER,
    OPENAI_BODY,
    OPENAI_DONE,
    OPENAI_FINISH,
    OPENAI_USAGE,
    FakeClient,
    FakeUpstreamResponse,
    Step,
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
RULES = HedgeRules(min_delay_s=0.01, budget_percent=100.0)
COST = Prices(input=2_000_000, output=3_000_000, cache_read=0, cache_write=0, reasoning=0)
ROLE = b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n'
REST = (OPENAI_FINISH, OPENAI_USAGE, OPENAI_DONE)
INPUT = len(STREAMED) // 4 + 1
INPUT_COST = INPUT * 2


def deployments(wires: str = "oo", **provider: Any) -> list[Deployment]:
    """Return deployments `a`, `b` ... on these wires."""
    kinds = {"o": Wire.OPENAI, "m": Wire.ANTHROPIC}
    return [
        a_deployment(a_provider(name, [kinds[wire]], **provider), COST)
        for name, wire in zip("abc", wires, strict=False)
    ]


def a_bench(*steps: Step, learned: int = 20, **more: Any) -> Bench:
    """Return a pipeline in which each deployment usually responds within 10 ms."""
    given = {"deployments": deployments(), "hedge": RULES, "policy": "priority", **more}
    bench = Bench(*steps, **given)
    for deployment in bench.model.deployments:
        for _ in range(learned):
            for stream in (True, False):
                bench.hedging.learn(deployment.label, 0.01, stream=stream)
    return bench


def good() -> FakeUpstreamResponse:
    """Return a whole response."""
    return FakeUpstreamResponse(headers=json_head(OPENAI_ANSWER), body=OPENAI_ANSWER)


def chain(bench: Bench) -> list[tuple[str, str, bool]]:
    """Return the recorded attempts: deployment, result, whether it was a hedge."""
    return [(each.deployment[0], each.result, each.hedge) for each in bench.event.chain]


def is_idle(bench: Bench) -> bool:
    """Return whether no attempt counts towards the load of a deployment."""
    return all(bench.board.of(each.label).in_flight == 0 for each in bench.model.deployments)


async def test_second_deployment_answers_when_the_first_is_silent() -> None:
    """The client is charged once; the first attempt is cancelled and its input is our cost."""
    fast = FakeUpstreamResponse()
    bench = a_bench(never, fast)
    client = FakeClient(CHAT, STREAMED)
    call, task = bench.begin(client)
    await fast.end(ROLE, openai_event("Hi"), *REST)
    await task

    assert client.body == b"".join((ROLE, openai_event("Hi"), *REST))
    assert client.header(b"x-capio-provider") == b"b"
    assert client.header(b"x-capio-attempts") == b"2"
    assert chain(bench) == [("a", "lost", False), ("b", "ok", True)]
    assert bench.event.chain[0].cost_nanousd == INPUT_COST
    assert (bench.event.attempts, bench.event.usage) == (2, Usage(input=10, output=4))
    assert bench.event.cost_nanousd == 10 + 8
    assert bench.event.upstream_cost_nanousd == 20 + 12 + INPUT_COST
    assert bench.transport.cancelled_count == 1
    assert is_idle(bench)
    bench.assert_recorded_once()
    assert call.outcome == "completed"


async def test_first_deployment_wins_if_its_content_comes_first() -> None:
    """The hedge is cancelled, although its response had begun."""
    slow, hedge = FakeUpstreamResponse(), FakeUpstreamResponse()
    bench = a_bench(slow, hedge)
    client = FakeClient(CHAT, STREAMED)
    _, task = bench.begin(client)
    await hedge.push(ROLE)
    assert client.status is None
    await slow.end(ROLE, openai_event("A"), *REST)
    await task

    assert client.body == b"".join((ROLE, openai_event("A"), *REST))
    assert client.header(b"x-capio-provider") == b"a"
    assert client.header(b"x-capio-attempts") == b"2"
    assert chain(bench) == [("b", "lost", True), ("a", "ok", False)]
    assert hedge.closed
    assert bench.event.cost_nanousd == 10 + 8
    assert is_idle(bench)


async def test_punctual_deployment_is_not_hedged() -> None:
    """Content within the usual time: one request, no chain."""
    upstream = FakeUpstreamResponse()
    bench = a_bench(upstream, hedge=HedgeRules(min_delay_s=5.0, budget_percent=100))
    client = FakeClient(CHAT, STREAMED)
    _, task = bench.begin(client)
    await upstream.end(openai_event("A"), *REST)
    await task

    assert (client.status, len(bench.transport.requests)) == (200, 1)
    assert (bench.event.attempts, bench.event.chain) == (1, ())


async def test_whole_response_wins_with_its_body() -> None:
    """The second response is sent; the first one, which never came, is closed."""
    bench = a_bench(never, good())
    client = FakeClient(CHAT, OPENAI_BODY)
    await bench.run(client)

    assert (client.status, client.body) == (200, OPENAI_ANSWER)
    assert chain(bench) == [("a", "lost", False), ("b", "ok", True)]
    assert (bench.event.cost_nanousd, bench.transport.cancelled_count) == (18, 1)


@pytest.mark.parametrize("body", [ANTHROPIC_BODY, asking(ANTHROPIC_BODY, stream=True)])
async def test_hedge_may_speak_the_other_api(body: bytes) -> None:
    """A Messages client, a Messages deployment that is silent, and one on the OpenAI wire."""
    stream = body != ANTHROPIC_BODY
    response = FakeUpstreamResponse() if stream else good()
    bench = a_bench(never, response, deployments=deployments("mo"))
    client = FakeClient("/v1/messages", body)
    _, task = bench.begin(client, Endpoint.MESSAGES)
    if stream:
        await response.end(ROLE, openai_event("Hi"), *REST)
    await task

    assert client.status == 200
    assert (b"message_stop" in client.body) is stream
    assert b"Hi" in client.body
    assert chain(bench) == [("a", "lost", False), ("b", "ok", True)]


@pytest.mark.parametrize("failing", ["first", "hedge"])
async def test_failure_of_one_leaves_the_call_to_the_other(failing: str) -> None:
    """It is noted as a failure of its deployment only, and the client sees none."""
    slow, fast = FakeUpstreamResponse(), FakeUpstreamResponse()
    bench = a_bench(slow, fast)
    client = FakeClient(CHAT, STREAMED)
    call, task = bench.begin(client)
    await fast.push(ROLE)
    broken, serving = (slow, fast) if failing == "first" else (fast, slow)
    await broken.fail(GatewayError(ErrorKind.UPSTREAM_BROKEN, "no"))
    await wait_until(lambda: call.chain)
    await serving.end(openai_event("B"), *REST)
    await task

    assert client.body.endswith(b"".join((openai_event("B"), *REST)))
    results = [result for _, result, _ in chain(bench)]
    assert results == ["network", "ok"]
    assert bench.event.upstream_cost_nanousd == 20 + 12
    assert is_idle(bench)


async def test_both_fail_and_the_third_serves() -> None:
    """Fallback continues after a race; a call is hedged once."""
    slow, hedge = FakeUpstreamResponse(), FakeUpstreamResponse()
    third = FakeUpstreamResponse()
    bench = a_bench(slow, hedge, third, deployments=deployments("ooo"))
    client = FakeClient(CHAT, STREAMED)
    _, task = bench.begin(client)
    await hedge.push()
    for each in (hedge, slow):
        await each.fail(GatewayError(ErrorKind.UPSTREAM_BROKEN, "no"))
    await third.end(openai_event("C"), *REST)
    await task

    assert client.body.startswith(openai_event("C"))
    assert [result for _, result, _ in chain(bench)] == ["network", "network", "ok"]
    assert bench.event.attempts == 3


async def test_invalid_request_ends_the_race() -> None:
    """A 400 is the client's error everywhere: the other attempt is cancelled."""
    refused = FakeUpstreamResponse(400, json_head(b"{}"), b"{}")
    bench = a_bench(never, refused)
    client = FakeClient(CHAT, STREAMED)
    await bench.run(client)

    assert client.status == 400
    assert chain(bench) == [("b", "client", True), ("a", "lost", False)]
    assert bench.event.cost_nanousd == 0


@pytest.mark.parametrize(
    "change",
    [
        {"learned": 19},
        {"hedge": None},
        {"hedge": HedgeRules(min_delay_s=0.01, budget_percent=99.0)},
        {"deployments": deployments("o")},
        {"retries": RetryLimits(max_attempts=1)},
    ],
)
async def test_no_hedge_without_knowledge_budget_or_second_deployment(
    change: dict[str, Any],
) -> None:
    """The slow deployment is waited for."""
    slow = FakeUpstreamResponse()
    bench = a_bench(slow, good(), **change)
    client = FakeClient(CHAT, STREAMED)
    _, task = bench.begin(client)
    await slow.push()
    await asyncio.sleep(0.05)
    await slow.end(openai_event("A"), *REST)
    await task

    assert (client.status, len(bench.transport.requests)) == (200, 1)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, OPENAI_BODY[:-1] + b',"store": true}'),
        (CHAT, OPENAI_BODY[:-1] + b',"web_search_options":{}}'),
        ("/v1/messages", ANTHROPIC_BODY[:-1] + b',"container":"c_1"}'),
    ],
)
async def test_requests_with_state_at_the_upstream_are_not_hedged(path: str, body: bytes) -> None:
    """An upstream would keep, or run and charge, the same thing twice."""
    endpoint = Endpoint.MESSAGES if path == "/v1/messages" else Endpoint.CHAT_COMPLETIONS
    bench = a_bench(
        never,
        good(),
        deployments=deployments("mm" if endpoint is Endpoint.MESSAGES else "oo"),
    )
    client = FakeClient(path, body)
    _, task = bench.begin(client, endpoint)
    await asyncio.sleep(0.05)
    assert len(bench.transport.requests) <= 1
    client.leave()
    await task


async def test_deployment_that_is_not_ready_is_no_hedge() -> None:
    """The next ready one is asked, and the one that rests is left alone."""
    bench = a_bench(never, good(), deployments=deployments("ooo"))

    async def resting() -> FakeUpstreamResponse:
        # It rests from the moment the call is under way.
        now = monotonic()
        bench.board.of("b/b-m").rest(now + 60, now, demanded=True)
        return await never()

    bench.transport.steps[0] = resting
    await bench.run(FakeClient(CHAT, OPENAI_BODY))

    assert [each.origin.host for each in bench.transport.requests] == ["a.test", "c.test"]


async def test_client_that_leaves_ends_both_and_pays_once() -> None:
    """The input is charged as always; what the second attempt cost is ours."""
    bench = a_bench(never, never)
    client = FakeClient(CHAT, STREAMED)
    call, task = bench.begin(client)
    await wait_until(lambda: len(bench.transport.requests) == 2)
    client.leave()
    await task

    assert (call.outcome, bench.transport.cancelled_count) == ("cancelled", 2)
    assert bench.event.cost_nanousd == INPUT
    assert sorted(chain(bench)) == [("a", "cancelled", False), ("b", "lost", True)]
    assert bench.event.upstream_cost_nanousd == 2 * INPUT_COST
    assert is_idle(bench)
    bench.assert_recorded_once()


async def test_client_that_leaves_while_both_stream_silently_ends_both() -> None:
    """Neither response has content: both relays end."""
    slow, hedge = FakeUpstreamResponse(), FakeUpstreamResponse()
    bench = a_bench(slow, hedge)
    client = FakeClient(CHAT, STREAMED)
    call, task = bench.begin(client)
    await slow.push(ROLE)
    await hedge.push(ROLE)
    client.leave()
    await task

    assert (call.outcome, slow.closed, hedge.closed) == ("cancelled", True, True)
    bench.assert_recorded_once()


async def test_lost_attempt_is_neither_success_nor_failure() -> None:
    """A half-open deployment that loses may be probed again; nothing is counted against it."""
    bench = a_bench(never, good(), health=HealthRules(failures_to_open=1, open_s=0.0))
    health = bench.board.of("a/a-m")
    health.open(0.0)
    # The call is its probe.
    await bench.run(FakeClient(CHAT, OPENAI_BODY))

    assert health.state(1e9) is not HealthState.HALF_OPEN


async def test_losing_teaches_the_time_until_then() -> None:
    """Otherwise the slow responses would be missing from the percentile."""
    bench = a_bench(never, good())
    bench.hedging.learn("a/a-m", 0.0, stream=False)
    before = len(bench.hedging._times["a/a-m", False]._times)
    await bench.run(FakeClient(CHAT, OPENAI_BODY))
    times = bench.hedging._times["a/a-m", False]._times

    assert len(times) == before + 1
    assert times[-1] >= 0.01


async def test_nothing_is_hedged_after_the_first_content() -> None:
    """A stream that pauses after its first token is waited for."""
    slow = FakeUpstreamResponse()
    bench = a_bench(slow, good())
    client = FakeClient(CHAT, STREAMED)
    _, task = bench.begin(client)
    await slow.push(openai_event("A"))
    await asyncio.sleep(0.05)
    await slow.end(*REST)
    await task

    assert len(bench.transport.requests) == 1
    assert client.body == b"".join((openai_event("A"), *REST))


async def test_error_before_the_first_content_is_tried_elsewhere() -> None:
    """Nothing of a held stream was sent: its error event is no response."""
    broken, fast = FakeUpstreamResponse(), FakeUpstreamResponse()
    bench = a_bench(
        broken,
        fast,
        hedge=HedgeRules(min_delay_s=5.0, budget_percent=100),
    )
    client = FakeClient(CHAT, STREAMED)
    _, task = bench.begin(client)
    await broken.end(ROLE, b'data: {"error":{"message":"engine full"}}\n\n')
    await fast.end(openai_event("B"), *REST)
    await task

    assert client.body == b"".join((openai_event("B"), *REST))
    assert [result for _, result, _ in chain(bench)] == ["upstream", "ok"]


@pytest.mark.parametrize("steps", [(good,), (never, good)])
async def test_race_leaves_no_reference_cycle(steps: tuple[Any, ...]) -> None:
    """Memory of calls is freed at their end, not by the collector."""
    made = [step() if step is good else step for step in steps]
    bench = a_bench(*made)
    client = FakeClient(CHAT, OPENAI_BODY)
    with no_cycles():
        call = await bench.run(client)
        del call


async def test_stream_without_content_is_complete() -> None:
    """A finish reason alone is a response: what was held is sent at its end."""
    upstream = FakeUpstreamResponse()
    bench = a_bench(upstream, hedge=HedgeRules(min_delay_s=5.0, budget_percent=100))
    client = FakeClient(CHAT, STREAMED)
    _, task = bench.begin(client)
    await upstream.end(ROLE, *REST)
    await task

    assert (client.status, client.body) == (200, b"".join((ROLE, *REST)))
