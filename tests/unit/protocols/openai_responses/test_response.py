"""A whole Anthropic message becomes the response object that its chat completion becomes."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from gateway.protocols.openai_responses.response import (
    translate_message,
    translate_responses_response,
)
from gateway.protocols.translate.chat_to_messages.response import translate_response
from gateway.protocols.translate.stream import ResponseContext
from tests.support.responses_streams import ASKED

CHAT = ResponseContext(model="m", tool_names={"f_x": "f x"}, created=7)
THINKING = {"type": "thinking", "thinking": "why", "signature": "s"}
REDACTED = {"type": "redacted_thinking", "data": "D"}
TOOL = {"type": "tool_use", "id": "toolu_1", "name": "f_x", "input": {"a": 1.0}}


@pytest.mark.parametrize(
    "message",
    [
        {"content": [{"type": "text", "text": "h\u00e9 \ud83d\ude00"}], "stop_reason": "end_turn"},
        {"content": [THINKING, REDACTED, TOOL, TOOL], "stop_reason": "tool_use"},
        {"content": [{"type": "thinking", "thinking": "unsigned"}], "stop_reason": "end_turn"},
        {"content": [{**TOOL, "id": ""}], "stop_reason": "max_tokens"},
        {"content": [], "stop_reason": "refusal", "stop_details": {"explanation": "No."}},
    ],
)
@pytest.mark.parametrize("usage", [None, {"input_tokens": 3, "output_tokens": 2}])
def test_message_becomes_what_its_completion_becomes(
    message: dict[str, Any], usage: dict[str, int] | None
) -> None:
    body = json.dumps({"id": "msg_1", "type": "message", "usage": usage} | message).encode()

    made = translate_message(body, ASKED, CHAT)

    assert made == translate_responses_response(translate_response(body, CHAT), ASKED)
    assert msgspec.json.decode(made)["id"] == "resp_1"
