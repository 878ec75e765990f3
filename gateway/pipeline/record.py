"""Records finished calls: one `CallRecord`, as usage event and log line, and the metrics."""

from __future__ import annotations

import logging
import time

import msgspec

from gateway.core.model import CallRecord, Endpoint, Usage
from gateway.core.pricing import cost_nanousd
from gateway.errors import ErrorSource
from gateway.pipeline.call import Attempt, Call
from gateway.pipeline.trace_export.trace_record import trace_record
from gateway.ports import Reservations, TraceLog, UsageLog
from gateway.telemetry.call_metrics import CallMetrics
from gateway.telemetry.foreign_text import recordable
from gateway.telemetry.logs import CallLine, CallLog

UNREADABLE_USAGE_LOG_S = 60.0
"""Unreadable usage is logged once per deployment in this time; the metric counts each call."""

logger = logging.getLogger(__name__)


class Recorder:
    """
    Records finished calls.

    Args:
        usage_log: The journal, for calls that reached an upstream without a reservation.
        reservations: Settles the calls that have a reservation.
        metrics: Counts every call.
        call_log: Gets a line for every call.
        traces: Gets the trace of every call that is exported; None: there is no collector.
    """

    def __init__(
        self,
        usage_log: UsageLog,
        reservations: Reservations | None,
        metrics: CallMetrics,
        call_log: CallLog,
        traces: TraceLog | None = None,
    ) -> None:
        self._usage_log = usage_log
        self._reservations = reservations
        self._metrics = metrics
        self._call_log = call_log
        self._traces = traces
        self._unreadable_logged_at: dict[str, float] = {}

    async def record(self, call: Call) -> None:
        """Record `call`, settled; `ended_at` and `status` are final."""
        self._count(call)
        record = record_of(call)
        self._call_log.write(_line(call, record))
        if self._traces is not None and call.trace is not None and call.trace.exported:
            self._traces.write(trace_record(call, call.trace, record))
        reservation = call.reservation
        if reservation is not None and self._reservations is not None:
            if call.endpoint is not Endpoint.COUNT_TOKENS:
                await self._reservations.settle(reservation, record)
                return
            await self._reservations.release(reservation)
        if call.attempts and call.principal is not None:
            await self._usage_log.append(record)

    def _count(self, call: Call) -> None:
        metrics = self._metrics
        endpoint = call.endpoint.label
        metrics.count_call(endpoint, call.client_wire.label, call.outcome, call.status)
        metrics.observe_duration(endpoint, _ended(call) - call.started_at, stream=call.stream)
        if call.model is not None:
            metrics.count_model(
                call.model.name,
                stream=call.stream,
                outcome=call.outcome,
                charged_nanousd=call.cost_nanousd,
            )
        if call.error is not None:
            metrics.count_error(endpoint, call.error.kind.value)
        if call.first_sent_at is not None:
            metrics.observe_overhead(endpoint, call.first_sent_at - call.started_at)
        attempt = call.attempt
        if attempt is None:
            return
        label = attempt.deployment.label
        metrics.count_deployment(label, attempt.wire.label, call.outcome)
        metrics.count_tokens(label, attempt.usage)
        if call.upstream_cost_nanousd:
            metrics.count_upstream_cost(label, call.upstream_cost_nanousd)
        if attempt.unreadable_usage:
            self._note_unreadable_usage(label, _ended(call))
        if call.dropped:
            wires = call.client_wire.label, attempt.wire.label
            metrics.count_dropped(*wires, len(call.dropped))
        if attempt.first_content_at is not None and not attempt.given_up:
            metrics.observe_ttft(label, attempt.first_content_at - attempt.sent_at)
            metrics.observe_client_ttft(endpoint, attempt.first_content_at - call.started_at)
            if attempt.content_count > 1 and attempt.last_content_at is not None:
                span = attempt.last_content_at - attempt.first_content_at
                metrics.observe_inter_token(label, span / (attempt.content_count - 1))

    def _note_unreadable_usage(self, deployment: str, now: float) -> None:
        self._metrics.count_unreadable_usage(deployment)
        last = self._unreadable_logged_at.get(deployment)
        if last is None or now - last >= UNREADABLE_USAGE_LOG_S:
            self._unreadable_logged_at[deployment] = now
            logger.warning("usage_read_failed", extra={"deployment": deployment})


def _ended(call: Call) -> float:
    return call.ended_at if call.ended_at is not None else call.started_at


def _ttft_ms(attempt: Attempt | None) -> int | None:
    if attempt is None or attempt.first_content_at is None or attempt.given_up:
        return None
    return round((attempt.first_content_at - attempt.sent_at) * 1000)


def _overhead_ms(call: Call) -> float | None:
    if call.first_sent_at is None:
        return None
    return round((call.first_sent_at - call.started_at) * 1000, 3)


def record_of(call: Call) -> CallRecord:
    """Return the record of a call in its current state."""
    principal, attempt = call.principal, call.attempt
    deployment = call.deployment
    return CallRecord(
        request_id=call.request_id,
        at_ms=time.time_ns() // 1_000_000,
        key_id=principal.key_id if principal else "",
        account_id=principal.account_id if principal else "",
        model=call.model.name if call.model else "",
        endpoint=call.endpoint.label,
        client_wire=call.client_wire.label,
        upstream_wire=attempt.wire.label if attempt else None,
        provider=deployment.provider.name if deployment else None,
        upstream_model=deployment.upstream_model if deployment else None,
        upstream_request_id=recordable(attempt.upstream_request_id if attempt else None),
        stream=call.stream,
        status=call.status,
        outcome=call.outcome,
        error_kind=call.error.kind.value if call.error else None,
        usage=call.usage,
        cost_nanousd=call.cost_nanousd,
        upstream_cost_nanousd=call.upstream_cost_nanousd,
        estimated=attempt is not None and attempt.estimated,
        finish_reason=recordable(attempt.finish_reason if attempt else None),
        ttft_ms=_ttft_ms(attempt),
        duration_ms=round((_ended(call) - call.started_at) * 1000),
        attempts=call.attempts,
        chain=tuple(call.chain),
        address=call.address,
        user_agent=recordable(call.user_agent),
    )


def checkpoint(call: Call) -> CallRecord:
    """Return the record to charge if this process dies during the call."""
    attempt = call.attempt
    usage = Usage() if attempt is None else attempt.usage_so_far(call.input_estimate)
    cost = cost_nanousd(usage, call.model.prices) if call.model is not None else 0
    record = msgspec.structs.replace(record_of(call), usage=usage, cost_nanousd=cost)
    return record.abandoned(record.at_ms)


def _line(call: Call, record: CallRecord) -> CallLine:
    error = call.error
    level = "info"
    if error is not None:
        level = "info" if error.surface.source is ErrorSource.CLIENT else "error"
    return CallLine(
        at=round(time.time(), 3),
        level=level,
        record=record,
        overhead_ms=_overhead_ms(call),
        error_detail=error.detail if error else None,
        trace_id=None if call.trace is None else call.trace.trace_id,
        dropped=call.dropped,
    )
