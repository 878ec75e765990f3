"""What calls count is added to the shared metrics by `flush`, each once."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from gateway.telemetry.call_metrics import CallMetrics
from gateway.telemetry.metrics import Metrics


def test_charges_and_cost_are_dollars_by_model_and_deployment() -> None:
    """Calls, what accounts pay and what the operator pays; streams and whole responses apart."""
    registry = CollectorRegistry()
    metrics = CallMetrics(Metrics(registry))

    metrics.count_model("m", stream=True, outcome="completed", charged_nanousd=1_500_000_000)
    metrics.count_model("m", stream=True, outcome="completed", charged_nanousd=500_000_000)
    metrics.count_model("m", stream=False, outcome="failed", charged_nanousd=0)
    metrics.count_upstream_cost("p/m", 250_000_000)
    metrics.flush()
    metrics.flush()

    calls = {"model": "m", "stream": "true", "outcome": "completed"}
    assert registry.get_sample_value("gateway_model_calls_total", calls) == 2
    calls = {"model": "m", "stream": "false", "outcome": "failed"}
    assert registry.get_sample_value("gateway_model_calls_total", calls) == 1
    assert registry.get_sample_value("gateway_charges_dollars_total", {"model": "m"}) == 2.0
    cost = registry.get_sample_value("gateway_upstream_cost_dollars_total", {"deployment": "p/m"})
    assert cost == 0.25


def test_durations_of_streams_and_whole_responses_are_apart() -> None:
    """One histogram each, with its own sum."""
    registry = CollectorRegistry()
    metrics = CallMetrics(Metrics(registry))

    metrics.observe_duration("messages", 30.0, stream=True)
    metrics.observe_duration("messages", 0.5, stream=False)
    metrics.observe_duration("messages", 1.5, stream=False)
    metrics.observe_overhead("messages", 0.002)
    metrics.flush()

    for stream, total, count in (("true", 30.0, 1), ("false", 2.0, 2)):
        labels = {"endpoint": "messages", "stream": stream}
        assert registry.get_sample_value("gateway_request_seconds_sum", labels) == total
        assert registry.get_sample_value("gateway_request_seconds_count", labels) == count
    overhead = registry.get_sample_value("gateway_overhead_seconds_sum", {"endpoint": "messages"})
    assert overhead == 0.002
