"""Fallback models: reserved, priced and recorded as themselves; and what clients see of routing."""

from __future__ import annotations

import asyncio
import json
from time import monotonic
from typing import Any

import msgspec
import pytest

from gateway.core.model import CallRecord, Endpoint, Model, Prices, Wire
from gateway.core.routing.health import HealthRules
from gateway.core.routing.retries import RetryBudget, RetryLimits
from gateway.errors import ErrorKind, GatewayError
from gateway.ports import Reservation, ReservationRequest
from tests.support.pipeline_bench import Bench
from tests.support.pipeline_fakes import (
    OPENAI_ANSWER,
    OPENAI_BODY,
    PRINCIPAL,
    FakeClient,
    FakeUpstreamResponse,
    a_deployment,
    a_model,
    a_provider,
    json_head,
    never,
)

CHAT = "/v1/chat/completions"
DEAR = Prices(input=100_000_000, output=200_000_000, cache_read=0, cache_write=0, reasoning=0)


def a_fallback(name: str = "n", prices: Prices = DEAR) -> Model:
    model = a_model(a_deployment(a_provider(f"of-{name}")), prices=prices)
    return msgspec.structs.replace(model, name=name)


def refusing(status: int) -> FakeUpstreamResponse:
    return FakeUpstreamResponse(status, json_head(b"{}"), b"{}")


def good() -> FakeUpstreamResponse:
    return FakeUpstreamResponse(headers=json_head(OPENAI_ANSWER), body=OPENAI_ANSWER)


def asking_for(*fallbacks: str) -> bytes:
    body: dict[str, Any] = json.loads(OPENAI_BODY)
    return json.dumps({**body, "models": list(fallbacks)}).encode()


class Ledger:
    """Admits by model, and keeps what happens to reservations."""

    def __init__(self, refused: str = "") -> None:
        self.events: list[tuple[str, str]] = []
        self.refused = refused
        self.settled: list[CallRecord] = []

    async def reserve(self, request: ReservationRequest) -> Reservation:
        if request.model.name == self.refused:
            raise GatewayError(ErrorKind.NO_CREDIT, "no credit")
        self.events.append(("reserve", request.model.name))
        return Reservation(request=request, hold_nanousd=1, worst_nanousd=1, tokens=1)

    async def settle(self, reservation: Reservation, event: CallRecord) -> None:
        self.events.append(("settle", reservation.request.model.name))
        self.settled.append(event)

    async def release(self, reservation: Reservation) -> None:
        self.events.append(("release", reservation.request.model.name))


async def test_fallback_of_the_client_serves_as_itself() -> None:
    """It is reserved, priced and recorded as the model that served; the body names it nowhere."""
    ledger = Ledger()
    bench = Bench(refusing(500), good(), models=[a_fallback()], reservations=ledger)
    client = FakeClient(CHAT, asking_for("n"))

    await bench.run(client)

    assert (client.status, client.header(b"x-capio-model")) == (200, b"n")
    assert client.header(b"x-capio-provider") == b"of-n"
    assert client.header(b"x-capio-attempts") == b"2"
    assert ledger.events == [
        ("reserve", "m"),
        ("release", "m"),
        ("reserve", "n"),
        ("settle", "n"),
    ]
    (event,) = ledger.settled
    assert (event.model, event.provider, event.attempts) == ("n", "of-n", 2)
    assert event.cost_nanousd == 10 * 100 + 4 * 200
    assert [(each.deployment, each.model, each.result, each.status) for each in event.chain] == [
        ("up/up-m", "m", "upstream", 500),
        ("of-n/of-n-m", "n", "ok", 200),
    ]
    for request in bench.transport.requests:
        assert b'"models"' not in request.body
    assert b'"of-n-m"' in bench.transport.requests[1].body


@pytest.mark.parametrize(
    ("header", "value"),
    [(b"x-capio-exclude", b"of-n"), (b"x-capio-only", b"up, of-o")],
)
async def test_preferences_hold_for_fallbacks(header: bytes, value: bytes) -> None:
    """A fallback of which they leave no deployment is skipped."""
    deployments = [a_deployment(a_provider(name)) for name in ("up", "of-n", "of-o")]
    models = [a_fallback(), a_fallback("o")]
    bench = Bench(refusing(500), refusing(500), good(), deployments=deployments, models=models)
    client = FakeClient(CHAT, asking_for("n", "o"), headers=[(header, value)])

    await bench.run(client)

    assert (client.status, client.header(b"x-capio-model")) == (200, b"o")


