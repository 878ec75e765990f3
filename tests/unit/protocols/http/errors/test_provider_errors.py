"""Errors as single providers write them, whole and in streams."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.core.model import Wire
from gateway.core.routing.failures import RULES
from gateway.protocols.http.errors.error_codes import FaultClass
from gateway.protocols.http.errors.upstream_errors import translate_error
from gateway.protocols.http.errors.upstream_faults import (
    failure_class,
    read_fault,
    read_stream_fault,
)

# Status, body, class.
ERRORS: dict[str, tuple[int, dict[str, Any], FaultClass]] = {
    "mistral-model": (
        400,
        {"object": "error", "message": "No.", "type": "invalid_request_error",
         "param": "model", "code": "unknown_model"},
        FaultClass.NOT_FOUND,
    ),
    "mistral-rate": (
        429,
        {"object": "error", "message": "Rate limit exceeded", "type": "rate_limited",
         "param": None, "code": "1300"},
        FaultClass.RATE_LIMITED,
    ),
    "mistral-capacity": (
        429,
        {"object": "error", "message": "Service tier capacity exceeded for this model.",
         "type": "invalid_request_error", "param": None, "code": None},
        FaultClass.OVERLOADED,
    ),
    "mistral-capacity-503": (
        503,
        {"object": "error", "message": "Service tier capacity exceeded for this model.",
         "type": "rate_limited", "param": None, "code": "1300"},
        FaultClass.OVERLOADED,
    ),
    "mistral-credential": (401, {"detail": "Unauthorized"}, FaultClass.CREDENTIAL),
    "glm-concurrency": (
        429, {"error": {"code": "1302", "message": "Too many at once"}}, FaultClass.RATE_LIMITED
    ),
    "glm-busy": (429, {"error": {"code": "1312", "message": "Busy"}}, FaultClass.OVERLOADED),
    "glm-plan": (
        429,
        {"error": {"code": "1308", "message": "Used up 5 hours. It resets at 2026-11-28 18:00"}},
        FaultClass.QUOTA,
    ),
    "glm-week": (429, {"error": {"code": "1310", "message": "Weekly"}}, FaultClass.QUOTA),
    "glm-full": (400, {"error": {"code": "1261", "message": "Prompt"}}, FaultClass.TOO_LONG),
    "minimax-plan": (
        429,
        {"type": "error", "error": {"type": "rate_limit_error", "message":
         "usage limit exceeded, 5-hour usage limit reached for Token Plan Starter (0/0 used), "
         "resets at 2026-05-15T15:00:00Z (2056)"}},
        FaultClass.QUOTA,
    ),
    "dashscope-tokens": (
        429,
        {"error": {"message": "Allocated quota exceeded, please increase your quota limit.",
                   "type": "insufficient_quota", "param": None, "code": "insufficient_quota"}},
        FaultClass.RATE_LIMITED,
    ),
    "dashscope-rate": (
        429, {"error": {"code": "Throttling.RateQuota", "message": "x"}}, FaultClass.RATE_LIMITED
    ),
    "groq-flex": (
        498, {"error": {"message": "x", "type": "capacity_exceeded"}}, FaultClass.OVERLOADED
    ),
    "openrouter-moderation": (
        403,
        {"error": {"code": 403, "message": "Your chosen model requires moderation and your input "
                   "was flagged", "metadata": {"reasons": ["violence"]}}},
        FaultClass.INVALID,
    ),
    "kimi-cycle": (
        403,
        {"error": {"message": "You've reached your usage limit for this billing cycle. Your Plan",
                   "type": "access_terminated_error"}},
        FaultClass.QUOTA,
    ),
    "kimi-period": (
        429,
        {"error": {"message": "You've reached your usage limit for this period. Your Plan",
                   "type": "rate_limit_reached_error"}},
        FaultClass.QUOTA,
    ),
    "azure-blocked": (
        403,
        {"error": {"code": "403", "message": "Your resource has been temporarily blocked because "
                   "we detected behavior that may violate our content policy."}},
        FaultClass.QUOTA,
    ),
    "azure-filter": (
        400,
        {"error": {"message": "The response was filtered", "type": None, "param": "prompt",
                   "code": "content_filter", "status": 400}},
        FaultClass.INVALID,
    ),
    "together-full": (
        403,
        {"error": {"message": "Input token count + max_tokens parameter must be less than the "
                   "context length of the model being queried."}},
        FaultClass.TOO_LONG,
    ),
    "openrouter-credential": (
        403, {"error": {"code": 403, "message": "Forbidden"}}, FaultClass.CREDENTIAL
    ),
    "openai-quota": (
        429,
        {"error": {"message": "You exceeded your current quota, please check your plan.",
                   "type": "insufficient_quota", "code": "insufficient_quota"}},
        FaultClass.QUOTA,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_error_of_a_provider_has_its_class(name: str) -> None:
    status, body, expected = ERRORS[name]
    wire = Wire.ANTHROPIC if name == "minimax-plan" else Wire.OPENAI

    assert read_fault(wire, status, (), json.dumps(body).encode()).fault is expected


@pytest.mark.parametrize("name", ["glm-busy", "glm-plan", "dashscope-rate", "dashscope-tokens"])
def test_error_in_a_stream_has_the_same_class(name: str) -> None:
    """There is no status."""
    _, body, expected = ERRORS[name]

    assert read_stream_fault(Wire.OPENAI, json.dumps(body).encode()).fault is expected


@pytest.mark.parametrize("client", list(Wire))
@pytest.mark.parametrize("name", [name for name in ERRORS if ERRORS[name][2] is FaultClass.QUOTA])
def test_operators_plan_is_not_shown(name: str, client: Wire) -> None:
    """Names of plans and the times of their limits concern the operator alone."""
    status, body, _ = ERRORS[name]
    fault = read_fault(Wire.OPENAI, status, (), json.dumps(body).encode())

    made = translate_error(fault, client, "m").body

    assert not any(word in made for word in (b"Plan", b"resets", b"Weekly", b"quota, please"))
    assert RULES[failure_class(fault)].fallback


def test_refused_content_is_the_clients_error() -> None:
    """Another deployment would not be asked with it, and the operator's key is not to blame."""
    status, body, _ = ERRORS["openrouter-moderation"]
    fault = read_fault(Wire.OPENAI, status, (), json.dumps(body).encode())

    made = translate_error(fault, Wire.OPENAI, "m")

    assert not RULES[failure_class(fault)].fallback
    assert b"flagged" in made.body
    assert made.status in (400, 403)


