"""Errors of OpenAI, Anthropic, Gemini and vLLM: their class, and what clients are shown of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.core.model import Wire
from gateway.protocols.http.errors.context_full import Excess
from gateway.protocols.http.errors.error_codes import FaultClass
from gateway.protocols.http.errors.upstream_errors import (
    ErrorResponse,
    relay_error,
    translate_error,
)
from gateway.protocols.http.errors.upstream_faults import (
    read_fault,
    read_stream_fault,
)


def openai(status: int, message: str, kind: str, code: object = None) -> tuple[int, Any]:
    """Return an error of OpenAI's or vLLM's form."""
    return status, {"error": {"message": message, "type": kind, "param": None, "code": code}}


def anthropic(status: int, kind: str, message: str) -> tuple[int, Any]:
    return status, {"type": "error", "error": {"type": kind, "message": message}}


def gemini(status: int, name: str, message: str, **more: object) -> tuple[int, Any]:
    """Return an error of Gemini's OpenAI endpoint, which writes a list."""
    return status, [{"error": {"code": status, "message": message, "status": name, **more}}]


INVALID = "invalid_request_error"
ERRORS: dict[str, tuple[tuple[int, Any], FaultClass]] = {
    # github.com/openai/codex/issues/70, 2025-04; developers.openai.com, "Error codes", 2026-11.
    "openai-rate": (
        openai(429, "Rate limit reached for gpt-4.1 in organization org-vyUrKHsIdLc on tokens per "
               "min (TPM): Limit 30000, Used 28039, Requested 3906. Please try again in 3.89s. "
               "Visit https://platform.openai.com/account/rate-limits to learn more.",
               "tokens", "rate_limit_exceeded"),
        FaultClass.RATE_LIMITED,
    ),
    "openai-unverified": (
        openai(400, "Your organization must be verified to stream this model. Please go to: "
               "https://platform.openai.com/settings/organization/general",
               INVALID, "unsupported_value"),
        FaultClass.NOT_FOUND,
    ),
    "openai-project": (
        openai(403, "Project `proj_9abc123def` does not have access to model `gpt-4o`", INVALID,
               "model_not_found"),
        FaultClass.NOT_FOUND,
    ),
    "openai-key": (
        openai(401, "Incorrect API key provided: sk-proj-********abcd.", INVALID,
               "invalid_api_key"),
        FaultClass.CREDENTIAL,
    ),
    "openai-region": (
        openai(403, "Country, region, or territory not supported", "request_forbidden",
               "unsupported_country_region_territory"),
        FaultClass.CREDENTIAL,
    ),
    "openai-flagged": (
        openai(400, "Invalid prompt: your prompt was flagged as potentially violating our usage "
               "policy.", INVALID, "invalid_prompt"),
        FaultClass.INVALID,
    ),
    "openai-tokens-a-minute": (
        openai(429, "Request too large for gpt-4o in organization org-vyUrKHsId9c on tokens per "
               "min (TPM): Limit 30000, Requested 51000. The input or output tokens must be "
               "reduced in order to run successfully.", "tokens", "rate_limit_exceeded"),
        FaultClass.TOO_LONG,
    ),
    "openai-failed": (
        openai(500, "The server had an error while processing your request.", "server_error"),
        FaultClass.FAILED,
    ),
    # platform.claude.com, "Errors", 2026-11; github.com/stackblitz/bolt.new/issues/8588, 2025-04.
    "anthropic-rate": (
        anthropic(429, "rate_limit_error", "This request would exceed the rate limit for your "
                  "organization (a22cf6e6-a940-4fff-8c4c-1580816ac7be) of 1,000,000 input tokens "
                  "per minute. You may also contact sales at "
                  "https://www.anthropic.com/contact-sales to discuss your options."),
        FaultClass.RATE_LIMITED,
    ),
    "anthropic-account-rate": (
        anthropic(429, "rate_limit_error", "This request would exceed your account's rate limit. "
                  "Please try again later."),
        FaultClass.RATE_LIMITED,
    ),
    "anthropic-credit": (
        anthropic(400, INVALID, "Your credit balance is too low to access the Anthropic API. "
                  "Please go to Plans & Billing to upgrade or purchase credits."),
        FaultClass.QUOTA,
    ),
    "anthropic-workspace": (
        anthropic(400, INVALID, "You have reached your specified workspace API usage limits. You "
                  "will regain access on 2026-12-01 at 00:00 UTC."),
        FaultClass.QUOTA,
    ),
    "anthropic-permission": (
        anthropic(403, "permission_error", "OAuth authentication is currently not allowed for this "
                  "organization."),
        FaultClass.CREDENTIAL,
    ),
    "anthropic-busy": (anthropic(529, "overloaded_error", "Overloaded"), FaultClass.OVERLOADED),
    "anthropic-late": (anthropic(504, "timeout_error", "Timed out"), FaultClass.TIMEOUT),
    "anthropic-model": (anthropic(404, "not_found_error", "model: claude-9"), FaultClass.NOT_FOUND),
    "anthropic-size": (
        anthropic(413, "request_too_large", "Request exceeds the maximum size"),
        FaultClass.TOO_LARGE,
    ),
    "anthropic-full": (
        anthropic(400, INVALID, "prompt is too long: 209353 tokens > 200000 maximum"),
        FaultClass.TOO_LONG,
    ),
    # github.com/n4ze3m/page-assist/issues/406, 2025-02: the list; the statuses:
    # ai.google.dev, "Troubleshooting", 2026-11.
    "gemini-rate": (
        gemini(429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota)."),
        FaultClass.RATE_LIMITED,
    ),
    "gemini-free-tier": (
        gemini(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota, please check your plan "
               "and billing details. * Quota exceeded for metric: generate_content_free_tier, "
               "limit: 20\nPlease retry in 43.2s."),
        FaultClass.RATE_LIMITED,
    ),
    "gemini-nested": (  # github.com/continuedev/continue/issues/10560, 2026-02
        openai(429, json.dumps({"error": {
            "code": 429, "message": "Resource has been exhausted (e.g. check quota).",
            "status": "RESOURCE_EXHAUSTED"}}), "", 429),
        FaultClass.RATE_LIMITED,
    ),
    "gemini-location": (
        gemini(400, "FAILED_PRECONDITION", "User location is not supported for the API use."),
        FaultClass.QUOTA,
    ),
    "gemini-key": (
        gemini(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.",
               details=[{"reason": "API_KEY_INVALID", "domain": "googleapis.com"}]),
        FaultClass.CREDENTIAL,
    ),
    "gemini-project": (
        gemini(403, "PERMISSION_DENIED", "Generative Language API has not been used in project "
               "123456789012 before or it is disabled."),
        FaultClass.CREDENTIAL,
    ),
    "gemini-file": (  # a client names the file: this must not take the deployment out
        gemini(403, "PERMISSION_DENIED", "You do not have permission to access the File abc or it "
               "may not exist."),
        FaultClass.INVALID,
    ),
    "gemini-model": (
        gemini(404, "NOT_FOUND", "models/gemini-9 is not found for API version v1main"),
        FaultClass.NOT_FOUND,
    ),
    "gemini-busy": (
        gemini(503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
        FaultClass.OVERLOADED,
    ),
    "gemini-late": (
        gemini(504, "DEADLINE_EXCEEDED", "Deadline expired before operation could complete."),
        FaultClass.TIMEOUT,
    ),
    "gemini-failed": (
        gemini(500, "INTERNAL", "An internal error has occurred."), FaultClass.FAILED
    ),
    "gemini-invalid": (
        gemini(400, "INVALID_ARGUMENT", "* tools[0].name: Invalid function name."),
        FaultClass.INVALID,
    ),
    "gemini-full": (
        gemini(400, "INVALID_ARGUMENT", "The input token count (1196265) exceeds the maximum "
               "number of tokens allowed (1048575)."),
        FaultClass.TOO_LONG,
    ),
    # github.com/vllm-project/vllm/issues/3485, 4667, 20409 and pull/37011, 2024 to 2026.
    "vllm-model": (
        (404, {"object": "error", "message": "The model `Qwen/Q` does not exist.",
               "type": "NotFoundError", "param": None, "code": 404}),
        FaultClass.NOT_FOUND,
    ),
    "vllm-invalid": (openai(400, "1 validation error", "BadRequestError", 400), FaultClass.INVALID),
    "vllm-no-room": (
        (400, {"object": "error", "message": "max_tokens must be at least 1, got -186.",
               "type": "BadRequestError", "param": None, "code": 400}),
        FaultClass.TOO_LONG,
    ),
    "vllm-full": (
        openai(400, "This model's maximum context length is 16384 tokens. However, your request "
               "has 22946 input tokens. Please reduce the length of the input messages.",
               "BadRequestError", 400),
        FaultClass.TOO_LONG,
    ),
    "vllm-output": (
        openai(400, "'max_tokens' or 'max_completion_tokens' is too large: 10000. This model's "
               "maximum context length is 16384 tokens and your request has 12000 input tokens "
               "(10000 > 16384 - 12000).", "BadRequestError", 400),
        FaultClass.TOO_LONG,
    ),
    "vllm-code": (
        openai(400, "m", "BadRequestError", "context_length_exceeded"), FaultClass.TOO_LONG
    ),
    "vllm-credential": ((401, {"error": "Unauthorized"}), FaultClass.CREDENTIAL),
}  # fmt: skip

# Of the operator's account: no client is shown any of these.
OPERATORS_WORDS = (
    b"org-", b"proj_", b"organization", b"a22cf6e6", b"123456789012", b"sk-proj", b"Plan", b"plan ",
    b"quota", b"Limit 30000", b"billing", b"Billing", b"rate-limits", b"contact-sales",
    b"access on", b"location", b"territory", b"Qwen/Q", b"claude-9", b"gemini-9", b"gpt-4",
)  # fmt: skip


def wire_of(name: str) -> Wire:
    """Return the API on which the provider writes the error."""
    return Wire.ANTHROPIC if name.startswith("anthropic") else Wire.OPENAI


@pytest.mark.parametrize("name", ERRORS)
def test_error_has_its_class(name: str) -> None:
    (status, body), expected = ERRORS[name]

    assert read_fault(wire_of(name), status, (), json.dumps(body).encode()).fault is expected


@pytest.mark.parametrize("client", list(Wire))
@pytest.mark.parametrize("name", ERRORS)
def test_client_is_shown_an_error_of_its_api_without_the_operators_account(
    name: str, client: Wire
) -> None:
    """Relayed and translated; no status by which a client asks its user to log in or to pay."""
    (status, body), _ = ERRORS[name]
    wire, raw = wire_of(name), json.dumps(body).encode()
    fault = read_fault(wire, status, (), raw)

    made = [translate_error(fault, client, "m")]
    if client is wire:
        made.append(relay_error(fault, client, "m", ErrorResponse(status, (), raw)))

    for response in made:
        assert [word for word in OPERATORS_WORDS if word in response.body] == []
        assert json.loads(response.body)["error"]["message"]
        assert response.status >= 400
        assert response.status not in (401, 402, 403)


def test_rate_limit_keeps_the_delay_in_words() -> None:
    """Codex reads it from the message."""
    (status, body), _ = ERRORS["openai-rate"]
    fault = read_fault(Wire.OPENAI, status, (), json.dumps(body).encode())

    made = json.loads(translate_error(fault, Wire.OPENAI, "m").body)["error"]["message"]

    assert made == "The upstream provider's rate limit is reached. Try again in 3.89s."


@pytest.mark.parametrize(
    ("name", "excess"),
    [
        ("vllm-full", Excess(22946, 16384)),
        ("vllm-output", Excess(None, 16384)),
        ("vllm-no-room", Excess()),
        ("gemini-full", Excess(1196265, 1048575)),
        ("openai-tokens-a-minute", Excess(51000, 30000)),
    ],
)
def test_full_context_has_the_numbers_that_are_named(name: str, excess: Excess) -> None:
    """A prompt that fits, but not together with the output, is not called too long by numbers."""
    (status, body), _ = ERRORS[name]

    assert read_fault(Wire.OPENAI, status, (), json.dumps(body).encode()).excess == excess


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("RESOURCE_EXHAUSTED", FaultClass.RATE_LIMITED),
        ("UNAVAILABLE", FaultClass.OVERLOADED),
        ("DEADLINE_EXCEEDED", FaultClass.TIMEOUT),
        ("INTERNAL", FaultClass.FAILED),
        ("INVALID_ARGUMENT", FaultClass.INVALID),
        ("NOT_FOUND", FaultClass.NOT_FOUND),
        ("PERMISSION_DENIED", FaultClass.CREDENTIAL),
    ],
)
def test_status_strings_are_read_in_streams(status: str, expected: FaultClass) -> None:
    """There is no HTTP status, and not always a code."""
    event = json.dumps([{"error": {"message": "m", "status": status}}]).encode()

    assert read_stream_fault(Wire.OPENAI, event).fault is expected