async def test_preferences_look_at_what_serves_the_endpoint() -> None:
    """A fallback with a permitted deployment that has no embeddings leaves the first failure."""
    named = a_provider("of-n")
    other = a_provider("other", wires=(Wire.ANTHROPIC,))
    fallback = a_model(a_deployment(named), a_deployment(other))
    bench = Bench(
        refusing(500),
        deployments=[a_deployment(a_provider("up")), a_deployment(named)],
        models=[msgspec.structs.replace(fallback, name="n")],
    )
    body = b'{"model":"m","input":"Hi","models":["n"]}'
    client = FakeClient("/v1/embeddings", body, headers=[(b"x-capio-exclude", b"of-n")])

    await bench.run(client, Endpoint.EMBEDDINGS)

    assert (client.status, client.header(b"x-capio-attempts")) == (500, b"1")


async def test_attempts_of_all_models_are_bounded_together() -> None:
    """The retries of a model leave an attempt to each fallback, and end with the call's bound."""
    models = [a_fallback(), a_fallback("o"), a_fallback("p")]
    limits = RetryLimits(max_attempts=4, retries=9, first_wait_s=0.001)
    budget = RetryBudget(100, 10)
    bench = Bench(*[refusing(500)] * 9, models=models, retries=limits, budget=budget)
    client = FakeClient(CHAT, asking_for("n", "o", "p"))

    await bench.run(client)

    tried = [msgspec.json.decode(each.body)["model"] for each in bench.transport.requests]
    assert tried == ["up-m", "of-n-m", "of-o-m", "of-p-m"]
    assert (client.status, client.header(b"x-capio-attempts")) == (500, b"4")


@pytest.mark.parametrize(
    ("max_retries", "tried"),
    [(0, ["up-m"]), (1, ["up-m", "of-n-m"]), (3, ["up-m"] * 3 + ["of-n-m"])],
)
async def test_native_bound_counts_attempts_of_all_models(
    max_retries: int, tried: list[str]
) -> None:
    """`max_retries` of the native endpoint is a bound of the call, not of each model."""
    limits = RetryLimits(max_attempts=4, first_wait_s=0.001)
    budget = RetryBudget(100, 10)
    bench = Bench(
        *[refusing(500)] * 9, models=[a_fallback()], retries=limits, budget=budget, fallbacks=("n",)
    )
    body = b'{"model":"m","input":"Hi","max_retries":%d}' % max_retries
    client = FakeClient("/v1/chat", body)

    await bench.run(client, Endpoint.NATIVE_CHAT)

    found = [msgspec.json.decode(each.body)["model"] for each in bench.transport.requests]
    assert found == tried
    assert client.status == 500


async def test_native_timeout_counts_for_all_models() -> None:
    """A fallback gets no time of its own."""

    async def slowly() -> FakeUpstreamResponse:
        await asyncio.sleep(0.06)
        return refusing(500)

    bench = Bench(slowly, never, models=[a_fallback()], fallbacks=("n",))
    client = FakeClient("/v1/chat", b'{"model":"m","input":"Hi","timeout":0.1}')
    began = monotonic()

    await bench.run(client, Endpoint.NATIVE_CHAT)

    assert monotonic() - began < 0.15
    assert (client.status, len(bench.transport.requests)) == (504, 2)
    assert bench.event.model == "n"
    bench.assert_recorded_once()


async def test_fallbacks_end_with_the_time_of_the_call() -> None:
    """`routing.attempts_within_s` counts from the first attempt at the first model."""
    limits = RetryLimits(retries=0, within_s=0.0)
    bench = Bench(*[refusing(500)] * 2, models=[a_fallback()], retries=limits)
    client = FakeClient(CHAT, asking_for("n"))

    await bench.run(client)

    assert len(bench.transport.requests) == 1
    assert client.status == 500


async def test_fallback_of_the_catalogue_serves_without_being_asked_for() -> None:
    """`models.fallbacks` of the operator."""
    bench = Bench(refusing(503), good(), models=[a_fallback()], fallbacks=("n",))
    client = FakeClient(CHAT, OPENAI_BODY)

    await bench.run(client)

    assert (client.status, client.header(b"x-capio-model")) == (200, b"n")


async def test_fallback_is_named_by_a_header() -> None:
    """For endpoints without such a member; it replaces the catalogue's list."""
    models = [a_fallback(), a_fallback("o")]
    bench = Bench(refusing(503), good(), models=models, fallbacks=("n",))
    client = FakeClient(CHAT, OPENAI_BODY, headers=[(b"x-capio-fallbacks", b"capio/o")])

    await bench.run(client)

    assert client.header(b"x-capio-model") == b"o"


