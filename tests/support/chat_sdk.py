"""Reading an OpenAI stream with the official SDK, as a client would."""

from __future__ import annotations

from typing import Any

from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

SEEN = frozenset({"content", "finish_reason", "usage", "tool_calls", "reasoning_content"})
"""What `seen` tells."""


def seen(events: list[Any]) -> dict[str, Any]:
    """Return what the SDK has accumulated from a stream's events; absent things are left out."""
    state = ChatCompletionStreamState()
    for event in events:
        if isinstance(event, dict) and "error" not in event:
            state.handle_chunk(ChatCompletionChunk.model_validate(event))
    snapshot = state.current_completion_snapshot
    choice = snapshot.choices[0]
    message = choice.message.model_dump(exclude_none=True)
    calls = [
        {name: value for name, value in call.items() if name in ("id", "type", "function")}
        for call in message.get("tool_calls") or ()
    ]
    for call in calls:
        call["function"].pop("parsed_arguments", None)
    view = {
        "content": message.get("content", ""),
        "finish_reason": choice.finish_reason,
        "usage": snapshot.usage.model_dump(exclude_none=True) if snapshot.usage else None,
        "tool_calls": calls,
        "reasoning_content": message.get("reasoning_content"),
    }
    return {name: value for name, value in view.items() if value or name == "content"}
