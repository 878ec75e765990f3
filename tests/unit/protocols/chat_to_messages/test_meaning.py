"""The finish reason of a chat completion for an Anthropic response."""

from __future__ import annotations

import pytest

from gateway.protocols.translate.chat_to_messages.meaning import finish_reason


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
