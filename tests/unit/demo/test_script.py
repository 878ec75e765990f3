"""What the demo upstream reads out of real agents' prompts."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.demo.requests import decode, read_prompt
from gateway.demo.script import Script, read

WRITE = '/tool write {"path": "a", "text": "say \\"hi\\"\\n"}'
CALL = ("write", '{"path":"a","text":"say \\"hi\\"\\n"}')
NOTE = {"role": "user", "content": [{"type": "text", "text": "Some notes of the agent."}]}


def script(*messages: dict[str, Any]) -> Script:
    body = {"model": "m", "messages": messages, "tools": [{"function": {"name": "write"}}]}
    encoded = json.dumps(body).encode()
    return read(read_prompt(decode(encoded), encoded))


@pytest.mark.parametrize(
    "prompt",
    [WRITE, f"[Sun 16:06] Please {WRITE}. Thanks!", '"' + WRITE.replace('"', '\\"') + '"'],
    ids=["alone", "among-words", "quoted"],
)
def test_tool_directive_is_found(prompt: str) -> None:
    """Anywhere in the prompt, and in OpenCode's quotes."""
    assert script({"role": "user", "content": prompt}).tool == CALL


def test_tool_directive_may_be_followed_by_notes() -> None:
    """OpenClaw sends a second user message behind the prompt."""
    assert script({"role": "user", "content": WRITE}, NOTE).tool == CALL


def test_tool_is_called_once() -> None:
    """After its result there are words, notes or not, and old directives count no more."""
    asked = {"role": "user", "content": f"{WRITE}\n/error 500"}
    called = {"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}
    tool_result = {"role": "tool", "tool_call_id": "1", "content": "ok"}

    conversation: list[dict[str, Any]] = [asked, called, tool_result]
    for messages in (conversation, [*conversation, NOTE]):
        response = script(*messages)
        assert (response.tool, response.fault) == (None, None)
        assert "".join(response.text).startswith("The tool has responded")


def test_tools_are_called_one_after_the_other() -> None:
    """One for each result; a directive inside of another's arguments is not the agent's own."""
    nested = json.dumps({"text": "/tool write {}"})
    asked = {"role": "user", "content": f"/tool write {nested}\n/tool gone {{}} {WRITE}"}
    called = {"role": "assistant", "content": ""}
    result = {"role": "tool", "tool_call_id": "1", "content": "/tool write {}"}

    first = script(asked).tool
    second = script(asked, called, result).tool
    third = script(asked, called, result, called, result).tool

    assert first == ("write", '{"text":"/tool write {}"}')
    assert (second, third) == (CALL, None)


def test_results_of_messages_are_counted() -> None:
    """Anthropic's form of results stands in the user's messages."""
    asked = {"role": "user", "content": f"{WRITE} {WRITE} {WRITE}"}
    called: dict[str, Any] = {"role": "assistant", "content": "-"}
    result: dict[str, Any] = {
        "role": "user",
        "content": [{"type": "tool_result", "tool_use_id": "1"}],
    }

    assert script(asked, called, result, called, result).tool == CALL
    assert script(asked, *[called, result] * 3).tool is None


def test_tool_that_is_not_offered_is_not_called() -> None:
    """A title request repeats the prompt without the tools."""
    response = script({"role": "user", "content": WRITE.replace("write", "Write")})

    assert response.tool is None
    assert response.text
