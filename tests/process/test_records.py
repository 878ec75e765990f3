"""Every call leaves one record, one log line, and its counts over all workers."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest

from tests.support.bodies import ANTHROPIC, END, FINISH, MORE, OPENAI, START, WHOLE, request
from tests.support.raw_client import Connection, render
from tests.support.raw_upstream import Slot, stream, whole
from tests.support.service import ANTHROPIC_MODEL, BOTH_MODEL, OPENAI_MODEL, Key, Service
from tests.support.waiting import wait_until_sync

pytestmark = pytest.mark.process

STILL_S = 2.0
NAMES = ("gateway_requests_total", "gateway_errors_total", "gateway_in_flight_calls")


class Calls:
    """
    Makes calls and remembers their ids.

    Args:
        service, key: Where and as whom.
    """

    def __init__(self, service: Service, key: Key) -> None:
        self._service = service
        self._key = key
        self.ids: list[str] = []

    def make(self, path: str, model: str, text: str = "Hi", *, streamed: bool = False) -> int:
        """Make one call on a connection of its own, read to its end; return the status."""
        body = request(path, model, text, stream=streamed, input=text)
        with Connection(self._service.port) as connection:
            answer = connection.request("POST", path, body, x_api_key=self._key.raw)
        self.ids.append(answer.headers["x-request-id"])
        return answer.status

    def leave(self, path: str, model: str) -> None:
        """Make one call and go away after its first piece."""
        body = request(path, model, stream=True)
        with Connection(self._service.port) as connection:
            connection.send(render("POST", path, body, x_api_key=self._key.raw))
            _, headers = connection.read_head()
            connection.read_chunk()
        self.ids.append(headers["x-request-id"])


def counted(service: Service) -> dict[str, float]:
    """Return the sums of some metrics over all their labels."""
    text = service.process.metrics()
    sums = dict.fromkeys(NAMES, 0.0)
    for name, value in re.findall(r"^(\w+)(?:\{.*\})? ([0-9.e+]+)$", text, re.MULTILINE):
        if name in sums:
            sums[name] += float(value)
    return sums


def still(read: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Return what is counted once it has stood still; workers hand their counts on now and then."""
    seen, since = read(), time.monotonic()

    def stands() -> bool:
        nonlocal seen, since
        latest = read()
        if latest != seen:
            seen, since = latest, time.monotonic()
        return time.monotonic() > since + STILL_S

    wait_until_sync(stands, 60)
    return seen


def test_every_call_is_recorded_once(
    gateway: Service, upstream: Slot, hasty_upstream: Slot
) -> None:
    """Good, failed, broken, stalled and cancelled calls; refused ones leave a line alone."""
    key = gateway.new_key("records")
    before = still(lambda: counted(gateway))
    calls = Calls(gateway, key)
    for model in (OPENAI_MODEL, ANTHROPIC_MODEL, BOTH_MODEL):
        for path in (OPENAI, ANTHROPIC, "/v1/responses"):
            for streamed in (False, True):
                assert calls.make(path, model, streamed=streamed) == 200
    calls.make(OPENAI, OPENAI_MODEL, "/error 500")
    calls.make(ANTHROPIC, OPENAI_MODEL, "/error 429", streamed=True)
    upstream.plays(
        stream(START["openai"], MORE["openai"], end="break"),
        stream(START["openai"], end="break"),
        whole(WHOLE["openai"]),
        stream(START["openai"], FINISH["openai"], END["openai"]),
        stream(START["openai"], end="hang"),
    )
    calls.make(OPENAI, upstream.model("openai"), streamed=True)
    calls.make(OPENAI, upstream.model("openai"), streamed=True)
    calls.make(ANTHROPIC, upstream.model("openai"))
    calls.make(OPENAI, upstream.fallback("openai"), streamed=True)
    calls.leave(OPENAI, upstream.model("openai"))
    hasty_upstream.plays(stream(START["anthropic"], end="hang"))
    calls.make(ANTHROPIC, hasty_upstream.model("anthropic"), streamed=True)
    at_upstreams = len(calls.ids)
    refused = [
        calls.make(OPENAI, "no-such-model"),
        calls.make("/v1/embeddings", ANTHROPIC_MODEL),
        calls.make("/v1/chat", OPENAI_MODEL),
    ]
    assert all(400 <= status < 600 for status in refused)

    assert gateway.settled(key) == at_upstreams
    shown = gateway.calls(key)
    assert shown["calls"] == at_upstreams
    assert len(set(calls.ids)) == len(calls.ids)
    for request_id in calls.ids:
        assert len(gateway.lines(request_id)) == 1, request_id
    after = still(lambda: counted(gateway))
    assert after["gateway_requests_total"] - before["gateway_requests_total"] == len(calls.ids)
    assert after["gateway_in_flight_calls"] == before["gateway_in_flight_calls"]


