"""
The domain types of a call: wires, endpoints, models and deployments, principals, usage.

All are frozen: built once per catalogue, or once per call (principal, usage).
"""

from __future__ import annotations

import enum

import msgspec

from gateway.core.limits import KeyLimits
from gateway.settings.urls import host_and_port


class _Labelled(enum.Enum):
    """Base of enums whose members each request reads and hashes a dozen times."""

    # `value` and the hash of an Enum are Python functions, which cost 0.1 us each.
    def __init__(self, label: str) -> None:
        self.label = label

    __hash__ = object.__hash__


class Wire(_Labelled):
    """A vendor's API format. The label is used in metrics, records and settings."""

    OPENAI = "openai"
    ANTHROPIC = "anthropic"


class Endpoint(_Labelled):
    """An API operation. The label is used in metrics and records."""

    CHAT_COMPLETIONS = "chat_completions"
    MESSAGES = "messages"
    COUNT_TOKENS = "count_tokens"
    EMBEDDINGS = "embeddings"
    RESPONSES = "responses"
    NATIVE_CHAT = "native_chat"

    def __init__(self, label: str) -> None:
        super().__init__(label)
        is_messages = label in ("messages", "count_tokens")
        self.wire = Wire.ANTHROPIC if is_messages else Wire.OPENAI
        """The format of this endpoint's requests and errors."""


class Clocks(msgspec.Struct, frozen=True):
    """Timeouts in seconds, see `settings.Timeouts`."""

    connect_s: float
    first_byte_s: float
    first_content_s: float
    idle_s: float
    total_s: float


class Origin(msgspec.Struct, frozen=True):
    """Where connections go; the key of a pool. Set only by operators, never by clients."""

    host: str
    port: int
    tls: bool
    transport: str = "http1"
    """`http1` or `httpx2`."""
    proxy: str | None = None
    max_connections: int = 2048
    keepalive_s: float = 60.0


class WireRoute(msgspec.Struct, frozen=True):
    """How to reach one provider on one wire."""

    origin: Origin
    base_path: str
    """The base URL's path without trailing slash; `/chat/completions` or `/v1/messages` follow."""
    headers: tuple[tuple[bytes, bytes], ...]
    """Host, credential, user-agent, accept-encoding and the provider's own, ready to send."""
    count_tokens: bool = True
    alternatives: tuple[tuple[tuple[bytes, bytes], ...], ...] = ()
    """`headers` with each further credential of the provider."""

    @property
    def label(self) -> str:
        """Host and port, for logs."""
        return host_and_port(self.origin.host, self.origin.port)


class Provider(msgspec.Struct, frozen=True):
    """A named upstream account."""

    name: str
    dialect: str
    wires: dict[Wire, WireRoute]
    clocks: Clocks
    inject_usage: bool
    caps: dict[str, object]
    betas: dict[bytes, bytes | None] = {}
    """`anthropic-beta` name -> its replacement, or None to drop it; `*` applies to all others."""
    drop_fields: frozenset[str] = frozenset()
    allow_features: frozenset[str] = frozenset()
    """Names of `settings.PricedFeature`."""
    strip_billing_line: bool = False
    drains: bool | None = False
    """Wait for the usage after a client disconnects; None: only if reasoning may be hidden."""


class TokenPrices(msgspec.Struct, frozen=True):
    """Nano-dollars per million tokens of each disjoint token class."""

    input: int
    output: int
    cache_read: int
    cache_write: int
    reasoning: int
    cache_write_1h: int | None = None
    """None: twice `input`, as Anthropic charges, but at least `cache_write`."""


class Prices(TokenPrices, frozen=True):
    """Prices of tokens, and of what upstreams charge separately."""

    web_search: int = 0
    """Nano-dollars per thousand searches."""
    tiers: dict[str, int] = {}
    """Reported tier -> factor on all token prices, in millionths."""
    long_context: TokenPrices | None = None
    """Prices of all tokens if the input exceeds `long_context_above`."""
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
    """The upstream's prices; None if unknown."""
    prices_reasoning: bool = False
    """Reasoning has a separate price, so the model reasons."""
    weight: int = 1
    priority: int = 0
    """Lower comes first."""
    tags: frozenset[str] = frozenset()
    own_clocks: Clocks | None = None
    """The model's timeouts; None: the provider's."""
    reasoning_clocks: Clocks | None = None
    """Timeouts of calls that may reason without sending their reasoning; None: `clocks`."""
    label: str = ""
    """`provider/upstream_model`, for metrics and records; set by `__post_init__`."""

    def __post_init__(self) -> None:
        label = f"{self.provider.name}/{self.upstream_model}"
        msgspec.structs.force_setattr(self, "label", label)

    @property
    def clocks(self) -> Clocks:
        """The timeouts of calls to which `reasoning_clocks` do not apply."""
        return self.own_clocks or self.provider.clocks

    def clocks_for(self, wire: Wire, *, hides_reasoning: bool) -> Clocks:
        """Return the timeouts of a call, which depend on whether it may hide its reasoning."""
        # Anthropic streams send their reasoning, unless the model has a separate price for it.
        if hides_reasoning and (wire is Wire.OPENAI or self.prices_reasoning):
            return self.reasoning_clocks or self.clocks
        return self.clocks


