"""Further clients write a file or run a command, set up as docs/clients.md says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.agents import packages
from tests.agents.clients import Agent, AgentRun
from tests.agents.conftest import ANTHROPIC_MODEL, OPENAI_MODEL, Service
from tests.agents.packages import long_form

pytestmark = [
    pytest.mark.agents,
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.timeout(400),
    long_form,
]

CLAUDE_NAME = "claude-sonnet-4-6"
"""An alias of the model on the OpenAI-wire upstream."""


def tool(name: str, **arguments: Any) -> str:
    return f"Please /tool {name} {json.dumps(arguments)}"


def write(folder: Path, name: str, text: str) -> None:
    """Write a configuration file."""
    folder.mkdir(parents=True)
    (folder / name).write_text(text)


def assert_written(service: Service, agent: Agent, run: AgentRun, path: str) -> None:
    """Check that the tool ran, and that its result was sent."""
    assert run.exit_code == 0, run
    assert (agent.work / "hello.txt").read_text().strip() == "written"
    calls = service.front.calls(path)
    assert len(calls) >= 2
    assert {call.status for call in calls} == {200}


def test_qwen_code_writes_a_file(service: Service, agent: Agent) -> None:
    prompt = tool("write_file", file_path=str(agent.work / "hello.txt"), content="written")

    run = agent.node_client(
        packages.QWEN_CODE,
        "-y",
        prompt,
        OPENAI_BASE_URL=f"{agent.base_url}/v1",
        OPENAI_API_KEY=agent.key,
        OPENAI_MODEL=ANTHROPIC_MODEL,
    )

    assert_written(service, agent, run, "/v1/chat/completions")


@pytest.mark.parametrize(
    ("kind", "suffix", "model", "path"),
    [
        ("openai", "/v1", ANTHROPIC_MODEL, "/v1/chat/completions"),
        ("anthropic", "", CLAUDE_NAME, "/v1/messages"),
    ],
)
def test_copilot_runs_a_command(
    service: Service, agent: Agent, kind: str, suffix: str, model: str, path: str
) -> None:
    """A model on the other wire, the second time under a name of Claude's."""
    run = agent.node_client(
        packages.COPILOT,
        "--allow-all-tools",
        "-p",
        tool("bash", command="printf written > hello.txt", description="Write"),
        COPILOT_PROVIDER_TYPE=kind,
        COPILOT_PROVIDER_BASE_URL=agent.base_url + suffix,
        COPILOT_PROVIDER_API_KEY=agent.key,
        COPILOT_MODEL=model,
        COPILOT_OFFLINE="true",
    )

    assert_written(service, agent, run, path)


def test_pi_writes_a_file(service: Service, agent: Agent) -> None:
    model = {"id": ANTHROPIC_MODEL, "contextWindow": 1_000_000, "maxTokens": 32_000}
    provider = {
        "baseUrl": f"{agent.base_url}/v1",
        "api": "openai-completions",
        "apiKey": "CAPIO_API_KEY",
        "models": [model],
    }
    write(
        agent.home / ".pi" / "agent", "models.json", json.dumps({"providers": {"capio": provider}})
    )
    prompt = tool("write", path="hello.txt", content="written")

    run = agent.node_client(
        packages.PI,
        *("--provider", "capio", "--model", ANTHROPIC_MODEL, "-p", prompt),
        CAPIO_API_KEY=agent.key,
        PI_OFFLINE="1",
    )

    assert_written(service, agent, run, "/v1/chat/completions")


def test_cline_runs_a_command(service: Service, agent: Agent) -> None:
    account = ("-b", f"{agent.base_url}/v1", "-k", agent.key, "-m", ANTHROPIC_MODEL)
    agent.node_client(packages.CLINE, "auth", "-p", "openai-compatible", *account)

    run = agent.node_client(
        packages.CLINE, "--json", tool("run_commands", commands=["printf written > hello.txt"])
    )

    assert_written(service, agent, run, "/v1/chat/completions")


def test_continue_runs_a_command(service: Service, agent: Agent) -> None:
    config = {
        "name": "Capio",
        "version": "1.0.0",
        "schema": "v1",
        "models": [
            {
                "name": OPENAI_MODEL,
                "provider": "openai",
                "model": OPENAI_MODEL,
                "apiBase": f"{agent.base_url}/v1",
                "apiKey": "${{ secrets.CAPIO_API_KEY }}",
                "roles": ["chat", "edit", "apply"],
                "capabilities": ["tool_use"],
            }
        ],
    }
    # JSON is YAML, too.
    write(agent.home / ".continue", "config.yaml", json.dumps(config))

    run = agent.node_client(
        packages.CONTINUE,
        *("--config", str(agent.home / ".continue" / "config.yaml"), "--auto"),
        *("-p", tool("Bash", command="printf written > hello.txt")),
        CAPIO_API_KEY=agent.key,
        CONTINUE_TELEMETRY_ENABLED="0",
    )

    assert_written(service, agent, run, "/v1/chat/completions")


def test_kilo_writes_a_file(service: Service, agent: Agent) -> None:
    """Of the shape of OpenCode, with its own names for files and variables."""
    options = {"baseURL": f"{agent.base_url}/v1", "apiKey": "{env:CAPIO_API_KEY}"}
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "Capio",
        "options": options,
        "models": {ANTHROPIC_MODEL: {}},
    }
    config = {"provider": {"capio": provider}, "autoupdate": False, "share": "disabled"}
    write(agent.home / ".config" / "kilo", "kilo.json", json.dumps(config))
    prompt = tool("write", filePath=str(agent.work / "hello.txt"), content="written")

    run = agent.node_client(
        packages.KILO,
        *("run", "--auto", "--model", f"capio/{ANTHROPIC_MODEL}", prompt),
        CAPIO_API_KEY=agent.key,
        KILO_DISABLE_MODELS_FETCH="1",
        KILO_DISABLE_AUTOUPDATE="1",
        KILO_DISABLE_DEFAULT_PLUGINS="1",
    )

    assert_written(service, agent, run, "/v1/chat/completions")