@pytest.mark.parametrize(
    ("name", "outcome", "kind"),
    [
        ("whole", "completed", None),
        ("broken", "failed", "upstream_broken"),
        ("stalled", "failed", "upstream_timeout"),
        ("refused", "failed", "upstream_refused"),
        ("left", "cancelled", "client_gone"),
    ],
)
def test_line_of_a_call_says_how_it_ended(
    gateway: Service, hasty_upstream: Slot, key: Key, name: str, outcome: str, kind: str | None
) -> None:
    """Outcome, error and tokens are those of the call; the body of it is nowhere."""
    hasty_upstream.plays(
        {
            "whole": stream(START["openai"] + MORE["openai"] + FINISH["openai"] + END["openai"]),
            "broken": stream(START["openai"], end="break"),
            "stalled": stream(START["openai"], end="hang"),
            "refused": whole(b'{"error":{"message":"no"}}', 500),
            "left": stream(START["openai"], end="hang"),
        }[name]
    )
    calls = Calls(gateway, key)
    model = hasty_upstream.model("openai")
    if name == "left":
        calls.leave(OPENAI, model)
    else:
        calls.make(OPENAI, model, streamed=True)

    wait_until_sync(lambda: gateway.lines(calls.ids[0]))
    (line,) = gateway.lines(calls.ids[0])
    assert (line["outcome"], line.get("error_kind")) == (outcome, kind)
    assert line["model"] == model
    assert line["key_id"] == key.id
    if name == "whole":
        assert (line["input_tokens"], line["output_tokens"]) == (9, 2)


def test_metrics_cover_what_operators_ask_for(gateway: Service, key: Key) -> None:
    """Each family has samples after a call of every kind, from all workers together."""
    calls = Calls(gateway, key)
    for _ in range(12):
        calls.make(OPENAI, ANTHROPIC_MODEL, streamed=True)
    calls.make(OPENAI, OPENAI_MODEL, "/error 500")

    def missing() -> list[str]:
        text = gateway.process.metrics()
        return [
            name
            for name in (
                'gateway_requests_total{client_wire="openai",endpoint="chat_completions"',
                'gateway_deployment_calls_total{deployment="demo/claude-opus-4-8"',
                "gateway_tokens_total{",
                "gateway_ttft_seconds_bucket{",
                "gateway_request_seconds_bucket{",
                "gateway_overhead_seconds_bucket{",
                "gateway_upstream_errors_total{",
                "gateway_errors_total{",
                "gateway_build_info{",
                "gateway_charges_dollars_total{",
                "gateway_model_calls_total{",
                "gateway_redis_unavailable 0.0",
                "gateway_in_flight_calls ",
                "gateway_upstream_connections{",
                "gateway_bus_command_seconds_bucket{",
                "gateway_loop_lag_seconds_bucket{",
            )
            if f"\n{name}" not in text
        ]

    wait_until_sync(lambda: not missing(), 10)
