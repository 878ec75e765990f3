"""The record of a call: event, metrics and line say the same, and hold nothing they must not."""

from __future__ import annotations

import msgspec
import pytest

from gateway.core.model import CallRecord, Endpoint, Usage, Wire
from gateway.errors import ErrorKind, GatewayError
from gateway.pipeline.call import Call
from gateway.pipeline.record import Recorder, checkpoint, record_of
from gateway.ports import Reservation, ReservationRequest
from gateway.protocols.streams.meter import StreamMeter
from gateway.telemetry.foreign_text import MAX_FOREIGN_TEXT
from tests.support.pipeline_bench import Bench
from tests.support.pipeline_fakes import (
    PRINCIPAL,
    FakeCallLog,
    MemoryUsageLog,
    a_deployment,
    a_model,
    a_provider,
)


def a_call(**state: object) -> Call:
    """A call with a response."""
    call = Call("req_1", Endpoint.CHAT_COMPLETIONS, Wire.OPENAI, 100.0)
    call.principal = PRINCIPAL
    deployment = a_deployment(a_provider())
    call.model = a_model(deployment)
    attempt = call.begin_attempt(deployment, Wire.OPENAI, 100.01)
    call.status, call.outcome = 200, "completed"
    attempt.first_content_at, attempt.last_content_at, attempt.content_count = 100.5, 101.5, 11
    call.ended_at = 102.0
    attempt.usage = Usage(input=10, output=4)
    for name, value in state.items():
        setattr(attempt if hasattr(attempt, name) else call, name, value)
    return call


class MemoryReservations:
    """Keeps what is settled."""

    def __init__(self) -> None:
        self.settled: list[CallRecord] = []

    async def reserve(self, request: ReservationRequest) -> Reservation:
        raise AssertionError

    async def settle(self, reservation: Reservation, event: CallRecord) -> None:
        self.settled.append(event)

    async def release(self, reservation: Reservation) -> None:
        raise AssertionError


class Records:
    """A recorder and what it wrote."""

    def __init__(self) -> None:
        self.usage_log = MemoryUsageLog()
        self.reservations = MemoryReservations()
        self.metrics = Bench().metrics
        self.call_log = FakeCallLog()
        self.recorder = Recorder(
            self.usage_log,
            self.reservations,
            self.metrics,
            self.call_log,
        )


def a_reservation(call: Call) -> Reservation:
    """What the call holds."""
    assert call.principal is not None
    assert call.model is not None
    request = ReservationRequest(
        request_id=call.request_id,
        principal=call.principal,
        model=call.model,
        endpoint=call.endpoint,
        client_wire=call.client_wire,
        input_tokens=1,
        input_bound=lambda: 1,
    )
    return Reservation(request=request, hold_nanousd=1, worst_nanousd=1, tokens=1)


async def test_answered_call_has_an_event_a_line_and_metrics() -> None:
    """All three under the same names."""
    records = Records()

    await records.recorder.record(a_call())

    (event,), (line,) = records.usage_log.events, records.call_log.lines
    assert (event.ttft_ms, event.duration_ms) == (490, 2000)
    assert (line["request_id"], line["outcome"], line["ttft_ms"]) == ("req_1", "completed", 490)
    assert (line["level"], line["overhead_ms"], line["deployment"]) == ("info", 10.0, "up/up-m")
    assert records.metrics._calls == {("chat_completions", "openai", "completed", 200): 1}
    assert records.metrics._deployments == {("up/up-m", "openai", "completed"): 1}
    assert records.metrics._models == {("m", False, "completed"): 1}
    assert records.metrics._tokens == {"up/up-m": [10, 0, 0, 4, 0]}
    records.metrics.flush()
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in records.metrics._metrics.client_ttft.collect()
        for sample in family.samples
    }
    # 10 ms later than the deployment's, which begins when the request is sent.
    assert samples["gateway_client_ttft_seconds_sum", "chat_completions"] == pytest.approx(0.5)


async def test_reserved_call_is_settled_instead_of_logged() -> None:
    """The settlement journals the event itself."""
    records, call = Records(), a_call()
    call.reservation = a_reservation(call)

    await records.recorder.record(call)

    assert [event.request_id for event in records.reservations.settled] == ["req_1"]
    assert records.usage_log.events == []


async def test_call_that_was_never_sent_has_no_event() -> None:
    """A refused client leaves a line and a count, no usage."""
    records = Records()
    call = a_call(
        attempts=0, attempt=None, first_sent_at=None,
        error=GatewayError(ErrorKind.RATE_LIMITED, ""), outcome="failed", ended_at=None,
    )  # fmt: skip

    await records.recorder.record(call)

    (line,) = records.call_log.lines
    assert records.usage_log.events == []
    assert line.keys().isdisjoint({"ttft_ms", "overhead_ms", "deployment", "input_tokens"})
    assert (line["level"], line["error_kind"], line["duration_ms"]) == ("info", "rate_limited", 0)
    assert records.metrics._errors == {("chat_completions", "rate_limited"): 1}


