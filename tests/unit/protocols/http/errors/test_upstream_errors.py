"""Reading, classifying and rendering upstream errors in both dialects."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.model import Wire
from gateway.core.routing.failures import RULES
from gateway.errors import ErrorKind
from gateway.protocols.http.errors.error_codes import FaultClass
from gateway.protocols.http.errors.upstream_errors import (
    STREAM_CUT,
    ErrorResponse,
    error_kind,
    failure_class,
    is_signature_refusal,
    read_fault,
    read_stream_fault,
    relay_error,
    translate_error,
    translate_stream_error,
)

OA, AN = Wire.OPENAI, Wire.ANTHROPIC


def openai_body(message="m", kind=None, code=None):
    return json.dumps({"error": {"message": message, "type": kind, "code": code}}).encode()


def anthropic_body(kind, message="m"):
    return json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()


def rendered(response, wire):
    error = json.loads(response.body)["error"]
    if wire is AN:
        return response.status, error["type"], error["message"]
    assert list(error) == ["message", "type", "param", "code"]
    return response.status, error["type"], error["code"], error["message"]


@pytest.mark.parametrize(
    ("status", "kind", "code", "expected"),
    [
        (429, None, "insufficient_quota", (529, "overloaded_error")),
        (429, "insufficient_quota", None, (529, "overloaded_error")),
        (400, None, "credit_balance_exhausted", (529, "overloaded_error")),
        (402, None, None, (529, "overloaded_error")),
        (401, None, "invalid_api_key", (502, "api_error")),
        (403, None, None, (502, "api_error")),
        (500, None, "server_is_overloaded", (529, "overloaded_error")),
        (400, None, "slow_down", (529, "overloaded_error")),
        (500, "overloaded_error", None, (529, "overloaded_error")),
        (400, "service_unavailable_error", None, (529, "overloaded_error")),
        (503, None, None, (529, "overloaded_error")),
        (529, None, None, (529, "overloaded_error")),
        (400, None, "rate_limit_exceeded", (429, "rate_limit_error")),
        (403, "tokens_rate_limit_reached", None, (429, "rate_limit_error")),
        (429, None, 429, (429, "rate_limit_error")),
        (400, None, "model_not_found", (404, "not_found_error")),
        (404, None, None, (404, "not_found_error")),
        (400, None, "context_length_exceeded", (400, "invalid_request_error")),
        (413, None, None, (413, "request_too_large")),
        (408, None, None, (504, "timeout_error")),
        (504, None, None, (504, "timeout_error")),
        (400, "authentication_error", None, (400, "invalid_request_error")),
        (422, None, None, (400, "invalid_request_error")),
        (409, None, None, (400, "invalid_request_error")),
        (418, None, None, (400, "invalid_request_error")),
        (500, "invalid_request_error", None, (500, "api_error")),
        (502, None, None, (502, "api_error")),
        (501, None, None, (500, "api_error")),
        (599, None, None, (500, "api_error")),
    ],
)
def test_openai_upstream_error_reaches_anthropic_client_by_the_table(status, kind, code, expected):
    """Code and type decide before the status does."""
    fault = read_fault(OA, status, [], openai_body("m", kind, code))

    assert rendered(translate_error(fault, AN, "mine"), AN)[:2] == expected


@pytest.mark.parametrize(
    ("status", "kind", "expected"),
    [
        (401, "authentication_error", (502, "server_error", "upstream_auth")),
        (403, "permission_error", (502, "server_error", "upstream_auth")),
        (402, "billing_error", (503, "service_unavailable_error", "server_is_overloaded")),
        (404, "not_found_error", (404, "invalid_request_error", "model_not_found")),
        (413, "request_too_large", (413, "invalid_request_error", "request_too_large")),
        (429, "rate_limit_error", (429, "rate_limit_error", "rate_limit_exceeded")),
        (529, "overloaded_error", (503, "service_unavailable_error", "server_is_overloaded")),
        (504, "timeout_error", (504, "server_error", "timeout")),
        (400, "invalid_request_error", (400, "invalid_request_error", None)),
        (500, "api_error", (500, "server_error", None)),
        (500, "overloaded_error", (503, "service_unavailable_error", "server_is_overloaded")),
        (401, None, (502, "server_error", "upstream_auth")),
        (402, None, (503, "service_unavailable_error", "server_is_overloaded")),
        (404, "NotFound", (404, "invalid_request_error", "model_not_found")),
        (413, None, (413, "invalid_request_error", "request_too_large")),
        (429, None, (429, "rate_limit_error", "rate_limit_exceeded")),
        (503, None, (503, "service_unavailable_error", "server_is_overloaded")),
        (529, None, (503, "service_unavailable_error", "server_is_overloaded")),
        (504, None, (504, "server_error", "timeout")),
        (422, None, (400, "invalid_request_error", None)),
        (502, None, (500, "server_error", None)),
    ],
)
def test_anthropic_upstream_error_reaches_openai_client_by_the_table(status, kind, expected):
    """The type decides; without a known one the status does."""
    fault = read_fault(AN, status, [], anthropic_body(kind))

    assert rendered(translate_error(fault, OA, "mine"), OA)[:3] == expected


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'[{"error":{"code":429,"message":"g","status":"RESOURCE_EXHAUSTED"}}]', "g"),
        (b'{"error":"plain words"}', "plain words"),
        (b'{"base_resp":{"status_code":1002,"status_msg":"slow"}}', "slow"),
        (b'{"object":"error","message":"vllm","code":400}', "vllm"),
        (b'{"detail":"Not Found"}', "Not Found"),
        (b'{"error":{"message":"half \\ud83d smile"}}', "half � smile"),
        (b"<html>oops</html>", "Upstream returned HTTP 400"),
        (b"", "Upstream returned HTTP 400"),
        (b"[]", "Upstream returned HTTP 400"),
        (b"7", "Upstream returned HTTP 400"),
        (b'{"error":{}}', "Upstream returned HTTP 400"),
        (b'{"error":{"message":["x"]}}', "Upstream returned HTTP 400"),
        (b"[" * 100_000, "Upstream returned HTTP 400"),
        (b"\xff\xfe{}", "Upstream returned HTTP 400"),
    ],
)
def test_fault_message_is_found_in_every_known_body(body, message):
    """Lists, strings, other vendors' shapes and bodies that are no JSON all give a message."""
    assert read_fault(OA, 400, [], body).message == message


