"""
Writes calls as spans of OpenTelemetry, in the JSON of OTLP.

Attribute names are those of the semantic conventions for HTTP and for generative AI; names of other
attributes begin with `capio.`. Prompts and responses are never part of a span.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from gateway.core.model import CallRecord, Usage
from gateway.telemetry.traces.records import AttemptTrace, CallTraceRecord

_SERVER, _CLIENT = 2, 3
_ERROR: Final = {"code": 2}
SCOPE: Final = "capio"
_SAMPLED: Final = 0x01
_REMOTE_PARENT: Final = 0x300
"""0x100: it is known whether the parent is in another process; 0x200: it is in another process."""
_LOCAL_PARENT: Final = 0x100

_ROUTES: Final = {
    "chat_completions": ("chat", "/v1/chat/completions"),
    "messages": ("chat", "/v1/messages"),
    "responses": ("chat", "/v1/responses"),
    "native_chat": ("chat", "/v1/chat"),
    "embeddings": ("embeddings", "/v1/embeddings"),
    "count_tokens": ("count_tokens", "/v1/messages/count_tokens"),
}
"""Endpoint -> `gen_ai.operation.name` and `http.route`."""
_PROVIDERS: Final = {
    "openai": "openai",
    "azure": "azure.ai.openai",
    "deepseek": "deepseek",
    "gemini": "gcp.gemini",
    "xai": "x_ai",
    "mistral": "mistral_ai",
    "groq": "groq",
    "anthropic": "anthropic",
}
"""Dialect -> `gen_ai.provider.name`; other dialects have the operator's name of the provider."""

Value = str | int | float | bool | tuple[str, ...] | None


def request_body(traces: Sequence[CallTraceRecord], resource: Mapping[str, str]) -> bytes:
    """Return the body of an export request with the spans of `traces`."""
    spans = [span for trace in traces for span in spans_of(trace)]
    document = {
        "resourceSpans": [
            {
                "resource": {"attributes": _attributes(resource.items())},
                "scopeSpans": [{"scope": {"name": SCOPE}, "spans": spans}],
            }
        ]
    }
    return msgspec.json.encode(document)


def spans_of(trace: CallTraceRecord) -> list[dict[str, Any]]:
    """Return the server span of a call, and its children: one for each attempt."""
    operation, route = _ROUTES.get(trace.record.endpoint, (trace.record.endpoint, ""))
    return [
        _server_span(trace, operation, route),
        *(_client_span(trace, attempt, operation) for attempt in trace.attempts),
    ]


def _server_span(trace: CallTraceRecord, operation: str, route: str) -> dict[str, Any]:
    record = trace.record
    last = trace.attempts[-1] if trace.attempts else None
    error = record.error_kind or (str(record.status) if record.status >= 500 else None)
    # By the conventions, a refusal because of the request does not make a server span an error.
    failed = record.status >= 500 or (error is not None and 200 <= record.status < 300)
    return _span(
        trace,
        trace.span_id,
        trace.parent_id,
        name=f"POST {route}",
        kind=_SERVER,
        times=(trace.started_ns, trace.ended_ns),
        failed=failed,
        attributes={
            "http.request.method": "POST",
            "http.route": route,
            "http.response.status_code": record.status or None,
            "client.address": record.address,
            "user_agent.original": record.user_agent,
            "error.type": error,
            "gen_ai.operation.name": operation,
            "gen_ai.request.model": record.model or None,
            "gen_ai.request.stream": record.stream or None,
            "gen_ai.provider.name": None if last is None else _provider(last),
            "gen_ai.response.finish_reasons": _reasons(record.finish_reason),
            **_usage(record.usage),
            **_own(record),
        },
    )


def _client_span(trace: CallTraceRecord, attempt: AttemptTrace, operation: str) -> dict[str, Any]:
    first, started = attempt.first_content_ns, attempt.started_ns
    return _span(
        trace,
        attempt.span_id,
        trace.span_id,
        name=f"{operation} {attempt.upstream_model}",
        kind=_CLIENT,
        times=(started, attempt.ended_ns),
        failed=attempt.error is not None,
        attributes={
            "http.request.method": "POST",
            "http.response.status_code": attempt.status or None,
            "error.type": attempt.error,
            "gen_ai.operation.name": operation,
            "gen_ai.provider.name": _provider(attempt),
            "gen_ai.request.model": attempt.upstream_model,
            "gen_ai.request.stream": trace.record.stream or None,
            "gen_ai.response.finish_reasons": _reasons(attempt.finish_reason),
            "gen_ai.response.time_to_first_chunk": (
                None if first is None else round((first - started) / 1e9, 6)
            ),
            **_usage(attempt.usage),
            "capio.deployment": f"{attempt.provider}/{attempt.upstream_model}",
            "capio.upstream_wire": attempt.wire,
            "capio.upstream_request_id": attempt.upstream_request_id,
        },
    )


def _span(
    trace: CallTraceRecord,
    span_id: str,
    parent_id: str | None,
    *,
    name: str,
    kind: int,
    times: tuple[int, int],
    failed: bool,
    attributes: Mapping[str, Value],
) -> dict[str, Any]:
    flags = _SAMPLED | (_REMOTE_PARENT if kind == _SERVER else _LOCAL_PARENT)
    span: dict[str, Any] = {
        "traceId": trace.trace_id,
        "spanId": span_id,
        "name": name,
        "kind": kind,
        "flags": flags if parent_id else _SAMPLED,
        "startTimeUnixNano": str(times[0]),
        "endTimeUnixNano": str(max(times)),
        "attributes": _attributes(attributes.items()),
        "status": _ERROR if failed else {},
    }
    if parent_id:
        span["parentSpanId"] = parent_id
    if trace.state:
        span["traceState"] = trace.state
    return span


def _provider(attempt: AttemptTrace) -> str:
    return _PROVIDERS.get(attempt.dialect, attempt.provider)


def _reasons(reason: str | None) -> tuple[str, ...] | None:
    return None if reason is None else (reason,)


def _usage(usage: Usage) -> dict[str, Value]:
    """Return the token counts that are not zero; the conventions count cached ones as input."""
    return {
        "gen_ai.usage.input_tokens": usage.input + usage.cache_read + usage.cache_write or None,
        "gen_ai.usage.cache_read.input_tokens": usage.cache_read or None,
        "gen_ai.usage.cache_creation.input_tokens": usage.cache_write or None,
        "gen_ai.usage.output_tokens": usage.output + usage.reasoning or None,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning or None,
    }


def _own(record: CallRecord) -> dict[str, Value]:
    return {
        "capio.request_id": record.request_id,
        "capio.account_id": record.account_id or None,
        "capio.key_id": record.key_id or None,
        "capio.outcome": record.outcome,
        "capio.attempts": record.attempts,
        "capio.cost_nanousd": record.cost_nanousd,
    }


def _attributes(values: Iterable[tuple[str, Value]]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in values if value is not None]


def _value(value: Value) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, tuple):
        return {"arrayValue": {"values": [_value(each) for each in value]}}
    return {"stringValue": value}
