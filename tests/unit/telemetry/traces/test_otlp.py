"""Calls as spans: names, times, parents and attributes of the semantic conventions."""

import json
from typing import Any

import msgspec
import pytest

from gateway.core.model import CallRecord, Usage
from gateway.telemetry.traces.otlp import request_body, spans_of
from gateway.telemetry.traces.records import AttemptTrace, CallTraceRecord

TRACE, PARENT, SERVER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", "a" * 16
USAGE = Usage(input=10, cache_read=100, cache_write=5, output=7, reasoning=3)
RECORD = CallRecord(
    request_id="req_1", at_ms=1, key_id="key_1", account_id="acc_1", model="smart",
    endpoint="chat_completions", client_wire="openai", stream=True, status=200, usage=USAGE,
    cost_nanousd=1234, finish_reason="stop", attempts=2, address="203.0.113.9", user_agent="test/1",
)  # fmt: skip
FAILED = AttemptTrace(
    "b" * 16, "first", "groq", "llama", "openai", 1_000, 2_000, status=429, error="rate_limited"
)
SERVED = AttemptTrace(
    "c" * 16, "ours", "vllm", "qwen", "openai", 2_000, 9_000, status=200, usage=USAGE,
    finish_reason="stop", upstream_request_id="up-1", first_content_ns=500_002_000,
)  # fmt: skip
CALL = CallTraceRecord(
    TRACE, SERVER, 500, 10_000, RECORD, (FAILED, SERVED), parent_id=PARENT, state="a=1"
)


def plain(span: dict[str, Any]) -> dict[str, object]:
    """The attributes of a span as values."""
    found: dict[str, object] = {}
    for attribute in span["attributes"]:
        ((kind, value),) = attribute["value"].items()
        if kind == "arrayValue":
            value = [each["stringValue"] for each in value["values"]]
        found[attribute["key"]] = int(value) if kind == "intValue" else value
    return found


def test_server_span_has_the_call() -> None:
    """It is the child of the client's span; cached tokens count as input, reasoning as output."""
    server, *_ = spans_of(CALL)

    assert plain(server) == {
        "http.request.method": "POST",
        "http.route": "/v1/chat/completions",
        "http.response.status_code": 200,
        "client.address": "203.0.113.9",
        "user_agent.original": "test/1",
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "smart",
        "gen_ai.request.stream": True,
        "gen_ai.provider.name": "ours",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 115,
        "gen_ai.usage.cache_read.input_tokens": 100,
        "gen_ai.usage.cache_creation.input_tokens": 5,
        "gen_ai.usage.output_tokens": 10,
        "gen_ai.usage.reasoning.output_tokens": 3,
        "capio.request_id": "req_1",
        "capio.account_id": "acc_1",
        "capio.key_id": "key_1",
        "capio.outcome": "completed",
        "capio.attempts": 2,
        "capio.cost_nanousd": 1234,
    }
    del server["attributes"]
    assert server == {
        "traceId": TRACE,
        "spanId": SERVER,
        "parentSpanId": PARENT,
        "traceState": "a=1",
        "name": "POST /v1/chat/completions",
        "kind": 2,
        "flags": 0x301,
        "startTimeUnixNano": "500",
        "endTimeUnixNano": "10000",
        "status": {},
    }


def test_each_attempt_is_a_child_of_the_server_span() -> None:
    """A failed one has its error; providers have the conventions' names, or the operator's."""
    _, failed, served = spans_of(CALL)

    assert plain(failed) == {
        "http.request.method": "POST",
        "http.response.status_code": 429,
        "error.type": "rate_limited",
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "groq",
        "gen_ai.request.model": "llama",
        "gen_ai.request.stream": True,
        "capio.deployment": "first/llama",
        "capio.upstream_wire": "openai",
    }
    assert plain(served) == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "ours",
        "gen_ai.request.model": "qwen",
        "gen_ai.request.stream": True,
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.response.time_to_first_chunk": 0.5,
        "gen_ai.usage.input_tokens": 115,
        "gen_ai.usage.cache_read.input_tokens": 100,
        "gen_ai.usage.cache_creation.input_tokens": 5,
        "gen_ai.usage.output_tokens": 10,
        "gen_ai.usage.reasoning.output_tokens": 3,
        "capio.deployment": "ours/qwen",
        "capio.upstream_wire": "openai",
        "capio.upstream_request_id": "up-1",
    }
    assert [(span["spanId"], span["parentSpanId"]) for span in (failed, served)] == [
        ("b" * 16, SERVER),
        ("c" * 16, SERVER),
    ]
    assert (failed["kind"], failed["name"], failed["status"]) == (3, "chat llama", {"code": 2})
    assert (served["flags"], served["status"]) == (0x101, {})


@pytest.mark.parametrize(
    ("status", "error", "failed", "shown"),
    [
        (200, None, False, None),
        (401, "invalid_key", False, "invalid_key"),
        (503, "overloaded", True, "overloaded"),
        (500, None, True, "500"),
        (200, "upstream_broken", True, "upstream_broken"),
    ],
)
def test_error_of_a_call(status: int, error: str | None, failed: bool, shown: str | None) -> None:
    """A refusal because of the request is no failure of a server; a stream that broke is one."""
    record = msgspec.structs.replace(RECORD, status=status, error_kind=error)
    (span,) = spans_of(CallTraceRecord(TRACE, SERVER, 1, 2, record))

    assert span["status"] == ({"code": 2} if failed else {})
    assert plain(span).get("error.type") == shown
    assert "parentSpanId" not in span


def test_request_has_the_resource_and_all_spans() -> None:
    """One resource, one scope, and the spans of every call."""
    document = json.loads(request_body([CALL, CALL], {"service.name": "Capio"}))

    (resource,) = document["resourceSpans"]
    assert resource["resource"]["attributes"] == [
        {"key": "service.name", "value": {"stringValue": "Capio"}}
    ]
    (scope,) = resource["scopeSpans"]
    assert scope["scope"] == {"name": "capio"}
    assert len(scope["spans"]) == 6