@pytest.mark.parametrize(
    ("code", "expected"),
    [(1008, FaultClass.QUOTA), (1004, FaultClass.CREDENTIAL), (7, FaultClass.FAILED)],
)
def test_minimax_error_with_status_200_is_classified_by_its_code(code, expected):
    """MiniMax reports errors with HTTP 200 and a code of its own."""
    body = b'{"base_resp":{"status_code":%d,"status_msg":"m"}}' % code

    assert read_fault(OA, 200, [], body).fault is expected


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 10 tokens",
        "CONTEXT_LENGTH",
        "context length",
        "input exceeds the context window",
        "Prompt is too long",
        "too many tokens",
        "too many input tokens",
        "Input exceeds the limit of 5 tokens",
        "This exceeded our max number\nof tokens",
    ],
)
def test_length_complaint_is_recognised_by_its_words(message):
    """A 400 about the prompt's length is one on both wires."""
    for wire in (OA, AN):
        body = openai_body(message, "invalid_request_error")
        assert read_fault(wire, 400, [], body).fault is FaultClass.TOO_LONG


def test_length_words_with_another_status_are_no_length_complaint():
    """Only a 400 is searched for the length pattern on the OpenAI wire."""
    assert read_fault(OA, 500, [], openai_body("context window")).fault is FaultClass.FAILED
    assert read_fault(OA, 422, [], openai_body("context window")).fault is FaultClass.INVALID


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "This model's maximum context length is 128000 tokens. However, your messages "
            "resulted in 130512 tokens.",
            "prompt is too long: 130512 tokens > 128000 maximum",
        ),
        ("too many tokens", "prompt is too long: too many tokens"),
        ("prompt is too long: 9 tokens > 8 maximum", "prompt is too long: 9 tokens > 8 maximum"),
    ],
)
def test_length_complaint_is_told_in_the_words_claude_code_reads(message, expected):
    """The client finds `prompt is too long`, with the numbers where the upstream names them."""
    fault = read_fault(OA, 400, [], openai_body(message))

    assert rendered(translate_error(fault, AN, "mine"), AN) == (
        400,
        "invalid_request_error",
        expected,
    )


