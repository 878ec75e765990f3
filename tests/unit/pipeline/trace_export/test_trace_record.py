"""The record of a trace: wall-clock times, and every attempt of the call."""

import random
import time
from time import monotonic

from gateway.core.model import Endpoint, Usage, Wire
from gateway.pipeline.call import AttemptSpan, Call
from gateway.pipeline.record import record_of
from gateway.pipeline.trace_export.trace_record import trace_record
from gateway.pipeline.tracing.call_trace import CallTrace
from tests.support.pipeline_fakes import a_deployment, a_provider

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def test_times_and_attempts_of_a_call() -> None:
    """A failed attempt, one that served, and one that was still running at the end."""
    began = monotonic()
    call = Call("req_1", Endpoint.CHAT_COMPLETIONS, Wire.OPENAI, began)
    trace = CallTrace(random.Random(1), TRACE, PARENT, b"a=1", sampled=True, exported=True)
    deployment = a_deployment(a_provider())
    for number, (ended, status, error) in enumerate(
        [(began + 1.5, 429, "rate_limited"), (began + 4, 200, None), (None, 0, None)]
    ):
        attempt = call.begin_attempt(deployment, Wire.OPENAI, began + 1 + number)
        call.spans.append(AttemptSpan(f"{number:016x}", attempt, ended, status, error))
    served = call.spans[1].attempt
    served.first_content_at, served.usage = began + 2.25, Usage(input=3, output=2)
    served.finish_reason, served.upstream_request_id = "stop\x00", "u" * 500
    call.ended_at, call.status = began + 4.5, 200

    made = trace_record(call, trace, record_of(call))

    wall = time.time_ns() - round((monotonic() - began) * 1e9)
    assert abs(made.started_ns - wall) < 50_000_000
    assert made.ended_ns - made.started_ns == 4_500_000_000
    assert (made.trace_id, made.parent_id, made.state) == (TRACE, PARENT, "a=1")
    assert made.span_id == trace.span_id != ""
    since = [
        (each.started_ns - made.started_ns, each.ended_ns - made.started_ns, each.status)
        for each in made.attempts
    ]
    assert since == [
        (1_000_000_000, 1_500_000_000, 429),
        (2_000_000_000, 4_000_000_000, 200),
        (3_000_000_000, 4_500_000_000, 0),
    ]
    second = made.attempts[1]
    assert second.first_content_ns == made.started_ns + 2_250_000_000
    assert (second.usage, second.finish_reason) == (Usage(input=3, output=2), "stop")
    assert (second.upstream_request_id, made.attempts[0].error) == ("u" * 200, "rate_limited")
    assert (second.provider, second.upstream_model) == (
        deployment.provider.name,
        deployment.upstream_model,
    )
