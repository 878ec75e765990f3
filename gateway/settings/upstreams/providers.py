"""The sections about providers: how upstream accounts are reached, and what they accept."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from gateway.settings.types import Count, EnvName, ProviderName, Seconds, Section, Text

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
        Seconds | None,
        Meta(
            description="Timeout for the first content of a stream, its head included. The next"
            " deployment is then tried. If not set: 120 s, and 600 s for a call that may reason"
            " without sending its reasoning.",
        ),
    ] = None
    idle_s: Annotated[
        Seconds | None,
        Meta(
            description="Timeout between two content events of a stream. If not set: 300 s, and"
            " 600 s for a call that may reason without sending its reasoning.",
        ),
    ] = None
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


class Credential(Section, frozen=True):
    """One of several credentials; exactly one of the two is required."""

    env: Annotated[
        EnvName | None, Meta(description="Environment variable that holds the credential.")
    ] = None
    file: Annotated[Text | None, Meta(description="File that holds the credential.")] = None


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
    api_keys: Annotated[
        list[Credential],
        Meta(
            max_length=64,
            description="Several credentials instead of one, as"
            ' `[{ env = "KEY_A" }, { file = "/run/secrets/b" }]`. After 401, 402, 403 or 429 the'
            " next one is used, and the rejected one rests for a while.",
        ),
    ] = []
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
            ' upstream at once and charges the input and the output so far. `"drain"` continues'
            " to read, for at most 60 seconds and 16 MiB, and charges what the upstream reports;"
            ' use it for upstreams that bill a closed call in full. `"auto"` drains if reasoning'
            " may be billed without being sent, and otherwise cancels.",
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
            description="Features that clients may use although the upstream charges for them"
            " separately from tokens or at other prices, see"
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
