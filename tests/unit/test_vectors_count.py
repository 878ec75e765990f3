"""The shared vectors of token counting."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.errors import GatewayError
from gateway.protocols.token_count import Bytes4, count_messages
from tests.vectors import load, matches

COUNTERS = {"bytes4": Bytes4()}


def run(given: dict[str, Any]) -> dict[str, Any]:
    body = given["body"].encode() if "body" in given else json.dumps(given["request"]).encode()
    try:
        tokens = count_messages(body, COUNTERS[given["counter"]])
    except GatewayError as error:
        surface = error.surface
        inner = {"type": surface.anthropic_type, "message": error.message}
        return {"status": surface.anthropic_status, "body": {"type": "error", "error": inner}}
    return {"status": 200, "body": {"input_tokens": tokens}}


@pytest.mark.vectors
@pytest.mark.parametrize("vector", load("count-*", kind="count"))
def test_count_vector(vector: dict[str, Any]) -> None:
    """A request has the count that its vector expects."""
    actual = run(vector["input"])

    assert matches(vector["expect"], actual), actual