def minimax(code: int) -> dict[str, Any]:
    """Return an error of MiniMax under status 200."""
    return {"base_resp": {"status_code": code, "status_msg": "m"}}


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (1000, FaultClass.FAILED),
        (1001, FaultClass.TIMEOUT),
        (1002, FaultClass.RATE_LIMITED),  # GLM's 1002 is a rejected key
        (1004, FaultClass.CREDENTIAL),
        (1008, FaultClass.QUOTA),
        (1024, FaultClass.FAILED),
        (1026, FaultClass.INVALID),
        (1027, FaultClass.INVALID),
        (1033, FaultClass.FAILED),
        (1039, FaultClass.RATE_LIMITED),
        (1041, FaultClass.RATE_LIMITED),
        (1042, FaultClass.INVALID),
        (2013, FaultClass.INVALID),
        (2045, FaultClass.RATE_LIMITED),
        (2049, FaultClass.CREDENTIAL),
        (2056, FaultClass.QUOTA),
    ],
)
def test_codes_of_minimax_are_its_own(code: int, expected: FaultClass) -> None:
    body = json.dumps(minimax(code)).encode()

    assert read_fault(Wire.OPENAI, 200, (), body).fault is expected
    assert read_stream_fault(Wire.OPENAI, body).fault is expected


def openrouter(status: int, **metadata: str) -> dict[str, Any]:
    """Return an error of OpenRouter's, whose code repeats the HTTP status."""
    return {"error": {"code": status, "message": "Insufficient credits", "metadata": metadata}}


@pytest.mark.parametrize(
    ("status", "metadata", "expected"),
    [
        (402, {"limit_source": "openrouter_credits"}, FaultClass.QUOTA),
        (402, {"limit_source": "openrouter_in_flight_budget"}, FaultClass.RATE_LIMITED),
        (402, {"error_type": "in_flight_budget_exhausted"}, FaultClass.RATE_LIMITED),
        (
            402,
            {"error_type": "weight_exceeds_budget", "limit_source": "openrouter_credits"},
            FaultClass.RATE_LIMITED,
        ),
        (403, {"limit_source": "openrouter_workspace_budget"}, FaultClass.QUOTA),
        (403, {"limit_source": "openrouter_key_limit"}, FaultClass.QUOTA),
        (400, {"error_type": "context_length_exceeded"}, FaultClass.TOO_LONG),
        (503, {"error_type": "provider_overloaded"}, FaultClass.OVERLOADED),
    ],
)
def test_openrouter_names_the_cause_in_its_metadata(
    status: int, metadata: dict[str, str], expected: FaultClass
) -> None:
    """A budget that other running calls fill is no reason to take the deployment out."""
    body = json.dumps(openrouter(status, **metadata)).encode()

    assert read_fault(Wire.OPENAI, status, (), body).fault is expected
    assert read_stream_fault(Wire.OPENAI, body).fault is expected


@pytest.mark.parametrize("message", ["Your prepayment credits are depleted.", "No."])
def test_payment_that_gemini_requires_is_the_operators(message: str) -> None:
    """`RESOURCE_EXHAUSTED` with 429 is a rate limit, with 402 it is the credit."""
    error = {"code": 402, "message": message, "status": "RESOURCE_EXHAUSTED"}
    body = json.dumps([{"error": error}]).encode()

    assert read_fault(Wire.OPENAI, 402, (), body).fault is FaultClass.QUOTA
    assert read_stream_fault(Wire.OPENAI, body).fault is FaultClass.QUOTA


@pytest.mark.parametrize("code", ["1301", "1214", "data_inspection_failed", "DataInspectionFailed"])
def test_refused_content_in_a_stream_is_the_requests_error(code: str) -> None:
    """GLM and DashScope: there is no status, and another deployment would refuse it as well."""
    event = json.dumps({"error": {"code": code, "message": "unsafe or sensitive content"}}).encode()

    fault = read_stream_fault(Wire.OPENAI, event)

    assert fault.fault is FaultClass.INVALID
    assert not RULES[failure_class(fault)].fallback


@pytest.mark.parametrize(("status", "expected"), [(500, "upstream"), (503, "overload")])
def test_status_503_is_an_overload_even_if_its_type_is_generic(status: int, expected: str) -> None:
    """A busy upstream rests instead of opening its breaker."""
    error = {"type": "api_error", "message": "No."}
    body = json.dumps({"type": "error", "error": error}).encode()

    fault = read_fault(Wire.ANTHROPIC, status, (), body)

    assert failure_class(fault).value == expected
