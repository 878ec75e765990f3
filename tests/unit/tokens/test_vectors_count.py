"""The shared vectors of token counting."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.errors import GatewayError
from gateway.protocols.translate.capabilities import capabilities
from gateway.protocols.translate.messages_to_chat.request import translate_request
from gateway.protocols.translate.stream import TranslationRoute
from gateway.tokens.count import Bytes4
from tests.support.token_counts import count_chat, count_messages
from tests.support.vectors import load, matches

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


@pytest.mark.parametrize("vector", load("count-*", kind="count"))
def test_count_vector(vector: dict[str, Any]) -> None:
    """A request has the count that its vector expects."""
    actual = run(vector["input"])

    assert matches(vector["expect"], actual), actual


PERMISSIVE = TranslationRoute("m", capabilities("vllm", {"images": True, "files": True}))


@pytest.mark.parametrize("vector", load("req-a2o-*"))
def test_count_agrees_with_the_translated_request(vector: dict[str, Any]) -> None:
    """A Messages request counts as the chat request that translation makes of it."""
    given = vector["input"]
    body = given["body"].encode() if "body" in given else json.dumps(given["request"]).encode()
    try:
        chat = translate_request(body, PERMISSIVE).body
    except GatewayError:
        assert count_messages(body, Bytes4()) >= 3
        return
    typed = [
        tool for tool in json.loads(body).get("tools", []) if tool.get("type", "custom") != "custom"
    ]

    counted = count_messages(body, Bytes4())

    extra = [8 + Bytes4().count(json.dumps(tool, separators=(",", ":"))) for tool in typed]
    assert counted == count_chat(chat, Bytes4()) + sum(extra)
