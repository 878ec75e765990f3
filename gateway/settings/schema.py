"""
The configuration file as values: every section, setting, default, unit and range.

A range stands in the annotation and nowhere else: `reading` checks a file against these structs
and builds its messages from them. `docs/configuration.md` documents each field; a test fails when
one is missing there. Structs made in code are not checked.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Port = Annotated[int, Meta(ge=1, le=65535)]
Count = Annotated[int, Meta(ge=1, le=1_000_000_000)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Text = Annotated[str, Meta(min_length=1, max_length=1000)]
ModelName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}\Z",
        description="a name of at most 128 letters, digits and . _ : / @ + -",
    ),
]
UpstreamName = Annotated[
    str,
    Meta(
        pattern=r"^[\x21-\x7e]{1,256}\Z",
        description="a name of at most 256 visible ASCII characters",
    ),
]
ProviderName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z",
        description="a name of at most 64 letters, digits and . _ -",
    ),
]
EnvName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}\Z",
        description="the name of an environment variable",
        extra={"hidden": True},  # people paste the secret itself in here
    ),
]
Price = Annotated[
    str,
    Meta(
        # Times the largest count that is believed, and a price stays within 64 bits.
        pattern=r"^[0-9]{1,5}(\.[0-9]{1,9})?\Z",
        description='a decimal in quotes like "0.07", below 100000, at most nine decimals',
    ),
]
Multiplier = Annotated[
    str,
    Meta(
        pattern=r"^[0-9]{1,2}(\.[0-9]{1,6})?\Z",
        description='a factor in quotes like "2.5", below 100, at most six decimals',
    ),
]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all sections: immutable, and an unknown key is a mistake."""


class Brand(Section, frozen=True):
    """What the service calls itself."""

    name: Text = "Capio"
    model_prefix: Annotated[
        str,
        Meta(
            pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]{0,31}/)?\Z",
            description='a short name with a slash at its end like "capio/", or ""',
        ),
    ] = "capio/"
    key_prefix: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,30}[_-]\Z",
            description='a short name that ends in - or _ like "sk-capio-live-"',
        ),
    ] = "sk-capio-live-"
    public_url: Text = "http://127.0.0.1:8080"


class Server(Section, frozen=True):
    """The listening side and the limits on callers."""

    host: Text = "127.0.0.1"
    port: Port = 8080
    workers: Annotated[int, Meta(ge=1, le=256)] = 2
    data_dir: Text = "capio-data"
    backlog: Annotated[int, Meta(ge=128, le=65535)] = 4096
    max_connections: Count = 8192
    """Per worker; Granian stops accepting beyond it."""
    max_in_flight: Count = 4096
    """Calls per worker; beyond it 503/529 with retry-after 1."""
    max_in_flight_per_account: Count = 1024
    """Calls of one account per worker; beyond it 429."""
    max_sending_per_account: Count = 64
    """Bodies of one account still arriving after a second, per worker; beyond it 429."""
    max_sending_without_credit: Count = 8
    """Bodies still arriving of one account without credit, per worker; beyond it 429."""
    max_body_bytes: Annotated[int, Meta(ge=1024, le=1024 * 1024 * 1024)] = 32 * 1024 * 1024
    max_body_bytes_without_credit: Annotated[int, Meta(ge=1024, le=1024 * 1024 * 1024)] = (
        2 * 1024 * 1024
    )
    """Of a request to a free model or a token count, from an account without credit."""
    max_count_body_bytes: Annotated[int, Meta(ge=1024, le=1024 * 1024 * 1024)] = 2 * 1024 * 1024
    """Of a token count that is estimated here."""
    max_buffered_bytes: Annotated[int, Meta(ge=1024, le=1024**4)] = 512 * 1024 * 1024
    """Request bodies that a worker holds; beyond it 503/529."""
    max_buffered_bytes_per_account: Annotated[int, Meta(ge=1024, le=1024**4)] = 128 * 1024 * 1024
    header_timeout_s: Annotated[float, Meta(ge=1, le=3600)] = 6.0
    """Whole request head, from the connection or the last answer on; then the connection ends."""
    body_timeout_s: Seconds = 60.0
    """Whole request body; a slower one is 408."""
    max_members: Annotated[int, Meta(ge=64, le=100_000)] = 1024
    """Members of a request body's top level, and of each object of options in it."""
    max_messages: Annotated[int, Meta(ge=1, le=1_000_000)] = 20_000
    """Elements of `messages` or `input`; counted as `max_values` is."""
    max_tools: Annotated[int, Meta(ge=1, le=1_000_000)] = 4096
    """Elements of `tools` or `functions`; counted as `max_values` is."""
    max_values: Annotated[int, Meta(ge=1000, le=10_000_000)] = 200_000
    """JSON values of a body; counted above 4 MiB, and above 256 KiB if translated or measured."""
    min_body_bytes_per_s: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 4096
    """Mean rate of a request body from its tenth second on; 0: any."""
    send_stall_s: Seconds = 120.0
    """A client that takes no byte for so long is cut off."""
    grace_s: Seconds = 600.0
    """How long SIGTERM lets running streams finish."""
    tls_cert_file: Text | None = None
    tls_key_file: Text | None = None


