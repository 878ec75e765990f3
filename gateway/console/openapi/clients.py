"""The clients' API: models, credits, usage, and what calls models."""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

from gateway.console.openapi.errors import KEY_ERRORS, READ_ERRORS
from gateway.console.openapi.inference import GENERATE, KEPT, inference_operations
from gateway.console.openapi.operation import Api, Example, Operation, Parameter, Success
from gateway.console.openapi.shapes.account import (
    AnthropicModel,
    AnthropicModelList,
    Credits,
    Generation,
    OpenAIModel,
    OpenAIModelList,
    Redemption,
    UsageReport,
)
from gateway.errors import ErrorKind

MODELS: Final = "Models"
ACCOUNT: Final = "Account"

_SCHEMES: Final = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "`Authorization: Bearer` and the API key.",
    },
    "api_key": {
        "type": "apiKey",
        "in": "header",
        "name": "x-api-key",
        "description": "The API key in `x-api-key`, as Anthropic's clients send it.",
    },
}
_CREDITS: Final[dict[str, Any]] = {
    "object": "credits",
    "account_id": "acc_3k9x",
    "billing": "prepaid",
    "balance": "24.981692",
    "balance_nanousd": 24_981_692_000,
    "credit_limit": None,
    "credit_limit_nanousd": None,
    "available": "24.981692",
    "available_nanousd": 24_981_692_000,
}


class RedeemRequest(Struct, forbid_unknown_fields=True):
    """A code to redeem into the key's account."""

    code: str


def clients_api(base_url: str, model: str, brand: str = "Capio") -> Api:
    """
    Return the clients' API.

    Args:
        base_url: Of the service, without `/v1`.
        model: A model for the examples.
        brand: The service's name.
    """
    return Api(
        title=f"{brand} API",
        description="The APIs of OpenAI and Anthropic over one catalogue of models, and the"
        " account's own. Errors have the shape of the path's API.",
        base_url=base_url,
        operations=(*inference_operations(model), *_models(model), *_account(model)),
        schemes=_SCHEMES,
        tags={
            GENERATE: "Calls to models, each charged by its tokens.",
            KEPT: "Responses that are stored for follow-up requests.",
            MODELS: "The models that the key may use, with context and prices.",
            ACCOUNT: "Balance, usage, and the record of each call.",
        },
    )


def _models(model: str) -> tuple[Operation, ...]:
    listed = {
        "id": model,
        "object": "model",
        "created": 1795000000,
        "owned_by": "gateway",
        "context_length": 1_000_000,
        "pricing": {"prompt": "0.00000007", "completion": "0.00000014"},
    }
    dialect = (
        " Clients that send `anthropic-version` or `x-api-key` get Anthropic's shape,"
        " others OpenAI's."
    )
    return (
        Operation(
            id="list_models",
            method="GET",
            path="/v1/models",
            title="List models",
            tag=MODELS,
            description=f"The models that the key may use.{dialect} Anthropic's list is paginated.",
            success=Success(OpenAIModelList, "The models.", alternative=AnthropicModelList),
            errors=(*KEY_ERRORS, ErrorKind.BAD_REQUEST, ErrorKind.STORE_UNAVAILABLE),
            parameters=(
                Parameter(
                    "limit", "query", "For Anthropic's list: models per page, 1 to 1000.", "integer"
                ),
                Parameter(
                    "after_id", "query", "For Anthropic's list: return the page after this model."
                ),
                Parameter(
                    "before_id", "query", "For Anthropic's list: return the page before this model."
                ),
            ),
            example=Example(response={"object": "list", "data": [listed]}),
        ),
        Operation(
            id="get_model",
            method="GET",
            path="/v1/models/{model}",
            title="Get a model",
            tag=MODELS,
            description=f"One model by its name or alias.{dialect}",
            success=Success(OpenAIModel, "The model.", alternative=AnthropicModel),
            errors=(*KEY_ERRORS, ErrorKind.UNKNOWN_MODEL, ErrorKind.STORE_UNAVAILABLE),
            parameters=(Parameter("model", "path", "Name of the model; slashes are allowed."),),
            example=Example(path={"model": model}, response=listed),
        ),
    )