async def test_call_that_failed_through_us_is_logged_as_an_error() -> None:
    """Errors of the gateway and its upstreams are logged as errors, those of clients are not."""
    records = Records()

    await records.recorder.record(
        a_call(error=GatewayError(ErrorKind.UPSTREAM_BROKEN, "m", detail="host:80"))
    )

    (line,) = records.call_log.lines
    assert (line["level"], line["error_detail"]) == ("error", "host:80")


async def test_dropped_fields_are_counted_by_wires() -> None:
    """What a translation could not carry is seen in the metrics."""
    records = Records()

    await records.recorder.record(a_call(dropped=("top_k", "seed")))

    assert records.metrics._dropped == {("openai", "openai"): 2}


@pytest.mark.parametrize("name", ["finish_reason", "upstream_request_id", "user_agent"])
def test_foreign_text_is_stored_without_what_a_database_refuses(name: str) -> None:
    """PostgreSQL takes no NUL and no lone surrogate; the call must be charged all the same."""
    stored = [
        getattr(record_of(a_call(**{name: text})), name)
        for text in ("a\x00b\r\nc", "\x00", "\ud800x", "", "größe 1", "\x1b" + "a" * 500)
    ]

    assert stored == ["abc", None, "x", None, "größe 1", "a" * (MAX_FOREIGN_TEXT - 1)]


async def test_single_content_has_no_gap() -> None:
    """Between one content and itself there is no time."""
    records = Records()

    await records.recorder.record(a_call(content_count=1))

    names = {label for _, label, _ in records.metrics._histograms}
    assert names == {"chat_completions", "up/up-m"}
    assert len(records.metrics._histograms) == 4


def test_event_holds_neither_key_nor_content() -> None:
    """Every text of the event is an id, a name or a label."""
    call = a_call(user_agent="a" * 500, address="192.0.2.1")

    event = record_of(call)

    assert event.user_agent == "a" * MAX_FOREIGN_TEXT
    assert b"sk-" not in msgspec.json.encode(event)


async def test_unknown_model_is_not_logged() -> None:
    """The name is whatever a client sent in its place, perhaps a key."""
    records = Records()

    await records.recorder.record(a_call(model=None, model_asked="sk-typo", attempt=None))

    (line,) = records.call_log.lines
    assert b"sk-typo" not in msgspec.json.encode(line)


def test_checkpoint_of_a_running_stream_charges_what_it_has_used() -> None:
    """That is what is charged if this process dies."""
    meter = StreamMeter(Wire.OPENAI)
    meter.feed(b'data: {"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":7}}\n\n')
    call = a_call(meter=meter)

    event = checkpoint(call)

    assert (event.outcome, event.estimated) == ("abandoned", True)
    assert (event.usage.output, event.cost_nanousd) == (7, 10 + 14)


def test_checkpoint_before_the_answer_charges_the_input() -> None:
    """The prompt was sent."""
    call = a_call(usage=Usage(), input_estimate=30)

    assert checkpoint(call).cost_nanousd == 30


def test_checkpoint_before_anything_was_sent_charges_nothing() -> None:
    """Nothing was used."""
    call = a_call(input_estimate=30, attempt=None)

    assert checkpoint(call).cost_nanousd == 0


async def test_unreadable_usage_is_counted_each_time_and_logged_once_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An operator learns which deployment reports what cannot be true, without a flood."""
    records = Records()

    for ended_at in (102.0, 130.0, 161.9, 162.1):
        await records.recorder.record(a_call(unreadable_usage=True, ended_at=ended_at))
    await records.recorder.record(a_call(ended_at=300.0))

    assert records.metrics._unreadable_usage == {"up/up-m": 4}
    logged = [record for record in caplog.records if record.message == "usage_read_failed"]
    assert [record.deployment for record in logged] == ["up/up-m"] * 2  # type: ignore[attr-defined]


async def test_record_says_what_was_charged_beside_tokens() -> None:
    """Event and line explain the cost."""
    records = Records()
    usage = Usage(cache_write=9, cache_write_1h=7, web_searches=2, tier="priority")

    await records.recorder.record(a_call(usage=usage))

    (event,), (line,) = records.usage_log.events, records.call_log.lines
    assert event.usage == usage
    assert (line["cache_write_1h_tokens"], line["web_searches"], line["tier"]) == (7, 2, "priority")
