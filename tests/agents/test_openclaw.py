"""OpenClaw writes a file through the gateway, on a model of the other wire."""

from __future__ import annotations

import json

import pytest

from tests.agents.clients import Agent
from tests.agents.conftest import ANTHROPIC_MODEL, OPENAI_MODEL, Service
from tests.agents.packages import long_form

# It takes a minute of CPU before its first request.
pytestmark = [pytest.mark.agents, pytest.mark.process, pytest.mark.timeout(400), long_form]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "api", "asked", "upstream"),
    [
        (ANTHROPIC_MODEL, "openai-completions", "/v1/chat/completions", "/v1/messages"),
        (OPENAI_MODEL, "anthropic-messages", "/v1/messages", "/v1/chat/completions"),
    ],
)
def test_openclaw_writes_a_file(
    service: Service, agent: Agent, model: str, api: str, asked: str, upstream: str
) -> None:
    """The ids that it rewrites still join call and result, and the turn ends in words."""
    arguments = {"path": str(agent.work / "hello.txt"), "content": "written\n"}

    run = agent.openclaw(model, f"Please /tool write {json.dumps(arguments)}", api=api)

    assert run.exit_code == 0, run
    assert "The tool has responded" in run.stdout
    assert (agent.work / "hello.txt").read_text() == "written\n"
    assert [call.status for call in service.front.calls(asked)] == [200, 200]
    assert ids_of_calls(service.upstream.calls(upstream)[1].json()) == 2


def ids_of_calls(body: dict[str, object]) -> int:
    """Return how often the id of the one call stands in a request of either dialect."""
    text = json.dumps(body)
    places = ('"tool_call_id": "', '"tool_use_id": "')
    found = next(place for place in places if place in text)
    call_id = text.partition(found)[2].partition('"')[0]
    return text.count(f'"{call_id}"')