class HedgeRules(msgspec.Struct, frozen=True):
    """When a second deployment is tried, see `settings.Hedge`."""

    min_delay_s: float
    budget_percent: float


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
    policy: str | None = None
    """How deployments are ranked; None: by cost where costs are known, else by priority."""
    fallbacks: tuple[str, ...] = ()
    """Names of models that serve a call if no deployment of this model can."""
    hedge: HedgeRules | None = None
    """None: calls are not hedged."""


class Principal(msgspec.Struct, frozen=True):
    """The authenticated key and its account. Holds no secret: `key_id` is the key's public id."""

    key_id: str
    account_id: str
    key_name: str
    state: str
    """`active`, `disabled` or `revoked`."""
    version: int
    """Increases with every change of the key; caches keep the newer of two entries."""
    expires_at: int | None = None
    """Unix seconds."""
    models: frozenset[str] | None = None
    """Names of the models that the key may use; None means all."""
    limits: KeyLimits | None = None
    """The key's own limits; those of its account are in Redis, see `store.accounts.snapshot`."""


class Usage(msgspec.Struct, frozen=True):
    """Five disjoint token classes (`output` excludes `reasoning`), and other billed items."""

    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    output: int = 0
    reasoning: int = 0
    cache_write_1h: int = 0
    """The part of `cache_write` with a one-hour lifetime."""
    web_searches: int = 0
    """Searches that the upstream ran."""
    tier: str | None = None
    """Non-standard service tier, speed and region, joined by `+`, such as `priority`."""


TOKEN_COLUMNS = {
    "input": "input_tokens",
    "cache_read": "cache_read_tokens",
    "cache_write": "cache_write_tokens",
    "output": "output_tokens",
    "reasoning": "reasoning_tokens",
}
"""Fields of `Usage` that sum to all tokens of a call -> their public names."""

USAGE_COLUMNS = {
    **TOKEN_COLUMNS,
    "cache_write_1h": "cache_write_1h_tokens",
    "web_searches": "web_searches",
    "tier": "tier",
}
"""All fields of `Usage` -> their public names."""


ABANDONED = "abandoned"
"""Outcome of a provisional event, which a later settlement of the call supersedes."""


class AttemptRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One attempt of a call."""

    deployment: str
    model: str
    """The public model that it served."""
    result: str
    """
    `ok`, `cancelled`, `internal`, `lost` (a concurrent attempt was faster),
    or a `core.routing.failures.FailureClass`.
    """
    status: int
    """The upstream's HTTP status; 0: there was none."""
    ms: int
    hedge: bool = False
    """The attempt was sent because the previous one was slow."""
    cost_nanousd: int | None = None
    """The upstream's price of a lost attempt, charged to no account; None: not lost, or unknown."""


class CallRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    The record of one call. The usage event (its JSON), the row in SQL, the log line and the objects
    shown to operators are views of it. Contains no key and no content.
    """

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
    How the call was settled: completed; cancelled (the client disconnected and the upstream was
    closed); drained (the client disconnected and the upstream's usage was awaited); failed; insured
    (failed without output, nothing is charged); abandoned (its worker stopped reporting: the last
    checkpoint is charged unless a settlement follows).
    """
    error_kind: str | None = None
    usage: Usage = Usage()
    estimated: bool = False
    """Tokens were counted by the gateway because the upstream reported none."""
    cost_nanousd: int = 0
    """The amount charged to the account; not negative."""
    upstream_cost_nanousd: int | None = None
    """
    The upstream's price for the call, attempts that lost included; None if its prices are not
    configured.
    """
    finish_reason: str | None = None
    ttft_ms: int | None = None
    duration_ms: int = 0
    attempts: int = 1
    chain: tuple[AttemptRecord, ...] = ()
    """All attempts in order; empty if the only one succeeded."""
    address: str | None = None
    user_agent: str | None = None

    def abandoned(self, at_ms: int) -> CallRecord:
        """Return the record as a checkpoint, to be charged if its worker dies."""
        return msgspec.structs.replace(self, at_ms=at_ms, outcome=ABANDONED, estimated=True)
