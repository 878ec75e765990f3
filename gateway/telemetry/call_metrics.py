"""Collects the metrics of finished calls and adds them to the shared metrics in batches."""

from __future__ import annotations

from bisect import bisect_left
from typing import TypeVar

from prometheus_client import Histogram

from gateway.core.model import Usage
from gateway.core.money import NANOUSD_PER_USD
from gateway.telemetry.metrics import Metrics

_STREAM = ("false", "true")
TOKEN_CLASSES = ("input", "cache_read", "cache_write", "output", "reasoning")

Key = TypeVar("Key")
Count = TypeVar("Count")


class CallMetrics:
    """
    The per-call metrics, collected in plain dictionaries until `flush`.

    Incrementing a metric shared between processes costs as much as ten dictionary updates, and a
    call makes a dozen increments. The catalogue bounds the number of label combinations.
    """

    def __init__(self, metrics: Metrics) -> None:
        self.in_flight = 0
        self.body_bytes = 0
        self._metrics = metrics
        self._calls: dict[tuple[str, str, str, int], int] = {}
        self._deployments: dict[tuple[str, str, str], int] = {}
        self._models: dict[tuple[str, bool, str], int] = {}
        self._charged_nanousd: dict[str, int] = {}
        self._cost_nanousd: dict[str, int] = {}
        self._errors: dict[tuple[str, str], int] = {}
        self._upstream_errors: dict[tuple[str, str], int] = {}
        self._tokens: dict[str, list[int]] = {}
        self._dropped: dict[tuple[str, str], int] = {}
        self._unreadable_usage: dict[str, int] = {}
        self._reservations: dict[str, int] = {}
        self._hedges: dict[tuple[str, str], int] = {}
        self._lost_nanousd: dict[str, int] = {}
        self._overloads: dict[str, int] = {}
        self._histograms: dict[tuple[int, str, str | None], _HistogramBatch] = {}

    def count_call(self, endpoint: str, client_wire: str, outcome: str, status: int) -> None:
        key = (endpoint, client_wire, outcome, status)
        self._calls[key] = self._calls.get(key, 0) + 1

    def count_deployment(self, deployment: str, upstream_wire: str, outcome: str) -> None:
        """Count one call by the deployment that served it."""
        key = (deployment, upstream_wire, outcome)
        self._deployments[key] = self._deployments.get(key, 0) + 1

    def count_model(self, model: str, *, stream: bool, outcome: str, charged_nanousd: int) -> None:
        """Count one call by its model, and its charge."""
        key = (model, stream, outcome)
        self._models[key] = self._models.get(key, 0) + 1
        if charged_nanousd:
            charged = self._charged_nanousd
            charged[model] = charged.get(model, 0) + charged_nanousd

    def count_upstream_cost(self, deployment: str, nanousd: int) -> None:
        """Add the operator's cost of one call."""
        self._cost_nanousd[deployment] = self._cost_nanousd.get(deployment, 0) + nanousd

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
        """Count one call whose reported usage is implausible."""
        self._unreadable_usage[deployment] = self._unreadable_usage.get(deployment, 0) + 1

    def count_dropped(self, client_wire: str, upstream_wire: str, fields: int) -> None:
        """Count request fields dropped before the request went upstream."""
        key = (client_wire, upstream_wire)
        self._dropped[key] = self._dropped.get(key, 0) + fields

    def count_reservation(self, result: str) -> None:
        """Count one admission by its result, see `gateway_reservations_total`."""
        self._reservations[result] = self._reservations.get(result, 0) + 1

    def count_hedge(self, deployment: str, result: str) -> None:
        """Count one hedge by its result, see `gateway_hedges_total`."""
        key = (deployment, result)
        self._hedges[key] = self._hedges.get(key, 0) + 1

    def count_lost(self, deployment: str, nanousd: int) -> None:
        """Count one attempt that was cancelled because another one was faster, and its cost."""
        self._lost_nanousd[deployment] = self._lost_nanousd.get(deployment, 0) + nanousd

    def count_overload(self, bound: str) -> None:
        """Count one call refused for a bound of the worker, see `gateway_overload_total`."""
        self._overloads[bound] = self._overloads.get(bound, 0) + 1

    def observe_duration(self, endpoint: str, seconds: float, *, stream: bool) -> None:
        """Observe the total duration of a call."""
        self._observe(self._metrics.duration, endpoint, seconds, _STREAM[stream])

    def observe_overhead(self, endpoint: str, seconds: float) -> None:
        """Observe the time before the request was sent upstream."""
        self._observe(self._metrics.overhead, endpoint, seconds)

    def observe_ttft(self, deployment: str, seconds: float) -> None:
        """Observe the time to first token of a stream."""
        self._observe(self._metrics.ttft, deployment, seconds)

    def observe_client_ttft(self, endpoint: str, seconds: float) -> None:
        """Observe the time to first token of a stream, as its client sees it."""
        self._observe(self._metrics.client_ttft, endpoint, seconds)

    def observe_inter_token(self, deployment: str, seconds: float) -> None:
        """Observe the mean inter-token latency of a stream."""
        self._observe(self._metrics.inter_token, deployment, seconds)

    def flush(self) -> None:
        """Add what was collected since the last flush to the shared metrics."""
        metrics = self._metrics
        metrics.in_flight.set(self.in_flight)
        metrics.body_bytes.set(self.body_bytes)
        for (endpoint, wire, outcome, status), count in _drain(self._calls):
            metrics.requests.labels(endpoint, wire, outcome, str(status)).inc(count)
        for labels, count in _drain(self._deployments):
            metrics.deployment_calls.labels(*labels).inc(count)
        for pair, count in _drain(self._errors):
            metrics.errors.labels(*pair).inc(count)
        for pair, count in _drain(self._upstream_errors):
            metrics.upstream_errors.labels(*pair).inc(count)
        for (client, upstream), count in _drain(self._dropped):
            metrics.dropped_fields.labels(f"{client}_{upstream}").inc(count)
        for hedge, count in _drain(self._hedges):
            metrics.hedges.labels(*hedge).inc(count)
        for label, nanousd in _drain(self._lost_nanousd):
            metrics.hedge_cost.labels(label).inc(nanousd / NANOUSD_PER_USD)
        for bound, count in _drain(self._overloads):
            metrics.overload.labels(bound).inc(count)
        self._flush_reservations()
        for batch in self._histograms.values():
            batch.flush()
        self._flush_usage()

    def _flush_usage(self) -> None:
        metrics = self._metrics
        for (model, stream, outcome), count in _drain(self._models):
            metrics.model_calls.labels(model, _STREAM[stream], outcome).inc(count)
        for model, nanousd in _drain(self._charged_nanousd):
            metrics.charges.labels(model).inc(nanousd / NANOUSD_PER_USD)
        for label, nanousd in _drain(self._cost_nanousd):
            metrics.upstream_cost.labels(label).inc(nanousd / NANOUSD_PER_USD)
        for deployment, count in _drain(self._unreadable_usage):
            metrics.unreadable_usage.labels(deployment).inc(count)
        for deployment, sums in _drain(self._tokens):
            for name, amount in zip(TOKEN_CLASSES, sums, strict=True):
                if amount:
                    metrics.tokens.labels(deployment, name).inc(amount)

    def _flush_reservations(self) -> None:
        if self._reservations:
            without_redis = self._reservations.keys() & {"degraded", "unavailable"}
            self._metrics.degraded.set(1 if without_redis else 0)
        for result, count in _drain(self._reservations):
            self._metrics.reservations.labels(result).inc(count)

    def _observe(
        self, family: Histogram, label: str, seconds: float, second: str | None = None
    ) -> None:
        key = (id(family), label, second)
        batch = self._histograms.get(key)
        if batch is None:
            labels = (label,) if second is None else (label, second)
            batch = self._histograms[key] = _HistogramBatch(family.labels(*labels))
        batch.observe(seconds)


class _HistogramBatch:
    """Observations of one histogram, counted per bucket until `flush`."""

    # prometheus_client has no public way to add many observations at once, and its `observe` costs
    # two increments of shared values each time. `flush` writes what those would have written.

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


def _drain(counted: dict[Key, Count]) -> list[tuple[Key, Count]]:
    """Return the counts and reset them."""
    counts = list(counted.items())
    counted.clear()
    return counts
