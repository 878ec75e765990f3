"""A worker that stands still for longer than the lease gives nothing away."""

from __future__ import annotations

import json
import threading
import time
from decimal import Decimal

import pytest

from tests.abuse.answers import honest
from tests.abuse.service import LONG, AbusedGateway, child, paused
from tests.support.bodies import ANTHROPIC, OPENAI

pytestmark = [pytest.mark.process, pytest.mark.heavy, pytest.mark.timeout(120)]

STREAMS = 10
PAUSE_S = 45.0 if LONG else 6.0
"""Twice the lease of three seconds, or what swapping and the freeze of a VM may take."""
CHARGE = Decimal("0.301")


@pytest.mark.parametrize(
    "who",
    [
        "one worker",
        pytest.param(
            "all workers", marks=pytest.mark.skipif(not LONG, reason="CAPIO_ABUSE_LONG=1 runs it")
        ),
        pytest.param(
            "Redis", marks=pytest.mark.skipif(not LONG, reason="CAPIO_ABUSE_LONG=1 runs it")
        ),
        pytest.param(
            "ledger", marks=pytest.mark.skipif(not LONG, reason="CAPIO_ABUSE_LONG=1 runs it")
        ),
    ],
)
@pytest.mark.parametrize(("path", "wire"), [(OPENAI, "openai"), (ANTHROPIC, "openai")])
def test_streams_of_a_paused_process_are_charged_whole(
    short_lease: AbusedGateway, who: str, path: str, wire: str
) -> None:
    """Each stream that came to its end is charged once, and the balance says the same."""
    if path == ANTHROPIC and not LONG:
        pytest.skip("CAPIO_ABUSE_LONG=1 runs it")
    upstream = short_lease.take()
    upstream.plays(honest(pieces=40, pace_s=0.1))
    customer = short_lease.customer("100")
    body = {"model": upstream.model(wire), "stream": True, "max_tokens": 100}
    body["messages"] = [{"role": "user", "content": "x"}]
    whole: list[bool] = []

    def call() -> None:
        answer = short_lease.post(
            path, customer.key, json.dumps(body).encode(), timeout_s=PAUSE_S + 60
        )
        whole.append(
            answer.complete and (b"[DONE]" in answer.body or b"message_stop" in answer.body)
        )

    threads = [threading.Thread(target=call) for _ in range(STREAMS)]
    for thread in threads:
        thread.start()
    time.sleep(1.0)
    workers = short_lease.process.workers()
    pids = {
        "one worker": workers[:1],
        "all workers": workers,
        "Redis": child(short_lease, "valkey-server"),
        "ledger": child(short_lease, "gateway.server.ledger_process"),
    }[who]
    assert pids
    paused(pids, PAUSE_S)
    for thread in threads:
        thread.join()

    assert whole == [True] * STREAMS
    expected = 100 - STREAMS * CHARGE
    deadline = time.monotonic() + 15
    while short_lease.balance(customer) != expected and time.monotonic() < deadline:
        time.sleep(0.1)
    calls = short_lease.calls(customer)
    print([(each["outcome"], each["output_tokens"], each["cost"]) for each in calls])
    assert short_lease.balance(customer) == expected
    assert sum(Decimal(str(each["cost"])) for each in calls) == STREAMS * CHARGE


def test_a_paused_worker_charges_nothing_twice(short_lease: AbusedGateway) -> None:
    """Calls that were booked before a pause stay as they are after it."""
    upstream = short_lease.take()
    upstream.plays(honest())
    customer = short_lease.customer("100")
    body = {"model": upstream.model("openai"), "messages": [{"role": "user", "content": "x"}]}
    for _ in range(4):
        short_lease.post(OPENAI, customer.key, json.dumps(body).encode())
    short_lease.recorded(customer, 4)
    paused(short_lease.process.workers()[:1], 4.0)
    time.sleep(1.0)

    assert short_lease.balance(customer) == 100 - 4 * CHARGE
