"""The sections about models: their deployments, prices and how calls are routed."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from gateway.settings.types import (
    Count,
    ModelName,
    Multiplier,
    Price,
    ProviderName,
    Seconds,
    Section,
    TagName,
    Text,
    UpstreamName,
)

_PER_MILLION = {"unit": "dollars per million tokens"}

Wires = Annotated[list[Literal["openai", "anthropic"]], Meta(min_length=1)]


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
            " where the upstream reports it. If not set: twice `input`, as Anthropic charges, but"
            " at least `cache_write`.",
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
            " set, the margin is unknown, and the model's default policy is `priority`.",
        ),
    ] = None
    weight: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description="Share of the calls under the `weighted` policy, and of conversations among"
            " equal deployments.",
        ),
    ] = 1
    priority: Annotated[
        int,
        Meta(
            ge=0,
            le=1000,
            description="Rank under the policies `priority`, `weighted` and `latency`; lower comes"
            " first.",
        ),
    ] = 0
    tags: Annotated[
        list[TagName],
        Meta(
            max_length=16,
            description='Regions or other properties by which clients may choose, as `["eu"]`.',
        ),
    ] = []


class ModelTimeouts(Section, frozen=True):
    """
    Timeouts of the model's calls. Each replaces the one of the deployment's provider, see
    [routing](routing.md#timeouts).
    """

    first_byte_s: Annotated[
        Seconds | None,
        Meta(description="As `providers.timeouts.first_byte_s`. If not set: the provider's."),
    ] = None
    first_content_s: Annotated[
        Seconds | None,
        Meta(description="As `providers.timeouts.first_content_s`. If not set: the provider's."),
    ] = None
    idle_s: Annotated[
        Seconds | None,
        Meta(description="As `providers.timeouts.idle_s`. If not set: the provider's."),
    ] = None
    total_s: Annotated[
        Seconds | None,
        Meta(description="As `providers.timeouts.total_s`. If not set: the provider's."),
    ] = None


class Hedge(Section, frozen=True):
    """
    Sends a call to a second deployment when the first one is slow. The first content wins; the
    other attempt is cancelled at the operator's cost, see [routing](routing.md#hedging).
    """

    min_delay_s: Annotated[
        Seconds,
        Meta(
            description="Minimum delay before a second deployment is tried. It is longer where one"
            " in twenty of the deployment's last responses took longer.",
        ),
    ] = 0.5
    budget_percent: Annotated[
        float,
        Meta(
            gt=0,
            le=100,
            description="Share of the model's calls for which a second deployment may be tried.",
            extra={"unit": "percent, per worker"},
        ),
    ] = 5.0


ModelTag = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9][a-z0-9-]{0,31}\Z",
        extra={"allowed": "at most 32 lower-case letters, digits and -"},
    ),
]


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
            description="Ways to reach the model, see [routing](routing.md). Those that speak the"
            " client's wire are tried first.",
        ),
    ]
    policy: Annotated[
        Literal["cheapest", "priority", "weighted", "latency"] | None,
        Meta(
            description="Which deployment serves a call, see [routing](routing.md#policies). If not"
            ' set: `"cheapest"` where every deployment has a `cost`, else `"priority"`.',
        ),
    ] = None
    hedge: Annotated[
        Hedge | None,
        Meta(
            description="Hedging of calls whose deployment is slow. If not set, calls are not"
            " hedged.",
        ),
    ] = None
    timeouts: Annotated[ModelTimeouts, Meta(description="Timeouts of the model's calls.")] = (
        ModelTimeouts()
    )
    fallbacks: Annotated[
        list[ModelName],
        Meta(
            max_length=8,
            description="Other models that serve a call if no deployment of this one can. The call"
            " is then priced, limited and recorded as that model.",
        ),
    ] = []
    aliases: Annotated[
        list[ModelName],
        Meta(description='Additional names, as `["anthropic/claude-opus-4-8"]`.'),
    ] = []
    display_name: Annotated[
        Text | None, Meta(description="Human-readable name. If not set: the name.")
    ] = None
    description: Annotated[
        Text | None, Meta(description="One or two sentences for the pages about the model.")
    ] = None
    tags: Annotated[
        list[ModelTag],
        Meta(
            max_length=8,
            description='Groups of the lists on pages, such as `["flagship", "long-context"]`.',
        ),
    ] = []
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
