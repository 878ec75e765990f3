"""Reasoning that a model writes into its text becomes a reasoning item."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.protocols.openai_responses.response import translate_responses_response
from gateway.protocols.openai_responses.stream import responses_stream
from gateway.protocols.translate.capabilities import capabilities
from tests.support.responses_streams import DONE, chunk, context, events_in

OPENED = {"think_opened": True}


def parts(output: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Return type and text of each item."""
    return [
        (item["type"], [*item.get("summary", []), *item.get("content", [])][0]["text"])
        for item in output
    ]


def streamed(pieces: list[str], dialect: str, caps: dict[str, Any]) -> list[tuple[str, str]]:
    stream = responses_stream(context(), capabilities(dialect, caps))
    chunks = [*(chunk({"content": piece}) for piece in pieces), chunk({}, "stop"), DONE]
    raw = b"".join(map(stream.feed, chunks)) + stream.end(True)
    return parts(events_in(raw)[-1]["response"]["output"])


def whole(content: str, dialect: str, caps: dict[str, Any]) -> list[tuple[str, str]]:
    choice = {"index": 0, "message": {"content": content}, "finish_reason": "stop"}
    body = json.dumps({"id": "c", "choices": [choice]}).encode()
    made = translate_responses_response(body, context(), capabilities(dialect, caps))
    return parts(json.loads(made)["output"])


BOTH = [("reasoning", "why"), ("message", "answer")]


@pytest.mark.parametrize(
    ("pieces", "dialect", "caps", "expected"),
    [
        (["<thi", "nk>why</think>", "\n\nanswer"], "generic", {}, BOTH),
        (["<think>why</think>answer"], "openai", {}, [("message", "<think>why</think>answer")]),
        (["why", "\n</think>\n\nanswer"], "vllm", OPENED, BOTH),
    ],
)
def test_reasoning_in_tags_is_a_reasoning_item(
    pieces: list[str], dialect: str, caps: dict[str, Any], expected: list[tuple[str, str]]
) -> None:
    assert streamed(pieces, dialect, caps) == expected
    assert whole("".join(pieces), dialect, caps) == expected


def test_closing_tag_alone_is_no_text() -> None:
    """In a stream what came before it is with the client already."""
    assert whole("why\n</think>\n\nanswer", "generic", {}) == BOTH
    assert streamed(["why", "</think>", "answer"], "generic", {}) == [("message", "whyanswer")]