async def test_errors_of_the_request_have_no_fallback() -> None:
    """400 would repeat."""
    bench = Bench(refusing(400), models=[a_fallback()])
    client = FakeClient(CHAT, asking_for("n"))

    await bench.run(client)

    assert client.status == 400
    assert len(bench.transport.requests) == 1


async def test_fallback_without_credit_leaves_the_first_failure() -> None:
    """The client gets the upstream's error, and the call is recorded as the first model."""
    ledger = Ledger(refused="n")
    bench = Bench(refusing(500), models=[a_fallback()], reservations=ledger)
    client = FakeClient(CHAT, asking_for("n"))

    await bench.run(client)

    assert client.status == 500
    assert ledger.events == [("reserve", "m"), ("release", "m")]
    assert (bench.event.model, bench.event.cost_nanousd) == ("m", 0)


async def test_refusal_of_the_first_model_has_no_fallback() -> None:
    """An account without credit for the requested model gets the refusal."""
    bench = Bench(models=[a_fallback()], reservations=Ledger(refused="m"))
    client = FakeClient(CHAT, asking_for("n"))

    await bench.run(client)

    assert client.status == 429
    assert bench.transport.requests == []


@pytest.mark.parametrize(
    ("choices", "allowed_models", "status", "words"),
    [
        (True, None, 400, b"unknown model, 'x'"),
        (False, None, 400, b"not enabled on this service"),
        (True, frozenset({"m"}), 403, b"may not use the model 'n'"),
    ],
)
async def test_unusable_fallbacks_are_refused(
    choices: bool, allowed_models: frozenset[str] | None, status: int, words: bytes
) -> None:
    """Before anything is sent: the client relies on them."""
    principal = msgspec.structs.replace(PRINCIPAL, models=allowed_models)
    bench = Bench(models=[a_fallback()], choices=choices, principal=principal)
    name = "n" if allowed_models else "x"
    ways = {
        "models": FakeClient(CHAT, asking_for(name)),
        "fallbacks": FakeClient(CHAT, asking_for(name).replace(b'"models"', b'"fallbacks"')),
        "x-capio-fallbacks": FakeClient(
            CHAT, OPENAI_BODY, headers=[(b"x-capio-fallbacks", name.encode())]
        ),
    }

    for field, client in ways.items():
        await bench.run(client)

        assert client.status == status
        assert words in client.body
        assert msgspec.json.decode(client.body)["error"]["param"] == field
    assert bench.transport.requests == []


async def test_catalogue_fallback_that_a_key_may_not_use_is_skipped() -> None:
    """The key's owner limited it to one model."""
    principal = msgspec.structs.replace(PRINCIPAL, models=frozenset({"m"}))
    bench = Bench(refusing(503), models=[a_fallback()], fallbacks=("n",), principal=principal)
    client = FakeClient(CHAT, OPENAI_BODY)

    await bench.run(client)

    assert (client.status, bench.event.model) == (503, "m")


async def test_failing_deployment_is_avoided_by_later_calls() -> None:
    """After the breaker opened, calls go to the other one at once."""
    deployments = [a_deployment(a_provider("a")), a_deployment(a_provider("b"))]
    rules = HealthRules(failures_to_open=2, open_s=1000.0)
    steps = [refusing(500), good(), refusing(500), good(), good()]
    bench = Bench(*steps, deployments=deployments, health=rules)
    for _ in range(3):
        await bench.run(FakeClient(CHAT, OPENAI_BODY))

    hosts = [request.origin.host for request in bench.transport.requests]
    assert hosts == ["a.test", "b.test", "a.test", "b.test", "b.test"]
    assert [event.attempts for event in bench.usage_log.events] == [2, 2, 1]
    assert bench.usage_log.events[2].chain == ()


async def test_load_is_counted_while_attempts_run() -> None:
    """In flight from the request to the end of the response, whatever its end."""
    bench = Bench(refusing(400), good())
    health = bench.board.of("up/up-m")
    seen: list[int] = []
    send = bench.transport.send

    async def observed(request: Any) -> FakeUpstreamResponse:
        seen.append(health.in_flight)
        return await send(request)

    bench.transport.send = observed  # type: ignore[method-assign]
    for _ in range(2):
        await bench.run(FakeClient(CHAT, OPENAI_BODY))

    assert (seen, health.in_flight) == ([1, 1], 0)


async def test_error_names_the_attempts() -> None:
    """A client that reports a failure can say how often it was tried."""
    bench = Bench(refusing(500), refusing(500), models=[a_fallback()])
    client = FakeClient(CHAT, asking_for("n"))

    await bench.run(client)

    assert (client.status, client.header(b"x-capio-attempts")) == (500, b"2")
