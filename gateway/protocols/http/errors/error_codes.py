"""
The codes and types by which providers name an error, one line for each, with its source.

A code takes precedence over the HTTP status; unlike a status, it is also present inside a stream.
MiniMax and GLM use the same numbers with different meanings, so MiniMax's are read only from the
member in which MiniMax writes them.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final, NamedTuple


class FaultClass(enum.Enum):
    """The class of an upstream's error, a closed set."""

    QUOTA = "quota"
    """The operator's account at the provider has no credit, or is closed."""
    CREDENTIAL = "credential"
    """The provider rejects the operator's key."""
    OVERLOADED = "overloaded"
    RATE_LIMITED = "rate_limited"
    NOT_FOUND = "not_found"
    """The upstream does not know the model."""
    TOO_LONG = "too_long"
    """The prompt exceeds the model's context."""
    TOO_LARGE = "too_large"
    """The body exceeds the upstream's limit in bytes."""
    TIMEOUT = "timeout"
    INVALID = "invalid"
    """The request is invalid."""
    FAILED = "failed"
    """The upstream failed."""
    BROKEN_OFF = "broken_off"
    """The response ended early or was malformed; detected by the gateway."""


class ErrorCodes(NamedTuple):
    """Codes or types of one provider that mean the same."""

    provider: str
    fault: FaultClass
    codes: tuple[str, ...]
    source: str
    seen: str


_OPENAI: Final = "developers.openai.com, Error codes"
_OPENROUTER: Final = "openrouter.ai/docs/api/reference/errors-and-debugging"
_GEMINI: Final = "ai.google.dev, Troubleshooting"
_GLM: Final = "docs.bigmodel.cn/cn/api/api-code and docs.z.ai/api-reference/api-code"
_QWEN: Final = "help.aliyun.com/en/model-studio/error-code-start"
_ARK: Final = "volcengine.com, Ark error codes"
_GROQ: Final = "console.groq.com/docs/errors"
_MISTRAL: Final = "docs.mistral.ai/resources/error-glossary"
_MOONSHOT: Final = "platform.kimi.ai, Errors"
_MINIMAX: Final = "platform.minimax.io/docs/api-reference/errorcode"

