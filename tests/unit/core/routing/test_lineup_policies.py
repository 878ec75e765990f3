"""Which deployment is first, by policy, load and conversation."""

from __future__ import annotations

import random
from collections import Counter

import msgspec
import pytest

from gateway.core.model import Deployment, Prices, Wire
from gateway.core.routing.affinity import hash32
from gateway.core.routing.health import DeploymentHealth, HealthRules
from gateway.core.routing.lineup import Lineup, Slot, default_policy
from gateway.core.routing.plan import Candidate
from tests.support.pipeline_fakes import a_deployment, a_provider


def cost(input_price: int, output_price: int) -> Prices:
    return Prices(input_price, output_price, 0, 0, 0)


CHEAP, DEAR = cost(10, 20), cost(30, 60)


def deployment(name: str, price: Prices | None = None, **more: int) -> Deployment:
    return msgspec.structs.replace(a_deployment(a_provider(name), price), **more)


def lineup(
    policy: str, *deployments: Deployment, translated: frozenset[str] = frozenset(), **more: str
) -> Lineup:
    slots = []
    for each in deployments:
        wire = Wire.ANTHROPIC if each.provider.name in translated else Wire.OPENAI
        slots.append(Slot(Candidate(each, wire), DeploymentHealth(each.label, HealthRules())))
    return Lineup(slots, policy, **more)


def names(line: Lineup, conversation: int | None = None, drawn: float = 0.0) -> list[str]:
    order = line.order(conversation, lambda: drawn)
    return [candidate.deployment.provider.name for candidate in order]


def heads(line: Lineup, calls: int = 4000, conversations: bool = False) -> Counter[str]:
    draw = random.Random(7).random
    found: Counter[str] = Counter()
    for number in range(calls):
        held = hash32(b"%d" % number) if conversations else None
        found[line.order(held, draw)[0].deployment.provider.name] += 1
    return found


def test_cheapest_comes_first_and_unknown_costs_last() -> None:
    """Three parts of input and one of output are compared."""
    line = lineup(
        "cheapest",
        deployment("unknown"),
        deployment("dear", DEAR),
        deployment("input", cost(11, 16)),
        deployment("output", cost(10, 20)),
    )

    assert names(line) == ["input", "output", "dear", "unknown"]


def test_equally_cheap_deployments_share_the_calls() -> None:
    """Without load both get half; the dear one is only a fallback."""
    line = lineup("cheapest", deployment("a", CHEAP), deployment("b", CHEAP), deployment("c", DEAR))
    found = heads(line)

    assert set(found) == {"a", "b"}
    assert abs(found["a"] - found["b"]) < 400
    assert names(line)[-1] == "c"


def test_less_loaded_and_faster_of_two_is_taken() -> None:
    """Calls in flight times the smoothed time to first token decide."""
    line = lineup("cheapest", deployment("a", CHEAP), deployment("b", CHEAP))
    a, b = (slot.health for slot in line.slots)
    a.in_flight = 3
    assert heads(line) == {"b": 4000}

    a.ttft_s, b.ttft_s = 0.1, 1.0
    assert heads(line) == {"a": 4000}, "4 x 0.1 s is less than 1 x 1 s"


def test_priority_is_strict() -> None:
    """Lower numbers first, equals in the catalogue's order, no spreading."""
    line = lineup("priority", deployment("late", priority=5), deployment("b"), deployment("a"))

    assert names(line) == ["b", "a", "late"]
    assert heads(line, 100) == {"b": 100}


@pytest.mark.parametrize("conversations", [False, True])
def test_weighted_shares_by_weight(conversations: bool) -> None:
    """3 to 1, of calls as of conversations; another priority gets nothing."""
    line = lineup(
        "weighted",
        deployment("a", weight=3),
        deployment("b", weight=1),
        deployment("spare", priority=1, weight=9),
    )
    found = heads(line, conversations=conversations)

    assert found["spare"] == 0
    assert found["a"] / found["b"] == pytest.approx(3, rel=0.15)


