"""Errors as single providers write them, whole and in streams."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.core.model import Wire
from gateway.core.routing.failures import RULES
from gateway.protocols.http.errors.upstream_errors import translate_error
from gateway.protocols.http.errors.upstream_faults import (
    FaultClass,
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
