"""Routing of a running gateway, with OpenAI's SDK: failures, recovery, caches, money."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import openai
import pytest

from tests.support.routing_scene import Scene, until

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path / "home")
    try:
        yield made
    finally:
        made.stop()


def test_failing_deployment_costs_a_few_calls_and_returns_by_a_probe(scene: Scene) -> None:
    """No client sees its failure; both workers avoid it; after recovery a probe brings it back."""
    scene.a.status = 500
    answers = [scene.ask(f"conversation {number}") for number in range(40)]

    assert {answer.headers["x-capio-provider"] for answer in answers} == {"b"}
    failed = [call for call in scene.a.calls if call["messages"][0]["content"] != "ping"]
    assert len(failed) <= 4, "two failures open the breaker; another worker learns it"
    assert scene.states()["a/m"] in ("open", "half_open")

    until(lambda: scene.a.probes > 0, "no probe")
    scene.a.status = 200
    until(lambda: scene.states()["a/m"] == "ready", "never ready again")
    found = {scene.ask(f"again {number}").headers["x-capio-provider"] for number in range(30)}
    assert found == {"a", "b"}


def test_redis_killed_while_a_breaker_is_open_fails_no_call(scene: Scene) -> None:
    """The probe that closes it is not shared; both workers and what Redis kept converge."""
    scene.a.status = 500
    for number in range(20):
        scene.ask(f"before {number}")
    until(lambda: scene.states().get("a/m") in ("open", "half_open"), "never open")
    (valkey,) = (pid for pid, line in scene.process.children().items() if "valkey-server" in line)

    os.kill(valkey, signal.SIGSTOP)  # it takes no commands, and keeps what it has
    try:
        scene.a.status = 200
        probes = scene.a.probes
        found = {scene.ask(f"meanwhile {n}").headers["x-capio-provider"] for n in range(20)}
        until(lambda: scene.a.probes > probes, "no probe without Redis")
    finally:
        os.kill(valkey, signal.SIGKILL)

    assert found <= {"a", "b"}
    found = {scene.ask(f"after {number}").headers["x-capio-provider"] for number in range(30)}
    assert "b" in found
    until(lambda: scene.states().get("a/m") == "ready", "Redis still says otherwise")
    found = {scene.ask(f"again {number}").headers["x-capio-provider"] for number in range(30)}
    assert found == {"a", "b"}


def test_rejected_keys_are_rotated_then_the_deployment_is_out(scene: Scene) -> None:
    """401: the second key, then the other deployment; the metric says so; a probe ends it."""
    scene.a.status = 401
    answers = [scene.ask(f"c{number}", model="solo") for number in range(3)]

    assert {answer.headers["x-capio-model"] for answer in answers} == {"flash"}
    assert {"Bearer upstream-key-1", "Bearer upstream-key-2"} <= set(scene.a.keys)
    until(lambda: 'state{deployment="a/m"} 4.0' in scene.process.metrics(), "no alert")
    scene.a.status = 200
    until(lambda: scene.states()["a/m"] == "ready", "never ready again")
    assert scene.ask("back", model="solo").headers["x-capio-model"] == "solo"


def test_fallback_model_is_priced_and_recorded_as_itself(scene: Scene) -> None:
    """The client pays the model that served, and can look up why."""
    scene.a.status = 500
    raw = scene.ask("Hi", model="solo", extra_body={"models": ["solo", "backup"]})
    usage = raw.parse().usage
    record = scene.generation(raw.headers["x-request-id"])

    assert raw.headers["x-capio-model"] == record["model"] == "backup"
    expected = usage.prompt_tokens * 100_000 + usage.completion_tokens * 200_000
    assert record["cost_nanousd"] == expected
    chain = [(each["model"], each["provider"], each["result"]) for each in record["chain"]]
    assert chain[0] == ("solo", "a", "upstream")
    assert chain[-1] == ("backup", "b", "ok")
    assert len(chain) == record["attempts"] == int(raw.headers["x-capio-attempts"])
    assert all("models" not in call for call in scene.a.calls + scene.b.calls)


def test_rate_limit_is_a_rest_not_a_breakage(scene: Scene) -> None:
    """429 with `retry-after`: the other deployment serves; the time over, it is ready."""
    scene.a.status, scene.a.retry_after = 429, "3"
    for number in range(12):
        assert scene.ask(f"c{number}").headers["x-capio-provider"] == "b"
    assert len(scene.a.calls) <= 4, "each key of each worker at most once"

    scene.a.status = 200
    until(lambda: scene.states()["a/m"] == "ready", "never ready again")
    assert scene.a.probes == 0


def test_client_gets_a_date_of_the_upstream_as_seconds(scene: Scene) -> None:
    """Although the upstream sends no `date`; one that has passed keeps nothing from being used."""
    scene.a.status = 429
    scene.a.retry_after = formatdate(time.time() + 900, usegmt=True)
    with pytest.raises(openai.RateLimitError) as raised:
        scene.ask(extra_headers={"x-capio-only": "a"})
    assert 890 <= int(raised.value.response.headers["retry-after"]) <= 900
    assert scene.states()["a/m"] == "resting"

    scene.b.status, scene.b.retry_after = 429, formatdate(time.time() - 900, usegmt=True)
    with pytest.raises(openai.RateLimitError) as raised:
        scene.ask(extra_headers={"x-capio-only": "b"})
    assert raised.value.response.headers["retry-after"] == "0"
    scene.b.status = 200
    assert scene.ask().headers["x-capio-provider"] == "b"


def test_preferences_are_followed_or_refused(scene: Scene) -> None:
    """A provider by name, and the remedy for a wrong one."""
    for number in range(6):
        chosen = scene.ask(f"c{number}", extra_headers={"x-capio-only": "b"})
        assert chosen.headers["x-capio-provider"] == "b"

    with pytest.raises(openai.BadRequestError, match="use a, b") as raised:
        scene.ask(extra_headers={"x-capio-exclude": "c"})
    assert raised.value.param == "x-capio-exclude"


def cached_share(scene: Scene) -> float:
    """Return the share of input read from caches over replayed agent sessions."""
    cached = total = 0
    for session in range(6):
        messages = [
            {"role": "system", "content": f"You are agent {session}. " + "Rules. " * 400},
            {"role": "user", "content": "Begin."},
        ]
        for turn in range(8):
            answer = scene.client.chat.completions.create(
                model="flash",
                messages=messages,  # type: ignore[arg-type]
                extra_headers={"connection": "close"},  # another worker, perhaps
            )
            assert answer.usage is not None
            assert answer.usage.prompt_tokens_details is not None
            total += answer.usage.prompt_tokens
            cached += answer.usage.prompt_tokens_details.cached_tokens or 0
            reply = answer.choices[0].message.content or ""
            messages += [
                {"role": "assistant", "content": reply},
                {"role": "user", "content": f"Step {turn}: " + "data " * 100},
            ]
    return cached / total


def test_conversations_keep_their_prompt_cache(tmp_path: Path) -> None:
    """Over two equal deployments and two workers, the cached share is what one would give."""
    shares: dict[str, float] = {}
    used: dict[str, int] = {}
    for affinity in ("true", "false"):
        scene = Scene(tmp_path / affinity, affinity=affinity)
        try:
            shares[affinity] = cached_share(scene)
            used[affinity] = min(len(scene.a.calls), len(scene.b.calls))
        finally:
            scene.stop()

    print(f"cached share with affinity {shares['true']:.0%}, without {shares['false']:.0%}")
    assert shares["true"] > 0.80
    assert shares["true"] > shares["false"] + 0.05
    assert used["true"] > 0, "both deployments served"
