"""
Renders the model list in each dialect.

If prices are known, OpenAI's objects also contain what OpenRouter's clients read: the context
length, and dollars per token as decimal strings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from gateway.core.calendar import rfc3339
from gateway.core.model import Model, Prices, Wire
from gateway.core.money import decimal_text
from gateway.errors import ErrorKind, GatewayError

MAX_PAGE: Final = 1000
"""Default and largest page size of Anthropic's list."""

_OWNER: Final = "gateway"
_DECIMALS: Final = 15
"""Nano-dollars per million tokens are 1e-15 dollars per token."""


class _OpenAIModel(msgspec.Struct, omit_defaults=True):
    id: str
    object: str
    created: int
    owned_by: str
    context_length: int | None = None
    pricing: dict[str, str] | None = None


class _AnthropicModel(msgspec.Struct):
    type: str
    id: str
    display_name: str
    created_at: str
    lifecycle: str
    max_input_tokens: int
    max_tokens: int


class _OpenAIList(msgspec.Struct):
    object: str
    data: list[_OpenAIModel]


class _AnthropicPage(msgspec.Struct):
    data: list[_AnthropicModel]
    has_more: bool
    first_id: str | None
    last_id: str | None


def list_models(models: Sequence[Model], wire: Wire, query: Mapping[str, str]) -> bytes:
    """
    Return the body of a model list.

    Args:
        models: The models that the key may use, in the catalogue's order.
        wire: The dialect; Anthropic's list is paginated.
        query: Anthropic's `limit` (1 to 1000), `after_id`, `before_id`; others are ignored.

    Raises:
        GatewayError: BAD_REQUEST with `param`: a limit out of range, an id that is not listed,
            both ids at once.
    """
    if wire is Wire.OPENAI:
        data = [_openai(model, model.name) for model in models]
        return msgspec.json.encode(_OpenAIList(object="list", data=data))
    page, has_more = _page(models, query)
    return msgspec.json.encode(
        _AnthropicPage(
            data=[_anthropic(model, model.name) for model in page],
            has_more=has_more,
            first_id=page[0].name if page else None,
            last_id=page[-1].name if page else None,
        )
    )


def show_model(model: Model, wire: Wire, name: str) -> bytes:
    """
    Return the body of one model, as in the list.

    Args:
        model: The model.
        wire: The dialect.
        name: The id in the response: the name that the client requested.
    """
    if wire is Wire.OPENAI:
        return msgspec.json.encode(_openai(model, name))
    return msgspec.json.encode(_anthropic(model, name))


def _openai(model: Model, name: str) -> _OpenAIModel:
    prices = model.prices
    priced = any((prices.input, prices.output, prices.cache_read, prices.cache_write))
    return _OpenAIModel(
        id=name,
        object="model",
        created=model.created,
        owned_by=_OWNER,
        context_length=model.context if priced else None,
        pricing=_pricing(prices) if priced else None,
    )


def _pricing(prices: Prices) -> dict[str, str]:
    pricing = {
        "prompt": _dollars(prices.input),
        "completion": _dollars(prices.output),
        "input_cache_read": _dollars(prices.cache_read),
        "input_cache_write": _dollars(prices.cache_write),
        "internal_reasoning": _dollars(prices.reasoning),
    }
    if prices.web_search:
        # Priced per search, while the settings price a thousand searches.
        pricing["web_search"] = _dollars(prices.web_search * 1_000)
    return pricing


def _dollars(nanousd_per_million: int) -> str:
    """Return dollars per token as a decimal string without exponent: `0.00000014`."""
    return decimal_text(nanousd_per_million, _DECIMALS, at_least=0)


def _anthropic(model: Model, name: str) -> _AnthropicModel:
    return _AnthropicModel(
        type="model",
        id=name,
        display_name=model.display_name,
        created_at=rfc3339(model.created),
        lifecycle="active",
        max_input_tokens=model.context,
        max_tokens=model.max_output,
    )


def _page(models: Sequence[Model], query: Mapping[str, str]) -> tuple[Sequence[Model], bool]:
    """Return one page of models, and whether more follow in that direction."""
    limit = _limit(query.get("limit"))
    after, before = query.get("after_id"), query.get("before_id")
    if after and before:
        raise GatewayError(
            ErrorKind.BAD_REQUEST, "Send after_id or before_id, not both.", param="before_id"
        )
    if before:
        end = _position(models, before, "before_id")
        start = max(end - limit, 0)
        return models[start:end], start > 0
    start = _position(models, after, "after_id") + 1 if after else 0
    return models[start : start + limit], start + limit < len(models)


def _limit(value: str | None) -> int:
    if not value:
        return MAX_PAGE
    if not (value.isascii() and value.isdigit() and 1 <= int(value[:9]) <= MAX_PAGE):
        raise GatewayError(
            ErrorKind.BAD_REQUEST,
            f"limit: expected an integer from 1 to {MAX_PAGE}.",
            param="limit",
        )
    return int(value)


def _position(models: Sequence[Model], name: str, param: str) -> int:
    for position, model in enumerate(models):
        if model.name == name:
            return position
    raise GatewayError(ErrorKind.BAD_REQUEST, f"{param}: no such model in this list.", param=param)