def test_headers_kept_on_errors_are_the_advice_to_wait():
    """`retry-after` and `retry-after-ms` go on, everything else stays behind."""
    headers = [
        (b"retry-after", b"7"),
        (b"retry-after-ms", b"6500"),
        (b"x-should-retry", b"true"),
        (b"set-cookie", b"a=b"),
    ]

    fault = read_fault(OA, 429, headers, openai_body())

    assert translate_error(fault, AN, "mine").headers == tuple(headers[:2])


@pytest.mark.parametrize(("wire", "body"), [(OA, openai_body()), (AN, anthropic_body(None))])
@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, False), (401, True), (402, True), (403, True), (404, True), (408, True), (409, True),
        (413, False), (418, False), (422, False), (429, True), (500, True), (502, True),
        (503, True), (504, True), (529, True),
    ],
)  # fmt: skip
def test_fallback_is_allowed_only_where_another_upstream_may_do_better(
    wire, body, status, expected
):
    """Client faults are the same everywhere; all else may be tried elsewhere."""
    assert RULES[failure_class(read_fault(wire, status, [], body))].fallback is expected


def test_quota_code_with_status_400_may_be_tried_elsewhere():
    """The operator's empty account at a provider is not the client's error."""
    fault = read_fault(OA, 400, [], openai_body(code="insufficient_quota"))

    assert RULES[failure_class(fault)].fallback
    assert error_kind(fault) is ErrorKind.UPSTREAM_QUOTA


@pytest.mark.parametrize("wire", [OA, AN])
def test_pass_through_error_is_returned_unchanged(wire):
    """The client of the same wire sees the upstream's own status, headers and bytes."""
    response = ErrorResponse(429, ((b"retry-after", b"1"), (b"x", b"y")), b'{ "error": {} }')
    fault = read_fault(wire, response.status, response.headers, response.body)

    assert relay_error(fault, wire, "mine", response) is response


@pytest.mark.parametrize(
    ("wire", "status", "body", "expected"),
    [
        (OA, 401, openai_body(), (502, "server_error", "upstream_auth")),
        (OA, 429, openai_body(code="insufficient_quota"),
         (503, "service_unavailable_error", "server_is_overloaded")),
        (OA, 404, openai_body("`up-x` is gone"), (404, "invalid_request_error", "model_not_found")),
        (AN, 401, anthropic_body("authentication_error"), (502, "api_error")),
        (AN, 402, anthropic_body("billing_error"), (529, "overloaded_error")),
        (AN, 404, anthropic_body("not_found_error", "model: up-x"), (404, "not_found_error")),
    ],
)  # fmt: skip
def test_pass_through_hides_the_gateways_own_account_and_the_upstream_model(
    wire, status, body, expected
):
    """Errors of the operator's key or credit, or with the upstream's model name, are replaced."""
    fault = read_fault(wire, status, [], body)

    response = relay_error(fault, wire, "mine", ErrorResponse(status, (), body))

    assert rendered(response, wire)[:-1] == expected
    assert b"up-x" not in response.body
    assert ((b"x-should-retry", b"false") in response.headers) is (status != 404)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("messages.1.content.0: Invalid `signature` in `thinking` block", True),
        ("messages.1.content.0.thinking.signature: Field required", True),
        ("max_tokens: too large", False),
        ("Invalid signature of the request", False),
    ],
)
def test_signature_refusal_is_recognised(message, expected):
    """Only a 400 about a thinking block's signature permits the retry without reasoning."""
    body = anthropic_body("invalid_request_error", message)

    assert is_signature_refusal(read_fault(AN, 400, [], body)) is expected
    assert not is_signature_refusal(read_fault(AN, 500, [], anthropic_body("api_error", message)))


