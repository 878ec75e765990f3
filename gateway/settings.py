"""
The configuration file as values: every section, setting, default and unit.

`gateway/README.md` documents each field; a test fails when one is missing there. The file is TOML;
`load` turns it into `Settings` or raises `ConfigError` with one line per mistake, naming the key
path, the value and what is allowed. Secrets stand in the environment or in files, never in here.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all sections: immutable, and an unknown key is a mistake."""


class Brand(Section, frozen=True):
    """What the service calls itself."""

    name: str = "Capio"
    model_prefix: str = "capio/"
    key_prefix: str = "sk-capio-live-"
    public_url: str = "http://127.0.0.1:8080"


class Server(Section, frozen=True):
    """The listening side and the limits on callers."""

    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 2
    data_dir: str = "capio-data"
    backlog: int = 4096
    max_connections: int = 8192
    """Per worker; Granian stops accepting beyond it."""
    max_in_flight: int = 4096
    """Calls per worker; beyond it 503/529 with retry-after 1."""
    max_body_bytes: int = 32 * 1024 * 1024
    body_timeout_s: float = 60.0
    """Whole request body; a slower one is 408."""
    send_stall_s: float = 120.0
    """A client that takes no byte for so long is cut off."""
    grace_s: float = 600.0
    """How long SIGTERM lets running streams finish."""
    tls_cert_file: str | None = None
    tls_key_file: str | None = None


class Redis(Section, frozen=True):
    """The shared hot state."""

    url: str = "embedded"
    """`embedded`, or redis://, rediss://, unix://; the password is given apart."""
    password_env: str | None = None
    password_file: str | None = None
    command_timeout_ms: int = 50
    key_prefix: str = "capio:"


class Sql(Section, frozen=True):
    """The durable truth."""

    url: str = "embedded"
    """`embedded` (SQLite in `server.data_dir`), or postgresql://user@host/db."""
    password_env: str | None = None
    password_file: str | None = None
    pool_size: int = 4
    usage_retention_days: int = 90


class Metrics(Section, frozen=True):
    """The Prometheus endpoint, on a port of its own."""

    host: str = "127.0.0.1"
    port: int = 9464


class Keys(Section, frozen=True):
    """How long a key's check may be remembered. Revocations are pushed and do not wait for it."""

    near_ttl_s: float = 30.0
    near_entries: int = 50_000
    redis_ttl_s: float = 3600.0
    negative_ttl_s: float = 30.0
    negative_entries: int = 20_000


class Timeouts(Section, frozen=True):
    """The clocks of one upstream call. Comments and pings do not feed the content clocks."""

    connect_s: float = 10.0
    first_byte_s: float = 600.0
    """To the response head of an answer that is not streamed."""
    first_content_s: float = 120.0
    """To the first content of a stream, its head included."""
    idle_s: float = 300.0
    """Between two contents of a stream."""
    total_s: float = 3600.0


class WireEndpoint(Section, frozen=True):
    """Where a provider speaks one wire."""

    base_url: str
    """OpenAI: with `/v1`, as SDKs take it. Anthropic: without."""
    auth: Literal["bearer", "x-api-key"] | None = None
    """None: bearer on the OpenAI wire, x-api-key on the Anthropic wire."""
    count_tokens: bool = True
    """Anthropic wire only: the endpoint `/v1/messages/count_tokens` exists."""


Dialect = Literal[
    "generic", "openai", "deepseek", "moonshot", "minimax", "gemini", "vllm",
    "anthropic", "anthropic-legacy",
]  # fmt: skip


class Provider(Section, frozen=True):
    """A named upstream account."""

    name: str
    dialect: Dialect = "generic"
    openai: WireEndpoint | None = None
    anthropic: WireEndpoint | None = None
    api_key_env: str | None = None
    api_key_file: str | None = None
    headers: dict[str, str] = {}
    transport: Literal["http1", "httpx2"] = "http1"
    proxy: str | None = None
    """Only with the httpx2 transport."""
    max_connections: int = 2048
    """Per worker."""
    keepalive_s: float = 60.0
    inject_usage: bool = True
    """Ask OpenAI-wire streams for usage; off for upstreams that refuse the field."""
    timeouts: Timeouts = Timeouts()
    caps: dict[str, object] = {}
    """Overrides of single capabilities of the dialect, WIRE 2.6."""


class Prices(Section, frozen=True):
    """Dollars per million tokens, as decimal strings."""

    input: str = "0"
    output: str = "0"
    cache_read: str | None = None
    """None: as input."""
    cache_write: str | None = None
    """None: as input."""
    reasoning: str | None = None
    """None: as output."""


class Deployment(Section, frozen=True):
    """One way to reach a model."""

    provider: str
    model: str
    """The name upstream."""
    wires: list[Literal["openai", "anthropic"]] | None = None
    """None: all that the provider speaks."""
    caps: dict[str, object] = {}


class Model(Section, frozen=True):
    """A public model name and what is promised of it."""

    name: str
    deployments: list[Deployment]
    aliases: list[str] = []
    display_name: str | None = None
    created: int = 1_767_225_600
    """Unix seconds, for the model list."""
    context: int = 128_000
    """Tokens."""
    max_output: int = 8_192
    """Tokens."""
    prices: Prices = Prices()


class Settings(Section, frozen=True):
    """The whole file."""

    brand: Brand = Brand()
    server: Server = Server()
    redis: Redis = Redis()
    sql: Sql = Sql()
    metrics: Metrics = Metrics()
    keys: Keys = Keys()
    providers: list[Provider] = []
    models: list[Model] = []