class Redis(Section, frozen=True):
    """The shared hot state."""

    url: Text = "embedded"
    """`embedded`, or redis://, rediss://, unix://; the password is given apart."""
    password_env: EnvName | None = None
    password_file: Text | None = None
    command_timeout_ms: Annotated[int, Meta(ge=1, le=60_000)] = 50
    key_prefix: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9._:-]{0,64}\Z",
            description="at most 64 letters, digits and . _ : -",
        ),
    ] = "capio:"


class Sql(Section, frozen=True):
    """The durable truth."""

    url: Text = "embedded"
    """`embedded` (SQLite in `server.data_dir`), or postgresql://user@host/db."""
    password_env: EnvName | None = None
    password_file: Text | None = None
    pool_size: Annotated[int, Meta(ge=1, le=1000)] = 4
    usage_retention_days: Annotated[int, Meta(ge=1, le=36_500)] = 90


class Metrics(Section, frozen=True):
    """The Prometheus endpoint, on a port of its own."""

    host: Text = "127.0.0.1"
    port: Port = 9464


class Admin(Section, frozen=True):
    """The operator's API under `/admin`; off unless a token is given."""

    token_env: EnvName | None = None
    token_file: Text | None = None
    allow_forwarded: bool = False
    """Answer requests that came through a proxy."""


class Keys(Section, frozen=True):
    """How long a key's check may be remembered. Revocations are pushed and do not wait for it."""

    near_ttl_s: Seconds = 30.0
    near_entries: Count = 50_000
    redis_ttl_s: Annotated[float, Meta(ge=1, le=86_400)] = 3600.0
    negative_ttl_s: Annotated[float, Meta(ge=1, le=86_400)] = 30.0
    negative_entries: Count = 20_000


class Idempotency(Section, frozen=True):
    """What is kept of calls that carry an Idempotency-Key."""

    enabled: bool = True
    """Off: the header is ignored."""
    ttl_s: Annotated[float, Meta(ge=60, le=2_592_000)] = 86_400.0
    max_response_bytes: Annotated[int, Meta(ge=0, le=4 * 1024 * 1024)] = 1024 * 1024
    """Of a larger answer only that it was given is kept."""
    max_account_bytes: Annotated[int, Meta(ge=0, le=1024 * 1024 * 1024 * 1024)] = 64 * 1024 * 1024
    """What one account may add within `ttl_s`; beyond it answers count as too large."""
    lease_s: Annotated[float, Meta(ge=3, le=600)] = 30.0
    """Renewed while a call runs; how long a killed worker's keys stay taken."""


class Money(Section, frozen=True):
    """How calls are admitted, what they hold, and what happens without Redis."""

    degraded: Literal["open", "closed"] = "open"
    """Without Redis: admit known callers by a share of their limits, or refuse with 503."""
    degraded_share: Annotated[float, Meta(gt=0, le=1)] = 0.25
    """Of every limit and balance, per worker."""
    lease_s: Annotated[float, Meta(ge=3, le=3600)] = 30.0
    """A call not heard of for so long is over: its worker died."""
    renew_s: Annotated[float, Meta(ge=0.1, le=600)] = 5.0
    """How often running calls are heard of; at most a third of the lease."""
    refresh_s: Annotated[float, Meta(ge=1, le=86_400)] = 600.0
    """How often an account in use is compared with SQL."""
    default_output: Count = 1024
    """Tokens of output to hold for, until a key's own calls tell."""
    output_ceiling: Count = 32_768
    """Tokens of output to hold for at most; streams that outgrow it hold more as they go."""
    exposure_floor: Price = "1"
    """Dollars that running calls can cost beyond the funds of an account, whatever it has."""
    exposure_share: Annotated[float, Meta(ge=0, le=1)] = 0.1
    """The same as a share of the funds; the larger of the two counts."""
    small_balance: Price = "1"
    """Dollars of funds below which `small_concurrency` applies."""
    small_concurrency: Count = 8
    """Priced calls at a time of an account with less than `small_balance`."""


class Timeouts(Section, frozen=True):
    """The clocks of one upstream call. Comments and pings do not feed the content clocks."""

    connect_s: Seconds = 10.0
    first_byte_s: Seconds = 600.0
    """To the response head of an answer that is not streamed."""
    first_content_s: Seconds = 120.0
    """To the first content of a stream, its head included."""
    idle_s: Seconds = 300.0
    """Between two contents of a stream."""
    total_s: Seconds = 3600.0