def test_latency_takes_the_fastest_and_keeps_measuring() -> None:
    """Unknown counts as fast; one call in twenty goes to any."""
    line = lineup("latency", deployment("a"), deployment("b"), deployment("new"))
    a, b, new = (slot.health for slot in line.slots)
    a.ttft_s, b.ttft_s = 0.9, 0.3
    assert names(line, drawn=0.5)[0] == "new"

    new.ttft_s = 2.0
    found = heads(line)
    assert names(line, drawn=0.5)[0] == "b"
    assert found["b"] > 3800
    assert min(found["a"], found["new"]) > 20


@pytest.mark.parametrize("policy", ["cheapest", "priority", "weighted", "latency"])
def test_native_deployments_come_first_whatever_the_policy(policy: str) -> None:
    """Translation loses bytes and prompt caches: it is a fallback."""
    line = lineup(
        policy,
        deployment("native", DEAR, priority=9),
        deployment("translated", CHEAP),
        translated=frozenset({"translated"}),
    )

    assert names(line) == ["native", "translated"]
    assert line.heads == 1


def test_preferred_provider_comes_first() -> None:
    """Before cost and wire; the rest keeps its order."""
    line = lineup(
        "cheapest",
        deployment("a", CHEAP),
        deployment("b", DEAR),
        deployment("c", DEAR),
        translated=frozenset({"c"}),
        first="c",
    )

    assert names(line) == ["c", "a", "b"]


def test_conversation_stays_where_it_is() -> None:
    """Every worker ranks alike, whatever it draws; many conversations are spread evenly."""
    ones, others = (
        lineup("cheapest", *(deployment(name, CHEAP) for name in order)) for order in ("abc", "cab")
    )
    found: Counter[str] = Counter()
    for number in range(3000):
        held = hash32(b"conversation %d" % number)
        first = names(ones, held, 0.1)[0]
        assert names(others, held, 0.9)[0] == first
        found[first] += 1

    assert min(found.values()) > 850


def test_conversation_returns_to_its_deployment() -> None:
    """A deployment that is out loses its own conversations only, and gets them back."""
    whole = lineup("cheapest", *(deployment(name, CHEAP) for name in "abc"))
    part = whole.only(
        [slot for slot in whole.slots if not slot.candidate.deployment.label.startswith("b/")], None
    )
    for number in range(500):
        held = hash32(b"%d" % number)
        before = names(whole, held)[0]
        assert names(part, held)[0] == before or before == "b"


def test_conversation_leaves_an_overloaded_deployment() -> None:
    """Beyond 1.25 times the mean load, and two calls, others take over."""
    line = lineup("cheapest", deployment("a", CHEAP), deployment("b", CHEAP))
    held = hash32(b"x")
    index = 0 if names(line, held)[0] == "a" else 1
    holder, other = line.slots[index].health, line.slots[1 - index].health
    other.in_flight = 4

    holder.in_flight = 8
    assert names(line, held)[0] == holder.label[0]
    holder.in_flight = 13
    assert names(line, held)[0] == other.label[0]


def test_default_policy_needs_all_costs() -> None:
    """One unknown cost makes a comparison meaningless."""
    assert default_policy([deployment("a", CHEAP), deployment("b", DEAR)]) == "cheapest"
    assert default_policy([deployment("a", CHEAP), deployment("b")]) == "priority"


def test_lineup_without_deployments_is_empty() -> None:
    """There is nothing to try."""
    assert Lineup([], "cheapest").order(None, lambda: 0.5) == ()


def test_preferred_tag_comes_before_the_policy() -> None:
    """A region is a tag: its deployments come first, among them the cheapest."""
    europe = frozenset({"eu"})
    line = lineup(
        "cheapest",
        deployment("a", CHEAP),
        msgspec.structs.replace(deployment("b", DEAR), tags=europe),
        msgspec.structs.replace(deployment("c", CHEAP), tags=europe),
        first="eu",
    )

    assert names(line) == ["c", "b", "a"]
