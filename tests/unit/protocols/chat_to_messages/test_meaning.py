"""The finish reason and the arguments in a chat completion for an Anthropic response."""

from __future__ import annotations

import pytest
from msgspec import Raw

from gateway.protocols.translate.chat_to_messages.meaning import arguments_of, finish_reason


@pytest.mark.parametrize(
    ("stop_reason", "has_calls", "finish"),
    [
        ("end_turn", False, "stop"),
        ("end_turn", True, "tool_calls"),
        ("tool_use", True, "tool_calls"),
        ("max_tokens", True, "length"),
        ("max_tokens", False, "length"),
        ("unknown", False, "stop"),
        (None, True, "tool_calls"),
        (None, False, "stop"),
    ],
)
def test_calls_decide_only_where_the_response_would_have_stopped(
    stop_reason: str | None, has_calls: bool, finish: str
) -> None:
    """A call that the output limit cut off is not complete."""
    assert finish_reason(stop_reason, has_calls=has_calls) == finish


@pytest.mark.parametrize(
    ("given", "arguments"),
    [
        (b'{"x": 1.0}', '{"x":1.0}'),
        (b'"{\\"x\\": 1.0}"', '{"x":1.0}'),
        (b'"plain"', '"plain"'),
        (b'"[1]"', '"[1]"'),
        (b"null", "{}"),
    ],
)
def test_arguments_are_the_object_also_if_it_is_quoted(given: bytes, arguments: str) -> None:
    """Some endpoints send a tool's input as the JSON of an object in a string."""
    assert arguments_of(Raw(given)) == arguments
