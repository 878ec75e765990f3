"""What the collector gets, and what happens while it refuses."""

import itertools
from collections.abc import Iterator, Mapping

import pytest

from gateway.core.model import CallRecord
from gateway.telemetry.traces import exporter as module
from gateway.telemetry.traces.exporter import BATCH, Exporter
from gateway.telemetry.traces.otlp import request_body
from gateway.telemetry.traces.records import CallTraceRecord
from tests.support.collector import Collector
from tests.support.waiting import wait_until_sync

TRACE = CallTraceRecord(
    "a" * 32,
    "b" * 16,
    1,
    2,
    CallRecord(
        request_id="req_1", at_ms=1, key_id="", account_id="", model="m", endpoint="messages",
        client_wire="anthropic",
    ),
)  # fmt: skip


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.stop()


class Counted(dict[str, int]):
    """Counts by result."""

    def add(self, result: str, count: int) -> None:
        self[result] = self.get(result, 0) + count


def exporter(url: str, counted: Counted, **given: int) -> Exporter:
    return Exporter(
        url, {"authorization": "Bearer x"}, {}, counted.add, pauses_s=(0.01, 0.01), **given
    )


def test_collector_gets_batches_with_the_headers(collector: Collector) -> None:
    """The path of traces is appended to the endpoint's."""
    counted = Counted()
    made = exporter(f"{collector.url}/base/", counted)

    made.add([TRACE] * (BATCH + 1))
    made.close()

    assert [(each.path, len(each.spans)) for each in collector.exports] == [
        ("/base/v1/traces", BATCH),
        ("/base/v1/traces", 1),
    ]
    headers = collector.exports[0].headers
    assert (headers["authorization"], headers["content-type"]) == ("Bearer x", "application/json")
    assert counted == {"exported": BATCH + 1}


def test_refusal_for_now_is_repeated(collector: Collector) -> None:
    """A busy collector gets the batch again, until the pauses are used up."""
    collector.statuses = [503, 429]
    counted = Counted()
    made = exporter(collector.url, counted)

    made.add([TRACE])
    wait_until_sync(lambda: counted == {"exported": 1})
    collector.statuses = [503, 503, 503]
    made.add([TRACE])
    wait_until_sync(lambda: counted == {"exported": 1, "failed": 1})
    made.close()

    assert len(collector.exports) == 6


@pytest.mark.parametrize("status", [400, 401, 302])
def test_refusal_for_good_is_not_repeated(collector: Collector, status: int) -> None:
    """The batch is counted as failed, and a redirect is not followed."""
    collector.statuses = [status]
    counted = Counted()
    made = exporter(collector.url, counted)

    made.add([TRACE])
    made.close()

    assert counted == {"failed": 1}
    assert len(collector.exports) == 1


def test_collector_that_is_away_costs_counted_spans_only() -> None:
    """The queue is bounded; what does not fit is dropped at once."""
    counted = Counted()
    made = exporter("http://127.0.0.1:1", counted, limit=2)

    made.add([TRACE] * 5)
    made.close()

    assert counted["dropped"] == 3
    assert counted["failed"] == 2


def test_endless_response_is_not_read(collector: Collector) -> None:
    """The status decides; the connection is closed."""
    collector.body = itertools.repeat(b"x" * 65_536)
    counted = Counted()
    made = exporter(collector.url, counted)

    made.add([TRACE])
    made.close()

    assert counted == {"exported": 1}


def test_batch_that_cannot_be_written_costs_itself_alone(
    collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread goes on."""
    batches = iter([ValueError("cannot be encoded"), None])

    def body(traces: object, resource: Mapping[str, str]) -> bytes:
        failure = next(batches)
        if failure is not None:
            raise failure
        return request_body([TRACE], resource)

    monkeypatch.setattr(module, "request_body", body)
    counted = Counted()
    made = exporter(collector.url, counted)
    made.add([TRACE])
    wait_until_sync(lambda: counted == {"failed": 1})
    made.add([TRACE])
    made.close()

    assert counted == {"failed": 1, "exported": 1}
