"""
Libraries that keep no history of their own by default, on their defaults, over both wires.

Each calls a tool and continues in a second turn. What they refer to by id is resolved here, so the
upstream sees the whole conversation.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.agents import packages
from tests.agents.clients import Agent, AgentRun
from tests.agents.conftest import ANTHROPIC_MODEL, OPENAI_MODEL, Service

pytestmark = [pytest.mark.agents, pytest.mark.process, pytest.mark.timeout(300)]

MODELS = pytest.mark.parametrize(
    "model", [OPENAI_MODEL, pytest.param(ANTHROPIC_MODEL, marks=packages.long_form)]
)
CALLS = {OPENAI_MODEL: '"tool_calls"', ANTHROPIC_MODEL: '"tool_use"'}
REASONING = {OPENAI_MODEL: "reasoning_content", ANTHROPIC_MODEL: '"signature"'}
UPSTREAM_PATHS = {OPENAI_MODEL: "/v1/chat/completions", ANTHROPIC_MODEL: "/v1/messages"}

AI_SDK = r"""
import { createOpenAI } from '@ai-sdk/openai';
import { generateText, isStepCount, streamText, tool } from 'ai';
import { z } from 'zod';

const openai = createOpenAI({ baseURL: process.env.BASE_URL, apiKey: process.env.CAPIO_API_KEY });
const weather = tool({
  description: 'The weather of a city.',
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => `sunny in ${city}`,
});
const shared = { model: openai(process.env.MODEL), tools: { weather }, stopWhen: isStepCount(5) };
const messages = [{ role: 'user', content: '/think\n/tool weather {"city":"Rome"}' }];
const one = await generateText({ ...shared, messages });
const reply = one.steps.flatMap((step) => step.response.messages);
messages.push(...reply, { role: 'user', content: 'And now say hello' });
const two = streamText({ ...shared, messages, onError: ({ error }) => { throw error; } });
console.log(JSON.stringify([one.text, await two.text]));
"""

AGENT_FRAMEWORK = r"""
import asyncio, json, os
from agent_framework import Agent
from agent_framework.openai import OpenAIChatClient

def weather(city: str) -> str:
    "The weather of a city."
    return f"sunny in {city}"

async def main():
    client = OpenAIChatClient(
        os.environ["MODEL"],
        api_key=os.environ["CAPIO_API_KEY"],
        base_url=os.environ["BASE_URL"],
    )
    agent = Agent(client, "Be brief.", tools=[weather])
    session = agent.create_session()
    one = await agent.run('/think\n/tool weather {"city":"Rome"}', session=session)
    two = await agent.run("And now say hello", session=session, stream=True).get_final_response()
    print(json.dumps([one.text, two.text]))

asyncio.run(main())
"""

SEMANTIC_KERNEL = r"""
import asyncio, json, os
from openai import AsyncOpenAI
from semantic_kernel.agents import OpenAIResponsesAgent
from semantic_kernel.functions import kernel_function

class City:
    @kernel_function(description="The weather of a city.")
    def weather(self, city: str) -> str:
        return f"sunny in {city}"

async def main():
    client = AsyncOpenAI(api_key=os.environ["CAPIO_API_KEY"], base_url=os.environ["BASE_URL"])
    agent = OpenAIResponsesAgent(
        ai_model_id=os.environ["MODEL"],
        client=client,
        name="agent",
        instructions="Be brief.",
        plugins=[City()],
    )
    one = await agent.get_response('/think\n/tool City-weather {"city":"Rome"}')
    two = ""
    async for part in agent.invoke_stream("And now say hello", thread=one.thread):
        two += str(part.content)
    print(json.dumps([str(one.content), two]))

asyncio.run(main())
"""


def check_turns(run: AgentRun) -> None:
    """Check what the program got in its two turns."""
    assert run.exit_code == 0, run
    first, second = json.loads(run.stdout.splitlines()[-1])
    assert first.startswith("The tool has responded"), run
    assert second.startswith("Hello from the demo upstream!"), run


def check_history(service: Service, model: str) -> None:
    """Check that the last upstream request has reasoning, call, result and the words between."""
    assert {call.status for call in service.front.seen} == {200}
    sent = service.upstream.calls(UPSTREAM_PATHS[model])
    assert len(sent) == 3
    text = sent[-1].body.decode()
    assert REASONING[model] in text
    parts = ["/think", CALLS[model], "sunny in Rome", "The tool has responded", "And now say hello"]
    places = [text.find(part) for part in parts]
    assert -1 not in places, (parts, places)
    assert places == sorted(places), (parts, places)
    assert text.count("sunny in Rome") == 1


def asked(service: Service) -> list[dict[str, Any]]:
    """Return the bodies of the library's requests."""
    return [call.json() for call in service.front.calls("/v1/responses")]


@MODELS
def test_ai_sdk_refers_to_items(service: Service, agent: Agent, model: str) -> None:
    """It sends its history again, with references in place of what it received."""
    node = packages.command_of(packages.NODE)
    modules = packages.modules_of(packages.AI_SDK, node)
    (agent.work / "node_modules").symlink_to(modules)

    run = agent.program(node, AI_SDK, "program.mjs", MODEL=model)

    check_turns(run)
    check_history(service, model)
    kinds = [[item.get("type") for item in body["input"]] for body in asked(service)]
    assert [given.count("item_reference") > 0 for given in kinds] == [False, True, True]


@MODELS
def test_agent_framework_continues_responses(service: Service, agent: Agent, model: str) -> None:
    """It sends only what is new, with the id of the response before."""
    python = packages.python_with(packages.AGENT_FRAMEWORK)

    run = agent.program(python, AGENT_FRAMEWORK, "program.py", MODEL=model)

    check_turns(run)
    check_history(service, model)
    assert [bool(body.get("previous_response_id")) for body in asked(service)] == [
        *(False, True, True),
    ]


@packages.long_form  # half a gigabyte to install
@MODELS
def test_semantic_kernel_continues_responses(service: Service, agent: Agent, model: str) -> None:
    """Its agent keeps the id of the last response as its thread."""
    python = packages.python_with(packages.SEMANTIC_KERNEL)

    run = agent.program(python, SEMANTIC_KERNEL, "program.py", MODEL=model)

    check_turns(run)
    check_history(service, model)
    assert [bool(body.get("previous_response_id")) for body in asked(service)] == [
        *(False, True, True),
    ]