ERROR_CODES: Final[tuple[ErrorCodes, ...]] = (
    ErrorCodes(
        "openai",
        FaultClass.QUOTA,
        (
            "insufficient_quota", "billing_hard_limit_reached", "billing_not_active",
            "account_deactivated", "organization_spend_limit_exceeded",
            "project_spend_limit_exceeded", "organization_usage_limit_exceeded",
        ),
        _OPENAI,
        "2026-11",
    ),
    ErrorCodes("openai", FaultClass.CREDENTIAL, ("invalid_api_key",), _OPENAI, "2026-11"),
    ErrorCodes("openai", FaultClass.NOT_FOUND, ("model_not_found",), _OPENAI, "2026-11"),
    ErrorCodes("openai", FaultClass.TOO_LONG, ("context_length_exceeded",), _OPENAI, "2026-11"),
    ErrorCodes("openai", FaultClass.RATE_LIMITED, ("rate_limit_exceeded",), _OPENAI, "2026-11"),
    ErrorCodes(
        "openai",
        FaultClass.OVERLOADED,
        ("server_is_overloaded", "slow_down", "service_unavailable_error"),
        _OPENAI,
        "2026-11",
    ),
    ErrorCodes(
        "anthropic",
        FaultClass.OVERLOADED,
        ("overloaded_error",),
        "platform.claude.com, Errors",
        "2026-11",
    ),
    ErrorCodes("azure", FaultClass.NOT_FOUND, ("DeploymentNotFound",),
               "learn.microsoft.com, Azure OpenAI in Foundry, Troubleshooting", "2026-11"),
    ErrorCodes("gemini", FaultClass.OVERLOADED, ("UNAVAILABLE",), _GEMINI, "2026-11"),
    ErrorCodes("gemini", FaultClass.TIMEOUT, ("DEADLINE_EXCEEDED",), _GEMINI, "2026-11"),
    ErrorCodes("gemini", FaultClass.CREDENTIAL,
               ("API_KEY_INVALID", "UNAUTHENTICATED", "PERMISSION_DENIED"), _GEMINI, "2026-11"),
    ErrorCodes("gemini", FaultClass.QUOTA, ("payment_required",), _GEMINI, "2026-11"),
    ErrorCodes("moonshot", FaultClass.QUOTA, ("exceeded_current_quota_error",),
               _MOONSHOT + ": with 429", "2026-11"),
    ErrorCodes("moonshot", FaultClass.CREDENTIAL, ("invalid_authentication_error",), _MOONSHOT,
               "2026-11"),
    ErrorCodes("moonshot", FaultClass.OVERLOADED, ("engine_overloaded_error",),
               _MOONSHOT + ": with 429", "2026-11"),
    ErrorCodes("mistral", FaultClass.NOT_FOUND, ("unknown_model", "invalid_model"), _MISTRAL,
               "2026-11"),
    ErrorCodes("mistral", FaultClass.RATE_LIMITED, ("rate_limited", "1300"),
               "github.com/continuedev/continue/issues/6185", "2026-04"),
    ErrorCodes("groq", FaultClass.OVERLOADED, ("capacity_exceeded",),
               _GROQ + ": flex, with 498", "2026-11"),
    ErrorCodes("groq", FaultClass.NOT_FOUND, ("model_decommissioned",), _GROQ + ": with 400",
               "2026-11"),
    # In `metadata.error_type` or `metadata.limit_source`; the code is the HTTP status.
    ErrorCodes("openrouter", FaultClass.RATE_LIMITED,
               ("openrouter_in_flight_budget", "in_flight_budget_exhausted"),
               _OPENROUTER + ": with 402, until running calls are settled", "2026-11"),
    ErrorCodes("openrouter", FaultClass.RATE_LIMITED, ("weight_exceeds_budget",),
               _OPENROUTER + ": with 402, one call that costs too much", "2026-11"),
    ErrorCodes("openrouter", FaultClass.QUOTA,
               ("openrouter_credits", "openrouter_key_limit",
                "openrouter_guardrail_budget", "openrouter_workspace_budget"),
               _OPENROUTER + ": with 402 and 403", "2026-11"),
    ErrorCodes("openrouter", FaultClass.OVERLOADED, ("provider_overloaded",), _OPENROUTER,
               "2026-11"),
    ErrorCodes("qwen", FaultClass.QUOTA, ("Arrearage", "AllocationQuota.FreeTierOnly"),
               _QWEN + ": with 400 and 403", "2026-11"),
    ErrorCodes("qwen", FaultClass.CREDENTIAL, ("InvalidApiKey",), _QWEN, "2026-11"),
    ErrorCodes("qwen", FaultClass.NOT_FOUND, ("ModelNotFound",), _QWEN, "2026-11"),
    ErrorCodes("qwen", FaultClass.RATE_LIMITED,
               ("Throttling", "Throttling.RateQuota", "Throttling.AllocationQuota"), _QWEN,
               "2026-11"),
    ErrorCodes("qwen", FaultClass.INVALID, ("DataInspectionFailed", "data_inspection_failed"),
               _QWEN + ": refused content", "2026-11"),
    # Authentication; then: inactive, unknown, locked, in arrears, in violation; then: daily, plan,
    # weekly and monthly limits, an expired plan, a model outside of the plan, a restricted plan.
    ErrorCodes("zai", FaultClass.CREDENTIAL, ("1000", "1001", "1002", "1003", "1004"), _GLM,
               "2026-11"),
    ErrorCodes("zai", FaultClass.QUOTA,
               ("1110", "1111", "1112", "1113", "1121", "1304", "1308", "1309", "1310", "1311",
                "1313"),
               _GLM, "2026-11"),
    ErrorCodes("zai", FaultClass.NOT_FOUND, ("1211",), _GLM, "2026-11"),
    ErrorCodes("zai", FaultClass.TOO_LONG, ("1261", "model_context_window_exceeded"), _GLM,
               "2026-11"),
    ErrorCodes("zai", FaultClass.RATE_LIMITED, ("1302", "1303", "1305"), _GLM, "2026-11"),
    ErrorCodes("zai", FaultClass.OVERLOADED, ("1312",), _GLM, "2026-11"),
    ErrorCodes("zai", FaultClass.INVALID,
               ("1210", "1212", "1213", "1214", "1215", "1301"),
               _GLM + ": invalid fields and refused content", "2026-11"),
    # In `base_resp.status_code`, with HTTP status 200.
    ErrorCodes("minimax", FaultClass.TIMEOUT, ("1001",), _MINIMAX, "2026-11"),
    ErrorCodes("minimax", FaultClass.RATE_LIMITED, ("1002", "1039", "1041", "2045"), _MINIMAX,
               "2026-11"),
    ErrorCodes("minimax", FaultClass.CREDENTIAL, ("1004", "2049"), _MINIMAX, "2026-11"),
    ErrorCodes("minimax", FaultClass.QUOTA, ("1008", "2056"), _MINIMAX, "2026-11"),
    ErrorCodes("minimax", FaultClass.INVALID, ("1026", "1027", "1042", "2013"), _MINIMAX,
               "2026-11"),
    ErrorCodes("vllm", FaultClass.INVALID, ("BadRequestError",),
               "docs.vllm.ai, OpenAI-compatible server", "2026-11"),
    ErrorCodes("vllm", FaultClass.NOT_FOUND, ("NotFoundError",),
               "github.com/vllm-project/vllm/issues/3485", "2026-11"),
    ErrorCodes("GitHub Copilot", FaultClass.TOO_LONG, ("model_max_prompt_tokens_exceeded",),
               "public reports", "2026-11"),
    ErrorCodes("llama.cpp", FaultClass.TOO_LONG, ("exceed_context_size_error",),
               "tools/server, errors", "2026-11"),
    ErrorCodes("Baidu Qianfan", FaultClass.TOO_LONG, ("336007",), "cloud.baidu.com, Error codes",
               "2026-11"),
    ErrorCodes("Volcano Ark", FaultClass.QUOTA,
               ("AccountOverdueError", "ServiceOverdue", "SetLimitExceeded", "QuotaExceeded"),
               _ARK, "2026-11"),
    ErrorCodes("Volcano Ark", FaultClass.OVERLOADED, ("ServerOverloaded",), _ARK + ": with 429",
               "2026-11"),
    ErrorCodes("Volcano Ark", FaultClass.NOT_FOUND,
               ("InvalidEndpointOrModel.NotFound", "ModelNotOpen"), _ARK, "2026-11"),
    ErrorCodes("SiliconFlow", FaultClass.QUOTA, ("30001",), "docs.siliconflow.cn: with 403",
               "2026-11"),
    ErrorCodes("any", FaultClass.QUOTA,
               ("credit_balance_exhausted", "insufficient_balance", "insufficient_credits"),
               "public reports", "2026-11"),
    ErrorCodes("any", FaultClass.TOO_LONG,
               ("context_window_exceeded", "input_too_long", "prompt_too_long"), "public reports",
               "2026-11"),
)  # fmt: skip


def _faults(*, minimax: bool) -> Mapping[str, FaultClass]:
    return {
        code: line.fault
        for line in ERROR_CODES
        if (line.provider == "minimax") is minimax
        for code in line.codes
    }


NAMES: Final = _faults(minimax=False)
"""Codes and types that take precedence over the status."""

MINIMAX_CODES: Final = _faults(minimax=True)
"""Values of MiniMax's `base_resp.status_code`."""
