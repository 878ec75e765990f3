"""Responses with status 200 that are responses, and those that are not."""

from __future__ import annotations

import pytest

from gateway.core.model import Endpoint, Wire
from gateway.protocols.http.errors.error_codes import FaultClass
from gateway.protocols.http.errors.response_faults import MALFORMED_RESPONSE, read_response_fault

CHAT = (Wire.OPENAI, Endpoint.CHAT_COMPLETIONS)
MESSAGES = (Wire.ANTHROPIC, Endpoint.MESSAGES)
EMBEDDINGS = (Wire.OPENAI, Endpoint.EMBEDDINGS)
COUNT = (Wire.ANTHROPIC, Endpoint.COUNT_TOKENS)
ALL = [CHAT, MESSAGES, EMBEDDINGS, COUNT]


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        (CHAT, b'{"choices":[{"message":{"content":"Hi"}}]}'),
        (CHAT, b'{"error":null,"choices":[{"message":{"content":"\\ud83d"}}]}'),
        (MESSAGES, b'{"type":"message","content":[{"type":"text","text":"Hi"}]}'),
        (MESSAGES, b'{"type":"message","content":[]}'),
        (EMBEDDINGS, b'{"object":"list","data":[{"embedding":[0.1]}]}'),
        (COUNT, b'{"input_tokens":0}'),
    ],
)
def test_answer_is_no_fault(operation: tuple[Wire, Endpoint], body: bytes) -> None:
    assert read_response_fault(*operation, body) is None


@pytest.mark.parametrize("operation", ALL)
@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b'"ok"', b"{}", b"<html>", b"\xff", b'{"choices":[]}', b"[" * 9999],
)
def test_nothing_is_malformed(operation: tuple[Wire, Endpoint], body: bytes) -> None:
    assert read_response_fault(*operation, body) is MALFORMED_RESPONSE


@pytest.mark.parametrize(
    ("choice", "is_answer"),
    [
        (b'{"message":{"role":"assistant","content":""},"finish_reason":"stop"}', True),
        (b'{"message":{"role":"assistant","content":null},"finish_reason":null}', False),
        (b'{"message":{"role":"assistant","content":""}}', False),
        (b'{"message":{"role":"assistant","tool_calls":[{}]}}', True),
    ],
)
def test_message_that_neither_says_nor_finishes_anything_is_malformed(
    choice: bytes, is_answer: bool
) -> None:
    """A stream that ended after its first chunk has a role only."""
    found = read_response_fault(*CHAT, b'{"choices":[%b]}' % choice)

    assert found is (None if is_answer else MALFORMED_RESPONSE)


@pytest.mark.parametrize("operation", ALL)
@pytest.mark.parametrize(
    ("body", "fault", "message"),
    [
        (
            b'{"error":{"message":"full","type":"overloaded_error"}}',
            FaultClass.OVERLOADED,
            "full",
        ),
        (b'{"error":"engine died"}', FaultClass.FAILED, "engine died"),
        (b'{"error":{"message":"insufficient balance"}}', FaultClass.QUOTA, "insufficient balance"),
        (b'{"object":"error","message":"engine died","code":500}', None, "engine died"),
        (b'{"type":"error","error":{"type":"api_error","message":"x"}}', FaultClass.FAILED, "x"),
        (
            b'{"base_resp":{"status_code":1008,"status_msg":"no balance"},"choices":null}',
            FaultClass.QUOTA,
            "no balance",
        ),
    ],
)
def test_error_keeps_its_words(
    operation: tuple[Wire, Endpoint], body: bytes, fault: FaultClass | None, message: str
) -> None:
    found = read_response_fault(*operation, body)

    assert found is not None
    assert found.message == message
    assert fault in (None, found.fault)
