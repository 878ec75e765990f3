"""One absurd number from an upstream stops nobody else's usage from being booked."""

from __future__ import annotations

import json
import threading
import time
from decimal import Decimal
from pathlib import Path

import pytest

from tests.abuse.answers import completion, honest, message, says, stream_end, stream_start
from tests.abuse.service import AbusedGateway, Customer, child, paused
from tests.support.bodies import ANTHROPIC, OPENAI, openai_event
from tests.support.raw_upstream import Script, stream
from tests.support.waiting import wait_until_sync

pytestmark = [pytest.mark.process, pytest.mark.timeout(90)]

ABSURD = ("1000000000000", "10000000000000000", "1" + "0" * 19, "1e308", "9" * 400, "-5", "0.5")
CHARGE = Decimal("0.301")
AWAY_S = 1.0
RECORDED_S = 10.0
WARM = 16
"""Calls on connections of their own: enough for each of two workers to get some."""


def ask(model: str, **further: object) -> bytes:
    """Return a small request."""
    said = [{"role": "user", "content": "x"}]
    return json.dumps({"model": model, "max_tokens": 50, "messages": said, **further}).encode()


def absurd(wire: str, number: str, *, streamed: bool) -> Script:
    """Return a script that reports a number as the count of its input tokens."""
    name = "prompt_tokens" if wire == "openai" else "input_tokens"
    other = "completion_tokens" if wire == "openai" else "output_tokens"
    usage = f'{{"{name}":{number},"{other}":5}}'.encode()
    if not streamed:
        make = completion if wire == "openai" else message
        body = json.dumps(make("USAGE")).encode()
        return says(body.replace(b'"USAGE"', usage))
    if wire == "openai":
        last = b'data: {"choices":[],"usage":' + usage + b"}\n\ndata: [DONE]\n\n"
        return stream(stream_start(wire), openai_event(finish="stop"), last)
    end = stream_end(wire, {"output_tokens": 77}).replace(b'{"output_tokens": 77}', usage)
    return stream(stream_start(wire), end)


def spilled(gateway: AbusedGateway) -> list[Path]:
    """Return what waits on disk."""
    directory = gateway.process.data_dir / "spill"
    return [path for path in directory.rglob("*") if path.is_file() and path.stat().st_size]


def fail_on_absurd(gateway: AbusedGateway, customer: Customer, streamed: bool) -> int:
    """Make a call for each absurd number on each wire; return how many."""
    count = 0
    for wire, path in (("openai", OPENAI), ("anthropic", ANTHROPIC)):
        upstream = gateway.take()
        for number in ABSURD:
            upstream.plays(absurd(wire, number, streamed=streamed))
            answer = gateway.post(path, customer.key, ask(upstream.model(wire), stream=streamed))
            assert answer.status == 200, answer
            count += 1
    return count


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_absurd_usage_is_charged_by_estimate_and_blocks_nobody(
    short_lease: AbusedGateway, streamed: bool
) -> None:
    """Absurd counts are estimated; what is spilled meanwhile is booked when Redis returns."""
    poisoner = short_lease.customer("1000")
    made = fail_on_absurd(short_lease, poisoner, streamed)
    short_lease.recorded(poisoner, made, RECORDED_S)
    assert Decimal(990) < short_lease.balance(poisoner) <= Decimal(1000)

    upstream = short_lease.take()
    upstream.plays(honest())
    customer = short_lease.customer("100")
    for _ in range(WARM):  # without Redis a worker admits only keys that it has seen
        short_lease.post(OPENAI, customer.key, ask(upstream.model("openai")))
    short_lease.recorded(customer, WARM)
    (valkey,) = child(short_lease, "valkey-server")
    away = threading.Thread(target=paused, args=([valkey], AWAY_S))
    away.start()
    time.sleep(0.1)
    statuses = [
        short_lease.post(OPENAI, customer.key, ask(upstream.model("openai"))).status
        for _ in range(5)
    ]
    away.join()
    answered = statuses.count(200)
    assert answered, statuses
    # A worker serves a key that it has not seen only when it uses Redis again: ask both.
    newcomer = short_lease.customer("100")
    wait_until_sync(
        lambda: all(
            short_lease.post(OPENAI, newcomer.key, ask(upstream.model("openai"))).status == 200
            for _ in range(WARM)
        )
    )

    short_lease.recorded(customer, WARM + answered, RECORDED_S)
    expected = 100 - (WARM + answered) * CHARGE
    wait_until_sync(lambda: short_lease.balance(customer) == expected)
    wait_until_sync(lambda: not spilled(short_lease))


def test_a_call_cannot_be_charged_more_than_it_can_cost(short_lease: AbusedGateway) -> None:
    """A count that is a number, but far beyond the model's context, is charged by an estimate."""
    upstream = short_lease.take()
    customer = short_lease.customer("100")
    upstream.plays(absurd("openai", "500000000", streamed=False))
    short_lease.post(OPENAI, customer.key, ask(upstream.model("openai")))
    short_lease.recorded(customer, 1)

    assert short_lease.balance(customer) > 99
