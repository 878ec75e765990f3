"""Retries in the pipeline: bounded by the budget, with rotated credentials, before commit."""

from __future__ import annotations

from email.utils import formatdate
from time import monotonic, time

import msgspec
import pytest

from gateway.core.model import Deployment, Wire
from gateway.core.routing.credentials import CredentialRotation
from gateway.core.routing.health import HealthState
from gateway.core.routing.retries import RetryBudget, RetryLimits
from gateway.errors import ErrorKind, GatewayError
from tests.support.pipeline_bench import Bench
from tests.support.pipeline_fakes import (
    OPENAI_ANSWER,
    OPENAI_BODY,
    FakeClient,
    FakeUpstreamResponse,
    a_deployment,
    a_provider,
    asking,
    json_head,
    openai_event,
)

RETRIES = RetryLimits(retries=1, first_wait_s=0.001)


def refusing(status: int, *headers: tuple[bytes, bytes]) -> FakeUpstreamResponse:
    """An error response."""
    return FakeUpstreamResponse(status, [*json_head(b"{}"), *headers], b"{}")


def good() -> FakeUpstreamResponse:
    """A whole response."""
    return FakeUpstreamResponse(headers=json_head(OPENAI_ANSWER), body=OPENAI_ANSWER)


def with_keys(count: int) -> Deployment:
    """A deployment at a provider with several credentials."""
    provider = a_provider("a")
    route = provider.wires[Wire.OPENAI]
    keys = tuple(((b"authorization", b"Bearer secret-key-%d" % n),) for n in range(count))
    route = msgspec.structs.replace(route, headers=keys[0], alternatives=keys[1:])
    return a_deployment(msgspec.structs.replace(provider, wires={Wire.OPENAI: route}))


def sent_keys(bench: Bench) -> list[bytes]:
    """The credentials of the requests, in order."""
    return [dict(request.headers)[b"authorization"] for request in bench.transport.requests]


@pytest.mark.parametrize(
    "failure",
    [GatewayError(ErrorKind.UPSTREAM_CONNECT, "no"), refusing(500), refusing(503), refusing(429)],
    ids=["connect", "500", "503", "429"],
)
async def test_single_deployment_is_retried(failure: GatewayError | FakeUpstreamResponse) -> None:
    """A failure that may pass is retried, and the client sees the response only."""
    bench = Bench(failure, good(), retries=RETRIES)
    client = FakeClient("/v1/chat/completions", OPENAI_BODY)

    await bench.run(client)

    assert (client.status, bench.event.attempts) == (200, 2)
    bench.assert_recorded_once()


async def test_retries_stop_when_the_budget_is_spent() -> None:
    """The second call fails at once: the budget of a floor of one is spent by the first."""
    budget = RetryBudget(0, 1)
    steps = [refusing(500), good(), refusing(500)]
    bench = Bench(*steps, retries=RETRIES, budget=budget)
    first, second = (FakeClient("/v1/chat/completions", OPENAI_BODY) for _ in range(2))

    await bench.run(first)
    await bench.run(second)

    assert (first.status, second.status) == (200, 500)
    assert (len(bench.transport.requests), budget.refused_total) == (3, 1)


async def test_long_retry_after_goes_to_the_client() -> None:
    """The gateway does not wait for a minute; the client gets the header and may."""
    bench = Bench(refusing(429, (b"retry-after", b"60")), retries=RETRIES)
    client = FakeClient("/v1/chat/completions", OPENAI_BODY)

    await bench.run(client)

    assert (client.status, client.header(b"retry-after")) == (429, b"60")
    assert len(bench.transport.requests) == 1


@pytest.mark.parametrize(("later_s", "rest_s"), [(60, 60), (7200, 600)])
async def test_deployment_rests_until_a_date_of_an_upstream_without_a_clock(
    later_s: int, rest_s: int
) -> None:
    """The client gets all seconds; the deployment rests at most ten minutes."""
    until = formatdate(time() + later_s, usegmt=True).encode()
    bench = Bench(refusing(429, (b"retry-after", until)))
    client = FakeClient("/v1/chat/completions", OPENAI_BODY)

    await bench.run(client)

    assert int(client.header(b"retry-after") or 0) == pytest.approx(later_s, abs=2)
    (health,) = bench.board.blocked()
    assert health.demanded
    assert health.rests_until - monotonic() == pytest.approx(rest_s, abs=2)


