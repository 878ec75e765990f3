"""
Every metric of the gateway, in one place.

Labels come from closed sets (endpoint, wire, deployment, outcome, error kind, token class); never
a key, a caller, a request id or free text. Values are added up over all processes by
`server.metrics_process`. `docs/metrics.md` lists them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Literal, TypeAlias, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values

from gateway.core.model import Usage

_FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
_SLOW = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_GAPS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
_MICRO = (0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1)

_Mode: TypeAlias = Literal["livesum", "livemax"]
"""How a gauge is summed up over the processes that live."""

Key = TypeVar("Key")
Count = TypeVar("Count")

TOKEN_CLASSES = ("input", "cache_read", "cache_write", "output", "reasoning")


class Metrics:
    """
    The metrics of one process.

    Args:
        registry: Where to register; None (the workers' way) leaves exposure to the exporter.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self._registry = registry
        self._declare_calls()
        self._declare_times()
        self._declare_worker()
        self._declare_stores()
        self._declare_money()
        self._declare_ledger()

    def _declare_calls(self) -> None:
        self.requests = self._counter(
            "gateway_requests_total",
            "Calls by endpoint, wire of the caller, outcome and HTTP status.",
            ("endpoint", "client_wire", "outcome", "status"),
        )
        self.deployment_calls = self._counter(
            "gateway_deployment_calls_total",
            "Calls by the deployment that answered, its wire and the outcome.",
            ("deployment", "upstream_wire", "outcome"),
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
            "Request fields that were left out on the way to an upstream, by direction.",
            ("direction",),
        )
        self.unreadable_usage = self._counter(
            "gateway_unreadable_usage_total",
            "Calls whose reported usage cannot be true, and which were charged by an estimate.",
            ("deployment",),
        )

    def _declare_times(self) -> None:
        self.duration = self._histogram(
            "gateway_request_seconds",
            "From the request head to the end of the answer.",
            _SLOW,
            ("endpoint",),
        )
        self.overhead = self._histogram(
            "gateway_overhead_seconds",
            "Time before the upstream was asked: key, body, decoding, planning, admission.",
            _FAST,
            ("endpoint",),
        )
        self.ttft = self._histogram(
            "gateway_ttft_seconds",
            "From asking the upstream to the first content of a stream.",
            _SLOW,
            ("deployment",),
        )
        self.inter_token = self._histogram(
            "gateway_inter_token_seconds",
            "Mean gap between two contents of a stream; one observation a stream.",
            _GAPS,
            ("deployment",),
        )

    def _declare_worker(self) -> None:
        self.in_flight = self._gauge(
            "gateway_in_flight_calls",
            "Calls between their request head and the end of their answer.",
            "livesum",
        )
        self.body_bytes = self._gauge(
            "gateway_buffered_body_bytes",
            "Request bodies that workers hold, in bytes as they arrived.",
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
            "How late the worker's event loop woke a timer, sampled four times a second.",
            _FAST,
        )
        self.log_lines_dropped = self._counter(
            "gateway_log_lines_dropped_total",
            "Call lines dropped because the log's reader was too slow.",
        )

    def _declare_stores(self) -> None:
        self.bus_latency = self._histogram(
            "gateway_bus_command_seconds",
            "Round trips to Redis; one observation for the commands that travelled together.",
            _MICRO,
        )
        self.bus_failures = self._counter(
            "gateway_bus_failures_total",
            "Commands to Redis without an answer: late, broken off, or not sent as it was away.",
        )
        self.idempotency = self._counter(
            "gateway_idempotency_total",
            "Calls with an Idempotency-Key, by what became of it.",
            ("result",),
        )
        self.key_lookups = self._counter(
            "gateway_key_lookups_total",
            "Key checks that the worker's memory did not answer, by what did.",
            ("answered_by",),
        )
        self.usage_spilled = self._counter(
            "gateway_usage_spilled_total",
            "Usage events written to the local spill file because Redis did not take them.",
        )
        self.usage_lost = self._counter(
            "gateway_usage_lost_total",
            "Usage events that neither Redis nor the local disk took; alert on any.",
        )
        self.usage_refused = self._counter(
            "gateway_usage_refused_total",
            "Usage events that Redis refused for themselves, moved to the dead-letter stream; "
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
            "Calls that asked to be admitted: admitted, degraded (by this worker alone, Redis being"
            " away), unavailable, or the limit that refused them.",
            ("result",),
        )
        self.abandoned = self._counter(
            "gateway_abandoned_calls_total",
            "Calls settled with their last checkpoint because their worker was not heard of.",
        )
        self.degraded = self._gauge(
            "gateway_degraded",
            "Whether the worker admits calls without Redis, or refuses them for want of it.",
            "livemax",
        )

    def _declare_ledger(self) -> None:
        self.ledger_written = self._counter(
            "gateway_ledger_written_total",
            "Usage events that the ledger writer put into SQL.",
        )
        self.late_settlements = self._counter(
            "gateway_late_settlements_total",
            "Settlements that came after their call was booked as abandoned; the difference was "
            "booked.",
        )
        self.ledger_parked = self._counter(
            "gateway_ledger_parked_total",
            "Entries that cannot be stored, moved to the dead-letter stream; alert on any.",
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

    def _counter(self, name: str, told: str, labels: Sequence[str] = ()) -> Counter:
        return Counter(name, told, labels, registry=self._registry)

    def _gauge(self, name: str, told: str, mode: _Mode, labels: Sequence[str] = ()) -> Gauge:
        return Gauge(name, told, labels, registry=self._registry, multiprocess_mode=mode)

    def _histogram(
        self, name: str, told: str, buckets: Sequence[float], labels: Sequence[str] = ()
    ) -> Histogram:
        return Histogram(name, told, labels, registry=self._registry, buckets=buckets)


class CallMetrics:
    """
    The per-call metrics, gathered in plain dictionaries and handed on once a second.

    One increment of a metric that is shared between processes costs as much as ten of a dictionary,
    and a call makes a dozen. The number of label combinations is bounded by the catalogue.
    """

    def __init__(self, metrics: Metrics) -> None:
        self.in_flight = 0
        self.body_bytes = 0
        self._metrics = metrics
        self._calls: dict[tuple[str, str, str, int], int] = {}
        self._deployments: dict[tuple[str, str, str], int] = {}
        self._errors: dict[tuple[str, str], int] = {}
        self._upstream_errors: dict[tuple[str, str], int] = {}
        self._tokens: dict[str, list[int]] = {}
        self._dropped: dict[tuple[str, str], int] = {}
        self._unreadable_usage: dict[str, int] = {}
        self._reservations: dict[str, int] = {}
        self._gathered: dict[tuple[int, str], _Gathered] = {}

    def count_call(self, endpoint: str, client_wire: str, outcome: str, status: int) -> None:
        """Count one finished call."""
        key = (endpoint, client_wire, outcome, status)
        self._calls[key] = self._calls.get(key, 0) + 1

    def count_deployment(self, deployment: str, upstream_wire: str, outcome: str) -> None:
        """Count one call for the deployment that served it."""
        key = (deployment, upstream_wire, outcome)
        self._deployments[key] = self._deployments.get(key, 0) + 1

    def count_error(self, endpoint: str, error_kind: str) -> None:
        """Count one call that ended with an error."""
        key = (endpoint, error_kind)
        self._errors[key] = self._errors.get(key, 0) + 1

    def count_upstream_error(self, deployment: str, error_kind: str) -> None:
        """Count one failed attempt."""
        key = (deployment, error_kind)
        self._upstream_errors[key] = self._upstream_errors.get(key, 0) + 1

    def count_tokens(self, deployment: str, usage: Usage) -> None:
        """Add the tokens of one call to their classes."""
        sums = self._tokens.get(deployment)
        if sums is None:
            sums = self._tokens[deployment] = [0] * len(TOKEN_CLASSES)
        sums[0] += usage.input
        sums[1] += usage.cache_read
        sums[2] += usage.cache_write
        sums[3] += usage.output
        sums[4] += usage.reasoning

    def count_unreadable_usage(self, deployment: str) -> None:
        """Count one call whose reported usage cannot be true."""
        self._unreadable_usage[deployment] = self._unreadable_usage.get(deployment, 0) + 1

    def count_dropped(self, client_wire: str, upstream_wire: str, fields: int) -> None:
        """Count request fields that were left out on the way to an upstream."""
        key = (client_wire, upstream_wire)
        self._dropped[key] = self._dropped.get(key, 0) + fields

    def count_reservation(self, result: str) -> None:
        """Count one call that asked to be admitted, see `gateway_reservations_total`."""
        self._reservations[result] = self._reservations.get(result, 0) + 1

    def observe_duration(self, endpoint: str, seconds: float) -> None:
        """Observe a call's whole time."""
        self._gather(self._metrics.duration, endpoint, seconds)

    def observe_overhead(self, endpoint: str, seconds: float) -> None:
        """Observe the time before the upstream was asked."""
        self._gather(self._metrics.overhead, endpoint, seconds)

    def observe_ttft(self, deployment: str, seconds: float) -> None:
        """Observe the time to the first content of a stream."""
        self._gather(self._metrics.ttft, deployment, seconds)

    def observe_inter_token(self, deployment: str, seconds: float) -> None:
        """Observe the mean gap between contents of one stream."""
        self._gather(self._metrics.inter_token, deployment, seconds)

    def flush(self) -> None:
        """Hand on what was counted since the last time."""
        metrics = self._metrics
        metrics.in_flight.set(self.in_flight)
        metrics.body_bytes.set(self.body_bytes)
        for (endpoint, wire, outcome, status), count in _taken(self._calls):
            metrics.requests.labels(endpoint, wire, outcome, str(status)).inc(count)
        for labels, count in _taken(self._deployments):
            metrics.deployment_calls.labels(*labels).inc(count)
        for pair, count in _taken(self._errors):
            metrics.errors.labels(*pair).inc(count)
        for pair, count in _taken(self._upstream_errors):
            metrics.upstream_errors.labels(*pair).inc(count)
        for (client, upstream), count in _taken(self._dropped):
            metrics.dropped_fields.labels(f"{client}_{upstream}").inc(count)
        self._flush_reservations()
        for gathered in self._gathered.values():
            gathered.flush()
        self._flush_usage()

    def _flush_usage(self) -> None:
        metrics = self._metrics
        for deployment, count in _taken(self._unreadable_usage):
            metrics.unreadable_usage.labels(deployment).inc(count)
        for deployment, sums in _taken(self._tokens):
            for name, amount in zip(TOKEN_CLASSES, sums, strict=True):
                if amount:
                    metrics.tokens.labels(deployment, name).inc(amount)

    def _flush_reservations(self) -> None:
        if self._reservations:
            alone = self._reservations.keys() & {"degraded", "unavailable"}
            self._metrics.degraded.set(1 if alone else 0)
        for result, count in _taken(self._reservations):
            self._metrics.reservations.labels(result).inc(count)

    def _gather(self, family: Histogram, label: str, seconds: float) -> None:
        key = (id(family), label)
        gathered = self._gathered.get(key)
        if gathered is None:
            gathered = self._gathered[key] = _Gathered(family.labels(label))
        gathered.observe(seconds)


class _Gathered:
    """
    Observations for one histogram, bucket by bucket.

    prometheus_client has no public way to add many observations at once; what `flush` writes is
    what its `observe` writes, once for all.
    """

    __slots__ = ("_bounds", "_counts", "_histogram", "_sum")

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        self._bounds: list[float] = list(histogram._upper_bounds)
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def flush(self) -> None:
        for index, count in enumerate(self._counts):
            if count:
                self._histogram._buckets[index].inc(count)
                self._counts[index] = 0
        if self._sum:
            self._histogram._sum.inc(self._sum)
            self._sum = 0.0


def _taken(counted: dict[Key, Count]) -> list[tuple[Key, Count]]:
    """Return what was counted, and begin anew."""
    found = list(counted.items())
    counted.clear()
    return found


def fix_process(pid: int) -> None:
    """
    Have the metrics made from now on belong to process `pid` for good.

    Left alone, prometheus_client asks the kernel for the process id at every single increment.
    """
    values.ValueClass = values.MultiProcessValue(lambda: pid)  # type: ignore[no-untyped-call]
