"""The operator's trouble at a provider, and names of upstream models, stay the operator's."""

from __future__ import annotations

import json

import pytest

from gateway.core.model import Wire
from gateway.core.routing.failures import RULES
from gateway.errors import ErrorKind
from gateway.protocols.http.errors.account_words import (
    delay_words,
    says_when_to_retry,
    without_account_ids,
)
from gateway.protocols.http.errors.error_codes import FaultClass
from gateway.protocols.http.errors.upstream_errors import (
    ErrorResponse,
    error_kind,
    failure_class,
    read_fault,
    read_stream_fault,
    relay_error,
    translate_error,
)

OA, AN = Wire.OPENAI, Wire.ANTHROPIC
SUSPENDED = (
    "Your account org-0000 <ak-0000> is suspended due to insufficient balance, "
    "please recharge your account"
)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (429, {"message": SUSPENDED, "type": "exceeded_current_quota_error"}),
        (429, {"message": SUSPENDED}),
        (429, {"message": "You exceeded your current quota, check billing", "type": None}),
        (400, {"message": "Your credit balance is too low to access the Anthropic API.",
               "type": "invalid_request_error"}),
        (400, {"message": "You have reached your specified API usage limits. You will regain "
               "access on 2026-12-01.", "type": "invalid_request_error"}),
        (400, {"message": "This organization has been disabled.", "type": "invalid_request_error"}),
        (400, {"message": "Access denied, please make sure your account is in good standing.",
               "code": "Arrearage"}),
        (400, {"message": "m", "code": "billing_hard_limit_reached"}),
        (401, {"message": "The account is deactivated.", "code": "account_deactivated"}),
        (403, {"message": "m", "code": "AccountOverdueError"}),
        (403, {"message": "Sorry, your account balance is insufficient", "code": 30001}),
        (403, {"message": "Your team has used all available credits", "type": None}),
        (429, {"message": "余额不足或无可用资源包,请充值。", "code": "1113"}),
        (404, {"message": "Your account is suspended, please recharge", "type": None}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("wire", [OA, AN])
def test_trouble_of_the_operators_account_has_fixed_words(wire, status, error):
    """503 or 529 without retry, relayed and translated; another deployment may serve the call."""
    body = json.dumps({"error": error}).encode()
    fault = read_fault(wire, status, [], body)

    assert error_kind(fault) is ErrorKind.UPSTREAM_QUOTA
    assert fault.message == error["message"]
    assert RULES[failure_class(fault)].fallback
    for client, expected in ((OA, 503), (AN, 529)):
        for response in (
            translate_error(fault, client, "mine"),
            relay_error(fault, client, "mine", ErrorResponse(status, (), body)),
        ):
            message = json.loads(response.body)["error"]["message"]
            assert response.status == expected
            assert message == "The upstream provider is temporarily unavailable"
            assert (b"x-should-retry", b"false") in response.headers


def test_suspended_account_inside_a_stream_is_recognised():
    """The first event of a stream has no status."""
    for event in ({"error": {"message": SUSPENDED}}, {"object": "error", "message": SUSPENDED}):
        fault = read_stream_fault(OA, json.dumps(event).encode())

        assert fault.fault is FaultClass.QUOTA


def test_quota_of_a_minute_stays_a_rate_limit_without_the_operators_plan():
    """Gemini's free plan speaks of billing although the client may retry in seconds."""
    message = "You exceeded your current quota, check your plan. Please retry in 33.5s."
    body = json.dumps({"error": {"message": message, "status": "RESOURCE_EXHAUSTED"}}).encode()
    fault = read_fault(OA, 429, [], body)

    response = relay_error(fault, OA, "mine", ErrorResponse(429, (), body))

    assert fault.fault is FaultClass.RATE_LIMITED
    assert response.status == 429
    assert b"plan" not in response.body


@pytest.mark.parametrize(
    "error",
    [
        {"message": "API key not valid. Please pass a valid API key.", "status": "INVALID_ARGUMENT",
         "details": [{"reason": "API_KEY_INVALID"}]},
        {"message": "API key not valid. Please pass a valid API key.",
         "status": "INVALID_ARGUMENT"},
        {"message": "Incorrect API key provided: xai-***.", "code": "Client specified an argument"},
    ],
)  # fmt: skip
def test_invalid_key_under_another_status_is_the_operators(error):
    """Gemini and xAI respond with 400; a client must not look for the reason in its request."""
    body = json.dumps({"error": error}).encode()
    fault = read_fault(OA, 400, [], body)

    response = relay_error(fault, OA, "mine", ErrorResponse(400, (), body))

    assert error_kind(fault) is ErrorKind.UPSTREAM_AUTH
    assert (response.status, b"API key" in response.body) == (502, False)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, {"error": {"message": "The model `up-x` does not exist", "type": "NotFoundError"}}),
        (400, {"object": "error", "message": "Invalid model: up-x", "type": "invalid_model",
               "code": "1500"}),
        (400, {"error": {"message": "up-x is not a valid model ID", "code": 400}}),
        (404, {"error": {"message": "No endpoints found for up-x.", "code": 404}}),
        (400, {"error": {"message": "Model Not Exist", "type": "invalid_request_error",
               "code": "invalid_request_error"}}),
        (400, {"error": {"message": "Invalid model 'up-x'. Permitted models: up-y",
               "type": "invalid_model", "code": 400}}),
        (400, {"error": {"message": "invalid params, unknown model 'up-x' (2013)", "type": None}}),
        (400, {"error": {"message": "The model `up-x` has been decommissioned",
               "code": "model_decommissioned"}}),
        (400, {"message": "The provided model identifier is invalid."}),
        (400, {"error": {"message": "模型不存在，请检查模型代码 up-x", "code": "1211"}}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("wire", [OA, AN])
def test_model_unknown_upstream_never_shows_its_name(wire, status, body):
    """The client sees a 404 with its own name of the model, whatever the upstream's status."""
    text = json.dumps(body).encode()
    fault = read_fault(wire, status, [], text)

    assert RULES[failure_class(fault)].fallback
    for client in (OA, AN):
        response = relay_error(fault, client, "mine", ErrorResponse(status, (), text))
        assert response.status == 404
        assert b"mine" in response.body
        assert b"up-x" not in response.body


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"in organization org-Abc123def456 on", b"in organization [redacted] on"),
        (b"in organization `org_01kgg5588e` on", b"in organization `[redacted]` on"),
        (b"project proj_a1b2c3d4e5 is", b"project [redacted] is"),
        (b"an org-chart and a pro_2 tool", b"an org-chart and a pro_2 tool"),
    ],
)
def test_ids_of_the_operators_account_are_masked(text, expected):
    """They stand in rate limits of OpenAI and Groq, whose other words clients read."""
    assert without_account_ids(text) == expected


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"code":"1261","msg":"glm"}', "glm"),
        (b'{"success":false,"errors":[{"code":10000,"message":"cf"}],"result":null}', "cf"),
        (
            b'{"detail":[{"loc":["body"],"msg":"field required","type":"missing"}]}',
            "field required",
        ),
        (b'{"error_code":17,"error_msg":"baidu"}', "baidu"),
        (b'{"Message":"bedrock"}', "bedrock"),
        (b'{"error":{"message":"Provider returned error","metadata":{"raw":"behind"}}}', "behind"),
        (b'{"error":{"message":"kept","metadata":{"raw":{"x":1}}}}', "kept"),
        (b'\xef\xbb\xbf{"error":{"message":"mark"}}', "mark"),
    ],
)
def test_message_is_found_in_other_providers_shapes(body, message):
    """GLM, Cloudflare, FastAPI, Baidu, Bedrock, OpenRouter, and a byte order mark."""
    assert read_fault(OA, 400, [], body).message == message


@pytest.mark.parametrize(
    ("message", "delay"),
    [
        ("Please try again in 3.89s. Visit", "3.89s"),
        ("Please try again in 6m0s. Visit", "6m0s"),
        ("Please try again in 1h2m3s.", "1h2m3s"),
        ("please retry in 20 seconds", "20 seconds"),
        ("retry in 250ms", "250ms"),
        ("retry in 2 sheets", None),
        ("retry in a minute", None),
    ],
)
def test_delay_is_read_from_the_message(message: str, delay: str | None) -> None:
    """OpenAI writes hours, minutes and seconds together."""
    assert delay_words(message) == delay
    assert says_when_to_retry(message) == (delay is not None)