async def test_date_that_has_passed_is_no_rest() -> None:
    """The call is retried at once, as after a failure without a time."""
    until = formatdate(time() - 60, usegmt=True).encode()
    bench = Bench(refusing(429, (b"retry-after", until)), good(), retries=RETRIES)
    client = FakeClient("/v1/chat/completions", OPENAI_BODY)

    await bench.run(client)

    assert (client.status, bench.event.attempts) == (200, 2)
    assert bench.board.blocked() == []


async def test_rate_limit_of_one_key_without_a_rest_is_not_repeated_with_that_key() -> None:
    deployment = with_keys(2)
    refusal = refusing(429, (b"retry-after", b"0"))
    bench = Bench(
        refusal, good(), deployments=[deployment], credentials={"a": CredentialRotation(2)}
    )
    client = FakeClient("/v1/chat/completions", OPENAI_BODY)

    await bench.run(client)

    assert client.status == 200
    assert sent_keys(bench) == [b"Bearer secret-key-0", b"Bearer secret-key-1"]


@pytest.mark.parametrize("status", [401, 402, 403, 429])
async def test_rejected_credential_is_rotated(status: int) -> None:
    """The same deployment serves the call with its next key, and later calls begin with that."""
    steps = [refusing(status), good(), good()]
    deployment = with_keys(3)
    bench = Bench(*steps, deployments=[deployment], credentials={"a": CredentialRotation(3)})
    clients = [FakeClient("/v1/chat/completions", OPENAI_BODY) for _ in range(2)]

    for client in clients:
        await bench.run(client)

    assert [client.status for client in clients] == [200, 200]
    first, second = b"Bearer secret-key-0", b"Bearer secret-key-1"
    assert sent_keys(bench) == [first, second, second]


async def test_credential_is_masked_whichever_was_sent() -> None:
    """An upstream that quotes the second key does not disclose it."""
    quoting = b'{"error":{"message":"bad header Bearer secret-key-1"}}'
    refusal = FakeUpstreamResponse(400, json_head(quoting), quoting)
    bench = Bench(
        refusing(401), refusal, deployments=[with_keys(2)], credentials={"a": CredentialRotation(2)}
    )
    client = FakeClient("/v1/chat/completions", OPENAI_BODY)

    await bench.run(client)

    assert client.status == 400
    assert b"secret-key" not in client.body
    assert b"[redacted]" in client.body


async def test_nothing_is_repeated_after_commit() -> None:
    """A stream that breaks after its first content is not retried."""
    response = FakeUpstreamResponse()
    bench = Bench(response, retries=RETRIES)
    client = FakeClient("/v1/chat/completions", asking(OPENAI_BODY, stream=True))
    _, task = bench.begin(client)

    await response.push(openai_event("A"))
    await response.fail(GatewayError(ErrorKind.UPSTREAM_BROKEN, "broken"))
    await task

    assert len(bench.transport.requests) == 1
    assert client.body.startswith(openai_event("A"))
    assert b'"error"' in client.body
    assert bench.budget.try_retry(0.0), "no retry was counted"


async def test_error_inside_the_gateway_leaves_no_breaker_half_open() -> None:
    """An attempt that was a deployment's probe says nothing of it when the gateway fails."""
    bench = Bench(RuntimeError("a defect"))
    (label,) = bench.board.states()
    bench.board.of(label).open(monotonic() - 60)
    assert bench.board.of(label).try_probe(monotonic())

    with pytest.raises(RuntimeError):
        await bench.run(FakeClient("/v1/chat/completions", OPENAI_BODY))

    assert bench.board.states()[label] is HealthState.OPEN
