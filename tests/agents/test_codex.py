"""Codex, which speaks the Responses API only, runs a command through the gateway on either wire."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.agents.clients import Agent
from tests.agents.conftest import (
    ANTHROPIC_MODEL,
    CODE_MODE_MODELS,
    FUNCTION_MODELS,
    OPENAI_MODEL,
    Service,
)

pytestmark = [pytest.mark.agents, pytest.mark.process, pytest.mark.timeout(300)]

PATCH = "*** Begin Patch\n*** Add File: patched.txt\n+patched\n*** End Patch\n"
UPSTREAM_PATHS = {OPENAI_MODEL: "/v1/chat/completions", ANTHROPIC_MODEL: "/v1/messages"}


def calls(*tools: tuple[str, dict[str, Any]]) -> str:
    """Return a prompt that asks for these tools, one after the other."""
    return "Please " + " ".join(f"/tool {name} {json.dumps(given)}" for name, given in tools)


def finished(stdout: str, kind: str) -> list[dict[str, Any]]:
    """Return the items of a type that a run reports as complete."""
    events = [json.loads(line) for line in stdout.splitlines() if line.startswith("{")]
    items = [event["item"] for event in events if event["type"] == "item.completed"]
    return [item for item in items if item["type"] == kind]


@pytest.mark.parametrize("model", [OPENAI_MODEL, ANTHROPIC_MODEL])
def test_codex_runs_a_command(service: Service, agent: Agent, model: str) -> None:
    """Its function call, the call's output and the closing words cross the façade."""
    command = json.dumps({"cmd": f"printf written > {agent.work}/hello.txt; echo it-ran"})

    run = agent.codex(model, f"Please /tool exec_command {command}")

    events = [json.loads(line) for line in run.stdout.splitlines()]
    assert run.exit_code == 0, run
    assert events[-1]["type"] == "turn.completed"
    assert events[-2]["item"]["text"].startswith("The tool has responded")
    assert (agent.work / "hello.txt").read_text() == "written"
    assert [call.status for call in service.front.calls("/v1/responses")] == [200, 200]
    assert b"it-ran" in service.upstream.calls(UPSTREAM_PATHS[model])[1].body


def test_codex_usage_is_the_upstreams(service: Service, agent: Agent) -> None:
    """The tokens of its summary are those that the upstream counted."""
    run = agent.codex(OPENAI_MODEL, "Hello")

    usage = json.loads(run.stdout.splitlines()[-1])["usage"]
    body = service.upstream.calls("/v1/chat/completions")[0].body
    assert usage["input_tokens"] == len(body) // 4 + 1, run
    assert usage["output_tokens"] > 0


def test_codex_with_unknown_model_asks_once(service: Service, agent: Agent) -> None:
    """A 404 ends the run with the gateway's words."""
    run = agent.codex("no-such-model", "Hello")

    assert run.exit_code == 1, run
    assert "The model 'no-such-model' does not exist" in run.stdout
    assert [call.status for call in service.front.seen] == [404]


@pytest.mark.parametrize(("model", "path"), CODE_MODE_MODELS.items())
def test_codex_runs_tools_from_javascript(
    service: Service, agent: Agent, model: str, path: str
) -> None:
    """Its tools come in an input item; one custom tool runs a command, a patch and an MCP tool."""
    script = (
        'text(await tools.exec_command({cmd: "echo it-ran"}));'
        'text(await tools.mcp__notes__read_note({title: "x"}));'
        f"text(await tools.apply_patch({json.dumps(PATCH)}));"
    )

    run = agent.codex(model, calls(("functions__exec", {"input": script})))

    assert run.exit_code == 0, run
    assert finished(run.stdout, "mcp_tool_call")[0]["status"] == "completed"
    assert (agent.work / "patched.txt").read_text() == "patched\n"
    asked = service.front.calls("/v1/responses")
    assert asked[0].json()["input"][0]["type"] == "additional_tools"
    assert [call.status for call in asked] == [200, 200]
    second = service.upstream.calls(path)[1].body
    assert b"it-ran" in second
    assert b"The note x says 4711." in second


@pytest.mark.parametrize(("model", "path"), FUNCTION_MODELS.items())
def test_codex_finds_and_runs_further_tools(
    service: Service, agent: Agent, model: str, path: str
) -> None:
    """A search on the client brings an MCP server's tool, which can be called; so can a patch."""
    prompt = calls(
        ("tool_search", {"query": "read a note"}),
        ("mcp__notes__read_note", {"title": "x"}),
        ("apply_patch", {"input": PATCH}),
        ("exec_command", {"cmd": "cat patched.txt"}),
    )

    run = agent.codex(model, prompt)

    assert run.exit_code == 0, run
    assert finished(run.stdout, "mcp_tool_call")[0]["status"] == "completed"
    assert finished(run.stdout, "command_execution")[0]["aggregated_output"] == "patched\n"
    assert len(service.upstream.calls(path)) == 5
    assert b"The note x says 4711." in service.upstream.calls(path)[2].body


@pytest.mark.parametrize(("model", "path"), CODE_MODE_MODELS.items())
def test_codex_agents_write_to_each_other(
    service: Service, agent: Agent, model: str, path: str
) -> None:
    """A sub-agent gets its task, does it, and its report reaches the agent that started it."""
    script = {"input": 'text(await tools.exec_command({cmd: "printf helped > helped.txt"}))'}
    task = {"task_name": "helper", "fork_turns": "none"}
    task["message"] = calls(("functions__exec", script))
    prompt = calls(
        ("collaboration__spawn_agent", task),
        ("collaboration__wait_agent", {"timeout_ms": 10_000}),
        ("collaboration__list_agents", {}),
    )

    run = agent.codex(model, prompt)

    assert run.exit_code == 0, run
    assert (agent.work / "helped.txt").read_text() == "helped"
    assert {call.status for call in service.front.calls("/v1/responses")} == {200}
    bodies = [call.body for call in service.upstream.calls(path)]
    assert any(b"Message Type: NEW_TASK" in body for body in bodies)
    assert any(b"Message Type: FINAL_ANSWER" in body for body in bodies)


@pytest.mark.parametrize("model", ["gpt-5.6-sol", "gpt-5.5"])
def test_codex_with_only_a_base_url_compacts_its_history(
    service: Service, agent: Agent, model: str
) -> None:
    """The built-in provider tries WebSocket first, and leaves summaries to the service."""
    agent.codex(model, "Hello", own_provider=False)
    assert [call.status for call in service.front.seen] == [426, 200]
    service.front.seen.clear()
    service.upstream.seen.clear()

    compact = ("-c", "model_auto_compact_token_limit=2000")
    run = agent.codex(model, "Go on", *compact, own_provider=False, resume=True)

    assert run.exit_code == 0, run
    summarized, continued = service.front.calls("/v1/responses")
    assert summarized.json()["input"][-1]["type"] == "compaction_trigger"
    assert "compaction" in [item["type"] for item in continued.json()["input"]]
    texts = json.dumps(service.upstream.seen[-1].json()["messages"])
    assert "was replaced by this summary of it" in texts
    assert finished(run.stdout, "agent_message")
