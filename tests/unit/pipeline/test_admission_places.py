"""Who may start: the worker's places, and reservations with a checkpoint."""

from __future__ import annotations

import pytest

from gateway.core.model import Endpoint, Usage, Wire
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.admission import Admission
from gateway.pipeline.overload.loop_turns import LoopTurns
from gateway.ports import Reservation, ReservationRequest
from gateway.settings import Server
from tests.support.pipeline_bench import Bench
from tests.support.pipeline_fakes import (
    ANTHROPIC_BODY,
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

COUNT = "/v1/messages/count_tokens"
CHAT = "/v1/chat/completions"


class FakeReservations:
    """Admits with a small hold, or refuses."""

    def __init__(self, refusal: GatewayError | None = None) -> None:
        self.asks: list[ReservationRequest] = []
        self.made: list[Reservation] = []
        self.settled: list[tuple[Reservation, object]] = []
        self.released: list[Reservation] = []
        self._refusal = refusal

    async def reserve(self, request: ReservationRequest) -> Reservation:
        self.asks.append(request)
        if self._refusal is not None:
            raise self._refusal
        self.made.append(
            Reservation(request=request, hold_nanousd=100, worst_nanousd=100, tokens=10)
        )
        return self.made[-1]

    async def settle(self, reservation: Reservation, event: object) -> None:
        self.settled.append((reservation, event))

    async def release(self, reservation: Reservation) -> None:
        self.released.append(reservation)


def good() -> FakeUpstreamResponse:
    """A whole response."""
    return FakeUpstreamResponse(headers=json_head(OPENAI_ANSWER), body=OPENAI_ANSWER)


def test_places_are_given_back_whatever_happens() -> None:
    """A call that raises holds no place either."""
    metrics = Bench().metrics
    metrics.in_flight = 7  # what is shown is not what is counted
    admission = Admission(1, metrics, None)

    with pytest.raises(ZeroDivisionError), admission:
        raise ZeroDivisionError

    assert metrics.in_flight == 0
    with admission:
        assert metrics.in_flight == 1


def test_place_beyond_the_limit_is_refused_and_not_counted() -> None:
    """A place that is left is free at once."""
    metrics = Bench().metrics
    admission = Admission(1, metrics, None)

    assert admission.exceeded() is None
    with admission:
        assert admission.exceeded() == "in_flight"
        assert metrics.in_flight == 1
    assert admission.exceeded() is None


async def test_calls_are_refused_while_turns_are_long() -> None:
    """Each by the state at its arrival."""
    turns = LoopTurns(0.02)
    admission = Admission(10, Bench().metrics, None, turns)
    before = admission.exceeded()
    for now in (10.0, 10.5):
        turns.limit.observe(0.03, now)

    during = admission.exceeded()
    turns.limit.observe(0.005, 10.6)

    assert (before, during, admission.exceeded()) == (None, "loop_lag", None)


async def test_reservation_is_asked_for_with_what_is_known() -> None:
    """Who, which model, how much goes in, and how much may come out at most."""
    reservations = FakeReservations()
    bench = Bench(good(), reservations=reservations)

    call = await bench.run(FakeClient(CHAT, asking(OPENAI_BODY, max_tokens=77)))

    (request,) = reservations.asks
    assert (request.request_id, request.model.name, request.max_tokens) == ("req_1", "m", 77)
    assert request.input_tokens == call.input_estimate > 0


async def test_reservation_is_settled_once_with_the_record() -> None:
    """The event is journaled by the settlement, not twice."""
    reservations = FakeReservations()
    bench = Bench(good(), reservations=reservations)

    await bench.run(FakeClient(CHAT, OPENAI_BODY))

    ((reservation, _),) = reservations.settled
    assert reservation is reservations.made[0]
    assert bench.usage_log.events == []
    bench.assert_recorded_once()


async def test_reservation_of_a_failed_call_is_settled() -> None:
    """Nothing stays held."""
    reservations = FakeReservations()
    bench = Bench(ZeroDivisionError("ours"), reservations=reservations)

    with pytest.raises(ZeroDivisionError):
        await bench.run(FakeClient(CHAT, OPENAI_BODY))

    assert len(reservations.settled) == 1


async def test_client_without_a_reservation_is_refused() -> None:
    """The limit's own words go to the client; no upstream is asked, and nothing is settled."""
    refusal = GatewayError(ErrorKind.RATE_LIMITED, "60 requests a minute.", retry_after_s=1.2)
    reservations = FakeReservations(refusal)
    bench = Bench(reservations=reservations)
    client = FakeClient(CHAT, OPENAI_BODY)

    await bench.run(client)

    assert (client.status, client.header(b"retry-after")) == (429, b"2")
    assert b"60 requests a minute." in client.body
    assert (bench.transport.requests, reservations.settled) == ([], [])


async def test_checkpoint_tells_what_a_running_call_has_used() -> None:
    """A worker that dies is charged for what it had delivered."""
    reservations = FakeReservations()
    response = FakeUpstreamResponse()
    bench = Bench(response, reservations=reservations)
    client = FakeClient(CHAT, asking(OPENAI_BODY, stream=True))
    call, task = bench.begin(client)
    await response.push(b'data: {"choices":[{"index":0,"delta":{"content":"AAAAAAAA"}}]}\n\n')

    checkpoint = reservations.asks[0].checkpoint
    assert checkpoint is not None
    event = checkpoint()
    client.leave()
    await task

    assert event.usage == Usage(input=call.input_estimate, output=3)
    assert (event.outcome, event.request_id) == ("abandoned", "req_1")


async def test_limits_that_are_left_go_along_with_the_answer() -> None:
    """The headroom is sent in the client's dialect; without limits there are no headers."""
    bench = Bench(good(), reservations=FakeReservations())
    client = FakeClient(CHAT, OPENAI_BODY)

    await bench.run(client)

    assert client.status == 200
    assert not [name for name, _ in client.headers if name.startswith(b"x-ratelimit")]
    assert JSON[0] in client.headers


async def test_token_count_is_reserved_and_released() -> None:
    """It counts among the client's calls, with nothing to hold, and is not recorded as one."""
    reservations = FakeReservations()
    bench = Bench(reservations=reservations)
    client = FakeClient(COUNT, ANTHROPIC_BODY)

    await bench.run(client, Endpoint.COUNT_TOKENS)

    (request,) = reservations.asks
    assert client.status == 200
    assert (request.endpoint, request.input_tokens, request.max_tokens) == (
        Endpoint.COUNT_TOKENS,
        0,
        None,
    )
    assert request.checkpoint is None
    assert (reservations.released, reservations.settled) == (reservations.made, [])
    assert bench.usage_log.events == []


async def test_token_count_beyond_a_limit_is_refused() -> None:
    """Nothing is counted, no upstream is asked."""
    refusal = GatewayError(ErrorKind.RATE_LIMITED, "60 requests a minute.", retry_after_s=1)
    bench = Bench(reservations=FakeReservations(refusal))
    client = FakeClient(COUNT, ANTHROPIC_BODY)

    await bench.run(client, Endpoint.COUNT_TOKENS)

    assert (client.status, bench.answered.known) == (429, {})


async def test_token_count_of_an_upstream_is_released_and_on_record() -> None:
    """The operator sees what was asked of a provider."""
    count = b'{"input_tokens":42}'
    reservations = FakeReservations()
    bench = Bench(
        FakeUpstreamResponse(headers=json_head(count), body=count),
        deployments=[a_deployment(a_provider(wires=[Wire.ANTHROPIC]))],
        reservations=reservations,
    )

    await bench.run(FakeClient(COUNT, ANTHROPIC_BODY), Endpoint.COUNT_TOKENS)

    assert (reservations.released, reservations.settled) == (reservations.made, [])
    assert bench.event.cost_nanousd == 0


@pytest.mark.parametrize(("upstream_counts", "status"), [(False, 413), (True, 200)])
async def test_large_body_is_counted_by_upstreams_alone(upstream_counts: bool, status: int) -> None:
    """An estimate has a bound of its own, which the refusal names."""
    count = b'{"input_tokens":42}'
    wires = [Wire.ANTHROPIC] if upstream_counts else [Wire.OPENAI]
    bench = Bench(
        FakeUpstreamResponse(headers=json_head(count), body=count),
        deployments=[a_deployment(a_provider(wires=wires))],
        server=Server(max_count_body_bytes=1024),
    )
    client = FakeClient(COUNT, ANTHROPIC_BODY + b" " * 1024)

    await bench.run(client, Endpoint.COUNT_TOKENS)

    assert client.status == status
    assert (b"server.max_count_body_bytes" in client.body) is not upstream_counts


async def test_tokens_are_counted_for_admitted_calls_alone() -> None:
    """A client over its limits costs no counting; its reservation is asked for by size."""
    refusal = GatewayError(ErrorKind.RATE_LIMITED, "60 requests a minute.", retry_after_s=1)
    reservations = FakeReservations(refusal)
    bench = Bench(reservations=reservations)
    counted: list[object] = []
    bench.counts.count = counted.append  # type: ignore[assignment]
    image = b'{"type":"image","source":{"type":"base64","media_type":"image/png","data":"%b"}}'
    content = b'[{"type":"text","text":"%b"},%b]' % (b"word " * 400, image % (b"A" * 40_000))
    body = b'{"model":"m","max_tokens":9,"stream":true,"messages":[{"role":"user","content":%b}]}'
    client = FakeClient("/v1/messages", body % content)

    await bench.run(client, Endpoint.MESSAGES)

    assert (client.status, counted) == (429, [])
    assert 500 < reservations.asks[0].input_tokens < 5000
