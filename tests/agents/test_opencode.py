"""OpenCode writes a file through the gateway, on a model of the other wire."""

from __future__ import annotations

import json

import pytest

from tests.agents.clients import Agent
from tests.agents.conftest import ANTHROPIC_MODEL, OPENAI_MODEL, REASONING_MODEL, Service
from tests.agents.packages import long_form

pytestmark = [pytest.mark.agents, pytest.mark.process, pytest.mark.timeout(300)]


def write_prompt(agent: Agent) -> str:
    path = str(agent.work / "hello.txt")
    return "/tool write " + json.dumps({"filePath": path, "content": "written\n"})


def test_opencode_openai_compatible_on_anthropic_wire_writes_a_file(
    service: Service, agent: Agent
) -> None:
    """Chat completions become Messages with their tool results and cache marks."""
    run = agent.opencode(ANTHROPIC_MODEL, write_prompt(agent), package="@ai-sdk/openai-compatible")

    assert run.exit_code == 0, run
    assert "The tool has responded" in run.stdout
    assert (agent.work / "hello.txt").read_text() == "written\n"
    assert {call.status for call in service.front.calls("/v1/chat/completions")} == {200}
    body = service.upstream.calls("/v1/messages")[-1].json()
    blocks = [block for message in body["messages"] for block in message["content"]]
    call = next(block for block in blocks if block["type"] == "tool_use")
    result = next(block for block in blocks if block["type"] == "tool_result")
    assert call["id"] == result["tool_use_id"]
    assert body["system"][-1]["cache_control"] == {"type": "ephemeral"}
    assert result["cache_control"] == {"type": "ephemeral"}


def test_opencode_anthropic_on_openai_wire_writes_a_file(service: Service, agent: Agent) -> None:
    """Messages become chat completions, asked with `x-api-key`."""
    run = agent.opencode(OPENAI_MODEL, write_prompt(agent), package="@ai-sdk/anthropic")

    assert run.exit_code == 0, run
    assert "The tool has responded" in run.stdout
    assert (agent.work / "hello.txt").read_text() == "written\n"
    asked = service.front.calls("/v1/messages")
    assert all("x-api-key" in call.headers for call in asked)
    messages = service.upstream.calls("/v1/chat/completions")[-1].json()["messages"]
    call, result = [m for m in messages if m["role"] in ("assistant", "tool")]
    assert call["tool_calls"][0]["id"] == result["tool_call_id"]


@long_form
def test_opencode_limit_reaches_openai_under_its_new_name(service: Service, agent: Agent) -> None:
    """It sends `max_tokens`, which OpenAI's reasoning models refuse; nothing else changes."""
    run = agent.opencode(REASONING_MODEL, "Hello", package="@ai-sdk/openai-compatible")

    assert run.exit_code == 0, run
    sent = [call.body for call in service.front.calls("/v1/chat/completions")]
    received = [call.body for call in service.upstream.calls("/v1/chat/completions")]
    assert all(b'"max_tokens":32000' in body for body in sent)
    changes = {b'"max_tokens"': b'"max_completion_tokens"', b'"gpt-5.5"': b'"upstream-gpt"'}
    for old, new in changes.items():
        sent = [body.replace(old, new, 1) for body in sent]
    assert received == sent


@long_form
def test_opencode_with_wrong_key_ends_at_once(service: Service, stranger: Agent) -> None:
    """A 401 is shown, without a second request."""
    run = stranger.opencode(OPENAI_MODEL, "Hello", package="@ai-sdk/openai-compatible")

    assert "Invalid API key" in run.stdout + run.stderr, run
    assert {call.status for call in service.front.seen} == {401}
    assert len(service.front.seen) <= 2
