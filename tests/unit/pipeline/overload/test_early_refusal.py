"""What a client gets, and what is counted, if the worker cannot take its call."""

from __future__ import annotations

import json

import pytest
from prometheus_client import CollectorRegistry

from gateway.core.model import Endpoint
from gateway.pipeline.overload.early_refusal import EarlyRefusal
from gateway.telemetry.call_metrics import CallMetrics
from gateway.telemetry.metrics import Metrics
from tests.support.pipeline_fakes import FakeClient

OPENAI = {
    "error": {
        "message": "The service is overloaded. Try again.",
        "type": "service_unavailable_error",
        "param": None,
        "code": "server_is_overloaded",
    }
}
ANTHROPIC = {
    "type": "error",
    "error": {"type": "overloaded_error", "message": "Too many open requests. Try again."},
    "request_id": "req_7",
}


@pytest.mark.parametrize(
    ("endpoint", "bound", "status", "body"),
    [
        (Endpoint.RESPONSES, "loop_lag", 503, OPENAI),
        (Endpoint.COUNT_TOKENS, "in_flight", 529, ANTHROPIC),
    ],
)
async def test_refusal_is_in_the_dialect_and_counted(
    endpoint: Endpoint, bound: str, status: int, body: object
) -> None:
    """With the id of this call, which the client may quote."""
    registry = CollectorRegistry()
    metrics = CallMetrics(Metrics(registry))
    client = FakeClient("/", b"x", headers=[(b"content-length", b"1")])
    refusal = EarlyRefusal(lambda: None, metrics)

    await refusal.of(endpoint, bound).respond(client.channel(), "req_7")

    assert (client.status, json.loads(client.body), client.ended) == (status, body, True)
    assert dict(client.headers) == {
        b"content-type": b"application/json",
        b"content-length": b"%d" % len(client.body),
        b"retry-after": b"1",
        b"request-id": b"req_7",
        b"x-request-id": b"req_7",
    }
    metrics.flush()
    counted = {
        sample.name: (sample.labels, sample.value)
        for family in registry.collect()
        for sample in family.samples
        if sample.value and sample.name.endswith("_total")
    }
    wire = endpoint.wire.value
    labels = {"endpoint": endpoint.value, "client_wire": wire, "outcome": "failed"}
    assert counted["gateway_requests_total"] == ({**labels, "status": str(status)}, 1.0)
    assert counted["gateway_overload_total"] == ({"bound": bound}, 1.0)
    assert counted["gateway_errors_total"][1] == 1.0


async def test_each_refusal_has_its_own_id() -> None:
    """Although the response is rendered once."""
    refusal = EarlyRefusal(lambda: None, CallMetrics(Metrics(CollectorRegistry())))
    ids = []
    for request_id in ("req_1", "req_22"):
        client = FakeClient("/")
        await refusal.of(Endpoint.MESSAGES, "loop_lag").respond(client.channel(), request_id)
        ids.append((json.loads(client.body)["request_id"], client.header(b"content-length")))

    assert [name for name, _ in ids] == ["req_1", "req_22"]
    assert int(ids[1][1] or 0) == int(ids[0][1] or 0) + 1
