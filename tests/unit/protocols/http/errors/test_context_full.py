"""A full context is recognised in every provider's words, with the numbers they name."""

from __future__ import annotations

import json
import time

import pytest

from gateway.core.model import Wire
from gateway.core.routing.failures import RULES
from gateway.protocols.http.errors.context_full import Excess, read_excess
from gateway.protocols.http.errors.error_codes import FaultClass
from gateway.protocols.http.errors.upstream_errors import (
    ErrorResponse,
    failure_class,
    read_fault,
    read_stream_fault,
    relay_error,
    translate_error,
)

OA, AN = Wire.OPENAI, Wire.ANTHROPIC

WORDINGS = [
    ("prompt is too long: 209353 tokens > 199999 maximum", 209353, 199999),
    (
        "input length and `max_tokens` exceed context limit: 199759 + 8192 > 200000, "
        "decrease input length or `max_tokens` and try again",
        None,
        None,
    ),
    (
        "This model's maximum context length is 8192 tokens. However, your messages resulted "
        "in 8545 tokens. Please reduce the length of the messages.",
        8545,
        8192,
    ),
    (
        "This model's maximum context length is 8191 tokens, however you requested 10346 tokens "
        "(10346 in your prompt; 5 for the completion).",
        10346,
        8191,
    ),
    ("Your input exceeds the context window of this model.", None, None),
    (
        "Input tokens exceed the configured limit of 272000 tokens. "
        "Your messages resulted in 300001 tokens.",
        300001,
        272000,
    ),
    (
        "This model's maximum context length is 262144 tokens. However, you requested 128000 "
        "output tokens and your prompt contains at least 134145 input tokens, for a total of at "
        "least 262145 tokens.",
        262145,
        262144,
    ),
    (
        "You passed 202753 input tokens and requested 0 output tokens. However, the model's "
        "context length is only 202752 tokens",
        202753,
        202752,
    ),
    (
        "The decoder prompt (length 40000) is longer than the maximum model length of 32768.",
        40000,
        32768,
    ),
    (
        "The input (210000 tokens) is longer than the model's context length (200000 tokens).",
        210000,
        200000,
    ),
    ("Input length (265330) exceeds model's maximum context length (262144).", 265330, 262144),
    (
        "This endpoint's maximum context length is 1048576 tokens. However, you requested about "
        "1293741 tokens (1227853 of text input, 353 of tool input, 65535 in the output).",
        1293741,
        1048576,
    ),
    (
        "The input token count (1196265) exceeds the maximum number of tokens allowed (1048575).",
        1196265,
        1048575,
    ),
    ("The input token count exceeds the maximum number of tokens allowed 1048576.", None, 1048576),
    (
        "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
        537812,
        131072,
    ),
    (
        "Failed to start sampling: [input_too_large] Current message (1149677 tokens) exceeds "
        "budget (975424 tokens)",
        1149677,
        975424,
    ),
    ("[input_too_large] The message does not fit.", None, None),
    ("Please reduce the length of the messages or completion.", None, None),
    (
        "Request too large for model `llama-3.3-70b-versatile` in organization `org_01kgg5588e` "
        "service tier `on_demand` on tokens per minute (TPM): Limit 12000, Requested 14137",
        14137,
        12000,
    ),
    ("prompt token count of 74490 exceeds the limit of 72000", 74490, 72000),
    (
        "request (124071 tokens) exceeds the available context size (123904 tokens), "
        "try increasing it",
        124071,
        123904,
    ),
    ("the request exceeds the available context size, try increasing it", None, None),
    (
        "The number of tokens to keep from the initial prompt is greater than the context length.",
        None,
        None,
    ),
    ("invalid params, context window exceeds limit (2013)", None, None),
    (
        "Invalid request: Your request exceeded model token limit: 262144 (requested: 300000)",
        300000,
        262144,
    ),
    ("Your request exceeded model token limit: 262144", None, 262144),
    (
        "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum "
        "context length",
        40000,
        32768,
    ),
    ("Prompt exceeds max length", None, None),
    ("The prompt is too long: 134723, model maximum context length: 32767", 134723, 32767),
    (
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 65537. Given: 79993"
        " `inputs` tokens and 1024 `max_new_tokens`",
        79993,
        65537,
    ),
    ("prompt too long; exceeded max context length by 4 tokens", None, None),
    (
        "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 983616]",
        None,
        983616,
    ),
    ("Total tokens of image and text exceed max message tokens. Request id: 02", None, None),
    ("Input length 300000 exceeds the maximum length 229376", 300000, 229376),
    ("Input is too long for requested model.", None, None),
    (
        "Prompt has 5,000 tokens, but the configured context size is 4,096 tokens",
        5000,
        4096,
    ),
    ("Input length 300000 exceeds the maximum allowed input length of 262144 tokens.", None, None),
    ("Current length is 40000 while limit is 32768", 40000, 32768),
]


