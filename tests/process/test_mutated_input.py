"""Requests changed at random break nothing, whatever they have become."""

from __future__ import annotations

import json
import random

import pytest

from tests.support.bodies import ANTHROPIC, OPENAI, chat
from tests.support.raw_client import Connection, render
from tests.support.service import ANTHROPIC_MODEL, OPENAI_MODEL, Key, Service

pytestmark = pytest.mark.process

SEED = 20261122


def mutated(source: bytes, draw: random.Random) -> bytes:
    """Return the bytes with a few of them changed, cut, doubled or moved."""
    out = bytearray(source)
    for _ in range(draw.randint(1, 6)):
        at = draw.randrange(len(out) + 1)
        match draw.randrange(6):
            case 0:
                out[at:at] = bytes([draw.randrange(256)])
            case 1:
                del out[at : at + draw.randint(1, 8)]
            case 2:
                out[at : at + 1] = draw.choice([b"{", b"}", b"[", b"]", b'"', b"\\", b",", b":"])
            case 3:
                end = draw.randrange(at, len(out) + 1)
                out[at:at] = out[at:end]
            case 4:
                out[at:at] = draw.choice(
                    [b"null", b"1e999", b"\\ud800", b"\xff", b"-0", b'"":', b"{}", b"[]", b"true"]
                )
            case _:
                del out[at:]
    return bytes(out)


RICH = {
    "model": "",
    "max_tokens": 50,
    "system": [{"type": "text", "text": "S", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "Hi \ud83d\ude00"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "t", "signature": "gw1."},
                {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1.0}},
            ],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "r"}],
        },
    ],
    "tools": [{"name": "f", "input_schema": {"type": "object", "properties": {}}}],
    "tool_choice": {"type": "auto"},
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "metadata": {"user_id": "u"},
}
RICH_CHAT = {
    "model": "",
    "max_completion_tokens": 50,
    "messages": [
        {"role": "developer", "content": "D"},
        {"role": "user", "content": [{"type": "text", "text": "Hi"}]},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "r"},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "tool_choice": "auto",
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {}}},
    "stream_options": {"include_usage": True},
    "stop": ["x"],
}
RICH_RESPONSES = {
    "model": "",
    "instructions": "I",
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "r"},
    ],
    "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}],
    "reasoning": {"effort": "low"},
}


@pytest.mark.parametrize(
    ("path", "rich"),
    [
        (ANTHROPIC, RICH),
        ("/v1/messages/count_tokens", RICH),
        (OPENAI, RICH_CHAT),
        ("/v1/responses", RICH_RESPONSES),
        ("/v1/chat", {"model": "", "input": "Hi", "temperature": 1.0, "max_output_tokens": 5}),
        ("/v1/embeddings", {"model": "", "input": ["a"], "encoding_format": "float"}),
    ],
)
@pytest.mark.parametrize("model", [OPENAI_MODEL, ANTHROPIC_MODEL])
def test_mutated_requests_are_never_answered_with_a_server_error(
    gateway: Service, key: Key, path: str, rich: dict[str, object], model: str
) -> None:
    """Random changes to a rich request bring 200 or 4xx, and every process lives on."""
    draw = random.Random(f"{SEED} {path} {model}")
    workers = sorted(gateway.process.workers())
    source = json.dumps({**rich, "model": model}).encode()
    connection = Connection(gateway.port)
    for number in range(120):
        body = mutated(source, draw)
        answer = connection.request("POST", path, body, x_api_key=key.raw)
        # A count or an embedding may have no deployment: that is no fault of the request's.
        allowed = (503, 529) if answer.headers.get("retry-after") == "1" else ()
        assert answer.status < 500 or answer.status in allowed, (number, body, answer.body)
        if answer.headers.get("connection") == "close":
            connection.close()
            connection = Connection(gateway.port)
    connection.close()

    assert sorted(gateway.process.workers()) == workers


def test_mutated_heads_break_nothing(gateway: Service, key: Key) -> None:
    """Random changes to the request's head bring a response below 500, or a closed connection."""
    draw = random.Random(SEED)
    workers = sorted(gateway.process.workers())
    body = chat("MiniMax-M3")
    source = render("POST", f"{OPENAI}?beta=true", body, x_api_key=key.raw, accept="*/*")
    statuses = set()
    for number in range(200):
        sent = mutated(source[: -len(body)], draw) + body
        with Connection(gateway.port) as connection:
            connection.socket.settimeout(0.3)
            connection.send(sent)
            try:
                answer = connection.answer()
            except (EOFError, OSError, ValueError):
                continue  # closed, or it waits for the rest of what it takes for a body
        assert answer.status < 500, (number, sent, answer)
        statuses.add(answer.status)

    assert {200, 400} <= statuses
    assert sorted(gateway.process.workers()) == workers
