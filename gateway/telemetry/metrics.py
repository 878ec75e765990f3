"""
Every metric of the gateway, in one place.

Labels come from closed sets (endpoint, wire, model, deployment, outcome, error kind, token class),
never from keys, clients, request ids or free text. `server.metrics_process` sums the values over
all processes. `docs/metrics.md` lists every metric.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values

_FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
_SLOW = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_GAPS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
_MICRO = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1)

_Mode: TypeAlias = Literal["livesum", "livemax"]
"""How a gauge is aggregated over the running processes."""


class Metrics:
    """
    The metrics of one process.

    Args:
        registry: Registers the metrics; None in workers, whose metrics the metrics process exposes.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self._registry = registry
        self._declare_calls()
        self._declare_health()
        self._declare_times()
        self._declare_worker()
        self._declare_stores()
        self._declare_money()
        self._declare_ledger()
        self._declare_configuration()

    def _declare_calls(self) -> None:
        self.requests = self._counter(
            "gateway_requests_total",
            "Calls by endpoint, client wire, outcome and HTTP status.",
            ("endpoint", "client_wire", "outcome", "status"),
        )
        self.deployment_calls = self._counter(
            "gateway_deployment_calls_total",
            "Calls by serving deployment, its wire and the outcome.",
            ("deployment", "upstream_wire", "outcome"),
        )
        self.model_calls = self._counter(
            "gateway_model_calls_total",
            "Calls by the requested model of the catalogue, streamed or not, and the outcome.",
            ("model", "stream", "outcome"),
        )
        self.charges = self._counter(
            "gateway_charges_dollars_total",
            "What accounts were charged, by model.",
            ("model",),
        )
        self.upstream_cost = self._counter(
            "gateway_upstream_cost_dollars_total",
            "Cost to the operator, by the serving deployment's `cost`.",
            ("deployment",),
        )
        self.errors = self._counter(
            "gateway_errors_total",
            "Calls that ended with an error, by kind.",
            ("endpoint", "error_kind"),
        )
        self.upstream_errors = self._counter(
            "gateway_upstream_errors_total",
            "Failed attempts, by deployment and kind; a call may have several.",
            ("deployment", "error_kind"),
        )
        self.tokens = self._counter(
            "gateway_tokens_total",
            "Tokens by deployment and class; the classes are disjoint.",
            ("deployment", "token_class"),
        )
        self.dropped_fields = self._counter(
            "gateway_dropped_fields_total",
            "Request fields that were dropped before the request was sent, by direction.",
            ("direction",),
        )
        self.unreadable_usage = self._counter(
            "gateway_unreadable_usage_total",
            "Calls whose reported usage is impossible; they are charged by an estimate.",
            ("deployment",),
        )

    def _declare_health(self) -> None:
        self.deployment_state = self._gauge(
            "gateway_deployment_state",
            "State of each deployment: 0 ready, 1 resting, 2 half open, 3 open, 4 out: its "
            "credential or credit was refused; alert on 4.",
            "livemax",
            ("deployment",),
        )
        self.retries_refused = self._counter(
            "gateway_retries_refused_total",
            "Retries that were not made because the worker's retry budget was spent.",
        )

        self.hedges = self._counter(
            "gateway_hedges_total",
            "Calls sent to a second deployment because the first was slow, by result: won, lost, "
            "failed; and by the slow deployment: refused, because the model's budget was spent.",
            ("deployment", "result"),
        )
        self.hedge_cost = self._counter(
            "gateway_hedge_cost_dollars_total",
            "Cost to the operator of attempts that were cancelled because another was faster, by "
            "the deployment's `cost`.",
            ("deployment",),
        )

    def _declare_times(self) -> None:
        self.duration = self._histogram(
            "gateway_request_seconds",
            "Time from the request head to the end of the response, for streams and others.",
            _SLOW,
            ("endpoint", "stream"),
        )
        self.overhead = self._histogram(
            "gateway_overhead_seconds",
            "Time until the request is sent upstream: key, body, decoding, planning, admission.",
            _FAST,
            ("endpoint",),
        )
        self.ttft = self._histogram(
            "gateway_ttft_seconds",
            "Time from sending the request upstream to the first content of a stream.",
            _SLOW,
            ("deployment",),
        )
        self.client_ttft = self._histogram(
            "gateway_client_ttft_seconds",
            "Time from the request head to the first content of a stream, as the client sees it:"
            " admission and failed attempts included.",
            _SLOW,
            ("endpoint",),
        )
        self.inter_token = self._histogram(
            "gateway_inter_token_seconds",
            "Mean time between two contents of a stream; one observation per stream.",
            _GAPS,
            ("deployment",),
        )

    def _declare_worker(self) -> None:
        self.in_flight = self._gauge(
            "gateway_in_flight_calls",
            "Calls between their request head and the end of their response.",
            "livesum",
        )
        self.body_bytes = self._gauge(
            "gateway_buffered_body_bytes",
            "Size of the request bodies in the workers' memory, as received.",
            "livesum",
        )
        self.upstream_connections = self._gauge(
            "gateway_upstream_connections",
            "Open connections to upstreams.",
            "livesum",
            ("state",),
        )
        self.loop_lag = self._histogram(
            "gateway_loop_lag_seconds",
            "How late the worker's event loop ran a callback that was due, sampled up to twenty "
            "times a second.",
            (*_FAST, 2.5, 5.0, 10.0),
        )
        self.overload = self._counter(
            "gateway_overload_total",
            "Calls refused for a bound of the worker: in_flight (server.max_in_flight), body_bytes "
            "(server.max_buffered_bytes) or loop_lag (server.max_loop_lag_ms).",
            ("bound",),
        )
        self.log_lines_dropped = self._counter(
            "gateway_log_lines_dropped_total",
            "Call lines dropped because the log's reader was too slow.",
        )

        self.traces = self._counter(
            "gateway_traces_total",
            "Calls whose trace is exported, by result: exported, dropped (a queue was full or the"
            " exporter away) or failed (the collector did not accept them).",
            ("result",),
        )

    def _declare_stores(self) -> None:
        self.bus_latency = self._histogram(
            "gateway_bus_command_seconds",
            "Round trips to Redis; one observation for all commands sent together.",
            _MICRO,
        )
        self.redis_unavailable = self._gauge(
            "gateway_redis_unavailable",
            "Whether a worker has no connection to Redis.",
            "livemax",
        )
        self.bus_failures = self._counter(
            "gateway_bus_failures_total",
            "Commands to Redis without a reply: timed out, connection lost, or not sent.",
        )
        self.idempotency = self._counter(
            "gateway_idempotency_total",
            "Calls with an Idempotency-Key, by result.",
            ("result",),
        )
        self.stored_responses = self._counter(
            "gateway_stored_responses_total",
            "Responses to be stored for follow-up requests, by result: kept, too_large (responses."
            "max_response_bytes) or refused (no room in Redis, or Redis is unavailable).",
            ("result",),
        )
        self.key_lookups = self._counter(
            "gateway_key_lookups_total",
            "Key lookups that missed the worker's local cache, by the store that resolved them.",
            ("answered_by",),
        )
        self.usage_spilled = self._counter(
            "gateway_usage_spilled_total",
            "Usage events written to the local spill file because Redis did not accept them.",
        )
        self.usage_direct = self._counter(
            "gateway_usage_direct_total",
            "Usage events that a worker booked in SQL itself, because Redis did not accept them.",
        )
        self.usage_lost = self._counter(
            "gateway_usage_lost_total",
            "Usage events that neither Redis nor the local disk accepted; alert on any.",
        )
        self.usage_refused = self._counter(
            "gateway_usage_refused_total",
            "Usage events that Redis rejected as invalid, moved to the dead-letter stream; "
            "alert on any.",
        )
        self.spill_oldest = self._gauge(
            "gateway_spill_oldest_seconds",
            "Age of the oldest local spill file that waits for its replay.",
            "livemax",
        )
        self.spill_bytes = self._gauge(
            "gateway_spill_bytes",
            "Bytes of usage events that wait in local spill files.",
            "livemax",
        )

    def _declare_money(self) -> None:
        self.reservations = self._counter(
            "gateway_reservations_total",
            "Admissions of calls, by result: admitted, degraded (by this worker alone, without"
            " Redis), unavailable, or the limit that refused the call.",
            ("result",),
        )
        self.abandoned = self._counter(
            "gateway_abandoned_calls_total",
            "Calls settled with their last checkpoint because their worker's lease expired.",
        )
        self.degraded = self._gauge(
            "gateway_degraded",
            "Whether the worker admits or refuses calls without Redis, because it is unavailable.",
            "livemax",
        )

        self.live_workers = self._gauge(
            "gateway_live_workers",
            "Workers of all pods when Redis last responded, which share the limits without it.",
            "livemax",
        )

    def _declare_ledger(self) -> None:
        self.ledger_written = self._counter(
            "gateway_ledger_written_total",
            "Usage events that the ledger writer wrote to SQL.",
        )
        self.late_settlements = self._counter(
            "gateway_late_settlements_total",
            "Settlements that arrived after their call was booked as abandoned; the difference was "
            "booked.",
        )
        self.ledger_parked = self._counter(
            "gateway_ledger_parked_total",
            "Entries that cannot be stored, moved to the dead-letter stream; alert on any.",
        )
        self.ledger_failing = self._gauge(
            "gateway_ledger_failing",
            "Whether the ledger writer's last turn failed, because Redis or SQL is unavailable.",
            "livemax",
        )
        self.ledger_lag = self._gauge(
            "gateway_ledger_lag_seconds",
            "Age of the oldest usage event that is not in SQL yet.",
            "livemax",
        )
        self.ledger_length = self._gauge(
            "gateway_ledger_stream_length",
            "Usage events that wait in the stream.",
            "livemax",
        )

    def _declare_configuration(self) -> None:
        self.build_info = self._gauge(
            "gateway_build_info",
            "Version of the gateway and of Python; always 1.",
            "livemax",
            ("version", "python"),
        )
        self.sql_unavailable = self._gauge(
            "gateway_sql_unavailable",
            "Whether the database was unavailable when a worker last used it. Such a worker tries"
            " again every 5 s.",
            "livemax",
        )
        self.config_info = self._gauge(
            "gateway_config_info",
            "Digest of the configuration without secrets; 1 for the one that is applied, 0 for"
            " earlier ones. Instances with the same digest have the same configuration.",
            "livemax",
            ("sha256",),
        )
        self.config_reloads = self._counter(
            "gateway_config_reloads_total",
            "Reloads of the configuration, by result: applied, rejected (it has an error, or a "
            "secret is missing) or not_applied (some workers keep the old one); alert on both.",
            ("result",),
        )
        self.config_applied_at = self._gauge(
            "gateway_config_last_applied_timestamp_seconds",
            "When the configuration was last applied, at the start or by a reload, as Unix time.",
            "livemax",
        )
        self.catalogue_rejected = self._gauge(
            "gateway_catalogue_rejected_entries",
            "Providers and models in SQL that are left out because they cannot be served, without"
            " those that the file overrides; alert on any.",
            "livemax",
        )

    def _counter(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Counter:
        return Counter(name, help_text, labels, registry=self._registry)

    def _gauge(self, name: str, help_text: str, mode: _Mode, labels: Sequence[str] = ()) -> Gauge:
        return Gauge(name, help_text, labels, registry=self._registry, multiprocess_mode=mode)

    def _histogram(
        self, name: str, help_text: str, buckets: Sequence[float], labels: Sequence[str] = ()
    ) -> Histogram:
        return Histogram(name, help_text, labels, registry=self._registry, buckets=buckets)


def fix_process(pid: int) -> None:
    """
    Bind all metrics created from now on to the process `pid`.

    By default prometheus_client asks the kernel for the process id at every increment.
    """
    values.ValueClass = values.MultiProcessValue(lambda: pid)  # type: ignore[no-untyped-call]
