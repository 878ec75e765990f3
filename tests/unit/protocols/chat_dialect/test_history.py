"""Order and ids of tool calls and results, and what dialects want beside calls."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.protocols.translate.capabilities import capabilities
from gateway.protocols.translate.chat_dialect.history import fitting_messages

USER = {"role": "user", "content": "Hi"}
SYSTEM = {"role": "system", "content": "Be brief"}


def call(call_id: str | None, **more: Any) -> dict[str, Any]:
    """A tool call."""
    made = {"type": "function", "function": {"name": "f", "arguments": '{"a":1.0}'}} | more
    return made if call_id is None else made | {"id": call_id}


def calls(*ids: str | None, **more: Any) -> dict[str, Any]:
    """An assistant message with calls."""
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [call(each) for each in ids],
        **more,
    }


def result(call_id: str | None, text: str = "ok") -> dict[str, Any]:
    """A tool message."""
    made = {"role": "tool", "content": text}
    return made if call_id is None else made | {"tool_call_id": call_id}


def fitted(messages: list[dict[str, Any]], dialect: str = "generic") -> list[dict[str, Any]] | None:
    """Return the messages that are sent instead; None: those that came."""
    body = json.dumps({"model": "m", "messages": messages}).encode()
    made = fitting_messages(body, capabilities(dialect, {}))
    return None if made is None else list(json.loads(made))


@pytest.mark.parametrize(
    "messages",
    [
        [USER],
        [USER, calls("a", "b"), result("a"), result("b"), USER],
        [USER, calls("a"), result("a"), calls("a"), result("a")],
        [USER, calls("a"), USER],
        [result("a"), USER, calls("b")],
        [{"role": "assistant", "tool_calls": "odd"}, result("a")],
    ],
)
def test_history_in_order_is_not_copied(messages: list[dict[str, Any]]) -> None:
    assert fitted(messages) is None


@pytest.mark.parametrize(
    ("messages", "order"),
    [
        ([calls("a", "b"), result("b"), result("a")], [0, 2, 1]),
        ([calls("a"), USER, result("a")], [0, 2, 1]),
        ([calls("a", "b"), result("a"), SYSTEM, result("b"), USER], [0, 1, 3, 2, 4]),
        ([calls("a"), calls("b"), result("a"), result("b")], [0, 2, 1, 3]),
    ],
)
def test_results_are_placed_behind_their_calls(
    messages: list[dict[str, Any]], order: list[int]
) -> None:
    """Upstreams refuse anything between calls and results."""
    assert fitted(messages) == [messages[index] for index in order]


@pytest.mark.parametrize("empty", ["", None])
def test_calls_without_ids_are_paired_by_their_order(empty: str | None) -> None:
    given = [USER, calls(empty, empty), result(empty, "1"), result(empty, "2"), calls(empty)]

    made = fitted([*given, result(empty, "3")])

    assert made is not None
    assert [each["id"] for each in made[1]["tool_calls"]] == ["call_1_0", "call_1_1"]
    assert [(made[at]["tool_call_id"], made[at]["content"]) for at in (2, 3, 5)] == [
        ("call_1_0", "1"),
        ("call_1_1", "2"),
        ("call_4_0", "3"),
    ]


def test_longer_history_begins_with_the_same_messages() -> None:
    """Or the provider's prefix cache would be lost."""
    turn = [USER, calls("x" * 50, ""), result(""), result("x" * 50)]

    short, long = fitted(turn, "openai"), fitted([*turn, calls(""), result("")], "openai")

    assert short is not None
    assert long is not None
    assert long[: len(short)] == short


@pytest.mark.parametrize(
    ("dialect", "call_id", "is_kept"),
    [
        ("openai", "x" * 40, True),
        ("openai", "x" * 41, False),
        ("azure", "x" * 41, False),
        ("generic", "x" * 200, True),
        ("mistral", "call_1", False),
        ("mistral", "abcdef123", True),
        ("mistral", "abcdef12é", False),
    ],
)
def test_ids_that_the_upstream_refuses_are_shortened(
    dialect: str, call_id: str, is_kept: bool
) -> None:
    made = fitted([USER, calls(call_id), result(call_id)], dialect)

    assert (made is None) is is_kept
    if made is not None:
        sent = made[1]["tool_calls"][0]["id"]
        assert made[2]["tool_call_id"] == sent
        assert len(sent) <= 40
        assert sent != call_id


def test_geminis_first_call_has_a_signature() -> None:
    """Its own, else the documented value for a lost one."""
    own = {"google": {"thought_signature": "S"}}
    signed = {"role": "assistant", "tool_calls": [call("a", extra_content=own), call("b")]}
    results = [result("a"), result("b")]

    made = fitted([USER, calls("a", "b"), *results], "gemini")

    assert fitted([USER, signed, *results], "gemini") is None
    assert made is not None
    first, second = made[1]["tool_calls"]
    lost = {"google": {"thought_signature": "skip_thought_signature_validator"}}
    assert first["extra_content"] == lost
    assert "extra_content" not in second


@pytest.mark.parametrize("dialect", ["deepseek", "moonshot"])
@pytest.mark.parametrize(
    ("given", "sent"),
    [({}, " "), ({"reasoning_content": None}, " "), ({"reasoning": "why"}, "why")],
)
def test_call_without_reasoning_has_the_dialects_filler(
    given: dict[str, Any], sent: str, dialect: str
) -> None:
    made = fitted([USER, calls("a", **given), result("a")], dialect)

    assert made is not None
    assert made[1]["reasoning_content"] == sent
    assert "reasoning" not in made[1]


def test_reasoning_that_came_is_sent_as_it_is() -> None:
    history = [USER, calls("a", reasoning_content="why"), result("a")]

    assert fitted(history, "deepseek") is None
