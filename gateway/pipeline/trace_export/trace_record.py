"""Builds the record of a call's trace from the call, once it has ended."""

from __future__ import annotations

import time
from time import monotonic

from gateway.core.model import CallRecord
from gateway.pipeline.call import AttemptSpan, Call
from gateway.pipeline.tracing.call_trace import CallTrace
from gateway.telemetry.foreign_text import recordable
from gateway.telemetry.traces.records import AttemptTrace, CallTraceRecord


def trace_record(call: Call, trace: CallTrace, record: CallRecord) -> CallTraceRecord:
    """
    Return what is exported of an ended call.

    Args:
        call: `ended_at` is final.
        trace: The call's.
        record: The call's, which has its usage and error.
    """
    # Spans have wall-clock times, calls those of the monotonic clock.
    offset_ns = time.time_ns() - round(monotonic() * 1e9)
    ended = call.started_at if call.ended_at is None else call.ended_at
    return CallTraceRecord(
        trace_id=trace.trace_id,
        span_id=trace.span_id,
        started_ns=round(call.started_at * 1e9) + offset_ns,
        ended_ns=round(ended * 1e9) + offset_ns,
        record=record,
        attempts=tuple([_attempt(span, ended, offset_ns) for span in call.spans]),
        parent_id=trace.parent_id,
        state=trace.state.decode("ascii"),
    )


def _attempt(span: AttemptSpan, ended: float, offset_ns: int) -> AttemptTrace:
    attempt, provider = span.attempt, span.attempt.deployment.provider
    first = attempt.first_content_at
    return AttemptTrace(
        span_id=span.span_id,
        provider=provider.name,
        dialect=provider.dialect,
        upstream_model=attempt.deployment.upstream_model,
        wire=attempt.wire.label,
        started_ns=round(attempt.sent_at * 1e9) + offset_ns,
        # Of a slower attempt that was given up, the call's end may come first.
        ended_ns=round((ended if span.ended_at is None else span.ended_at) * 1e9) + offset_ns,
        status=span.status,
        error=span.error,
        usage=attempt.usage,
        finish_reason=recordable(attempt.finish_reason),
        upstream_request_id=recordable(attempt.upstream_request_id),
        first_content_ns=None if first is None else round(first * 1e9) + offset_ns,
    )
