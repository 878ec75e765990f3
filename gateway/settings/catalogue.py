"""The sections about upstreams: providers, models, their deployments and prices."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from gateway.settings.types import (
    Count,
    EnvName,
    ModelName,
    Multiplier,
    Price,
    ProviderName,
    Seconds,
    Section,
    Text,
    UpstreamName,
)

_PER_MILLION = {"unit": "dollars per million tokens"}

Dialect = Literal[
    "generic", "openai", "azure", "deepseek", "moonshot", "minimax", "gemini", "xai", "zai",
    "qwen", "mistral", "groq", "openrouter", "vllm",
    "anthropic", "anthropic-legacy",
]  # fmt: skip


PricedFeature = Literal[
    "audio_output", "cache_retention", "code_execution", "fast_mode", "hosted_tools",
    "image_output", "inference_geo", "long_context", "mcp_servers", "plugins", "service_tier",
    "upstream_routing", "web_fetch", "web_search",
]  # fmt: skip

Wires = Annotated[list[Literal["openai", "anthropic"]], Meta(min_length=1)]


class Timeouts(Section, frozen=True):
    """The timeouts of one upstream call. Comments and pings do not reset the content timeouts."""

    connect_s: Annotated[
        Seconds, Meta(description="Timeout for connecting, TLS handshake included.")
    ] = 10.0
    first_byte_s: Annotated[
        Seconds,
        Meta(description="Timeout for the response head of a call that is not streamed."),
    ] = 600.0
    first_content_s: Annotated[
        Seconds,
        Meta(
            description="Timeout for the first content of a stream, its head included. The next"
            " deployment is then tried.",
        ),
    ] = 120.0
    idle_s: Annotated[
        Seconds, Meta(description="Timeout between two content events of a stream.")
    ] = 300.0
    total_s: Annotated[Seconds, Meta(description="Timeout for the whole call.")] = 3600.0


class WireEndpoint(Section, frozen=True):
    """Where a provider serves one wire."""

    base_url: Annotated[
        Text,
        Meta(
            description="Base URL as the vendor's SDKs take it: for OpenAI usually with `/v1`, for"
            " Anthropic without; the endpoint's path is appended. Must be https unless the host is"
            " a loopback or private address.",
        ),
    ]
    auth: Annotated[
        Literal["bearer", "x-api-key"] | None,
        Meta(
            description='How the credential is sent. If not set: `"bearer"` on the OpenAI wire,'
            ' `"x-api-key"` on the Anthropic wire.',
        ),
    ] = None
    count_tokens: Annotated[
        bool,
        Meta(
            description="Anthropic wire only: the upstream serves `/v1/messages/count_tokens`. If"
            " false, the gateway estimates token counts.",
        ),
    ] = True
    allow_http: Annotated[
        bool,
        Meta(description="Allow http to a public host. The credential is then sent in clear."),
    ] = False


class Provider(Section, frozen=True):
    """Named upstream accounts. At least one is required."""

    name: Annotated[
        ProviderName,
        Meta(description="Name by which deployments refer to it; also a label in metrics."),
    ]
    dialect: Annotated[
        Dialect,
        Meta(
            description="What the upstream accepts beyond the plain API; affects translated calls"
            " only. `anthropic-legacy` is for Claude models up to 4.6.",
        ),
    ] = "generic"
    openai: Annotated[
        WireEndpoint | None, Meta(description="The provider's Chat Completions endpoint.")
    ] = None
    anthropic: Annotated[
        WireEndpoint | None,
        Meta(
            description="The provider's Messages endpoint. A provider with both wires serves"
            " clients of both without translation.",
        ),
    ] = None
    api_key_env: Annotated[
        EnvName | None,
        Meta(
            description="Environment variable that holds the credential. If neither `api_key_env`"
            " nor `api_key_file` is set, no credential is sent.",
        ),
    ] = None
    api_key_file: Annotated[Text | None, Meta(description="File that holds the credential.")] = None
    headers: Annotated[
        dict[str, str],
        Meta(
            description="Additional request headers, by name. Secrets and headers that the gateway"
            " sets itself are not allowed.",
        ),
    ] = {}
    transport: Annotated[
        Literal["http1", "httpx2"],
        Meta(
            description='`"http1"` is the gateway\'s own client. `"httpx2"` supports proxies and'
            " HTTP/2 and costs more CPU.",
        ),
    ] = "http1"
    proxy: Annotated[
        Text | None, Meta(description="URL of an HTTP proxy. Requires the httpx2 transport.")
    ] = None
    max_connections: Annotated[
        Count,
        Meta(
            description="Maximum connections to each origin. Beyond it the next deployment is"
            " tried.",
            extra={"unit": "connections per worker"},
        ),
    ] = 2048
    keepalive_s: Annotated[
        Seconds,
        Meta(
            description="Time for which an idle connection is kept. Set it below the upstream's"
            " own timeout.",
        ),
    ] = 60.0
    inject_usage: Annotated[
        bool,
        Meta(
            description="Request token usage in streams of the OpenAI wire. Disable it for"
            " upstreams that reject the field; usage is then estimated.",
        ),
    ] = True
    on_client_gone: Annotated[
        Literal["auto", "cancel", "drain"],
        Meta(
            description='What happens to a call whose client disconnects. `"cancel"` closes the'
            ' upstream at once and charges the input and the output so far. `"drain"` reads on for'
            " at most 60 seconds and 16 MiB and charges what the upstream reports: for upstreams"
            ' that bill a closed call in full. `"auto"` drains where reasoning may be billed'
            " without being sent, and otherwise cancels.",
        ),
    ] = "auto"
    betas: Annotated[
        dict[str, str],
        Meta(
            description="Handling of `anthropic-beta` names on the Anthropic wire: `keep`, `drop`,"
            ' or another name to send instead. `"*"` stands for all names that are not listed. A'
            " name without an entry is kept unless it enables a"
            " [priced feature](priced-features.md).",
        ),
    ] = {}
    drop_fields: Annotated[
        list[Text],
        Meta(
            description="Top-level request fields that are removed before sending, for upstreams"
            ' that reject unknown fields, as `["thinking", "store"]`. All other bytes are'
            " unchanged.",
        ),
    ] = []
    allow_features: Annotated[
        list[PricedFeature],
        Meta(
            description="Features that clients may use although the upstream charges them apart"
            " from tokens or at other prices, see"
            " [priced features](priced-features.md). Others are dropped or rejected.",
        ),
    ] = []
    strip_billing_line: Annotated[
        bool,
        Meta(
            description="Remove the system block `x-anthropic-billing-header:`, which Claude Code"
            " changes at each turn and which defeats the prompt cache of upstreams that do not"
            " interpret it. Translated requests never contain it.",
        ),
    ] = False
    timeouts: Annotated[Timeouts, Meta(description="Timeouts of one call.")] = Timeouts()
    caps: Annotated[
        dict[str, object],
        Meta(
            description="Overrides of single capabilities of the dialect, as `{ images = false }`."
            " Names and values are those of `gateway/protocols/translate/capabilities.py`.",
        ),
    ] = {}


class LongContext(Section, frozen=True):
    """Prices of a whole call whose input exceeds a threshold."""

    above: Annotated[
        Count,
        Meta(
            description="Threshold of the input, cached input included.",
            extra={"unit": "tokens"},
        ),
    ]
    input: Annotated[Price, Meta(description="Uncached input.", extra=_PER_MILLION)]
    output: Annotated[Price, Meta(description="Output.", extra=_PER_MILLION)]
    cache_read: Annotated[
        Price | None,
        Meta(
            description="Input read from the prompt cache. If not set: this table's `input`.",
            extra=_PER_MILLION,
        ),
    ] = None
    cache_write: Annotated[
        Price | None,
        Meta(
            description="Input written to the prompt cache. If not set: this table's `input`.",
            extra=_PER_MILLION,
        ),
    ] = None
    cache_write_1h: Annotated[
        Price | None,
        Meta(
            description="Input written to the cache for an hour. If not set: twice this table's"
            " `input`, as Anthropic charges, but at least its `cache_write`.",
            extra=_PER_MILLION,
        ),
    ] = None
    reasoning: Annotated[
        Price | None,
        Meta(description="Reasoning. If not set: this table's `output`.", extra=_PER_MILLION),
    ] = None


class Prices(Section, frozen=True):
    """Prices of one model or deployment, as decimal strings."""

    input: Annotated[Price, Meta(description="Uncached input.", extra=_PER_MILLION)] = "0"
    output: Annotated[Price, Meta(description="Output.", extra=_PER_MILLION)] = "0"
    cache_read: Annotated[
        Price | None,
        Meta(
            description="Input read from the upstream's prompt cache. If not set: `input`.",
            extra=_PER_MILLION,
        ),
    ] = None
    cache_write: Annotated[
        Price | None,
        Meta(
            description="Input written to the prompt cache. If not set: `input`.",
            extra=_PER_MILLION,
        ),
    ] = None
    reasoning: Annotated[
        Price | None, Meta(description="Reasoning. If not set: `output`.", extra=_PER_MILLION)
    ] = None
    cache_write_1h: Annotated[
        Price | None,
        Meta(
            description='Input written to the cache for an hour (`cache_control` with `ttl: "1h"`),'
            " where the upstream reports it. If not set: 1.6 times `cache_write`, which is twice"
            " the input price where `cache_write` is 1.25 times it.",
            extra=_PER_MILLION,
        ),
    ] = None
    web_search: Annotated[
        Price | None,
        Meta(
            description="Searches that the upstream ran and reported (`web_search_requests`,"
            " `num_search_queries`). If not set: free.",
            extra={"unit": "dollars per thousand searches"},
        ),
    ] = None
    tiers: Annotated[
        dict[str, Multiplier],
        Meta(
            description="Factors of all token prices, by the service tier, speed or region that the"
            ' upstream reports: `{ priority = "2.0", flex = "0.5", us = "1.1" }`. Several factors'
            " are multiplied. A tier that is not listed has factor 1.",
        ),
    ] = {}
    long_context: Annotated[
        LongContext | None,
        Meta(
            description="Prices of all tokens of a call with a long input. Under `models.prices` it"
            " also permits the beta `context-1m-*`.",
        ),
    ] = None


class Deployment(Section, frozen=True):
    """One way to reach a model."""

    provider: Annotated[ProviderName, Meta(description="Name of a provider.")]
    model: Annotated[UpstreamName, Meta(description="The model's name at that provider.")]
    wires: Annotated[
        Wires | None,
        Meta(description='Wires of the provider to use, as `["openai"]`. If not set: all.'),
    ] = None
    caps: Annotated[
        dict[str, object],
        Meta(description="As `providers.caps`, for this deployment; takes precedence over it."),
    ] = {}
    cost: Annotated[
        Prices | None,
        Meta(
            description="What the provider charges the operator. Never shown to clients. If not"
            " set, the margin is unknown.",
        ),
    ] = None


class Model(Section, frozen=True):
    """Public model names with prices and deployments. At least one is required."""

    name: Annotated[
        ModelName,
        Meta(
            description="Name in requests, with or without `brand.model_prefix`. Names and aliases"
            " are unique and case-sensitive.",
        ),
    ]
    deployments: Annotated[
        list[Deployment],
        Meta(
            min_length=1,
            description="Ways to reach the model, in order of preference. Those that speak the"
            " client's wire are tried first.",
        ),
    ]
    aliases: Annotated[
        list[ModelName],
        Meta(description='Additional names, as `["anthropic/claude-opus-4-8"]`.'),
    ] = []
    display_name: Annotated[
        Text | None, Meta(description="Human-readable name. If not set: the name.")
    ] = None
    created: Annotated[
        int,
        Meta(
            ge=0,
            le=253_402_300_799,
            description="Creation time shown in the model list.",
            extra={"unit": "Unix seconds"},
        ),
    ] = 1_767_225_600
    context: Annotated[
        Count,
        Meta(
            description="Context window, input and output together. Shown in the model list, and"
            " bounds the worst case of a call.",
            extra={"unit": "tokens"},
        ),
    ] = 128_000
    max_output: Annotated[
        Count,
        Meta(
            description="Maximum output. Translated calls that ask for more are reduced to it.",
            extra={"unit": "tokens"},
        ),
    ] = 8_192
    prices: Annotated[
        Prices, Meta(description="What accounts pay. Without it the model is free.")
    ] = Prices()
