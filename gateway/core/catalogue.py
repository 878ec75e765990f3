"""
The catalogue: names, prices and deployments of all models, as one immutable snapshot.

It is built from the settings at start and at each reload, and replaced as a whole: a running call
keeps the snapshot it began with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from gateway import __version__
from gateway import settings as given
from gateway.core.model import (
    Clocks,
    Deployment,
    HedgeRules,
    Model,
    Origin,
    Prices,
    Provider,
    TokenPrices,
    Wire,
    WireRoute,
)
from gateway.core.money import nanousd

USER_AGENT = f"capio-gateway/{__version__}".encode("ascii")
_LONG_CONTEXT_SUFFIX = "[1m]"
FIRST_CONTENT_S = 120.0
IDLE_S = 300.0
REASONING_S = 600.0
"""Default of `first_content_s` and `idle_s` for calls that may hide their reasoning."""
_DRAINS = {"auto": None, "cancel": False, "drain": True}


class Catalogue(msgspec.Struct, frozen=True):
    """All models in the order of the configuration file, and their names."""

    model_prefix: str
    models: tuple[Model, ...]
    providers: tuple[Provider, ...]
    names: dict[str, Model]
    """Names and aliases, case-sensitive."""

    def resolve(self, name: str) -> Model | None:
        """
        Return the model that a client's `name` refers to, or None.

        The brand's prefix and a trailing `[1m]`, by which Claude Code requests the long context,
        are removed; the rest must be a name or an alias.
        """
        return self.names.get(
            name.removeprefix(self.model_prefix).removesuffix(_LONG_CONTEXT_SUFFIX)
        )


def deployment_labels(catalogue: Catalogue) -> list[str]:
    """Return the labels of all deployments, each once, in the order of the models."""
    labels = (each.label for model in catalogue.models for each in model.deployments)
    return list(dict.fromkeys(labels))


def build(settings: given.Settings, secrets: Mapping[str, tuple[str, ...]]) -> Catalogue:
    """
    Return the catalogue for checked settings.

    Args:
        settings: From `settings.load`: names are unique and references valid.
        secrets: Provider name -> credentials; other providers are sent no credential.

    Raises:
        ValueError: Unchecked settings contain an invalid base URL or price.
        KeyError: Unchecked settings refer to an unknown provider.
    """
    providers = {
        each.name: (_provider(each, secrets.get(each.name, ())), each.timeouts)
        for each in settings.providers
    }
    models = tuple(_model(each, providers) for each in settings.models)
    return Catalogue(
        model_prefix=settings.brand.model_prefix,
        models=models,
        providers=tuple(provider for provider, _ in providers.values()),
        names={name: model for model in models for name in (model.name, *model.aliases)},
    )


def route_headers(
    authority: str,
    auth: Literal["bearer", "x-api-key"],
    credential: str | None,
    extra: Mapping[str, str],
) -> tuple[tuple[bytes, bytes], ...]:
    """
    Return the headers that every request to one provider on one wire carries, ready to send.

    They are host, credential, user-agent, accept-encoding and the provider's own. A user-agent
    among the extra headers replaces the gateway's.

    Args:
        authority: Host, and the port unless it is the scheme's default.
        auth: How the credential is sent.
        credential: Visible ASCII; None sends no credential.
        extra: Names and values in ASCII; none of the names above except user-agent.
    """
    own = {name.lower().encode("ascii"): value.encode("ascii") for name, value in extra.items()}
    headers = [(b"host", authority.encode("ascii"))]
    if credential is not None and auth == "bearer":
        headers.append((b"authorization", b"Bearer " + credential.encode("ascii")))
    elif credential is not None:
        headers.append((b"x-api-key", credential.encode("ascii")))
    headers.append((b"user-agent", own.pop(b"user-agent", USER_AGENT)))
    # A compressor delays events, and usage cannot be read from compressed bytes as they pass.
    headers.append((b"accept-encoding", b"identity"))
    headers.extend(own.items())
    return tuple(headers)


def _beta(name: str, to: str) -> bytes | None:
    if to == "drop":
        return None
    return (name if to == "keep" else to).encode()


def _provider(provider: given.Provider, credentials: Sequence[str]) -> Provider:
    wires = {
        wire: _route(provider, wire, endpoint, credentials)
        for wire, endpoint in (
            (Wire.OPENAI, provider.openai),
            (Wire.ANTHROPIC, provider.anthropic),
        )
        if endpoint is not None
    }
    return Provider(
        name=provider.name,
        dialect=provider.dialect,
        wires=wires,
        clocks=_clocks(provider.timeouts, given.ModelTimeouts(), reasons=False),
        inject_usage=provider.inject_usage,
        betas={name.encode(): _beta(name, to) for name, to in provider.betas.items()},
        drop_fields=frozenset(provider.drop_fields),
        allow_features=frozenset(provider.allow_features),
        strip_billing_line=provider.strip_billing_line,
        drains=_DRAINS[provider.on_client_gone],
        caps=provider.caps,
    )


def _clocks(provider: given.Timeouts, model: given.ModelTimeouts, *, reasons: bool) -> Clocks:
    first_s = model.first_content_s or provider.first_content_s
    idle_s = model.idle_s or provider.idle_s
    return Clocks(
        connect_s=provider.connect_s,
        first_byte_s=model.first_byte_s or provider.first_byte_s,
        first_content_s=first_s or (REASONING_S if reasons else FIRST_CONTENT_S),
        idle_s=idle_s or (REASONING_S if reasons else IDLE_S),
        total_s=model.total_s or provider.total_s,
    )


def _route(
    provider: given.Provider, wire: Wire, endpoint: given.WireEndpoint, credentials: Sequence[str]
) -> WireRoute:
    url = given.split_http_url(endpoint.base_url)
    auth = endpoint.auth or ("bearer" if wire is Wire.OPENAI else "x-api-key")
    first, *others = (
        route_headers(url.authority, auth, credential, provider.headers)
        for credential in credentials or (None,)
    )
    return WireRoute(
        origin=Origin(
            host=url.host,
            port=url.port,
            tls=url.tls,
            transport=provider.transport,
            proxy=provider.proxy,
            max_connections=provider.max_connections,
            keepalive_s=provider.keepalive_s,
        ),
        base_path=url.path,
        headers=first,
        alternatives=tuple(others),
        count_tokens=wire is Wire.ANTHROPIC and endpoint.count_tokens,
    )


def _model(model: given.Model, providers: Mapping[str, tuple[Provider, given.Timeouts]]) -> Model:
    return Model(
        name=model.name,
        aliases=tuple(model.aliases),
        display_name=model.display_name or model.name,
        created=model.created,
        context=model.context,
        max_output=model.max_output,
        prices=_prices(model.prices),
        deployments=tuple(_deployment(each, providers, model) for each in model.deployments),
        policy=model.policy,
        fallbacks=tuple(model.fallbacks),
        hedge=_hedge(model.hedge),
    )


def _hedge(hedge: given.Hedge | None) -> HedgeRules | None:
    return None if hedge is None else HedgeRules(hedge.min_delay_s, hedge.budget_percent)


def _prices(prices: given.Prices) -> Prices:
    long = prices.long_context
    tokens = msgspec.structs.asdict(_token_prices(prices))
    return Prices(
        **tokens,
        web_search=nanousd(prices.web_search or "0"),
        tiers={name: _millionths(factor) for name, factor in prices.tiers.items()},
        long_context=None if long is None else _token_prices(long),
        long_context_above=0 if long is None else long.above,
    )


def _token_prices(prices: given.Prices | given.LongContext) -> TokenPrices:
    """Cached input defaults to the price of input, reasoning to that of output."""
    hour = prices.cache_write_1h
    return TokenPrices(
        input=nanousd(prices.input),
        output=nanousd(prices.output),
        cache_read=nanousd(prices.cache_read or prices.input),
        cache_write=nanousd(prices.cache_write or prices.input),
        reasoning=nanousd(prices.reasoning or prices.output),
        cache_write_1h=None if hour is None else nanousd(hour),
    )


def _millionths(factor: str) -> int:
    return nanousd(factor) // 1_000


def _deployment(
    deployment: given.Deployment,
    providers: Mapping[str, tuple[Provider, given.Timeouts]],
    model: given.Model,
) -> Deployment:
    provider, timeouts = providers[deployment.provider]
    wires = tuple(provider.wires)
    if deployment.wires is not None:
        wires = tuple(Wire(wire) for wire in deployment.wires)
    return Deployment(
        provider=provider,
        upstream_model=deployment.model,
        wires=wires,
        caps=deployment.caps,
        cost=None if deployment.cost is None else _prices(deployment.cost),
        prices_reasoning=any(
            prices is not None and prices.reasoning is not None
            for prices in (model.prices, deployment.cost)
        ),
        weight=deployment.weight,
        priority=deployment.priority,
        tags=frozenset(deployment.tags),
        own_clocks=_clocks(timeouts, model.timeouts, reasons=False),
        reasoning_clocks=_clocks(timeouts, model.timeouts, reasons=True),
    )
