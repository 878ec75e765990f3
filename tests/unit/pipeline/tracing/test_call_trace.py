"""Which context upstreams get, and which calls are exported."""

import re

import pytest

from gateway.core.model import Clocks, Origin
from gateway.pipeline.tracing.call_trace import CallTrace, Tracer
from gateway.ports import UpstreamRequest
from gateway.upstream.http1.head import request_head

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01".encode()
UNSAMPLED = f"00-{TRACE}-{SPAN}-00".encode()
CLOCKS = Clocks(1, 1, 1, 1, 1)
REQUEST = UpstreamRequest(
    Origin("upstream.test", 443, tls=True),
    "POST",
    "/v1/chat/completions",
    ((b"host", b"upstream.test"),),
    b"{}",
    CLOCKS,
    1.0,
    b"POST /v1/chat/completions HTTP/1.1\r\nhost: upstream.test\r\n",
)


def begun(tracer: Tracer, *headers: tuple[bytes, bytes]) -> CallTrace:
    return tracer.begin([(b"host", b"gateway.test"), *headers])


def sent(trace: CallTrace) -> tuple[list[str], UpstreamRequest]:
    """The parts of the context that the next attempt sends, and its request."""
    request, _ = trace.begin_attempt(REQUEST)
    found = dict(request.headers).get(b"traceparent", b"").decode()
    return found.split("-"), request


def test_context_of_the_client_is_continued() -> None:
    """Each attempt is a child of its own in the client's trace, with the client's state."""
    trace = begun(Tracer(), (b"traceparent", PARENT), (b"tracestate", b"a=1, b=2"))

    first, request = sent(trace)
    second, _ = sent(trace)

    assert [first[:2], first[3]] == [["00", TRACE], "01"]
    assert re.fullmatch("[0-9a-f]{16}", first[2])
    assert len({first[2], second[2], SPAN}) == 3
    assert request.headers[-1] == (b"tracestate", b"a=1,b=2")
    assert trace.parent_id == SPAN


def test_rendered_head_agrees_with_the_headers() -> None:
    """A head that was rendered ahead gets the same lines."""
    _, request = sent(begun(Tracer(), (b"traceparent", PARENT), (b"tracestate", b"a=1")))

    lines = request_head(request).decode().split("\r\n")
    for name, value in request.headers:
        assert f"{name.decode()}: {value.decode()}" in lines
    assert lines[-2:] == ["", ""]
    assert not any(line == "" for line in lines[:-2])


@pytest.mark.parametrize("value", [b"garbage", b"00-" + b"0" * 32 + b"-" + b"1" * 16 + b"-01"])
def test_invalid_context_begins_a_new_trace(value: bytes) -> None:
    """Its flag is off while nothing is exported, and no state is forwarded."""
    trace = begun(Tracer(), (b"traceparent", value), (b"tracestate", b"a=1"))

    parts, request = sent(trace)

    assert re.fullmatch("[0-9a-f]{32}", trace.trace_id)
    assert [parts[1], parts[3]] == [trace.trace_id, "00"]
    assert b"tracestate" not in dict(request.headers)
    assert trace.parent_id is None


def test_each_call_has_a_trace_of_its_own() -> None:
    """Ids do not repeat, neither within a worker nor between workers."""
    ids = {begun(tracer).trace_id for tracer in (Tracer(), Tracer()) for _ in range(100)}

    assert len(ids) == 200


def test_operator_can_keep_the_context_from_upstreams() -> None:
    """The request is unchanged; the call still has an id for the log."""
    trace = begun(Tracer(sends=False), (b"traceparent", PARENT))

    _, request = sent(trace)

    assert request is REQUEST
    assert trace.trace_id == TRACE


@pytest.mark.parametrize(
    ("ratio", "follows", "header", "exported"),
    [
        (None, True, None, False),
        (None, True, PARENT, False),
        (1.0, True, None, True),
        (0.0, True, None, False),
        (1.0, True, UNSAMPLED, False),
        (0.0, True, PARENT, True),
        (0.0, False, PARENT, False),
        (1.0, False, UNSAMPLED, True),
    ],
)
def test_who_decides_what_is_exported(
    ratio: float | None,
    follows: bool,
    header: bytes | None,
    exported: bool,
) -> None:
    """The client's flag, unless the operator does not follow it; else the ratio."""
    headers = [] if header is None else [(b"traceparent", header)]
    trace = begun(Tracer(ratio, follows_clients=follows), *headers)

    assert trace.exported is exported
    assert bool(trace.span_id) is exported
    if ratio is not None:
        assert trace.sampled is exported


def test_ratio_is_kept() -> None:
    """A quarter of many traces, decided by the id alone."""
    tracer = Tracer(0.25)

    assert 400 < sum(begun(tracer).exported for _ in range(2000)) < 600