@pytest.mark.parametrize(
    ("wire", "event", "client", "expected"),
    [
        (OA, b'{"error":{"code":429,"message":"slow"}}', AN,
         b'event: error\ndata: {"type":"error","error":{"type":"rate_limit_error",'
         b'"message":"slow"}}\n\n'),
        (OA, b'{"error":{"message":"x","type":"server_error","code":null}}', AN,
         b'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"x"}}\n\n'),
        (OA, b'{"error":"x"}', AN,
         b'event: error\ndata: {"type":"error","error":{"type":"api_error","message":"x"}}\n\n'),
        (OA, b'{"error":{"message":"x","type":"invalid_request_error"}}', AN,
         b'event: error\ndata: {"type":"error","error":{"type":"invalid_request_error",'
         b'"message":"x"}}\n\n'),
        (AN, b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}', OA,
         b'data: {"error":{"message":"Overloaded","type":"service_unavailable_error",'
         b'"param":null,"code":"server_is_overloaded"}}\n\n'),
        (AN, b'{"type":"error","error":{"type":"authentication_error","message":"sk-x"}}', OA,
         b'data: {"error":{"message":"The gateway could not authenticate with the upstream '
         b'provider","type":"server_error","param":null,"code":"upstream_auth"}}\n\n'),
        (AN, b'{"type":"error"}', OA,
         b'data: {"error":{"message":"Upstream reported an error","type":"server_error",'
         b'"param":null,"code":null}}\n\n'),
    ],
)  # fmt: skip
def test_error_inside_a_stream_becomes_the_clients_last_event(wire, event, client, expected):
    """Errors in streams use the same types as HTTP responses, without a status."""
    assert translate_stream_error(read_stream_fault(wire, event), client, "mine") == expected


def test_broken_off_stream_is_a_502_before_commit():
    """A stream that ended early is a bad gateway, not an error of the upstream's own."""
    assert rendered(translate_error(STREAM_CUT, OA, "m"), OA) == (
        502, "server_error", None, "Upstream stream ended before completion",
    )  # fmt: skip
    assert rendered(translate_error(STREAM_CUT, AN, "m"), AN)[:2] == (502, "api_error")


@given(
    wire=st.sampled_from(list(Wire)),
    client=st.sampled_from(list(Wire)),
    status=st.integers(0, 999),
    body=st.binary()
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(st.characters()),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["error", "message", "type", "code", "base_resp", "status_msg"]),
                inner,
            )
        ),
    ).map(lambda value: json.dumps(value).encode()),
)
def test_any_error_body_gives_a_complete_answer(wire, client, status, body):
    """Whatever an upstream sends, the client gets a well-formed error of its dialect."""
    for fault in (read_fault(wire, status, [], body), read_stream_fault(wire, body)):
        response = translate_error(fault, client, "mine")

        assert 400 <= response.status < 600
        assert rendered(response, client)[-1]
        assert translate_stream_error(fault, client, "mine").endswith(b"\n\n")


@pytest.mark.parametrize("wire", [OA, AN])
def test_error_that_is_not_utf8_is_read_all_the_same(wire):
    """Words in another encoding lose a character, not their class."""
    body = b'{"error":{"type":"overloaded_error","message":"caf\xe9 \xff"}}'

    fault = read_fault(wire, 529, (), body)
    inside = read_stream_fault(wire, body)

    assert (fault.fault, fault.message) == (FaultClass.OVERLOADED, "caf\ufffd \ufffd")
    assert (inside.fault, inside.message) == (FaultClass.OVERLOADED, "caf\ufffd \ufffd")
    assert RULES[failure_class(fault)].fallback
    for client in (OA, AN):
        translate_error(fault, client, "m").body.decode()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32-le", "utf-8-sig"])
def test_error_in_another_unicode_encoding_is_read(encoding):
    """JSON of old servers."""
    body = '{"error":{"message":"größe"}}'.encode(encoding)

    assert read_fault(OA, 500, (), body).message == "größe"


def test_error_code_of_five_thousand_digits_is_no_code():
    """Python raises where it should print such an integer."""
    body = b'{"error":{"message":"m","code":' + b"9" * 5000 + b"}}"

    for fault in (read_fault(OA, 400, (), body), read_stream_fault(OA, body)):
        assert fault.code is None


@given(st.binary(max_size=200), st.sampled_from([OA, AN]), st.integers(400, 599))
def test_any_bytes_are_an_error_of_some_kind(body, wire, status):
    """Reading and telling never fail."""
    for text in (body, b'{"error":{"message":"' + body + b'"}}'):
        for fault in (read_fault(wire, status, (), text), read_stream_fault(wire, text)):
            translate_error(fault, OA, "m").body.decode()
            translate_stream_error(fault, AN, "m").decode()
