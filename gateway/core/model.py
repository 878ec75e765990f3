"""
The nouns of one call: wires, endpoints, the catalogue's entries, the principal, token counts.

All frozen; built once at start (catalogue) or once per call (principal, usage).
"""

from __future__ import annotations

import enum

import msgspec

from gateway.core.limits import KeyLimits


class Wire(enum.Enum):
    """A public dialect. The value is the label in metrics, records and settings."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"


class Endpoint(enum.Enum):
    """What a path asks for. The value is the label in metrics and records."""

    CHAT_COMPLETIONS = "chat_completions"
    MESSAGES = "messages"
    COUNT_TOKENS = "count_tokens"
    EMBEDDINGS = "embeddings"
    RESPONSES = "responses"
    NATIVE_CHAT = "native_chat"

    @property
    def wire(self) -> Wire:
        """The dialect in which this endpoint's callers speak and read errors."""
        if self in (Endpoint.MESSAGES, Endpoint.COUNT_TOKENS):
            return Wire.ANTHROPIC
        return Wire.OPENAI


class Clocks(msgspec.Struct, frozen=True):
    """Limits in seconds, see `settings.Timeouts`."""

    connect_s: float
    first_byte_s: float
    first_content_s: float
    idle_s: float
    total_s: float


class Origin(msgspec.Struct, frozen=True):
    """Where connections go: the key of a pool. Set by operators only, never by callers."""

    host: str
    port: int
    tls: bool
    transport: str = "http1"
    """`http1` or `httpx2`."""
    proxy: str | None = None
    max_connections: int = 2048
    keepalive_s: float = 60.0


class WireRoute(msgspec.Struct, frozen=True):
    """How one provider is spoken to on one wire."""

    origin: Origin
    base_path: str
    """The base URL's path, no slash at its end; `/chat/completions` or `/v1/messages` follow."""
    headers: tuple[tuple[bytes, bytes], ...]
    """Host, credential, user-agent, accept-encoding and the provider's own, ready to send."""
    count_tokens: bool = True

    @property
    def label(self) -> str:
        """Host and port, for logs."""
        return f"{self.origin.host}:{self.origin.port}"


class Provider(msgspec.Struct, frozen=True):
    """A named upstream account."""

    name: str
    dialect: str
    wires: dict[Wire, WireRoute]
    clocks: Clocks
    inject_usage: bool
    caps: dict[str, object]
    betas: dict[bytes, bytes | None] = {}
    """`anthropic-beta` name -> what is sent instead, None: nothing; `*` for all others."""
    drop_fields: frozenset[str] = frozenset()
    allow_features: frozenset[str] = frozenset()
    """Names of `settings.PricedFeature`."""
    strip_billing_line: bool = False
    drains: bool | None = False
    """A call whose client left is read on for its usage; None: if it may hide reasoning."""


class TokenPrices(msgspec.Struct, frozen=True):
    """Nano-dollars per million tokens, one for each disjoint token class."""

    input: int
    output: int
    cache_read: int
    cache_write: int
    reasoning: int
    cache_write_1h: int | None = None
    """None: 1.6 times `cache_write`, the ratio of Anthropic's price list."""


class Prices(TokenPrices, frozen=True):
    """What a call is priced by: tokens, and what upstreams charge apart."""

    web_search: int = 0
    """Nano-dollars per thousand searches."""
    tiers: dict[str, int] = {}
    """Reported tier -> factor of all token prices, in millionths."""
    long_context: TokenPrices | None = None
    """Prices of all tokens of a call with more input than `long_context_above`."""
    long_context_above: int = 0

    @property
    def are_zero(self) -> bool:
        """Whether calls are free."""
        return not any(msgspec.structs.astuple(self))


class Deployment(msgspec.Struct, frozen=True):
    """One way to reach a model."""

    provider: Provider
    upstream_model: str
    wires: tuple[Wire, ...]
    caps: dict[str, object]
    cost: Prices | None = None
    """What the upstream takes from us; None: unknown, and so is the margin."""
    prices_reasoning: bool = False
    """Reasoning has a price of its own: the model reasons."""

    @property
    def label(self) -> str:
        """`provider/upstream_model`: the label in metrics and records."""
        return f"{self.provider.name}/{self.upstream_model}"


class Model(msgspec.Struct, frozen=True):
    """A public model."""

    name: str
    aliases: tuple[str, ...]
    display_name: str
    created: int
    context: int
    max_output: int
    prices: Prices
    deployments: tuple[Deployment, ...]


class Principal(msgspec.Struct, frozen=True):
    """Who a key speaks for. Holds no secret: `key_id` is the public id of the key's row."""

    key_id: str
    account_id: str
    key_name: str
    state: str
    """`active`, `disabled` or `revoked`."""
    version: int
    """Grows with every change of the key; a cache never replaces a newer entry with an older."""
    expires_at: int | None = None
    """Unix seconds."""
    models: frozenset[str] | None = None
    """Public model names the key may use; None means all."""
    limits: KeyLimits | None = None
    """The key's own limits; those of its account are in Redis, see `store.accounts.snapshot`."""


class Usage(msgspec.Struct, frozen=True):
    """Five disjoint token classes (`reasoning` is part of no other), and what else costs."""

    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0
    cache_write_1h: int = 0
    """The part of `cache_write` that the upstream keeps for an hour."""
    web_searches: int = 0
    """Searches the upstream ran."""
    tier: str | None = None
    """Service tier, speed and region beside the standard ones, joined by `+`: `priority`."""


TOKEN_COLUMNS = {
    "input": "input_tokens",
    "cache_read": "cache_read_tokens",
    "cache_write": "cache_write_tokens",
    "output": "output_tokens",
    "reasoning": "reasoning_tokens",
}
"""The fields of `Usage` that add up to all tokens of a call, and their names outside."""

USAGE_COLUMNS = {
    **TOKEN_COLUMNS,
    "cache_write_1h": "cache_write_1h_tokens",
    "web_searches": "web_searches",
    "tier": "tier",
}
"""All fields of `Usage`, and their names outside."""


ABANDONED = "abandoned"
"""The outcome of an event that is provisional: a later settlement of its call supersedes it."""


class UsageEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One call, recorded once. Travels as JSON in the usage stream; holds no key and no content."""

    request_id: str
    at_ms: int
    """Unix milliseconds of the call's end."""
    key_id: str
    account_id: str
    model: str
    endpoint: str
    client_wire: str
    upstream_wire: str | None = None
    provider: str | None = None
    upstream_model: str | None = None
    upstream_request_id: str | None = None
    stream: bool = False
    status: int = 0
    outcome: str = "completed"
    """
    How the call was settled: completed; cancelled (the client left, the upstream was closed),
    drained (the client left, the upstream's report was awaited), failed, insured (failed without
    output: nothing is charged), abandoned (its worker was not heard of: the last checkpoint is
    charged, until a settlement comes after all).
    """
    error_kind: str | None = None
    usage: Usage = Usage()
    estimated: bool = False
    """True when tokens were counted here because the upstream reported none."""
    cost_nanousd: int = 0
    """What the account is charged; never negative."""
    upstream_cost_nanousd: int | None = None
    """What the upstream takes from us; None: its prices are not in the settings."""
    finish_reason: str | None = None
    ttft_ms: int | None = None
    duration_ms: int = 0
    attempts: int = 1
    address: str | None = None
    user_agent: str | None = None
