"""The shared vectors of the translation OpenAI client -> Anthropic-wire upstream."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.errors import GatewayError
from gateway.protocols.translate.contract import TranslationRoute
from gateway.protocols.translate.dialects import capabilities
from gateway.protocols.translate.openai_anthropic_request import translate_request
from tests import vectors


def route_of(given: dict[str, Any]) -> TranslationRoute:
    """Return the vector's route with its capabilities."""
    route = given["route"]
    caps = capabilities(route["dialect"], route.get("caps", {}))
    return TranslationRoute(route["upstream_model"], caps, route.get("max_output"))


def openai_error(error: GatewayError) -> dict[str, Any]:
    """Return status and body of a gateway error in OpenAI's shape."""
    surface = error.surface
    body = {
        "message": error.message,
        "type": surface.openai_type,
        "param": error.param,
        "code": error.code or surface.openai_code,
    }
    return {"status": surface.openai_status, "body": {"error": body}}


@pytest.mark.vectors
@pytest.mark.parametrize("vector", vectors.load("*", kind="request", direction="o2a"))
def test_request_of_vector_is_translated(vector):
    """The upstream's body, shortened names and dropped fields are the vector's, or its refusal."""
    given, expected = vector["input"], vector["expect"]
    body = (given.get("body") or json.dumps(given["request"], ensure_ascii=False)).encode()

    if "reject" in expected:
        with pytest.raises(GatewayError) as caught:
            translate_request(body, route_of(given))
        assert vectors.matches(expected["reject"], openai_error(caught.value))
        return
    answer = translate_request(body, route_of(given))
    again = translate_request(body, route_of(given))

    assert json.loads(answer.body) == expected["request"]
    assert sorted(answer.dropped) == sorted(expected.get("dropped", []))
    assert answer.context.tool_names == expected.get("tool_names", {})
    assert again == answer
