"""Snippets name this service, a key, and models that the client can use."""

from __future__ import annotations

import json
import tomllib

from gateway.console.keys.snippets import snippets
from gateway.core.catalogue import build
from gateway.settings import Deployment, Model, Provider, Settings, WireEndpoint

SETTINGS = Settings(
    providers=[
        Provider(
            name="p",
            openai=WireEndpoint(base_url="https://p.test/v1"),
            anthropic=WireEndpoint(base_url="https://p.test"),
        )
    ],
    models=[
        Model(
            name="chat-model",
            deployments=[Deployment(provider="p", model="m", wires=["openai"])],
        ),
        Model(
            name="claude-model",
            deployments=[Deployment(provider="p", model="m", wires=["anthropic"])],
        ),
    ],
)


def test_snippets_are_filled_in() -> None:
    """Each client gets its own wire's model, and configuration files parse."""
    found = {
        each.name: each.text
        for each in snippets(build(SETTINGS, {}), "https://llm.test", "sk-capio-live-1")
    }

    assert all("https://llm.test" in text for text in found.values())
    assert all("sk-capio-live-1" in text for text in found.values())
    assert "ANTHROPIC_MODEL=claude-model" in found["claude-code"]
    assert json.loads(found["opencode"])["provider"]["capio"]["options"] == {
        "baseURL": "https://llm.test/v1",
        "apiKey": "sk-capio-live-1",
    }
    assert "@ai-sdk/openai-compatible" in found["opencode"]
    assert tomllib.loads(found["codex"])["model"] == "chat-model"
    assert 'model="claude-model"' in found["anthropic-sdk"]
