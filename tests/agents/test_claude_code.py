"""Claude Code writes a file through the gateway, on either wire, and gives up on a wrong key."""

from __future__ import annotations

import base64
import json

import pytest

from tests.agents.clients import Agent
from tests.agents.conftest import ANTHROPIC_MODEL, OPENAI_MODEL, REASONING_MODEL, Service

pytestmark = [pytest.mark.agents, pytest.mark.process, pytest.mark.timeout(300)]

DOT = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
"""A PNG of one pixel."""
CONTENT = 'Written by an agent: "quotes", \\ and ünïcode\n'


def write_prompt(agent: Agent) -> str:
    path = str(agent.work / "hello.txt")
    return "/tool Write " + json.dumps({"file_path": path, "content": CONTENT})


def test_claude_code_on_openai_wire_writes_a_file(service: Service, agent: Agent) -> None:
    """Its tool call and the tool's result cross the translation in both directions."""
    run = agent.claude_code(OPENAI_MODEL, write_prompt(agent), "--permission-mode=acceptEdits")

    answer = json.loads(run.stdout)
    assert (run.exit_code, answer["is_error"], answer["num_turns"]) == (0, False, 2), run
    assert answer["result"].startswith("The tool has responded")
    assert (agent.work / "hello.txt").read_text() == CONTENT
    first, second = service.upstream.calls("/v1/chat/completions")
    assert first.json()["model"] == "upstream-chat"
    call, result = [m for m in second.json()["messages"] if m["role"] in ("assistant", "tool")]
    assert call["tool_calls"][0]["id"] == result["tool_call_id"]
    assert "hello.txt" in result["content"]
    assert second.body.startswith(first.body.partition(b'],"max_tokens"')[0])


def test_claude_code_on_openai_wire_counts_what_the_upstream_counted(
    service: Service, agent: Agent
) -> None:
    """Tokens and reasoning in its own summary are those of the upstream's two responses."""
    run = agent.claude_code(OPENAI_MODEL, write_prompt(agent), "--permission-mode=acceptEdits")

    usage = json.loads(run.stdout)["usage"]
    bodies = [call.body for call in service.upstream.calls("/v1/chat/completions")]
    assert usage["input_tokens"] == sum(len(body) // 4 + 1 for body in bodies), run
    assert usage["output_tokens"] > usage["output_tokens_details"]["thinking_tokens"] > 0


def test_claude_code_on_anthropic_wire_writes_a_file(service: Service, agent: Agent) -> None:
    """Its requests reach the upstream byte for byte but for the model's name, betas included."""
    run = agent.claude_code(ANTHROPIC_MODEL, write_prompt(agent), "--permission-mode=acceptEdits")

    answer = json.loads(run.stdout)
    assert (run.exit_code, answer["is_error"], answer["num_turns"]) == (0, False, 2), run
    assert (agent.work / "hello.txt").read_text() == CONTENT
    sent = service.front.calls("/v1/messages")
    received = service.upstream.calls("/v1/messages")
    name, upstream_name = b'"model":"capio/claude-opus-4-8"', b'"model":"upstream-messages"'
    assert [call.body.replace(name, upstream_name) for call in sent] == [r.body for r in received]
    for header in ("anthropic-beta", "anthropic-version"):
        assert [c.headers[header] for c in sent] == [r.headers[header] for r in received]
    results = [
        block
        for message in received[1].json()["messages"]
        if isinstance(message["content"], list)
        for block in message["content"]
        if block["type"] == "tool_result"
    ]
    assert len(results) == 1


def test_claude_code_image_crosses_the_translation(service: Service, agent: Agent) -> None:
    """A picture that its Read tool returns reaches an OpenAI-wire model in a message of its own."""
    picture = agent.work / "dot.png"
    picture.write_bytes(base64.b64decode(DOT))
    prompt = "/tool Read " + json.dumps({"file_path": str(picture)})

    run = agent.claude_code(REASONING_MODEL, prompt)

    assert json.loads(run.stdout)["num_turns"] == 2, run
    messages = service.upstream.calls("/v1/chat/completions")[1].json()["messages"]
    tool, shown = messages[-2:]
    assert (tool["role"], shown["role"]) == ("tool", "user")
    assert shown["content"][1]["image_url"]["url"].startswith("data:image/png;base64,")


@pytest.mark.parametrize(
    ("model", "upstream_counts"), [(OPENAI_MODEL, False), (ANTHROPIC_MODEL, True)]
)
def test_claude_code_context_is_counted(
    service: Service, agent: Agent, model: str, upstream_counts: bool
) -> None:
    """`/context` asks for some two dozen counts at once: estimated, or the upstream's own."""
    run = agent.claude_code(model, "/context")

    counts = service.front.calls("/v1/messages/count_tokens")
    assert "Context Usage" in json.loads(run.stdout)["result"], run
    assert len(counts) > 20
    assert {call.status for call in counts} == {200}
    assert (len(service.upstream.seen) > 20) is upstream_counts


def test_claude_code_key_never_reaches_the_upstream(service: Service, agent: Agent) -> None:
    """The client's key is in no header and no body upstream."""
    for model in (OPENAI_MODEL, ANTHROPIC_MODEL):
        agent.claude_code(model, "Hello")

    assert len(service.upstream.seen) == 2
    for call in service.upstream.seen:
        assert service.key not in json.dumps(call.headers)
        assert service.key.encode() not in call.body


def test_claude_code_with_wrong_key_asks_once(service: Service, stranger: Agent) -> None:
    """A 401 is not retried, and its reason is shown."""
    run = stranger.claude_code(OPENAI_MODEL, "Hello")

    answer = json.loads(run.stdout)
    assert (run.exit_code, answer["is_error"]) == (1, True), run
    assert "401 Invalid API key" in answer["result"]
    assert [call.status for call in service.front.seen] == [401]
    assert service.upstream.seen == []


def test_claude_code_with_unknown_model_asks_at_most_twice(service: Service, agent: Agent) -> None:
    """A 404 ends the run with a word about the model."""
    run = agent.claude_code("no-such-model", "Hello")

    answer = json.loads(run.stdout)
    assert answer["is_error"], run
    assert "model" in answer["result"]
    assert {call.status for call in service.front.seen} == {404}
    assert len(service.front.seen) <= 2
    assert service.upstream.seen == []


def test_claude_code_on_a_cut_stream_asks_again(service: Service, agent: Agent) -> None:
    """A stream without its end mark becomes an error, and the client gets it unstreamed."""
    run = agent.claude_code(OPENAI_MODEL, "Please\n/cut 5")

    assert json.loads(run.stdout)["result"].startswith("Hello from the demo upstream"), run
    streamed = [call.json()["stream"] for call in service.front.calls("/v1/messages")]
    assert streamed[0] and not streamed[-1]
