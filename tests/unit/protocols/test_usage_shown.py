"""Usage is shown as it is billed: one reading of the wire serves both."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.core.model import Prices, Usage
from gateway.protocols.anthropic_messages.usage import UsageCounters, read_anthropic_usage
from gateway.protocols.native_chat import native_response
from gateway.protocols.openai_chat.usage import (
    ChatUsage,
    chat_usage,
    read_chat_usage,
    read_openai_usage,
)
from gateway.protocols.translate.capabilities import capabilities
from gateway.protocols.translate.messages_to_chat.response import translate_response
from gateway.protocols.translate.stream import ResponseContext

PRICES = Prices(input=1_000, cache_read=100, cache_write=1_000, output=3_000, reasoning=3_000)


def completion(usage: dict[str, Any]) -> bytes:
    choice = {"message": {"content": "Hi"}, "finish_reason": "stop"}
    return json.dumps({"id": "x", "choices": [choice], "usage": usage}).encode()


@pytest.mark.parametrize(
    ("usage", "shown"),
    [
        ({"prompt_tokens": 100.0, "completion_tokens": 10.0}, (100, 10, 0, 0)),
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 10,
                "prompt_tokens_details": {"cached_tokens": 130},
            },
            (100, 10, 100, 0),
        ),
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 10,
                "completion_tokens_details": {"reasoning_tokens": 40},
            },
            (100, 10, 0, 10),
        ),
    ],
)
def test_openai_usage_is_shown_as_billed(
    usage: dict[str, Any], shown: tuple[int, int, int, int]
) -> None:
    billed = read_openai_usage(json.dumps(usage).encode())
    seen = read_chat_usage(usage)

    assert billed is not None
    assert seen == chat_usage(billed)
    assert (seen.input, seen.output, seen.cached, seen.reasoning) == shown


@pytest.mark.parametrize("bad", [-1, 10.5, "5", True, 1e10])
def test_openai_usage_that_is_not_billed_is_not_shown(bad: object) -> None:
    assert read_chat_usage({"prompt_tokens": 10, "completion_tokens": bad}) is None


def test_native_response_charges_counts_written_as_fractions() -> None:
    body = completion({"prompt_tokens": 100.0, "completion_tokens": 10.0})

    made = json.loads(native_response(body, response_id="i", model="m", prices=PRICES))

    assert made["usage"] == {
        "input_tokens": 100,
        "output_tokens": 10,
        "total_tokens": 110,
        "cached_tokens": 0,
        "charged_tokens": 110,
    }


def test_messages_client_is_shown_the_billed_counts() -> None:
    body = completion(
        {
            "prompt_tokens": 100.0,
            "completion_tokens": 10.0,
            "prompt_tokens_details": {"cached_tokens": 130},
            "completion_tokens_details": {"reasoning_tokens": 40},
        }
    )

    made = translate_response(body, ResponseContext(model="m"), capabilities("generic", {}))

    assert json.loads(made)["usage"] == {
        "input_tokens": 0,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 100,
        "output_tokens": 10,
        "output_tokens_details": {"thinking_tokens": 10},
    }


def test_anthropic_counters_are_what_is_billed() -> None:
    events: list[dict[str, Any]] = [
        {"input_tokens": 5.0, "cache_creation": {"ephemeral_5m_input_tokens": 2}},
        {"output_tokens": 7, "output_tokens_details": {"thinking_tokens": 9}},
    ]
    counters = UsageCounters()
    billed: Usage | None = Usage()
    for event in events:
        counters.merge(event)
        billed = read_anthropic_usage(json.dumps(event).encode(), billed or Usage())

    assert counters.total == billed
    assert counters.states_thinking
    assert chat_usage(counters.total or Usage()) == ChatUsage(7, 7, 0, 2, 7)


def test_unreadable_anthropic_usage_leaves_the_counters() -> None:
    counters = UsageCounters()
    counters.merge({"input_tokens": 5})

    counters.merge({"output_tokens": -1})

    assert counters.total == Usage(input=5)
