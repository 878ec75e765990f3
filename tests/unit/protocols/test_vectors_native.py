"""The shared vectors of the native endpoint."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from gateway.core.model import Prices
from gateway.errors import GatewayError
from gateway.protocols.native_chat import (
    NativeLimits,
    chat_request,
    native_response,
    read_native_request,
    require_web_search,
)
from gateway.protocols.translate.capabilities import capabilities
from tests.support.vectors import load, matches

LIMITS = NativeLimits(max_retries=5, max_timeout_s=600)


def nanodollars(prices: dict[str, str], name: str, otherwise: str) -> int:
    return int(Decimal(prices.get(name) or prices[otherwise]) * 10**9)


def prices_of(prices: dict[str, str]) -> Prices:
    return Prices(
        input=nanodollars(prices, "input", "input"),
        output=nanodollars(prices, "output", "output"),
        cache_read=nanodollars(prices, "cache_read", "input"),
        cache_write=nanodollars(prices, "cache_write", "input"),
        reasoning=nanodollars(prices, "reasoning", "output"),
    )


def refusal(error: GatewayError) -> dict[str, Any]:
    surface = error.surface
    body = {
        "message": error.message,
        "type": surface.openai_type,
        "param": error.param,
        "code": error.code or surface.openai_code,
    }
    return {"status": surface.openai_status, "body": {"error": body}}


def run_request(given: dict[str, Any]) -> dict[str, Any]:
    route = given["route"]
    caps = capabilities(route["dialect"], route.get("caps", {}))
    body = given["body"].encode() if "body" in given else json.dumps(given["request"]).encode()
    try:
        request = read_native_request(body, LIMITS)
        require_web_search(request, bool(route.get("web_search", False)))
    except GatewayError as error:
        return {"reject": refusal(error)}
    chat = chat_request(
        request,
        model=route["upstream_model"],
        limit_field=caps.max_tokens_param,
        min_output_tokens=caps.min_output_tokens,
    )
    return {"request": json.loads(chat)}


def run_response(given: dict[str, Any]) -> dict[str, Any]:
    context = given["ctx"]
    try:
        made = native_response(
            json.dumps(given["response"]).encode(),
            response_id="00000000-0000-4000-8000-000000000000",
            model=context["model"],
            prices=prices_of(context["prices"]),
        )
    except GatewayError as error:
        return {"error": refusal(error)}
    return {"response": json.loads(made)}


@pytest.mark.parametrize("vector", load("native-*"))
def test_native_vector(vector: dict[str, Any]) -> None:
    """A native request or response becomes what its vector expects."""
    run = {"native_request": run_request, "native_response": run_response}[vector["kind"]]

    actual = run(vector["input"])

    assert matches(vector["expect"], actual), actual