@pytest.mark.parametrize(("message", "tokens", "limit"), WORDINGS)
def test_wording_gives_the_numbers_it_names(message, tokens, limit):
    """The prompt's tokens and the limit are read; those of one wording are given or absent."""
    found = read_excess(message)

    assert found is not None
    if (tokens, limit) != (None, None):
        assert found == Excess(tokens, limit)


@pytest.mark.parametrize(
    "message",
    [
        "max_tokens: 100000 > 64000, which is the maximum allowed number of output tokens",
        "max_tokens (100000) exceeds the limit of 8192 tokens",
        "Range of max_tokens should be [1, 8192]",
        "temperature exceeds the maximum of 2",
        "tool name exceeds the maximum length of 64 characters",
        "image exceeds 5 MB maximum",
        "",
    ],
)
def test_other_limits_are_no_full_context(message):
    """To compact the history would not help against these."""
    assert read_excess(message) is None


@pytest.mark.parametrize("part", ["exceed max ", "maximum context length is 1 tokens ", "1", "( "])
def test_long_messages_are_read_in_time(part):
    """Patterns that no text can make slow: repeated beginnings are the worst case."""
    started = time.process_time()

    for _ in range(3):
        read_excess(part * 100_000)

    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, {"message": "m", "code": "model_max_prompt_tokens_exceeded"}),
        (400, {"message": "m", "type": "exceed_context_size_error", "code": 400}),
        (400, {"message": "Prompt 超长", "code": "1261"}),
        (422, {"message": "`inputs` tokens + `max_new_tokens` must be <= 65537. Given: 79993 "
               "`inputs` tokens and 1024 `max_new_tokens`", "type": "invalid_request_error"}),
        (500, {"message": "the request exceeds the available context size", "code": 500}),
        (413, {"message": "Please reduce the length of the messages", "code": None}),
        (400, {"message": "Provider returned error", "code": 400, "metadata": {"raw": json.dumps(
            {"error": {"message": "prompt token count of 5 exceeds the limit of 4"}})}}),
        (400, {"message": "Provider returned error", "code": 400, "metadata": {
            "raw": "Input is too long for requested model."}}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("wire", [OA, AN])
def test_full_context_is_the_clients_own_error_on_both_wires(wire, status, error):
    """Relayed and translated, an agent sees the error that it compacts its history for."""
    body = json.dumps({"error": error}).encode()
    fault = read_fault(wire, status, [], body)
    original = ErrorResponse(status, (), body)

    assert fault.fault is FaultClass.TOO_LONG
    assert not RULES[failure_class(fault)].fallback
    for client in (OA, AN):
        for response in (
            translate_error(fault, client, "mine"),
            relay_error(fault, client, "mine", original),
        ):
            shown = json.loads(response.body)["error"]
            assert response.status == 400
            if client is OA:
                assert shown["code"] == "context_length_exceeded"
            else:
                assert shown["message"].startswith("prompt is too long: ")


def test_numbers_of_llama_cpp_are_read_from_their_members():
    """`n_prompt_tokens` and `n_ctx` stand beside the message."""
    body = b'{"error":{"code":400,"message":"too big","type":"exceed_context_size_error",'
    body += b'"n_prompt_tokens":9001,"n_ctx":8192}}'

    response = translate_error(read_fault(OA, 400, [], body), AN, "mine")

    assert b"prompt is too long: 9001 tokens > 8192 maximum" in response.body


def test_full_context_inside_a_stream_is_recognised():
    """An error event has no status."""
    event = b'{"error":{"message":"Prompt exceeds max length","code":"1261"}}'

    assert read_stream_fault(OA, event).fault is FaultClass.TOO_LONG


@pytest.mark.parametrize("status", [413, 429])
def test_request_beyond_the_accounts_tokens_per_minute_is_no_rate_limit(status):
    """Waiting never helps, another deployment may; the organization stays the operator's."""
    message = (
        "Request too large for model `x` in organization `org_01kgg5588eftc8k` on tokens per "
        "minute (TPM): Limit 12000, Requested 14137, please reduce your message size"
    )
    error = {"message": message, "type": "tokens", "code": "rate_limit_exceeded"}
    body = json.dumps({"error": error}).encode()
    fault = read_fault(OA, status, [], body)

    assert RULES[failure_class(fault)].fallback
    for client in (OA, AN):
        response = relay_error(fault, client, "mine", ErrorResponse(status, (), body))
        shown = json.loads(response.body)["error"]["message"]
        assert (response.status, shown) == (
            400,
            "prompt is too long: 14137 tokens > 12000 maximum",
        )


def test_dialects_own_error_is_relayed_unchanged():
    """Clients read the vendors' words, and Claude Code lowers `max_tokens` by the second."""
    for wire, error in (
        (OA, {"message": "m", "code": "context_length_exceeded"}),
        (AN, {"type": "invalid_request_error", "message": WORDINGS[0][0]}),
        (AN, {"type": "invalid_request_error", "message": WORDINGS[1][0]}),
    ):
        response = ErrorResponse(400, (), json.dumps({"error": error}).encode())
        fault = read_fault(wire, 400, [], response.body)

        assert relay_error(fault, wire, "mine", response) is response
