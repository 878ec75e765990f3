"""The chat request that a façade makes, as each upstream takes it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.core.model import Endpoint
from gateway.pipeline.request.reading import parse_request
from gateway.protocols.native_chat import NativeLimits
from gateway.protocols.translate.capabilities import capabilities
from gateway.protocols.translate.stream import TranslationRoute


def chat_body(dialect: str, **members: Any) -> Any:
    """Return what an upstream of this dialect gets for a Responses request."""
    body = json.dumps({"model": "m", "input": "Hi"} | members).encode()
    front = parse_request(Endpoint.RESPONSES, body, created=0, limits=NativeLimits())
    return json.loads(front.chat_body(TranslationRoute("up", capabilities(dialect, {})))[0])


@pytest.mark.parametrize(
    ("dialect", "hinted"), [("openai", True), ("moonshot", True), ("deepseek", False)]
)
def test_hints_go_only_where_they_are_known(dialect: str, hinted: bool) -> None:
    """Codex always sends a cache key, which a strict upstream without one would refuse."""
    body = chat_body(dialect, prompt_cache_key="k", safety_identifier="s")

    assert body["model"] == "up"
    assert ("prompt_cache_key" in body, "safety_identifier" in body) == (hinted, hinted)


@pytest.mark.parametrize(
    ("dialect", "name"), [("openai", "max_completion_tokens"), ("deepseek", "max_tokens")]
)
def test_output_limit_has_the_upstreams_name(dialect: str, name: str) -> None:
    """The limit is sent once, under the name that the upstream knows."""
    body = chat_body(dialect, max_output_tokens=77)

    limits = {key: value for key, value in body.items() if key.startswith("max")}
    assert limits == {name: 77}
