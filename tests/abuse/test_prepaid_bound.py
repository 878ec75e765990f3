"""A prepaid account ends no further below zero than the documented bound."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from decimal import Decimal

import pytest

from tests.abuse.answers import completion, openai_usage, says, send_json
from tests.abuse.service import AGENT_MODEL, AbusedGateway, Customer
from tests.support.bodies import OPENAI, chat
from tests.support.raw_upstream import Exchange, Script, Slot

pytestmark = [pytest.mark.process, pytest.mark.timeout(60)]

SLOW_S = 1.0
"""Longer than a burst takes to be admitted."""
TOKENS = 20_000
"""Of each choice: $0.20."""
LESSON = "LEARN"


def spends(tokens: int = TOKENS, slow_s: float = SLOW_S) -> Script:
    """
    Return a script that spends so many tokens a choice, and one token on a lesson.

    Of two limits it obeys the larger one: which of them counts differs from model to model.
    """

    async def play(exchange: Exchange) -> None:
        if LESSON.encode() in exchange.body:
            await send_json(exchange, completion(openai_usage(10, 1)))
            return
        await asyncio.sleep(slow_s)
        asked = exchange.json
        limits = [asked[name] for name in ("max_tokens", "max_completion_tokens") if name in asked]
        spent = min(tokens, max(limits, default=tokens)) * (asked.get("n") or 1)
        await send_json(exchange, completion(openai_usage(10, spent)))

    return play


def bound(dollars: str) -> Decimal:
    """Return how far below zero an account with this balance may end."""
    return max(Decimal(1), Decimal(dollars) / 10)


def burst(
    gateway: AbusedGateway, customer: Customer, model: str, parallel: int, **members: object
) -> Counter[int]:
    """Send calls at once; return how many responses had each status, all booked."""
    body = chat(model, "x", **members)
    statuses: list[int] = []

    def call() -> None:
        statuses.append(gateway.post(OPENAI, customer.key, body).status)

    threads = [threading.Thread(target=call) for _ in range(parallel)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Counter(statuses)


def settle(gateway: AbusedGateway, customer: Customer, calls: int) -> Decimal:
    """Return the balance once so many calls are booked."""
    gateway.recorded(customer, calls)
    return gateway.balance(customer)


def teach(gateway: AbusedGateway, customer: Customer, model: str, lessons: int) -> None:
    """Make small calls, which teach what a call of this key costs."""
    for _ in range(lessons):
        answer = gateway.post(OPENAI, customer.key, chat(model, LESSON, max_tokens=9))
        assert answer.status == 200


BURSTS: dict[str, tuple[str, int, int, dict[str, object]]] = {
    "plain": ("1", 60, 0, {}),
    "taught by tiny calls": ("0.01", 80, 40, {}),
    "two limits, the small one new": (
        "1",
        60,
        0,
        {"max_completion_tokens": 1, "max_tokens": 64_000},
    ),
    "two limits, the small one old": (
        "1",
        60,
        0,
        {"max_completion_tokens": 64_000, "max_tokens": 1},
    ),
    "many choices": ("1", 40, 0, {"n": 16}),
    "many choices and a tiny limit": ("1", 40, 0, {"n": 16, "max_tokens": 1}),
    "taught, many choices, a tiny balance": ("0.05", 40, 40, {"n": 16}),
    "a larger balance": ("20", 150, 20, {}),
}


@pytest.mark.parametrize("which", BURSTS)
def test_a_burst_overdraws_by_the_bound_at_most(abused: AbusedGateway, which: str) -> None:
    """However holds are made small, the sum of what runs at once is bounded."""
    dollars, parallel, lessons, members = BURSTS[which]
    upstream = abused.take()
    upstream.plays(spends())
    customer = abused.customer(dollars)
    model = upstream.model("openai")
    teach(abused, customer, model, lessons)
    statuses = burst(abused, customer, model, parallel, **members)

    left = settle(abused, customer, lessons + statuses[200])
    print(f"had ${dollars}, now {left}", dict(statuses))
    assert set(statuses) <= {200, 429}
    assert left >= -bound(dollars)


def test_another_tenant_is_not_taught_by_large_calls(abused: AbusedGateway) -> None:
    """What one account spends does not raise what a new account's first call holds."""
    upstream = abused.take()
    upstream.plays(spends(slow_s=0.0))
    model = upstream.model("openai")
    teacher, stranger = abused.customer("1000"), abused.customer("0.20")
    for _ in range(40):
        assert abused.post(OPENAI, teacher.key, chat(model)).status == 200
    answer = abused.post(OPENAI, stranger.key, chat(model))

    assert answer.status == 200, answer


def agent_call(gateway: AbusedGateway, customer: Customer, max_tokens: int = 64_000) -> int:
    """Make one call as a coding agent does; return its status."""
    body = chat(AGENT_MODEL, "fix the bug " * 100, max_tokens=max_tokens, stream=False)
    return gateway.post(OPENAI, customer.key, body).status


def play_agent(upstream: Slot) -> None:
    """Respond as models respond to agents: 3,000 tokens read and 500 written, $0.0275."""
    upstream.plays(says(completion(openai_usage(3000, 500))))


def test_an_agent_with_two_dollars_is_not_refused(abused: AbusedGateway) -> None:
    """64,000 tokens are asked for and 500 needed, one call after the other."""
    play_agent(abused.agent_upstream)
    customer = abused.customer("2")

    assert [agent_call(abused, customer) for _ in range(25)] == [200] * 25


def test_an_agent_and_its_helpers_with_two_dollars_are_not_refused(abused: AbusedGateway) -> None:
    """An agent asks for a title and a summary beside its own call."""
    play_agent(abused.agent_upstream)
    customer = abused.customer("2")
    statuses: list[int] = []
    for _ in range(5):
        threads = [
            threading.Thread(target=lambda m=most: statuses.append(agent_call(abused, customer, m)))
            for most in (64_000, 1000, 2000)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert statuses == [200] * 15


def test_two_limits_are_told_to_the_upstream_as_they_came(abused: AbusedGateway) -> None:
    """Holding for the larger one changes nothing of the request."""
    upstream = abused.take()
    upstream.plays(spends(tokens=5, slow_s=0.0))
    customer = abused.customer("1")
    body = chat(upstream.model("openai"), max_tokens=7, max_completion_tokens=9)
    assert abused.post(OPENAI, customer.key, body).status == 200
    got = json.loads(upstream.exchanges[-1].body)

    assert (got["max_tokens"], got["max_completion_tokens"]) == (7, 9)
