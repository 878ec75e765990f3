"""Codex, which speaks the Responses API only, runs a command through the gateway on either wire."""

from __future__ import annotations

import json

import pytest

from tests.agents.clients import Agent
from tests.agents.conftest import ANTHROPIC_MODEL, OPENAI_MODEL, Service

pytestmark = [pytest.mark.agents, pytest.mark.process, pytest.mark.timeout(300)]

UPSTREAM_PATHS = {OPENAI_MODEL: "/v1/chat/completions", ANTHROPIC_MODEL: "/v1/messages"}


@pytest.mark.parametrize("model", [OPENAI_MODEL, ANTHROPIC_MODEL])
def test_codex_runs_a_command(service: Service, agent: Agent, model: str) -> None:
    """Its function call, the call's output and the closing words cross the façade."""
    command = json.dumps({"cmd": f"printf written > {agent.work}/hello.txt; echo it-ran"})

    run = agent.codex(model, f"Please /tool exec_command {command}")

    events = [json.loads(line) for line in run.stdout.splitlines()]
    assert run.exit_code == 0, run
    assert events[-1]["type"] == "turn.completed"
    assert events[-2]["item"]["text"].startswith("The tool has answered")
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
