"""OpenAI chat messages and what becomes of them at an Anthropic upstream, for tests."""

from __future__ import annotations

import json
from typing import Any

from gateway.protocols.translate.capabilities import capabilities
from gateway.protocols.translate.chat_to_messages.request import translate_request
from gateway.protocols.translate.stream import TranslationRoute

Message = dict[str, Any]


def sent(
    *messages: Message,
    dialect: str = "anthropic",
    caps: dict[str, object] | None = None,
    carry_reasoning: bool = True,
) -> Any:
    """Return the upstream's body for these messages."""
    route = TranslationRoute("up", capabilities(dialect, caps or {}))
    request = {"model": "mine", "messages": list(messages)}
    return json.loads(
        translate_request(json.dumps(request).encode(), route, carry_reasoning=carry_reasoning).body
    )


def turns(*messages: Message, **options: Any) -> Any:
    """Return the upstream's messages."""
    return sent(*messages, **options)["messages"]


def user(*parts: Any) -> Message:
    """Return a user's message."""
    return {"role": "user", "content": parts[0] if len(parts) == 1 else list(parts)}


def text(words: str, **more: object) -> Message:
    """Return a text block or part."""
    return {"type": "text", "text": words, **more}


def calling(arguments: Any, call_id: str = "c1") -> Message:
    """Return an assistant's message with one call."""
    function = {"name": "f", "arguments": arguments}
    return {
        "role": "assistant",
        "tool_calls": [{"id": call_id, "type": "function", "function": function}],
    }


def result(content: Any, call_id: str = "c1") -> Message:
    """Return a tool's message."""
    return {"role": "tool", "tool_call_id": call_id, "content": content}
