"""The shared vectors of the translation Anthropic Messages client -> OpenAI-wire upstream."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.errors import GatewayError
from gateway.protocols.translate.anthropic_openai_request import translate_request
from gateway.protocols.translate.contract import TranslationRoute
from gateway.protocols.translate.dialects import capabilities
from tests import vectors


def route_of(given: dict[str, Any]) -> TranslationRoute:
    """Return the vector's route with its capabilities."""
    route = given["route"]
    caps = capabilities(route["dialect"], route.get("caps", {}))
    return TranslationRoute(route["upstream_model"], caps, route.get("max_output"))


def anthropic_error(error: GatewayError) -> dict[str, Any]:
    """Return status and body of a gateway error in Anthropic's shape."""
    surface = error.surface
    body = {"type": surface.anthropic_type, "message": error.message}
    return {"status": surface.anthropic_status, "body": {"type": "error", "error": body}}


@pytest.mark.vectors
@pytest.mark.parametrize("vector", vectors.load("*", kind="request", direction="a2o"))
def test_request_of_vector_is_translated(vector):
    """The upstream's body, shortened names and dropped fields are the vector's, or its refusal."""
    given, expected = vector["input"], vector["expect"]
    body = given.get("body") or json.dumps(given["request"], ensure_ascii=False)
    headers = {name.lower(): value for name, value in (given.get("headers") or {}).items()}
    session = headers.get("x-claude-code-session-id")

    if "reject" in expected:
        with pytest.raises(GatewayError) as caught:
            translate_request(body.encode(), route_of(given), session)
        assert anthropic_error(caught.value) == expected["reject"]
        return
    answer = translate_request(body.encode(), route_of(given), session)
    again = translate_request(body.encode(), route_of(given), session)

    assert json.loads(answer.body) == expected["request"]
    assert sorted(answer.dropped) == sorted(expected.get("dropped", []))
    assert answer.context.tool_names == expected.get("tool_names", {})
    assert again == answer