class WireEndpoint(Section, frozen=True):
    """Where a provider speaks one wire."""

    base_url: Text
    """OpenAI: with `/v1`, as SDKs take it. Anthropic: without."""
    auth: Literal["bearer", "x-api-key"] | None = None
    """None: bearer on the OpenAI wire, x-api-key on the Anthropic wire."""
    count_tokens: bool = True
    """Anthropic wire only: the endpoint `/v1/messages/count_tokens` exists."""
    allow_http: bool = False
    """Let the credential travel in clear to a host that is neither loopback nor private."""


Dialect = Literal[
    "generic", "openai", "deepseek", "moonshot", "minimax", "gemini", "vllm",
    "anthropic", "anthropic-legacy",
]  # fmt: skip


PricedFeature = Literal[
    "audio_output", "cache_retention", "code_execution", "fast_mode", "hosted_tools",
    "image_output", "inference_geo", "long_context", "mcp_servers", "plugins", "service_tier",
    "upstream_routing", "web_fetch", "web_search",
]  # fmt: skip


class Provider(Section, frozen=True):
    """A named upstream account."""

    name: ProviderName
    dialect: Dialect = "generic"
    openai: WireEndpoint | None = None
    anthropic: WireEndpoint | None = None
    api_key_env: EnvName | None = None
    api_key_file: Text | None = None
    headers: dict[str, str] = {}
    transport: Literal["http1", "httpx2"] = "http1"
    proxy: Text | None = None
    """Only with the httpx2 transport."""
    max_connections: Count = 2048
    """Per worker."""
    keepalive_s: Seconds = 60.0
    inject_usage: bool = True
    """Ask OpenAI-wire streams for usage; off for upstreams that refuse the field."""
    on_client_gone: Literal["auto", "cancel", "drain"] = "auto"
    """Whether a call is closed when its client leaves, or read on for its usage."""
    betas: dict[str, str] = {}
    """`anthropic-beta` name -> `keep`, `drop` or another name; `*` stands for all others."""
    drop_fields: list[Text] = []
    """Top-level request fields that are taken out before sending."""
    allow_features: list[PricedFeature] = []
    """Features the upstream charges apart; those not named are dropped or refused."""
    strip_billing_line: bool = False
    """Take out the system block that Claude Code changes at each turn: it defeats prompt caches."""
    timeouts: Timeouts = Timeouts()
    caps: dict[str, object] = {}
    """Overrides of single capabilities of the dialect, WIRE 2.6."""


class LongContext(Section, frozen=True):
    """Prices of a whole call whose input is longer than a threshold."""

    above: Count
    """Tokens of input, cached input included."""
    input: Price
    output: Price
    cache_read: Price | None = None
    """None: as input."""
    cache_write: Price | None = None
    """None: as input."""
    cache_write_1h: Price | None = None
    """None: 1.6 times cache_write."""
    reasoning: Price | None = None
    """None: as output."""


class Prices(Section, frozen=True):
    """Dollars per million tokens, as decimal strings."""

    input: Price = "0"
    output: Price = "0"
    cache_read: Price | None = None
    """None: as input."""
    cache_write: Price | None = None
    """None: as input."""
    reasoning: Price | None = None
    """None: as output."""
    cache_write_1h: Price | None = None
    """None: 1.6 times cache_write, which is twice the input price where that is 1.25 times it."""
    web_search: Price | None = None
    """Dollars per thousand searches; None: free."""
    tiers: dict[str, Multiplier] = {}
    """Reported service tier, speed or region -> factor of all token prices."""
    long_context: LongContext | None = None


Wires = Annotated[list[Literal["openai", "anthropic"]], Meta(min_length=1)]


class Deployment(Section, frozen=True):
    """One way to reach a model."""

    provider: ProviderName
    model: UpstreamName
    """The name upstream."""
    wires: Wires | None = None
    """None: all that the provider speaks."""
    caps: dict[str, object] = {}
    cost: Prices | None = None
    """What the provider takes from us; None: unknown, and so is the margin."""


class Model(Section, frozen=True):
    """A public model name and what is promised of it."""

    name: ModelName
    deployments: Annotated[list[Deployment], Meta(min_length=1)]
    aliases: list[ModelName] = []
    display_name: Text | None = None
    created: Annotated[int, Meta(ge=0, le=253_402_300_799)] = 1_767_225_600
    """Unix seconds, for the model list."""
    context: Count = 128_000
    """Tokens."""
    max_output: Count = 8_192
    """Tokens."""
    prices: Prices = Prices()


class Settings(Section, frozen=True):
    """The whole file."""

    brand: Brand = Brand()
    server: Server = Server()
    redis: Redis = Redis()
    sql: Sql = Sql()
    metrics: Metrics = Metrics()
    admin: Admin = Admin()
    keys: Keys = Keys()
    money: Money = Money()
    idempotency: Idempotency = Idempotency()
    providers: list[Provider] = []
    models: list[Model] = []
