"""Spans of real calls: in the client's trace, with the upstream as their child, and no prompt."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.bodies import END, FINISH, MORE, OPENAI, START, request
from tests.support.collector import Collector
from tests.support.raw_client import Connection
from tests.support.raw_upstream import RawUpstream, Slot, stream
from tests.support.service import DemoProcess, Service
from tests.support.waiting import wait_until_sync

pytestmark = pytest.mark.process

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SECRET_WORDS = "what nobody else may read"


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """The receiver of the spans."""
    made = Collector()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def traced(
    tmp_path_factory: pytest.TempPathFactory,
    demo_upstream: DemoProcess,
    raw_upstream: RawUpstream,
    collector: Collector,
) -> Iterator[Service]:
    """A gateway that exports the traces of clients that ask for it."""
    home = tmp_path_factory.mktemp("traced")
    home.mkdir(exist_ok=True)
    (home / "headers").write_text("authorization=Bearer%20collector\n")
    extra = (
        f'[telemetry]\notlp_endpoint = "{collector.url}"\nsample_ratio = 0\n'
        f'otlp_headers_file = "{home / "headers"}"\n'
    )
    made = Service(home, demo_upstream, raw_upstream, workers=1, extra=extra)
    try:
        yield made.start()
    finally:
        made.stop()


def test_sampled_call_is_exported_with_its_attempt(
    traced: Service, raw_upstream: RawUpstream, collector: Collector
) -> None:
    """Client, gateway and upstream agree about the parents; what is not sampled stays here."""
    slot: Slot = raw_upstream.take()
    slot.plays(stream(START["openai"] + MORE["openai"], FINISH["openai"], END["openai"]))
    key = traced.new_key("traced")
    body = request(OPENAI, slot.model("openai"), SECRET_WORDS, stream=True)

    with Connection(traced.port) as connection:
        unsampled, answer = (
            connection.request(
                "POST",
                OPENAI,
                body,
                x_api_key=key.raw,
                traceparent=f"00-{TRACE}-{PARENT}-{flags}",
                user_agent="test/1",
            )
            for flags in ("00", "01")
        )
    assert (unsampled.status, answer.status) == (200, 200)

    wait_until_sync(lambda: len(collector.spans()) == 2, 10.0)
    sent = [dict(each.headers)["traceparent"].split("-") for each in slot.exchanges]
    assert [(trace, flags) for _, trace, _, flags in sent] == [(TRACE, "00"), (TRACE, "01")]
    server, attempt = collector.spans()
    assert [server["traceId"], server["parentSpanId"]] == [TRACE, PARENT]
    assert attempt["parentSpanId"] == server["spanId"]
    assert attempt["spanId"] == sent[1][2] != sent[0][2]
    began, ended = int(server["startTimeUnixNano"]), int(server["endTimeUnixNano"])
    assert began <= int(attempt["startTimeUnixNano"]) <= int(attempt["endTimeUnixNano"]) <= ended
    (export,) = collector.exports
    assert export.path == "/v1/traces"
    assert export.headers["authorization"] == "Bearer collector"
    assert answer.headers["x-request-id"] in export.text
    for secret in (SECRET_WORDS, key.raw):
        assert secret not in export.text
    wait_until_sync(lambda: traced.lines(answer.headers["x-request-id"]))
    (line,) = traced.lines(answer.headers["x-request-id"])
    assert (line["trace_id"], line["user_agent"]) == (TRACE, "test/1")
    assert line["pod"]
    wait_until_sync(
        lambda: 'gateway_traces_total{result="exported"} 1.0' in traced.process.metrics()
    )
    raw_upstream.give_back(slot)