def _account(model: str) -> tuple[Operation, ...]:
    return (
        Operation(
            id="get_credits",
            method="GET",
            path="/v1/credits",
            title="Get the balance",
            tag=ACCOUNT,
            description="The balance of the key's account, and the amount calls may still cost.",
            success=Success(Credits, "The balance."),
            errors=READ_ERRORS,
            example=Example(response=_CREDITS),
        ),
        Operation(
            id="redeem_code",
            method="POST",
            path="/v1/credits/redeem",
            title="Redeem a code",
            tag=ACCOUNT,
            description="Adds the value of a redemption code to the account. Each code works once.",
            request=RedeemRequest,
            success=Success(Redemption, "The balance with the code's value."),
            errors=(
                *READ_ERRORS,
                ErrorKind.CONTENT_TYPE,
                ErrorKind.BODY_TOO_LARGE,
                ErrorKind.BODY_TIMEOUT,
            ),
            example=Example(
                body={"code": "capio-8J2M-4KQ7-ZT5W"},
                response={
                    **_CREDITS,
                    "object": "redemption",
                    "amount": "10",
                    "amount_nanousd": 10_000_000_000,
                },
            ),
        ),
        _usage(model),
        _generation(model),
    )


def _usage(model: str) -> Operation:
    return Operation(
        id="get_usage",
        method="GET",
        path="/v1/usage",
        title="Get usage",
        tag=ACCOUNT,
        description="Sums of the account's calls by day, model or key, as JSON or CSV. Without"
        " `from` the last 30 days. Calls appear within seconds of their end.",
        success=Success(UsageReport, "The sums.", csv=True),
        errors=READ_ERRORS,
        parameters=(
            Parameter("from", "query", "An ISO date or time (UTC by default), or Unix seconds."),
            Parameter("to", "query", "The end, in the same form; exclusive."),
            Parameter("group_by", "query", "Any of `day,model,key`; default `day`."),
            Parameter("key", "query", "Id of one key."),
            Parameter("format", "query", "Default `json`.", allowed=("json", "csv")),
        ),
        example=Example(
            query={"from": "2026-11-01", "group_by": "model"},
            response={
                "object": "list",
                "from": "2026-11-01T00:00:00Z",
                "to": None,
                "group_by": ["model"],
                "data": [
                    {
                        "model": model,
                        "calls": 412,
                        "failed": 2,
                        "input_tokens": 812_004,
                        "cache_read_tokens": 5_120_448,
                        "cache_write_tokens": 0,
                        "output_tokens": 96_120,
                        "reasoning_tokens": 0,
                        "cost": "0.0721",
                        "cost_nanousd": 72_100_000,
                    }
                ],
                "has_more": False,
            },
        ),
    )


def _generation(model: str) -> Operation:
    return Operation(
        id="get_generation",
        method="GET",
        path="/v1/generation",
        title="Get the record of a call",
        tag=ACCOUNT,
        description="Tokens, cost, times and attempts of one call, by the `x-request-id` of its"
        " response. Records exist within seconds of a call's end.",
        success=Success(Generation, "The record."),
        errors=(*READ_ERRORS, ErrorKind.UNKNOWN_PATH),
        parameters=(Parameter("id", "query", "The `x-request-id` of the call."),),
        example=Example(
            query={"id": "req_4f8Yt2QmZ9pLr7Wc"},
            response={
                "object": "generation",
                "id": "req_4f8Yt2QmZ9pLr7Wc",
                "created": 1795000000,
                "ended_at_ms": 1795000002140,
                "model": model,
                "endpoint": "chat_completions",
                "stream": True,
                "key_id": "key_2b7c",
                "status": 200,
                "outcome": "completed",
                "error_kind": None,
                "finish_reason": "stop",
                "usage": {
                    "input_tokens": 6440,
                    "cache_read_tokens": 15025,
                    "cache_write_tokens": 0,
                    "output_tokens": 165,
                    "reasoning_tokens": 0,
                    "cache_write_1h_tokens": 0,
                    "web_searches": 0,
                    "tier": None,
                },
                "estimated": False,
                "cost": "0.000684",
                "cost_nanousd": 684_000,
                "ttft_ms": 860,
                "duration_ms": 2140,
                "attempts": 1,
                "chain": [
                    {
                        "model": model,
                        "result": "ok",
                        "status": 200,
                        "duration_ms": 2138,
                        "hedge": False,
                        "provider": "deepseek",
                    }
                ],
            },
        ),
    )
