"""The clients' own objects: models, credits, usage and records of calls."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Struct, UnsetType

from gateway.console.openapi.shapes.common import Dollars, NanoDollars, about
from gateway.store.accounts.accounts import Billing


class OpenAIModel(Struct):
    """A model as OpenAI's clients read it."""

    id: Annotated[str, about("The name to send as `model`.")]
    object: Literal["model"]
    created: Annotated[int, about("Unix seconds.")]
    owned_by: str
    context_length: Annotated[int, about("Tokens of input and output together.")] | UnsetType = (
        UNSET
    )
    pricing: (
        Annotated[dict[str, str], about("Dollars per token as decimal strings, by token class.")]
        | UnsetType
    ) = UNSET


class OpenAIModelList(Struct):
    """The models that the key may use."""

    object: Literal["list"]
    data: list[OpenAIModel]


class AnthropicModel(Struct):
    """A model as Anthropic's clients read it."""

    type: Literal["model"]
    id: Annotated[str, about("The name to send as `model`.")]
    display_name: str
    created_at: str
    lifecycle: str
    max_input_tokens: int
    max_tokens: Annotated[int, about("Most output tokens.")]


class AnthropicModelList(Struct):
    """One page of the models that the key may use."""

    data: list[AnthropicModel]
    has_more: bool
    first_id: str | None
    last_id: str | None


class Balance(Struct, kw_only=True):
    """An account's balance and terms."""

    object: str
    billing: Billing
    balance: Dollars
    balance_nanousd: NanoDollars
    credit_limit: Dollars | None
    credit_limit_nanousd: NanoDollars | None
    available: Annotated[str | None, about("What calls may still cost; null: no bound.")]
    available_nanousd: int | None


class Credits(Balance, kw_only=True):
    """The balance of the key's account."""

    account_id: str


class Redemption(Credits, kw_only=True):
    """The balance after a code was redeemed, and what it was worth."""

    amount: Dollars
    amount_nanousd: NanoDollars


class UsageRow(Struct, kw_only=True):
    """Sums of calls. The members of `group_by` say which."""

    day: Annotated[str, about("UTC.")] | UnsetType = UNSET
    model: str | UnsetType = UNSET
    key: Annotated[str, about("Id of the key.")] | UnsetType = UNSET
    calls: int
    failed: int
    input_tokens: Annotated[int, about("Neither read from nor written to a cache.")]
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: Annotated[int, about("Without reasoning.")]
    reasoning_tokens: int
    cost: Dollars
    cost_nanousd: NanoDollars


class UsageReport(Struct, kw_only=True, rename={"from_": "from"}):
    """Usage of the account."""

    object: Literal["list"]
    from_: str
    to: str | None
    group_by: list[str]
    data: list[UsageRow]
    has_more: Annotated[bool, about("Lines were left out: ask for a shorter time.")]


class GenerationUsage(Struct):
    """What the cost was computed from; the token classes are disjoint."""

    input_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cache_write_1h_tokens: Annotated[int, about("Of `cache_write_tokens`: kept for an hour.")]
    web_searches: int
    tier: str | None


class GenerationAttempt(Struct):
    """One attempt to serve the call."""

    model: str
    result: Annotated[str, about("`ok`, `cancelled`, `lost`, or a class of failure.")]
    status: Annotated[int, about("The upstream's status; 0: none arrived.")]
    duration_ms: int
    hedge: Annotated[bool, about("It was made because the one before was slow.")]
    provider: str | UnsetType = UNSET


class Generation(Struct, kw_only=True):
    """The record of one call."""

    object: Literal["generation"]
    id: Annotated[str, about("The `x-request-id` of the call.")]
    created: Annotated[int, about("Unix seconds of its start.")]
    ended_at_ms: int
    model: str
    endpoint: str
    stream: bool
    key_id: str
    status: Annotated[int, about("HTTP status that the client received.")]
    outcome: Annotated[str, about("`completed`, `cancelled`, `failed`, ...")]
    error_kind: str | None
    finish_reason: str | None
    usage: GenerationUsage
    estimated: Annotated[bool, about("The upstream reported no usage: tokens are estimated.")]
    cost: Dollars
    cost_nanousd: NanoDollars
    ttft_ms: Annotated[int | None, about("Milliseconds to the first token.")]
    duration_ms: int
    attempts: int
    chain: list[GenerationAttempt]
