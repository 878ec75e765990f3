"""How to call the service from programs, with a key filled in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from gateway.core.catalogue import Catalogue
from gateway.core.model import Wire

PLACEHOLDER = "YOUR_KEY"


class Snippet(NamedTuple):
    """A text to paste. `name` is that of the tab, remembered across pages."""

    name: str
    label: str
    title: str
    text: str


# `@url`, `@key`, `@chat` and `@claude` stand for the service, the key and a model of each wire.
_TEXTS = (
    Snippet(
        "claude-code",
        "Claude Code",
        "Terminal",
        """export ANTHROPIC_BASE_URL=@url
export ANTHROPIC_AUTH_TOKEN=@key
export ANTHROPIC_MODEL=@claude
export ANTHROPIC_DEFAULT_HAIKU_MODEL=@claude
claude""",
    ),
    Snippet(
        "opencode",
        "OpenCode",
        "opencode.json",
        """{
  "$schema": "https://opencode.ai/config.json",
  "model": "capio/@chat",
  "provider": {
    "capio": {
      "npm": "@ai-sdk/openai-compatible",
      "options": { "baseURL": "@url/v1", "apiKey": "@key" },
      "models": { "@chat": {} }
    }
  }
}""",
    ),
    Snippet(
        "codex",
        "Codex",
        "~/.codex/config.toml",
        """# Then: export CAPIO_API_KEY=@key
model = "@chat"
model_provider = "capio"

[model_providers.capio]
name = "Capio"
base_url = "@url/v1"
env_key = "CAPIO_API_KEY"
wire_api = "responses"
""",
    ),
    Snippet(
        "openai-sdk",
        "OpenAI SDK",
        "Python",
        """from openai import OpenAI

client = OpenAI(base_url="@url/v1", api_key="@key")
response = client.chat.completions.create(
    model="@chat",
    messages=[{"role": "user", "content": "Hello"}],
)
print(response.choices[0].message.content)""",
    ),
    Snippet(
        "anthropic-sdk",
        "Anthropic SDK",
        "Python",
        """from anthropic import Anthropic

client = Anthropic(base_url="@url", api_key="@key")
message = client.messages.create(
    model="@claude",
    max_tokens=1024,
    messages=[{"role": "user", "content": "Hello"}],
)
print(message.content[0].text)""",
    ),
    Snippet(
        "curl",
        "curl",
        "Terminal",
        """curl -N @url/v1/chat/completions \\
  -H "Authorization: Bearer @key" \\
  -H "Content-Type: application/json" \\
  -d '{"model": "@chat", "stream": true,
       "messages": [{"role": "user", "content": "Hello"}]}'""",
    ),
)


def snippets(catalogue: Catalogue, base_url: str, key: str = PLACEHOLDER) -> list[Snippet]:
    """Return the snippets of all clients, for models that each can use."""
    values = {
        "@url": base_url,
        "@key": key,
        "@chat": _model(catalogue, Wire.OPENAI),
        "@claude": _model(catalogue, Wire.ANTHROPIC),
    }
    return [each._replace(text=_filled(each.text, values)) for each in _TEXTS]


def _filled(text: str, values: Mapping[str, str]) -> str:
    return re.sub(r"@(?:url|key|chat|claude)\b", lambda match: values[match[0]], text)


def _model(catalogue: Catalogue, wire: Wire) -> str:
    """Return the first model with a deployment on a wire, else the first, which is translated."""
    for model in catalogue.models:
        if any(wire in deployment.wires for deployment in model.deployments):
            return model.name
    return catalogue.models[0].name if catalogue.models else "MODEL"
